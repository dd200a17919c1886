"""The simulator's faults as bytes on a socket, in its log, and as a flag."""

import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latency_profile.simulator import __main__ as command
from latency_profile.simulator import faults
from latency_profile.simulator.log import Finish
from tests.launching import until
from tests.servers.http_exchange import exchange
from tests.servers.simulator import SILENCE_S, post, raw_end, simulator

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
FAST = ("--fixed-timing", "2,2")
TOKENS = 10
CLOSE = "Connection: close\r\n"
STALLED_S = 3.0  # of silence, after which a server is said to be stalled
USAGE = {"stream_options": {"include_usage": True}}


def body(data: bytes) -> bytes:
    """An answer's body without its chunks. An unfinished one ends where it ends."""
    head, _, rest = data.partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return rest
    parts = []
    while (match := re.match(rb"([0-9a-f]+)\r\n", rest)) and int(match[1], 16):
        size = int(match[1], 16)
        parts.append(rest[match.end() : match.end() + size])
        rest = rest[match.end() + size + 2 :]
    return b"".join(parts)


def events(data: bytes) -> list[Any]:
    """The decoded events of a stream, `[DONE]` left out."""
    lines = [line.removeprefix(b"data:").strip() for line in body(data).split(b"\n\n") if line]
    return [msgspec.json.decode(line) for line in lines if line != b"[DONE]"]


def vllm(folder: Path, fault: str) -> list[tuple[bytes, str]]:
    """A stream and a whole answer of vLLM's simulator with this fault for certain, and how each ended; log checked."""
    request = {"prompt": "some words", "max_tokens": TOKENS}
    silence_s = STALLED_S if fault.startswith("stall") else SILENCE_S
    with simulator(folder, *FAST, "--fault", fault) as server:
        answers = [
            raw_end(server.url, post(COMPLETIONS, {**request, **more}, CLOSE), silence_s)
            for more in ({"stream": True, **USAGE}, {})
        ]
        truth = server.truth()
    assert list(truth.fault) == [fault.partition(":")[0]] * 2
    return answers


@pytest.mark.parametrize(
    ("kind", "status", "head", "in_body"),
    [
        ("401", 401, b"", b'"message":"Unauthorized"'),
        ("429", 429, b"\r\nretry-after: 1\r\n", b'"code":429'),
        ("503", 503, b"\r\nretry-after: 1\r\n", b'"code":503'),
        ("500", 500, b"", b'"type":"InternalServerError"'),
        ("502", 502, b"content-type: text/html\r\n", b"<h1>502 Bad Gateway</h1>"),
        ("redirect", 307, b"\r\nlocation: /moved/v1/completions\r\n", b""),
    ],
)
def test_refusals(tmp_path: Path, kind: str, status: int, head: bytes, in_body: bytes) -> None:
    for data, end in vllm(tmp_path, f"{kind}:1"):
        assert data.startswith(b"HTTP/1.1 %d " % status)
        assert head in data and in_body in data and end == "closed"


def test_disconnect_is_before_any_byte(tmp_path: Path) -> None:
    assert vllm(tmp_path, "disconnect:1") == [(b"", "closed")] * 2


