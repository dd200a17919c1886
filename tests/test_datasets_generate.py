"""Prompts that a model writes: against a scripted API, the embedded server, and a real llama.cpp."""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_profile.datasets.categories import CATEGORIES, expected_tokens, orders, question
from latency_profile.datasets.duplicates import SIMILAR, Seen, shingles, similarity
from latency_profile.datasets.endpoint import ATTEMPTS, OPENROUTER, Endpoint, key_variable
from latency_profile.datasets.generate import plain
from latency_profile.datasets.generate_command import command, dollars
from latency_profile.errors import Exit, ServerUnavailable, UsageError
from latency_profile.workload import WorkloadSpec, prepare
from tests.servers.chat_api import Asked, Reply, chat_api, refused, written
from tests.servers.simulator import simulator
from tests.tool import ROOT

KEY = "sk-or-v1-0123456789abcdef"
MODEL = ("--model=writer",)
LOREM = "The ship left the harbour at dawn with nine sailors and a cargo of salt, bound for the northern islands"


def texts(count: int) -> list[str]:
    return [
        f"Prompt {number} about {'abcdefghijklmnopqrstuvwxyz'[number % 26] * 5} number {number}"
        for number in range(count)
    ]


def generate(asked: Asked, output: Path, *flags: str, key: str | None = KEY) -> Exit:
    environ = {"OPENAI_API_KEY": key} if key else {}
    return command(["--url", asked.url, "-o", str(output), *flags], environ)


def prompts(path: Path) -> list[dict[str, object]]:
    return json.loads(path.read_text())


def test_eighteen_prompts_by_category_that_the_profile_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "benchmark_dataset.json"
    with chat_api([written(text) for text in texts(18)]) as asked:
        assert generate(asked, file, *MODEL) == Exit.DONE
    made = prompts(file)
    assert Counter(str(one["category"]) for one in made) == dict.fromkeys(CATEGORIES, 2)
    assert [one["prompt"] for one in made] == texts(18)
    assert all(one["output_len"] == CATEGORIES[str(one["category"])].max_output for one in made)
    spec = WorkloadSpec(tokenizer="bundled", dataset=file, models=("m",), nonce="ab", unique=False, cache_dir=tmp_path)
    wanted = {one["prompt"]: one["output_len"] for one in made}
    assert {each.prompt: each.output_length for each in prepare(spec, 18).requests(0, 18)} == wanted
    out = capsys.readouterr().out
    assert "18 prompts by writer" in out and "1,800 tokens in, 360 out; cost unknown" in out
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in asked.headers)
    assert all(body["max_tokens"] == 2048 and body["model"] == "writer" for body in asked.questions)


def test_a_run_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    refusal = pytest.raises(UsageError, match=r"wants payment.*HTTP status 402.*credits")
    with chat_api([*map(written, texts(7)), refused(402, "credits")]) as asked, refusal:
        generate(asked, file, *MODEL)
    assert len(prompts(file)) == 7
    with chat_api(list(map(written, texts(18)[7:]))) as asked:
        assert generate(asked, file, *MODEL) == Exit.DONE
    assert [one["prompt"] for one in prompts(file)] == texts(18)
    assert Counter(str(one["category"]) for one in prompts(file)) == dict.fromkeys(CATEGORIES, 2)
    with chat_api([]) as asked:  # nothing is lacking: nothing is asked, not even for the models
        assert generate(asked, file, *MODEL) == Exit.DONE
        assert asked.headers == []
    assert [path.name for path in tmp_path.iterdir()] == ["set.json"]


def test_what_came_before_is_asked_for_again_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "set.json"
    nearly = LOREM.replace("islands", "isles")
    script = [LOREM, LOREM.upper() + "!", nearly, "A third prompt, of its own"]
    with chat_api(list(map(written, script))) as asked:
        assert generate(asked, file, *MODEL, "--count=2", "--categories=coding") == Exit.DONE
    assert [one["prompt"] for one in prompts(file)] == [LOREM, script[-1]]
    out = capsys.readouterr().out
    assert "1 for a duplicate" in out and "1 for a near-duplicate" in out
    last = asked.questions[-1]["messages"][0]["content"]
    assert LOREM[:50] in last and LOREM.upper()[:50] in last


