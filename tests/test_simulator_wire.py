"""The simulator's bytes against those of a real vLLM 0.32 (tests/data/vllm), and HTTP's corners."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tokenizers import Tokenizer

from latency_profile.simulator import __main__ as command
from tests.servers.http_exchange import Answer, Connection
from tests.servers.simulator import post, raw_exchange, shape, simulator

CAPTURES = Path(__file__).with_name("data") / "vllm"
TOKENIZER = Path(command.__file__).with_name("tokenizer.json")
MODEL = "smollm2-135m"
FLAGS = ("--engine", "instant", "--model", MODEL, "--model", "second", "--max-model-len", "2048")
COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with simulator(tmp_path_factory.mktemp("simulator"), *FLAGS) as server:
        yield server.url


def ask(url: str, path: str, body: dict[str, Any] | None = None) -> Answer:
    with Connection(url) as connection:
        return connection.exchange(path, body)


def captured(name: str) -> tuple[str, dict[str, Any], bytes]:
    """Path, request and answer of a capture."""
    request = json.loads((CAPTURES / f"{name}.request.json").read_text())
    return CHAT if "messages" in request else COMPLETIONS, request, (CAPTURES / f"{name}.body").read_bytes()


@pytest.mark.parametrize("name", ["v1_completions", "v1_chat"])
def test_whole_answers(url: str, name: str) -> None:
    path, request, expected = captured(name)
    answer = ask(url, path, request)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert shape(answer.json) == shape(msgspec.json.decode(expected))
    assert answer.json["usage"]["completion_tokens"] == request["max_tokens"]


@pytest.mark.parametrize(
    "name",
    [
        "v1_completions_stream_usage",
        "v1_completions_stream_no_usage",
        "v1_completions_stream_continuous_usage_tokids",
        "v1_chat_stream_usage",
    ],
)
def test_streams_event_by_event(url: str, name: str) -> None:
    path, request, body = captured(name)
    expected = Answer(200, {}, body)
    answer = ask(url, path, request)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.data[-1] == expected.data[-1] == b"[DONE]"
    assert [shape(event) for event in answer.events] == [shape(event) for event in expected.events]
    ids = {event["id"] for event in answer.events}
    assert len(ids) == 1


def test_stream_interval(tmp_path: Path) -> None:
    path, request, body = captured("stream_interval4")
    with simulator(tmp_path, *FLAGS, "--stream-interval", "4") as server:
        answer = ask(server.url, path, request)
        expected = Answer(200, {}, body)
        assert [shape(event) for event in answer.events] == [shape(event) for event in expected.events]
        lengths = [[len(choice["token_ids"]) for choice in event["choices"]] for event in answer.events]
        assert lengths == [[1], [4], [4], [1], []]  # as the real one's ten tokens came
        assert list(server.truth().event_tokens) == [1, 4, 4, 1]


def test_text_has_as_many_tokens_as_usage_says(url: str) -> None:
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    prompt = "How many roads must a man walk down?"
    request = {"model": MODEL, "prompt": prompt, "max_tokens": 300, "return_token_ids": True}
    choice = ask(url, COMPLETIONS, request).json
    text, ids = choice["choices"][0]["text"], choice["choices"][0]["token_ids"]
    assert tokenizer.encode(text, add_special_tokens=False).ids == ids
    assert len(ids) == choice["usage"]["completion_tokens"] == 300
    assert choice["usage"]["prompt_tokens"] == len(tokenizer.encode(prompt).ids)
    streamed = ask(url, COMPLETIONS, {**request, "stream": True}).events
    assert "".join(event["choices"][0]["text"] for event in streamed) == text
    assert [token for event in streamed for token in event["choices"][0]["token_ids"]] == ids


def test_prompt_of_token_ids(url: str) -> None:
    for prompt in ([5, 6, 7], [[5, 6, 7]]):
        answer = ask(url, COMPLETIONS, {"prompt": prompt, "max_tokens": 2, "return_token_ids": True}).json
        assert answer["usage"]["prompt_tokens"] == 3
        assert answer["choices"][0]["prompt_token_ids"] == [5, 6, 7]


@pytest.mark.parametrize("name", ["err_bad_model", "err_max_tokens_over"])
def test_refusals_byte_for_byte(url: str, name: str) -> None:
    path, request, expected = captured(name)
    answer = ask(url, path, request)
    body = answer.body.replace(b"smollm2-135m, second", b"smollm2-135m")
    assert body == expected
    assert answer.status == json.loads(expected)["error"]["code"]


def test_too_long_a_prompt(url: str) -> None:
    expected = json.loads((CAPTURES / "err_long_prompt.body").read_bytes())
    for stream in (False, True):
        answer = ask(url, COMPLETIONS, {"prompt": [1] * 2049, "max_tokens": 5, "stream": stream})
        assert answer.status == 400
        assert answer.json == expected
    answer = ask(url, COMPLETIONS, {"prompt": [1] * 2000, "max_tokens": 100})
    assert answer.status == 400 and "at least 2100 tokens" in answer.json["error"]["message"]


def test_wrong_type_and_malformed(url: str) -> None:
    answer = ask(url, COMPLETIONS, {"prompt": "a", "max_tokens": "abc"})
    expected = json.loads((CAPTURES / "err_bad_type.body").read_bytes())
    assert answer.status == 400
    assert shape(answer.json) == shape(expected)
    assert answer.json["error"]["param"] == expected["error"]["param"]
    broken = (CAPTURES / "err_malformed.request.json").read_bytes()
    raw = raw_exchange(
        url,
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
        % (len(broken), broken),
    )
    assert raw.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert raw.partition(b"\r\n\r\n")[2] == (CAPTURES / "err_malformed.body").read_bytes()


@pytest.mark.parametrize(
    "extra",
    [{"n": 2}, {"best_of": 3}, {"use_beam_search": True}, {"echo": True}, {"logprobs": 1}, {"prompt": ["a", "b"]}],
)
def test_what_is_not_simulated_is_refused(url: str, extra: dict[str, Any]) -> None:
    answer = ask(url, COMPLETIONS, {"prompt": "a", "max_tokens": 2, **extra})
    assert answer.status == 400
    assert "not simulated" in answer.json["error"]["message"]
    assert answer.json["error"]["param"] == next(iter(extra))


def test_small_doors(url: str) -> None:
    assert ask(url, "/nope").body == (CAPTURES / "err_404.body").read_bytes()
    assert ask(url, "/nope").status == 404
    assert ask(url, COMPLETIONS).status == 405
    assert [(ask(url, path).status, ask(url, path).body) for path in ("/health", "/ping")] == [(200, b"")] * 2
    models = ask(url, "/v1/models").json
    assert shape(models) == shape(json.loads((CAPTURES / "models.body").read_bytes()))
    assert [model["id"] for model in models["data"]] == [MODEL, "second"]
    assert shape(ask(url, "/version").json) == shape(json.loads((CAPTURES / "version.body").read_bytes()))


def test_an_end_token_counts_and_has_no_text(tmp_path: Path) -> None:
    with simulator(tmp_path, *FLAGS, "--eos-probability", "0.2") as server:
        request: dict[str, Any] = {"max_tokens": 40, "min_tokens": 3, "stream": True, "return_token_ids": True}
        request["stream_options"] = {"include_usage": True}
        lengths = []
        for k in range(40):
            *events, usage = ask(server.url, COMPLETIONS, {**request, "prompt": f"prompt {k}"}).events
            ids = [token for event in events for token in event["choices"][0]["token_ids"]]
            lengths.append(len(ids))
            assert len(ids) == usage["usage"]["completion_tokens"]
            last = events[-1]["choices"][0]
            assert (last["finish_reason"], last["text"] == "") in [("stop", True), ("length", False)]
        forced = ask(server.url, COMPLETIONS, {**request, "prompt": "prompt 0", "ignore_eos": True}).events
        again = ask(server.url, COMPLETIONS, {**request, "prompt": "prompt 0"}).events
        assert forced[-1]["usage"]["completion_tokens"] == 40
        assert again[-1]["usage"]["completion_tokens"] == lengths[0]
        # min_tokens + geometric with mean 5: 8 on average, four standard errors of 40 draws are 2.8
        assert 5.2 < sum(lengths) / len(lengths) < 10.8 and min(lengths) >= 4


def test_pipelined_requests_are_answered_in_order(url: str) -> None:
    last = {19: "Connection: close\r\n"}
    requests = [
        post(
            COMPLETIONS,
            {"prompt": f"p{k}", "max_tokens": 3, "stream": k % 2 == 0},
            f"X-Request-Id: r{k}\r\n{last.get(k, '')}",
        )
        for k in range(20)
    ]
    received = raw_exchange(url, b"".join(requests))
    assert received.count(b"HTTP/1.1 200 OK") == 20
    firsts = [received.index(b'"id":"cmpl-r%d"' % k) for k in range(20)]
    assert firsts == sorted(firsts)
    assert received.count(b"data: [DONE]") == 10
    assert all(part.count(b'"id":"cmpl-r') in (1, 3) for part in received.split(b"HTTP/1.1 200 OK")[1:])


def test_connection_close_and_expect(url: str) -> None:
    received = raw_exchange(
        url, post(COMPLETIONS, {"prompt": "p", "max_tokens": 2}, "Connection: close\r\nExpect: 100-continue\r\n")
    )
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in received


def test_bytes_that_are_no_http(url: str) -> None:
    assert raw_exchange(url, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--port", "70000"], "--port"),
        (["--port", "abc"], "--port: 'abc' is not a whole number between 0 and 65535"),
        (["--slot", "nan"], "--slot"),
        (["--engine", "h200"], "--engine"),
        (["--engine", "instant", "--slot", "5"], "not allowed with"),
        (["--fixed-timing", "20"], "--fixed-timing"),
        (["--fixed-timing", "20,5,1.5"], "--fixed-timing"),
        (["--slot", "5", "--service", "normal"], "--service"),
        (["--servers", "2"], "--servers goes with --slot"),
        (["--slot", "5", "--ttft-drift", "2"], "--ttft-drift goes with --fixed-timing"),
        (["--backend", "sax", "--usage-off-by", "1"], "--usage-off-by: answers of --backend sax tell no usage"),
        (["--slot", "5", "--num-blocks", "7"], "--num-blocks goes with --engine"),
        (["--num-blocks", "7"], "--num-blocks"),
        (["--tokenizer", "/nonexistent.json"], "--tokenizer"),
        (["--log", "/nonexistent/x.npz"], "--log"),
        (["--eos-probability", "2"], "--eos-probability"),
        (["--host", "192.0.2.1"], "--host"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_2(flags: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(flags) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert named in streams.err
    assert streams.err.count("\n") == 1