@pytest.mark.parametrize(("kind", "how"), [("reset", "reset"), ("truncate", "closed"), ("stall", "silent")])
def test_answers_that_break_off_in_their_middle(tmp_path: Path, kind: str, how: str) -> None:
    (data, end), (whole, whole_end) = vllm(tmp_path, f"{kind}:1")
    assert end == whole_end == how
    assert [event["choices"][0]["finish_reason"] for event in events(data)] == [None] * (TOKENS // 2)
    assert b"[DONE]" not in data and not data.endswith(b"0\r\n\r\n")
    head, _, half = whole.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None and len(half) == pytest.approx(int(length[1]) / 2, abs=2)


def test_what_is_logged_of_them(tmp_path: Path) -> None:
    for kind, finish, tokens in (("reset", Finish.ERROR, 5), ("stall", Finish.ABORT, 5), ("503", Finish.ERROR, 0)):
        with simulator(tmp_path, *FAST, "--fault", f"{kind}:1") as server:
            request = {"prompt": "x", "max_tokens": TOKENS, "stream": True}
            raw_end(server.url, post(COMPLETIONS, request, f"{CLOSE}X-Request-Id: mine\r\n"), STALLED_S)
            wait_for_metrics(server.url, f'finished_reason="{finish.name.lower()}",model_name="simulated"}} 1.0')
            wait_for_metrics(server.url, 'vllm:num_requests_running{engine="0",model_name="simulated"} 0.0')
            truth = server.truth()
        assert (truth.request_id[0], truth.finish[0], truth.output_tokens[0]) == ("mine", finish, tokens)


def wait_for_metrics(url: str, words: str) -> None:
    """It notices in its own time that a client has gone."""
    until(lambda: words in exchange(url, "/metrics").body.decode())


def test_a_stall_of_some_length_goes_on(tmp_path: Path) -> None:
    request = {"prompt": "x", "max_tokens": TOKENS}
    with simulator(tmp_path, *FAST, "--fault", "stall:1:300ms") as server:
        start = time.monotonic()
        stream, _ = raw_end(server.url, post(COMPLETIONS, {**request, "stream": True}, CLOSE))
        middle = time.monotonic()
        whole, _ = raw_end(server.url, post(COMPLETIONS, request, CLOSE))
        assert 0.3 < middle - start < 10 and 0.3 < time.monotonic() - middle < 10
        assert list(server.truth().output_tokens) == [TOKENS] * 2
    texts = [event["choices"][0]["text"] for event in events(stream)]
    assert len(" ".join(texts).split()) == TOKENS and b"[DONE]" in stream
    assert len(msgspec.json.decode(body(whole))["choices"][0]["text"].split()) == TOKENS


@pytest.mark.parametrize("stream", [True, False])
def test_a_slow_header(tmp_path: Path, stream: bool) -> None:
    with simulator(tmp_path, *FAST, "--fault", "slow_header:1:2s") as server:
        request = post(COMPLETIONS, {"prompt": "x", "max_tokens": TOKENS, "stream": stream}, CLOSE)
        assert raw_end(server.url, request, 0.2) == (b"", "silent")
        data, _ = raw_end(server.url, request)
        truth = server.truth()
    assert data.startswith(b"HTTP/1.1 200 ") and list(truth.finish) == [Finish.ABORT, Finish.LENGTH]
    waited = (truth.written_ns[-1] - truth.arrival_ns[1]) / 1e6
    assert 2000 < waited < 10_000
    assert truth.event_tokens[truth.event_start[1] :].tolist() == ([1] * TOKENS if stream else [TOKENS])


def test_error_event(tmp_path: Path) -> None:
    (data, end), (whole, _) = vllm(tmp_path, "error_event:1")
    *tokens, error = events(data)
    assert len(tokens) == TOKENS // 2 and list(error) == ["error"]
    assert data.startswith(b"HTTP/1.1 200 ") and data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") and end == "closed"
    assert whole.startswith(b"HTTP/1.1 200 ") and list(msgspec.json.decode(body(whole))) == ["error"]


@pytest.mark.parametrize(("kind", "wrong"), [("malformed", msgspec.DecodeError), ("not_utf8", UnicodeDecodeError)])
def test_malformed_and_not_utf8(tmp_path: Path, kind: str, wrong: type[Exception]) -> None:
    (data, end), (whole, whole_end) = vllm(tmp_path, f"{kind}:1")
    assert end == whole_end == "closed"
    assert data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    messages = [line.removeprefix(b"data: ") for line in body(data).split(b"\n\n") if line]
    bad = []
    for place, message in enumerate(messages[:-1]):
        try:
            msgspec.json.decode(message.decode())
        except wrong:
            bad.append(place)
    assert bad == [TOKENS // 2 - 1]
    with pytest.raises(wrong):
        msgspec.json.decode(body(whole).decode())


def test_empty(tmp_path: Path) -> None:
    (data, _), (whole, _) = vllm(tmp_path, "empty:1")
    assert [choice["text"] for event in events(data) for choice in event["choices"]] == [""]
    assert events(data)[-1]["usage"]["completion_tokens"] == 0
    answer = msgspec.json.decode(body(whole))
    assert (answer["choices"][0]["text"], answer["usage"]["completion_tokens"]) == ("", 0)


def test_no_end(tmp_path: Path) -> None:
    (data, end), (whole, _) = vllm(tmp_path, "no_end:1")
    assert [event["choices"][0]["finish_reason"] for event in events(data)] == [None] * TOKENS
    assert b"[DONE]" not in data and data.endswith(b"\r\n0\r\n\r\n") and end == "closed"
    choice = msgspec.json.decode(body(whole))["choices"][0]
    assert choice["finish_reason"] is None and len(choice["text"].split()) == TOKENS


def test_half_first(tmp_path: Path) -> None:
    with simulator(tmp_path, *FAST, "--fault", "half_first:1") as server:
        request = {"prompt": "x", "max_tokens": TOKENS}
        data, _ = raw_end(server.url, post(COMPLETIONS, {**request, "stream": True}, CLOSE))
        exchange(server.url, COMPLETIONS, request)
        assert list(server.truth().fault) == ["half_first", ""]  # nothing to show in a whole answer
    words = [len(choice["text"].split()) for event in events(data) for choice in event["choices"]]
    assert words == [TOKENS // 2] + [1] * (TOKENS // 2)


def test_usage_off(tmp_path: Path) -> None:
    (data, _), (whole, _) = vllm(tmp_path, "usage_off:1")
    assert events(data)[-1]["usage"]["completion_tokens"] == TOKENS + 1
    usage = msgspec.json.decode(body(whole))["usage"]
    assert usage["completion_tokens"] == TOKENS + 1
    assert usage["total_tokens"] == usage["prompt_tokens"] + TOKENS + 1
    with simulator(tmp_path, *FAST, "--fault", "usage_off:1") as server:
        raw_end(server.url, post(COMPLETIONS, {"prompt": "x", "max_tokens": 2, "stream": True}, CLOSE))
        assert list(server.truth().fault) == [""]  # a stream without a usage has no place for it


@pytest.mark.parametrize("off", [1, -1])
def test_usage_off_by_is_of_every_answer_and_every_event(tmp_path: Path, off: int) -> None:
    request = {"prompt": "x", "max_tokens": 3}
    told = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    with simulator(tmp_path, *FAST, "--usage-off-by", str(off)) as server:
        data = raw_end(server.url, post(COMPLETIONS, {**request, **told}, CLOSE))[0]
        whole = raw_end(server.url, post(COMPLETIONS, request, CLOSE))[0]
        assert list(server.truth().output_tokens) == [3, 3]
    counts = [event["usage"]["completion_tokens"] for event in events(data)]
    assert counts == [1 + off, 2 + off, 3 + off, 3 + off]
    assert msgspec.json.decode(body(whole))["usage"]["completion_tokens"] == 3 + off


def test_one_token_has_no_middle(tmp_path: Path) -> None:
    kinds = ("truncate", "error_event", "half_first", "malformed", "empty", "no_end")
    spelled = ",".join(f"{kind}:0.16" for kind in kinds)
    answers = {}
    with simulator(tmp_path, *FAST, "--fault", spelled) as server:
        for k in range(60):
            request = {"prompt": f"x {k}", "max_tokens": 1, "stream": True}
            answers[f"r{k}"] = raw_end(server.url, post(COMPLETIONS, request, f"{CLOSE}X-Request-Id: r{k}\r\n"))[0]
        truth = server.truth()
    drawn = dict(zip(truth.request_id.tolist(), truth.fault.tolist(), strict=True))
    assert set(drawn.values()) >= set(kinds)
    for name, data in answers.items():
        assert data.startswith(b"HTTP/1.1 200 "), drawn[name]
        assert (b"[DONE]" in data) == (drawn[name] not in ("truncate", "no_end")), drawn[name]


def test_an_interval_and_slots(tmp_path: Path) -> None:
    """Faults come in the middle, however many tokens an event has."""
    request = post(COMPLETIONS, {"prompt": "x", "max_tokens": TOKENS, "stream": True}, CLOSE)
    for flags in ((*FAST, "--stream-interval", "4"), ("--slot", "5")):
        with simulator(tmp_path, *flags, "--fault", "truncate:1") as server:
            data, end = raw_end(server.url, request)
        assert sum(len(event["choices"][0]["text"].split()) for event in events(data)) == TOKENS // 2
        assert end == "closed"


NATIVE: dict[str, tuple[str, dict[str, Any]]] = {
    "sglang": ("/generate", {"text": "some words", "sampling_params": {"max_new_tokens": TOKENS}, "stream": True}),
    "llamacpp": ("/completion", {"prompt": "some words", "n_predict": TOKENS, "stream": True}),
    "tgi": ("/generate_stream", {"inputs": "some words", "parameters": {"max_new_tokens": TOKENS, "details": True}}),
    "tensorrt_llm_triton": (
        "/v2/models/ensemble/generate_stream",
        {"text_input": "some words", "max_tokens": TOKENS, "stream": True, "return_num_output_tokens": True},
    ),
    "jetstream": ("/v1/generate", {"text_content": {"text": "some words"}, "max_tokens": TOKENS}),
    "naive_transformers": (COMPLETIONS, {"prompt": "some words", "max_tokens": TOKENS, "stream": True}),
    "openai": (
        CHAT,
        {"model": "simulated", "messages": [{"role": "user", "content": "some words"}], "max_tokens": TOKENS},
    ),
    "sax": ("/generate", {"prompt": "some words", "max_tokens": TOKENS}),
}
ERROR = {
    "sglang": b'data: {"error":{"message":',
    "llamacpp": b'data: {"error":{"code":500,',
    "tgi": b'data:{"error":"Request failed during generation: ',
    "tensorrt_llm_triton": b'data: {"error":"',
    "jetstream": b'}{"detail":"',
    "naive_transformers": b'data: {"error":"',
    "openai": b'{"error":{"message":',
    "sax": b'{"object":"error","message":',
}


SILENT = {
    "sax": {"no_end", "usage_off", "half_first"},
    "jetstream": {"usage_off"},
    "tensorrt_llm_triton": {"no_end"},
    "openai": {"half_first"},
}


@pytest.mark.parametrize("backend", NATIVE)
def test_every_protocol_shows_every_fault(tmp_path: Path, backend: str) -> None:
    """All kinds mixed: each answer is what the log says of it, and the server lives on."""
    kinds = set(faults.KINDS) - SILENT.get(backend, set())
    lengths = {"slow_header": ":100ms", "stall": ":150ms"}
    spelled = ",".join(f"{kind}:{1 / 20}{lengths.get(kind, '')}" for kind in sorted(kinds))
    path, request = NATIVE[backend]
    text = msgspec.json.encode(request)
    answers = {}
    with simulator(tmp_path, *FAST, "--backend", backend, "--fault", spelled) as server:
        for k in range(110):
            varied = text.replace(b"some words", b"words %d" % k)
            answers[f"r{k}"] = raw_end(server.url, post(path, varied, f"{CLOSE}X-Request-Id: r{k}\r\n"))
        truth = server.truth()
    drawn = dict(zip(truth.request_id.tolist(), truth.fault.tolist(), strict=True))
    assert set(drawn.values()) == kinds | {""}
    for name, (data, end) in answers.items():
        check(backend, drawn[name], data, end)


def check(backend: str, kind: str, data: bytes, end: str) -> None:
    """Whether an answer is what its fault makes of it."""
    text = body(data)
    assert end == ("reset" if kind == "reset" else "closed"), kind
    if kind == "disconnect":
        assert data == b""
        return
    status = {"redirect": b"307"}.get(kind, kind.encode() if kind.isdigit() else b"200")
    if (backend, kind) == ("tgi", "429"):  # its stream is a 200 in any case
        status = b"200"
        assert text == b'data:{"error":"Model is overloaded","error_type":"overloaded"}\n\n'
    assert data.startswith(b"HTTP/1.1 %b " % status), kind
    if kind in ("", "slow_header", "stall", "half_first", "usage_off"):
        assert complete(backend, text), (kind, text)
    elif kind in ("reset", "truncate", "error_event"):
        assert not complete(backend, text), (kind, text)
    if kind == "error_event":
        assert ERROR[backend] in text
    elif kind == "not_utf8":
        with pytest.raises(UnicodeDecodeError):
            text.decode()
    elif kind == "empty":
        assert not re.search(rb'"(text|content|text_output|response)":\s*" ', text)
    elif kind == "no_end":
        assert b"[DONE]" not in text and not re.search(rb'"(length|limit)"|"type":"length"|\{\}\s*\]', text)
    elif kind == "usage_off":
        assert re.search(rb'"(completion_tokens|tokens_predicted|generated_tokens)":11|"num_output_tokens":2', text)


def complete(backend: str, text: bytes) -> bool:
    """Whether an answer has all of its tokens."""
    if backend == "tensorrt_llm_triton":  # says of no event that it is the last
        return len(b"".join(re.findall(rb'"text_output":"([^"]*)', text)).split()) == TOKENS
    return COMPLETE[backend].search(text) is not None


# what only the end of such an answer has
COMPLETE = {
    "sglang": re.compile(rb'"type":"length"'),
    "llamacpp": re.compile(rb'"stop":true'),
    "tgi": re.compile(rb'"generated_text":"( \w+){10}"'),
    "jetstream": re.compile(rb"\{\}\s*\]"),
    "naive_transformers": re.compile(rb'"finish_reason":"length"'),
    "openai": re.compile(rb'"finish_reason":"length".*\}$'),
    "sax": re.compile(rb'"text":"( \w+){10}".*\}$'),
}


def test_faults_are_drawn_from_the_seed_and_the_prompt(tmp_path: Path) -> None:
    def run(seed: str, order: list[int]) -> dict[str, str]:
        folder = tmp_path / seed
        folder.mkdir(exist_ok=True)
        with simulator(folder, "--engine", "instant", "--fault", "503:0.2,error_event:0.3", "--seed", seed) as server:
            for k in order:
                request = {"prompt": f"prompt {k}", "max_tokens": 2}
                raw_end(server.url, post(COMPLETIONS, request, f"{CLOSE}X-Request-Id: r{k}\r\n"))
            truth = server.truth()
        return dict(zip(truth.request_id.tolist(), truth.fault.tolist(), strict=True))

    first = run("1", list(range(200)))
    assert run("1", list(range(199, -1, -1))) == first  # whatever the order
    assert run("2", list(range(50))) != {name: first[name] for name in (f"r{k}" for k in range(50))}
    counts = Counter(first.values())
    # four standard errors of 200 draws are 0.11 and 0.13
    assert 0.09 < counts["503"] / 200 < 0.31 and 0.17 < counts["error_event"] / 200 < 0.43
    assert counts[""] == 200 - counts["503"] - counts["error_event"]


def test_the_same_prompt_again_is_drawn_again() -> None:
    plan = faults.FaultPlan(faults.parse("503:0.5"), 1)
    assert len({plan.draw(7, repeat) for repeat in range(20)}) == 2
    assert [plan.draw(7, repeat) for repeat in range(20)] == [plan.draw(7, repeat) for repeat in range(20)]


def test_spelling() -> None:
    reset, stall, slow = faults.parse("reset:0.1,stall:0.2:1.5s, slow_header:0.05:300ms")
    assert (reset.kind, reset.share, reset.length_ns) == ("reset", 0.1, None)
    assert (stall.length_ns, slow.length_ns) == (1_500_000_000, 300_000_000)
    assert faults.parse("slow_header:1")[0].length_ns == 2_000_000_000
    assert faults.parse("stall:1")[0].length_ns is None


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--fault", "rst:0.1"], "--fault: 'rst:0.1' is no fault"),
        (["--fault", "reset"], "'reset' is not reset:SHARE"),
        (["--fault", "reset:2"], "'2' of reset is not a share"),
        (["--fault", "reset:nan"], "'nan' of reset"),
        (["--fault", "reset:0.1:2s"], "'reset:0.1:2s' is not reset:SHARE"),
        (["--fault", "stall:0.1:2h"], "'2h' of stall is not a length such as 2s"),
        (["--fault", "reset:0.6,503:0.5"], "the shares add up to 1.1"),
        (["--fault", "reset:0.1,reset:0.1"], "reset is given twice"),
        (["--fault", ""], "'' is no fault"),
        (["--fault", "no_end:1", "--backend", "sax"], "--backend sax have no place for no_end"),
        (["--backend", "vlm"], "--backend"),
        (["--reasoning-tokens", "3", "--backend", "tgi"], "--reasoning-tokens goes with --backend"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_2(flags: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(flags) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert named in streams.err
    assert streams.err.count("\n") == 1