def test_what_is_no_whole_answer_is_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ended(finish: str, **more: object) -> Reply:
        reply = written("Half a prompt", finish)
        reply.body["choices"][0].update(more)
        return reply

    script = [
        ended("content_filter"),
        ended("stop", message={"content": "Half a prompt", "refusal": "I cannot help with that."}),
        ended("error"),  # as OpenRouter says that the model's server failed in mid-answer
        ended("stop", error={"code": 502, "message": "upstream"}),
        ended("tool_calls"),
        written("<think>I have only just begun"),
        ended("eos_token", message={"content": "thoughts that the template began</think>\n\nA whole prompt"}),
    ]
    file = tmp_path / "set.json"
    with chat_api(script) as asked:
        assert generate(asked, file, *MODEL, "--count=1", "--ask-again=6") == Exit.DONE
    assert [one["prompt"] for one in prompts(file)] == ["A whole prompt"]
    assert "Half a prompt" not in str(asked.questions)
    assert "2 for refused, 2 for broken off, 1 for no text, 1 for empty" in capsys.readouterr().out


def test_what_a_run_that_broke_off_has_cost_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = [written("One"), written("one"), refused(402, "credits")]
    flags = (*MODEL, "--count=3", "--categories=coding", "--price-in=100", "--price-out=1000")
    with chat_api(script) as asked, pytest.raises(UsageError, match="wants payment"):
        generate(asked, tmp_path / "set.json", *flags)
    out = capsys.readouterr().out
    assert "200 tokens in, 40 out; $0.06; asked again: 1 for a duplicate" in out
    assert f"1 prompt in {tmp_path / 'set.json'} (1 new)" in out


def test_what_another_run_has_written_meanwhile_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "set.json"
    others = [{"prompt": "Theirs", "category": "coding", "output_len": 9}]

    def script() -> Iterator[Reply]:
        yield written("One")
        file.write_text(json.dumps(others))
        yield written("Two")

    flags = (*MODEL, "--count=2", "--categories=coding")
    with chat_api(script()) as asked, pytest.raises(UsageError, match="changed meanwhile"):
        generate(asked, file, *flags)
    assert prompts(file) == others
    assert "200 tokens in, 40 out" in capsys.readouterr().out  # both were paid for


