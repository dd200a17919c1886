"""Data sets: forms, filter, errors, order, and the cache."""

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend

from latency_profile.errors import Exit, UsageError
from latency_profile.workload import WorkloadSpec, prepare
from latency_profile.workload.cache import Cache
from latency_profile.workload.dataset import open_dataset
from tests.workload_tokenizers import BUNDLED

SENTENCE = "Please explain how the parser reads one line of the file and what it returns to the caller. "


def conversation(prompt: str, *answers: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": prompt}, *({"from": "gpt", "value": answer} for answer in answers)]
    return {"id": "x", "conversations": turns}


def sharegpt(count: int) -> list[dict[str, Any]]:
    return [conversation(f"Question {i}: {SENTENCE * (i % 3 + 1)}", f"Answer {i}: {SENTENCE}") for i in range(count)]


def write(path: Path, items: Any, indent: int | None = None) -> Path:
    path.write_text(json.dumps(items, indent=indent))
    return path


def spec(dataset: Path, **more: Any) -> WorkloadSpec:
    defaults: dict[str, Any] = {"tokenizer": "bundled", "models": ("m",), "nonce": "ab", "unique": False}
    return WorkloadSpec(dataset=dataset, cache_dir=dataset.parent / "cache", **(defaults | more))


def refusal(dataset: Path, count: int = 1, **more: Any) -> str:
    with pytest.raises(UsageError) as caught:
        prepare(spec(dataset, **more), count)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == Exit.USAGE
    return message


@pytest.mark.parametrize("indent", [None, 2])
def test_sharegpt_sends_the_first_turn_and_wants_the_length_of_the_second(tmp_path: Path, indent: int | None) -> None:
    items = [
        conversation(f'{i} ü "q" \\ {{[]}} 日本 🙂\n {SENTENCE}', f"Answer {i}. {SENTENCE}", "third", "fourth")
        for i in range(20)
    ]
    file = write(tmp_path / "data", items, indent)
    backend = Backend.from_file(str(BUNDLED))
    requests = list(prepare(spec(file), 20).requests(0, 20))
    texts = {item["conversations"][0]["value"]: item["conversations"][1]["value"] for item in items}
    assert sorted(request.prompt for request in requests) == sorted(texts)
    for request in requests:
        assert request.input_length == len(backend.encode(request.prompt).ids)
        assert request.output_length == len(backend.encode(texts[request.prompt]).ids)


@pytest.mark.parametrize(
    "content",
    [
        '{{"prompt": "{0} one", "output_len": 7}}\n\n{{"output_len": null, "prompt": "{0} two", "tag": [1]}}\n',
        '\ufeff{{"prompt": "{0} one", "output_len": 7}}\r\n{{"prompt": "{0} two"}}',
        '[{{"prompt": "{0} one", "output_len": 7}},\n {{"prompt": "{0} two"}}]',
        '[{{"prompt": "{0} one", "category": "c", "max_tokens": 7}},\n {{"prompt": "{0} two", "max_tokens": null}}]',
        '{{"prompt": "{0} one", "max_tokens": 7}}\n{{"prompt": "{0} two", "max_tokens": 9, "output_len": 50}}',
    ],
)
def test_prompts_with_and_without_output_lengths(tmp_path: Path, content: str) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(content.format(SENTENCE))
    workload = prepare(spec(file, max_output_length=50), 2)
    assert {r.prompt: r.output_length for r in workload.requests(0, 2)} == {f"{SENTENCE} one": 7, f"{SENTENCE} two": 50}
    assert workload.description["kind"] == "prompts"


def test_what_a_system_says_before_a_conversation_goes_before_its_prompt(tmp_path: Path) -> None:
    asked = conversation(SENTENCE, SENTENCE * 2)["conversations"]

    def says(*texts: str) -> list[dict[str, str]]:
        return [{"from": "system", "value": text} for text in texts]

    items = [
        {"conversations": [*says("You are brief."), *asked]},
        {"conversations": [*says(" ", "Be kind."), *asked]},
        {"conversations": says("You are brief.", "no one asks")},
        {"conversations": [*says("You are brief."), asked[0]]},
        {"conversations": [*says("You are brief."), {"from": "human", "value": " "}, asked[1]]},
    ]
    workload = prepare(spec(write(tmp_path / "data", items)), 2)
    answer = len(Backend.from_file(str(BUNDLED)).encode(SENTENCE * 2).ids)
    assert {r.prompt: r.output_length for r in workload.requests(0, 2)} == {
        f"You are brief.\n\n{SENTENCE}": answer,
        f"Be kind.\n\n{SENTENCE}": answer,
    }
    refused = refusal(write(tmp_path / "data", items[2:]))
    assert "2 fewer than two turns" in refused and "1 prompt is empty" in refused


def test_conversations_may_come_in_lines(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("\n".join(json.dumps(item) for item in sharegpt(5)))
    assert len(list(prepare(spec(file), 5).requests(0, 5))) == 5


def test_short_and_long_items_are_left_out_and_counted(tmp_path: Path) -> None:
    good = sharegpt(3)
    items = [
        *good,
        conversation("no answer at all, but a long question"),
        {"conversations": []},
        conversation("a b c", SENTENCE),
        conversation(SENTENCE, "a b c"),
        conversation("", SENTENCE),
        conversation("a b c d", SENTENCE),
        conversation(SENTENCE, "a b c d"),
        conversation(SENTENCE * 20, SENTENCE),
        conversation(SENTENCE, SENTENCE * 20),
    ]
    text = json.dumps(items)[:-1] + ', {"conversations": [{"value": "half \\ud83d a pair"}, {"value": "b"}]}]'
    (tmp_path / "data").write_text(text)
    # One more than there are, so that every item is looked at.
    workload = prepare(spec(tmp_path / "data", max_input_length=100, max_output_length=80, unique=True), 6)
    told = workload.description
    assert told["prompts_available"] == 5 and told["items_examined"] == told["items"] == 13
    assert told["items_dropped"] == {
        "answer over --max-output-length": 1,
        "answer under 4 tokens": 1,
        "fewer than two turns": 2,
        "prompt is empty": 1,
        "prompt over --max-input-length": 1,
        "prompt under 4 tokens": 1,
        "text is not valid Unicode": 1,
    }


@pytest.mark.parametrize("indent", [None, 1])
def test_half_a_surrogate_pair_costs_its_item_and_no_other(tmp_path: Path, indent: int | None) -> None:
    items = sharegpt(6)
    items[1]["conversations"][0]["value"] += "\ud83d alone"
    items[2]["conversations"][1]["value"] += "\ude42"
    items[3]["conversations"][0]["value"] += "a whole one \U0001f642, a backslash \\ud83d"
    items[4]["conversations"][0]["value"] = 'quote \\" and \\\\' + SENTENCE
    workload = prepare(spec(write(tmp_path / "data", items, indent)), 4)
    kept = {items[place]["conversations"][0]["value"] for place in (0, 3, 4, 5)}
    assert {request.prompt for request in workload.requests(0, 4)} == kept
    lines = tmp_path / "lines"
    lines.write_text("\n".join(json.dumps({"prompt": item["conversations"][0]["value"]}) for item in items))
    assert len({r.prompt for r in prepare(spec(lines), 5).requests(0, 5)}) == 5
    assert "5 prompts pass" in refusal(lines, 6)


@pytest.mark.parametrize("unique", [False, True])
def test_limits_are_inclusive_and_count_what_the_server_counts(tmp_path: Path, unique: bool) -> None:
    file = write(tmp_path / "data", sharegpt(1))
    (request,) = prepare(spec(file, unique=unique), 1).requests(0, 1)
    length, wanted = request.input_length, request.output_length
    limits = {"max_input_length": length, "max_output_length": wanted, "unique": unique}
    assert next(prepare(spec(file, **limits), 1).requests(0, 1)) == request
    assert "1 prompt over --max-input-length" in refusal(file, **limits | {"max_input_length": length - 1})
    assert "1 answer over --max-output-length" in refusal(file, **limits | {"max_output_length": wanted - 1})


def test_the_minimum_is_of_the_text_also_behind_a_unique_head(tmp_path: Path) -> None:
    file = write(tmp_path / "data", [conversation("a b c", SENTENCE), conversation("a b c d", SENTENCE)])
    workload = prepare(spec(file, unique=True), 2)
    assert {request.prompt.split("\n")[1] for request in workload.requests(0, 2)} == {"a b c d"}
    assert workload.description["items_dropped"] == {"prompt under 4 tokens": 1}


def test_only_what_is_needed_is_measured_in_an_order_that_the_seed_chooses(tmp_path: Path) -> None:
    file = write(tmp_path / "data", sharegpt(3000))
    few, more = prepare(spec(file, seed=1), 40), prepare(spec(file, seed=1), 400)
    assert few.description["items_examined"] == few.description["prompts_available"] == 40
    # Not rerun with a cache: what was measured is what the cache now holds, a few more than were needed.
    (lengths,) = (tmp_path / "cache").glob("lengths-*.npz")
    with np.load(lengths) as measured:
        assert 400 <= (measured["inputs"] >= 0).sum() < 700
    assert list(few.requests(0, 40)) == list(more.requests(0, 40))
    other = prepare(spec(file, seed=2), 40)
    assert [r.prompt for r in other.requests(0, 40)] != [r.prompt for r in few.requests(0, 40)]


def test_a_data_set_that_runs_out_is_reused_with_other_heads_and_said(tmp_path: Path) -> None:
    file = write(tmp_path / "data", sharegpt(10))
    workload = prepare(spec(file, unique=True), 25)
    requests = list(workload.requests(0, 25))
    assert len({request.prompt for request in requests}) == 25
    texts = [request.prompt.split("\n", 1)[1] for request in requests]
    assert texts[:10] == texts[10:20] and texts[:5] == texts[20:]
    assert len(set(texts)) == 10
    assert [r.input_length for r in requests[:10]] == [r.input_length for r in requests[10:20]]
    (notice,) = workload.notices
    assert "has 10 prompts" in notice and "25 are needed" in notice and "3 times" in notice
    assert workload.description["times_gone_through"] == 3
    more = prepare(spec(file, unique=True), 1000)  # as a search for the capacity may need at most
    assert list(more.requests(0, 25)) == requests and more.description["times_gone_through"] == 3
    assert "at most 1000 are needed" in more.notices[0]


def test_a_data_set_that_runs_out_is_refused_where_prompts_may_not_be_changed(tmp_path: Path) -> None:
    file = write(tmp_path / "data", sharegpt(10))
    assert prepare(spec(file), 10).notices == []
    assert "10 prompts pass the filter and 11 are needed" in refusal(file, 11)
    with pytest.raises(UsageError, match="11 are needed"):
        prepare(spec(file), 10).requests(5, 6)


def test_a_missing_file_a_folder_and_an_empty_file(tmp_path: Path) -> None:
    assert "--dataset" in refusal(tmp_path / "none.json") and "no such file" in refusal(tmp_path / "none.json")
    assert "a folder" in refusal(tmp_path)
    for content, word in (("", "empty"), (" \n\t ", "white space"), ("[]", "list is empty"), ("hello", "begins with")):
        (tmp_path / "file").write_text(content)
        assert word in refusal(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"conversations": []},\n\n {"conversations": [}]', ["malformed", "line 3", "byte 45"]),
        ('[{"conversations": []}, {"conv', ["malformed", "truncated"]),
        ('[{"conversations": []}] trailing', ["malformed", "line 1", "trailing"]),
        ('\n{"prompt": "a"}\n\n{"prompt": }\n', ["malformed", "line 4"]),
        ('{"data": [\n1]}', ["malformed", "line 1"]),
        ("[1, 2]", ["item 1", '"prompt"']),
        ('{"text": "a"}', ["item 1", '"conversations"']),
        ('[{"conversations": []},\n{"prompt": "a"}]', ["item 2", "line 2", "conversations"]),
        ('[{"conversations": [{"value": "a"}, {"text": "b"}]}]', ["item 1", "value"]),
        ('{"prompt": "a"}\n{"prompt": 5}', ["item 2", "line 2", "str"]),
        ('{"prompt": "a", "output_len": 0}', ["item 1", "output_len"]),
        ('{"prompt": "a", "output_len": "many"}', ["item 1", "output_len"]),
        ('{"prompt": "a", "max_tokens": 0}', ["item 1", "max_tokens"]),
        ('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}", ["malformed", "line 1"]),
        ('[{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}]", ["malformed", "line 1"]),
    ],
)
def test_a_malformed_file_is_one_line_that_says_where(tmp_path: Path, content: str, words: list[str]) -> None:
    file = tmp_path / "data.json"
    file.write_text(content)
    message = refusal(file)
    assert message.startswith(f"--dataset {file}: ")
    assert all(word in message for word in words), message
    assert "it takes ShareGPT JSON" in message


def test_no_prompt_that_passes_says_why(tmp_path: Path) -> None:
    items = [*sharegpt(7), conversation("hi", SENTENCE), conversation("no answer here")]
    message = refusal(write(tmp_path / "data", items), max_input_length=6)
    assert "none of its 9 items" in message
    assert "7 prompt over --max-input-length" in message
    assert "1 prompt under 4 tokens" in message and "1 fewer than two turns" in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    file = write(tmp_path / "data", sharegpt(1))
    assert "cannot be read: Not a directory" in refusal(file / "below")


def test_a_second_run_tokenizes_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "data", sharegpt(100))
    first = list(prepare(spec(file), 80).requests(0, 80))
    monkeypatch.setattr("latency_profile.workload.selection.Selection._measure", None)
    monkeypatch.setattr("latency_profile.workload.dataset._index", None)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert list(prepare(spec(file), 80).requests(0, 80)) == first
    # Other limits and another seed are served by the same lengths.
    assert prepare(spec(file, seed=3, max_input_length=60), 5).description["prompts_available"] == 5


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    file = write(tmp_path / "data", sharegpt(5))
    before = prepare(spec(file), 5)
    stat = file.stat()
    text = file.read_text().replace("Question", "Riddle  ")
    file.write_text(text)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time of change
    after = prepare(spec(file), 5)
    assert before.description["dataset_sha256"] != after.description["dataset_sha256"]
    assert all("Riddle" in request.prompt for request in after.requests(0, 5))


def test_a_file_that_shrinks_under_the_run_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path / "data", sharegpt(5))
    workload = prepare(spec(file), 5)
    file.write_text("[]")
    with pytest.raises(UsageError, match="changed while it was read"):
        list(workload.requests(0, 5))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "emptied"])