def test_a_reader_that_has_gone_does_not_end_it(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    with chat_api(list(map(written, texts(9)))) as asked:
        words = [sys.executable, "-m", "latency_profile", "dataset", "generate", "--url", asked.url, "-o", str(file)]
        with subprocess.Popen([*words, *MODEL, "--count=9"], cwd=ROOT, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            running.stdout.close()
            assert running.wait(60) == Exit.DONE
    assert len(prompts(file)) == 9


def test_a_place_that_stays_empty_is_said_and_tried_again_by_the_next_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "set.json"
    flags = (*MODEL, "--count=3", "--categories=coding,math", "--ask-again=1")
    first = [written(LOREM), written("A sum of two primes"), written(None), written("cut", "length")]
    with chat_api(first) as asked:
        assert generate(asked, file, *flags) == Exit.UNUSABLE
    out = capsys.readouterr().out
    assert "3/3 coding: none of 2 answers, the last cut off" in out and "1 place stayed empty" in out
    with chat_api([written(LOREM), written("A sort of another kind")]) as asked:  # what is in the file counts
        assert generate(asked, file, *flags) == Exit.DONE
    assert [one["category"] for one in prompts(file)] == ["coding", "math", "coding"]
    assert "asked again: 1 for a duplicate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "words"),
    [(400, "refuses the request"), (401, "does not accept the key"), (402, "wants payment"), (404, "no such model")],
)
def test_what_no_other_try_helps_ends_with_one_line_without_the_key(
    tmp_path: Path, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    echo = f"bad key {KEY},\n or {KEY[:12]}***; a model is named wrong"
    with chat_api([refused(status, echo)]) as asked, pytest.raises(UsageError) as caught:
        generate(asked, tmp_path / "set.json", *MODEL)
    said = str(caught.value) + "".join(capsys.readouterr())
    assert words in said and f"HTTP status {status}" in said and "\n" not in str(caught.value)
    assert KEY[:8] not in said
    assert ("named wrong" in said) == (status != 401)
    assert not (tmp_path / "set.json").exists()
    assert caught.value.exit_code == Exit.USAGE


def pauses(replies: Sequence[Reply]) -> tuple[list[float], str]:
    """How long an endpoint waited between its tries, and what it said or got in the end."""
    slept: list[float] = []
    with chat_api(replies) as asked:
        try:
            end = Endpoint(asked.url, KEY, slept.append).write("m", "?", 10).text
        except ServerUnavailable as error:
            assert error.exit_code == Exit.UNAVAILABLE
            end = str(error)
    return slept, end


def test_what_may_pass_is_tried_again_as_long_as_the_server_says() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    failing = [refused(429, Retry_After="7"), refused(503), refused(500, Retry_After=soon), Reply(None)]
    slept, end = pauses([*failing, written("fine")])
    assert end == "fine"
    assert slept[0] == 7 and slept[1] == 2 and 20 < slept[2] <= 30 and slept[3] == 8
    assert pauses([refused(429, Retry_After="1.5"), written("fine")]) == ([1.5], "fine")
    reset = {"X-RateLimit-Reset": str(int((time.time() + 40) * 1000))}  # OpenRouter's, in a header or in the body
    told = {"error": {"message": "free-models-per-min", "code": 429, "metadata": {"headers": reset}}}
    for reply in (Reply({}, 429, reset), Reply(told, 429), Reply(told)):
        (slept,), end = pauses([reply, written("fine")])
        assert 30 < slept <= 40 and end == "fine"
    # A router's way of saying that the model's server failed, and bodies that are no completion.
    odd = [Reply({"error": {"message": "upstream", "code": 502}}), Reply(b"<html>"), Reply({"choices": []})]
    assert pauses([*odd, written("fine")]) == ([1, 2, 4], "fine")


def test_what_does_not_pass_is_the_servers_fault() -> None:
    slept, end = pauses([refused(503)] * ATTEMPTS)
    assert len(slept) == ATTEMPTS - 1 and "HTTP status 503); given up after 5 attempts" in end
    odd = ("", "soon", "-1", "inf", "1e9", "nan", "9" * 400, "Mon, 01 Jan 99999 00:00:00 GMT")
    assert [pauses([refused(429, Retry_After=value), written("fine")]) for value in odd] == [([1], "fine")] * len(odd)
    slept, end = pauses([refused(429, Retry_After="3600")])
    assert slept == [] and "asks to wait for 3600 s" in end
    with chat_api([]) as asked:
        gone = asked.url
    with pytest.raises(ServerUnavailable, match="no connection; given up after 5 attempts"):
        Endpoint(gone, None, lambda _: None).write("m", "?", 10)


def test_an_error_of_a_router_in_a_200_is_taken_for_what_it_is() -> None:
    reply = Reply({"error": {"message": "too few credits", "code": 402}})
    refusal = pytest.raises(UsageError, match=r"HTTP status 402.*too few credits")
    with chat_api([reply]) as asked, refusal:
        Endpoint(asked.url, None).write("m", "?", 10)


def listing(**prices: object) -> Reply:
    return Reply({"data": [{"id": name, "pricing": price} for name, price in prices.items()]})


def test_the_cost_is_said_first_and_is_never_made_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    priced = {"prompt": "0.000005", "completion": "0.000025"}

    def said(models: Reply | None, *flags: str) -> str:
        with chat_api([], models) as asked:
            assert generate(asked, tmp_path / "set.json", *flags, "--dry-run") == Exit.DONE
            assert asked.questions == []
        return capsys.readouterr().out

    left = orders(list(CATEGORIES), 18, Counter())
    tokens_in, tokens_out = expected_tokens(left, Counter())
    about = dollars(tokens_in * 5e-6 + tokens_out * 25e-6)
    line = said(listing(writer=priced), *MODEL)
    assert "18 prompts by writer at http://127.0.0.1:" in line
    assert f"{tokens_in:,} tokens in and {tokens_out:,} out, about {about}, at most about $" in line
    assert "key from OPENAI_API_KEY" in line and KEY not in line and "Dry run: 2 coding" in line
    assert about in said(None, *MODEL, "--price-in=5", "--price-out=25")
    a_request = dollars(tokens_in * 5e-6 + tokens_out * 25e-6 + 18 * 0.5)
    assert f"about {a_request}, at most" in said(listing(writer={**priced, "request": "0.5"}), *MODEL)
    there = [{"prompt": text, "category": "coding", "output_len": 9} for text in texts(12)]
    (tmp_path / "there.json").write_text(json.dumps(there))
    resumed = said(None, *MODEL, "-o", str(tmp_path / "there.json"), "--categories=coding", "--count=13")
    first = expected_tokens(orders(["coding"], 1, Counter()), Counter())[0]
    assert int(re.findall(r"about ([0-9]+) tokens in", resumed)[0]) > first + 200  # it is shown 12 of them
    assert "about $0.00" in said(listing(writer={"prompt": "0", "completion": "0"}), *MODEL)
    for models in (None, listing(writer={"prompt": "-1", "completion": "-1"}), listing(other=priced), Reply(b"[]")):
        line = said(models, *MODEL)
        assert "cost unknown: " in line and "$" not in line
    assert "by writer" in said(listing(writer=priced))  # the only one served
    with chat_api([], listing(one=None, two=None)) as asked, pytest.raises(UsageError, match="has 2 models: one, two"):
        generate(asked, tmp_path / "set.json", "--dry-run")
    assert not (tmp_path / "set.json").exists()


def test_usage_that_is_not_told_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chat_api([written(LOREM, usage={})]) as asked:
        generate(asked, tmp_path / "set.json", *MODEL, "--count=1", "--price-in=1", "--price-out=1", key=None)
        assert all("Authorization" not in headers for headers in asked.headers)
    out = capsys.readouterr().out
    assert "tokens and cost unknown" in out and "no key: OPENAI_API_KEY is not set" in out


def test_which_variable_has_the_key() -> None:
    assert key_variable(OPENROUTER) == "OPENROUTER_API_KEY"
    assert key_variable("https://openrouter.ai.example/v1") == key_variable("http://[::1]:8/v1") == "OPENAI_API_KEY"
    with pytest.raises(UsageError, match="OPENROUTER_API_KEY: not set"):
        command(["--price-in=1", "--price-out=1"], {"OPENAI_API_KEY": KEY})
    with pytest.raises(UsageError) as caught:
        command(["--price-in=1", "--price-out=1"], {"OPENROUTER_API_KEY": f"{KEY}\n{KEY}"})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--count=0"], "--count: got '0', takes a whole number"),
        (["--categories=coding,cooking"], "--categories: got 'coding,cooking', takes names out of coding, reasoning"),
        (["--categories=coding,coding"], "--categories"),
        (["--url=ftp://x"], "--url: got 'ftp://x', takes an http or https URL"),
        (["--price-in=1"], "--price-in and --price-out: each takes the other"),
        (["--ask-again=-1"], "--ask-again"),
        (["--output=."], "--output: got '.', takes a file's name"),
        (["extra"], "dataset generate: unrecognized arguments: extra"),
        ([f"--api-key={KEY}"], "dataset generate: unrecognized arguments: --api-key"),
        (["--api-key", KEY], "dataset generate: unrecognized arguments: --api-key"),
        ([f"--url=https://user:{KEY}@host/v1"], "--url: got a value that is not shown (user, password, query and"),
        ([f"--url=https://host/v1?key={KEY}"], "--url: got a value that is not shown"),
        ([f"--model={KEY}", "--count=" + "9" * 300], "--count: got '9999"),
    ],
)
def test_bad_flags_are_one_line(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        command(flags, {"OPENROUTER_API_KEY": KEY})
    said = str(caught.value)
    assert words in said and "\n" not in said and KEY not in said and len(said) < 250


@pytest.mark.parametrize(
    "content", ["", "{}", '[{"prompt": "a"}]', '[{"prompt":"a","category":"c","output_len":0}]', "\xff"]
)
def test_a_file_of_something_else_is_not_overwritten(tmp_path: Path, content: str) -> None:
    file = tmp_path / "set.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match="holds no prompts of this command"):
        command(["-o", str(file)], {"OPENROUTER_API_KEY": KEY})
    assert file.read_text(encoding="latin-1") == content


def test_the_prompt_in_an_answer() -> None:
    assert plain('  "Tell me of ships."\n') == "Tell me of ships."
    assert plain("<think>the user\nwants</think>\n\n“Ships?”") == "Ships?"
    assert plain('"A" and "B"') == '"A" and "B"'
    assert plain('"') == '"' and plain(" \n ") == ""


WORDS = st.lists(st.sampled_from(["red", "green", "blue", "one", "two", "three"]), max_size=12).map(" ".join)


@given(WORDS, WORDS)
def test_similarity_is_a_share_and_one_only_for_the_same_words_in_threes(one: str, other: str) -> None:
    found = similarity(shingles(one), shingles(other))
    assert 0 <= found <= 1 and found == similarity(shingles(other), shingles(one))
    assert (found == 1) == (shingles(one) == shingles(other))
    assert similarity(shingles(one), shingles(f" {one.upper()}. ")) == 1


def test_near_duplicates_begin_at_eight_tenths() -> None:
    seen = Seen()
    assert seen.nearest(LOREM) == 0
    seen.add(LOREM)
    assert seen.nearest(LOREM.replace("islands", "isles")) >= SIMILAR
    assert seen.nearest(LOREM.replace("nine", "ten")) < SIMILAR  # three of 17 threes on each side
    assert seen.nearest("How do I sort a list?") == 0


def test_orders_go_round_the_categories_topics_and_lengths() -> None:
    names = ["coding", "math"]
    whole = orders(names, 5, Counter())
    assert [order.category for order in whole] == ["coding", "math", "coding", "math", "coding"]
    assert len({(order.category, order.topic) for order in whole}) == 5
    assert len({order.words for order in whole}) == 3
    # What is there counts for its own category, also beyond its share.
    assert orders(names, 5, Counter(coding=9)) == [order for order in whole if order.category == "math"]
    assert "different" not in question(whole[0], []) and "- Earlier one" in question(whole[0], ["Earlier\n one"])
    again = [whole[0].otherwise(attempt) for attempt in range(3)]
    assert again[0] == whole[0] and len({order.topic for order in again}) == 3


def test_the_embedded_server_writes_a_set_with_faults_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("latency_profile.datasets.endpoint.FIRST_PAUSE_S", 0.01)
    flags = (
        "--engine=instant",
        "--backend=openai",
        "--eos-probability=0.05",
        "--fault=500:0.2,disconnect:0.1,malformed:0.1",
    )
    file = tmp_path / "set.json"
    with simulator(tmp_path, *flags) as server:
        code = command(["--url", f"{server.url}/v1", "-o", str(file), "--ask-again=9"], {})
        truth = server.truth()
    out = capsys.readouterr().out
    assert (code, len(prompts(file))) == (Exit.DONE, 18), out
    assert "18 prompts by simulated" in out
    assert {"500", "disconnect", "malformed"} <= set(truth.fault.tolist())


def test_a_real_llama_cpp_is_understood(llamacpp_server: str) -> None:
    endpoint = Endpoint(f"{llamacpp_server}/v1", None)
    assert endpoint.models() == {"smollm2-135m": None}
    order = orders(["advice"], 1, Counter())[0]
    answer = endpoint.write("smollm2-135m", question(order, []), 24)
    assert answer.text and answer.output_tokens is not None and answer.input_tokens is not None
    assert 0 < answer.output_tokens <= 24
    assert answer.fault in (("",) if answer.output_tokens < 24 else ("", "cut off")), "its last token may be the end's"
    assert answer.input_tokens > 40