def test_damaged_cache_files_are_made_again(tmp_path: Path, damage: str) -> None:
    file = write(tmp_path / "data", sharegpt(50))
    expected = list(prepare(spec(file), 30).requests(0, 30))
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert len(names) == 3
    for path in (tmp_path / "cache").iterdir():
        content = bytearray(path.read_bytes())
        if damage == "truncated":
            del content[len(content) // 2 :]
        elif damage == "flipped":
            content[len(content) // 2] ^= 0xFF
        elif damage == "foreign":
            content[:] = b"something else"
        else:
            content.clear()
        path.write_bytes(content)
    assert list(prepare(spec(file), 30).requests(0, 30)) == expected
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == names
    index = Cache(tmp_path / "cache", []).load(next(name for name in names if name.startswith("items"))[:-4])
    assert index is not None and len(index["starts"]) == 50


def test_a_cache_that_cannot_be_written_costs_one_notice(tmp_path: Path) -> None:
    file = write(tmp_path / "data", sharegpt(50))
    (tmp_path / "cache").write_text("a file in the folder's place")
    workload = prepare(spec(file), 30)
    assert len(list(workload.requests(0, 30))) == 30
    (notice,) = workload.notices
    assert str(tmp_path / "cache") in notice


def test_the_cache_is_where_xdg_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "data", sharegpt(2))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    prepare(WorkloadSpec(tokenizer="bundled", models=("m",), nonce="ab", dataset=file), 1)
    assert len(list((tmp_path / "xdg" / "latency-profile").iterdir())) == 3
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepare(WorkloadSpec(tokenizer="bundled", models=("m",), nonce="ab", dataset=file), 1)
    assert len(list((tmp_path / "home" / ".cache" / "latency-profile").iterdir())) == 3


def _run(file: Path, seed: int) -> list[tuple[str, int]]:
    return [(r.prompt, r.input_length) for r in prepare(spec(file, seed=seed), 100).requests(0, 100)]


def test_runs_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    file = write(tmp_path / "data", sharegpt(400))
    alone = [_run(write(tmp_path / f"copy{seed}", sharegpt(400)), seed) for seed in range(3)]
    for path in (tmp_path / "cache").iterdir():
        path.unlink()
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        together = pool.starmap(_run, [(file, seed) for seed in range(3)])
    assert together == alone
    assert not list((tmp_path / "cache").glob("*.part"))


def test_the_index_holds_no_text(tmp_path: Path) -> None:
    file = write(tmp_path / "data", sharegpt(500))
    data = open_dataset(file, Cache(tmp_path / "cache", []))
    assert sum(part.nbytes for part in (data.starts, data.sizes, data.states)) == 500 * 17
    index = sum(path.stat().st_size for path in (tmp_path / "cache").iterdir())
    assert index < 500 * 17 + 2500
