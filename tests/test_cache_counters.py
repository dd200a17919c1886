"""Counters of the server's prefix cache and the hook that drops it, against servers that do it right and wrong."""

from collections.abc import Callable

import pytest

from backends import load
from backends.base import Options
from latency_profile import cache_hygiene
from latency_profile.cache_hygiene import CacheHygiene
from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.server import Server, server_at
from latency_profile.telemetry import prefix_cache
from latency_profile.telemetry.exposition import Scrape, parse
from latency_profile.telemetry.prefix_cache import CacheCounters, growth
from latency_profile.telemetry.vocabulary import METRICS, metrics_of
from tests.servers import odd
from tests.servers.odd import Call, Odd
from tests.servers.process import free_port

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "COUNTED_S", 0.0)
    monkeypatch.setattr(cache_hygiene, "BUSY_S", 0.3)
    monkeypatch.setattr(cache_hygiene, "BUSY_PAUSE_S", 0.05)


def at(port: int, path: str = "") -> Server:
    headers = (("authorization", f"Bearer {KEY}"),)
    return server_at("", 0, f"http://127.0.0.1:{port}{path}", headers, None, True)


def text(backend: str, queries: float, hits: float, start: float = 1.0) -> str:
    names = {
        "vllm": ('vllm:prefix_cache_queries_total{engine="0"}', 'vllm:prefix_cache_hits_total{engine="0"}'),
        "old": ("vllm:gpu_prefix_cache_queries_total", "vllm:gpu_prefix_cache_hits_total"),
        "sglang": ('sglang:prompt_tokens_total{m="a"}', 'sglang:cached_tokens_total{cache_source="device"}'),
        "llamacpp": ("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total"),
    }[backend]
    lines = []
    for name, value in zip(names, (queries, hits), strict=True):
        lines += [f"# TYPE {name.partition('{')[0]} counter", f"{name} {value}"]
    return "\n".join([*lines, "# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {start}", ""])


def scrape(*given: object) -> Scrape:
    return Scrape(0.0, parse(text(*given)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backend", "form", "queries"),
    [("vllm", "vllm", 90), ("vllm", "old", 90), ("sglang", "sglang", 90), ("openai", "vllm", 90),
     ("openai", "sglang", 90), ("llamacpp", "llamacpp", 90 + 25)],
)  # fmt: skip
def test_growth_by_each_servers_names(backend: str, form: str, queries: float) -> None:
    """llama.cpp's prompt tokens are without the cached ones."""
    after = scrape(form, 100, 30)
    assert growth(scrape(form, 10, 5), after, metrics_of(backend, frozenset(after.families))) == (queries, 25)


def test_no_growth_where_it_means_nothing() -> None:
    known = METRICS["vllm"]
    assert growth(scrape("vllm", 10, 5), scrape("vllm", 100, 30, 2.0), known) is None, "another process"
    assert growth(scrape("vllm", 10, 5), scrape("vllm", 100, 4), known) is None, "a counter that fell"
    assert growth(scrape("sglang", 10, 5), scrape("sglang", 100, 30), known) is None, "another server's names"
    nothing = Scrape(0.0, parse(text("vllm", 0, 0).replace("vllm:", "other:")))
    assert growth(nothing, scrape("vllm", 100, 30), known) == (100, 30), "no series before the first request"


def answers(*bodies: str, status: str = "200 OK") -> Callable[[Call], None]:
    """One body after another; the last again and again."""
    left = list(bodies)

    def script(call: Call) -> None:
        call.send(odd.plain((left.pop(0) if len(left) > 1 else left[0]).encode(), status=status))

    return script


def test_several_servers_are_summed() -> None:
    with (
        Odd(answers(text("vllm", 0, 0), text("vllm", 100, 10))) as one,
        Odd(answers(text("vllm", 50, 5), text("vllm", 70, 6))) as two,
    ):
        counters = CacheCounters("vllm", [at(one.port), at(two.port, "/v1")])
        counters.point_started()
        assert counters.point_finished() == {"source": "counters", "queries_tokens": 120.0, "hits_tokens": 11.0}
        assert KEY.encode() in one.calls[0].head, "a server may want its key for /metrics too"


@pytest.mark.parametrize(
    "script",
    [
        answers("no", status="404 Not Found"),
        answers("<html>"),
        answers(""),
        answers("\x00 1\n"),
        lambda call: call.hang_up(),
        lambda call: call.send(b"\xff\xfe garbage"),
    ],
)
def test_a_server_that_does_not_tell_is_no_error(script: Callable[[Call], None]) -> None:
    with Odd(script) as server:
        counters = CacheCounters("vllm", [at(server.port)])
        counters.point_started()
        assert counters.point_finished() is None


def test_a_server_that_stops_telling_or_is_gone_is_no_error() -> None:
    with Odd(answers(text("vllm", 0, 0), "gone")) as server:
        counters = CacheCounters("vllm", [at(server.port)])
        counters.point_started()
        assert counters.point_finished() is None
    counters = CacheCounters("vllm", [at(free_port())])
    counters.point_started()
    assert counters.point_finished() is None


def test_one_server_of_two_that_does_not_tell_leaves_nothing() -> None:
    with Odd(answers(text("vllm", 1, 1))) as one, Odd(answers("no", status="404 Not Found")) as two:
        counters = CacheCounters("vllm", [at(one.port), at(two.port)])
        counters.point_started()
        assert counters.point_finished() is None


def test_servers_without_known_counters_are_not_asked() -> None:
    with Odd(answers(text("vllm", 1, 1))) as server:
        counters = CacheCounters("tgi", [at(server.port)])
        counters.point_started()
        assert counters.point_finished() is None
        assert server.calls == []


def test_a_redirect_is_not_followed_so_the_key_goes_nowhere_else() -> None:
    with Odd(answers(text("vllm", 1, 1))) as other:
        moved = odd.head("302 Found", "", f"location: http://127.0.0.1:{other.port}/metrics", "content-length: 0")
        with Odd(lambda call: call.send(moved)) as server:
            counters = CacheCounters("vllm", [at(server.port)])
            counters.point_started()
            assert counters.point_finished() is None
        assert other.calls == []


# -- the hook ---------------------------------------------------------------------------------------------------------


def reset(backend: str, *servers: Server) -> None:
    CacheHygiene(servers, load(backend), reset=True, stop=lambda: False).point_started()


@pytest.mark.parametrize(
    ("backend", "path", "body"),
    [("vllm", b"/reset_prefix_cache", '{"success":true}'), ("vllm", b"/reset_prefix_cache", ""),
     ("sglang", b"/flush_cache", "Cache flushed.")],
)  # fmt: skip
def test_every_server_is_asked_before_its_counters_are_read(backend: str, path: bytes, body: str) -> None:
    with Odd(answers(body)) as one, Odd(answers(body)) as two:
        reset(backend, at(one.port), at(two.port))
        for server in (one, two):
            first, second = server.calls
            assert first.head.startswith(b"POST " + path + b" HTTP/1.1\r\n")
            assert b"content-length: 0\r\n" in first.head
            assert second.head.startswith(b"GET /metrics ")


def test_without_the_flag_nothing_is_reset() -> None:
    with Odd(answers(text("vllm", 1, 1))) as server:
        CacheHygiene([at(server.port)], load("vllm"), reset=False, stop=lambda: False).point_started()
        assert [call.head.split()[0] for call in server.calls] == [b"GET"]


@pytest.mark.parametrize(
    ("backend", "refusal", "status"),
    [("vllm", '{"success":false}', "200 OK"), ("sglang", "Flush cache failed.", "400 Bad Request")],
)
def test_a_busy_server_is_asked_again(backend: str, refusal: str, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Call] = []

    def script(call: Call) -> None:
        asked.append(call)
        done = odd.plain(b"{}", status="200 OK")
        call.send(odd.plain(refusal.encode(), status=status) if len(asked) < 3 else done)

    with Odd(script) as server, monkeypatch.context() as patient:
        patient.setattr(cache_hygiene, "BUSY_S", 30.0)  # three asks take as long as they take
        reset(backend, at(server.port))
        assert len([call for call in asked if call.head.startswith(b"POST")]) == 3
    with Odd(answers(refusal, status=status)) as server, pytest.raises(ServerUnavailable) as never:
        reset(backend, at(server.port))
    assert "did not drop its prefix cache" in str(never.value)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        ("404 Not Found", UsageError, "answered 404; vLLM has this door where it is started with VLLM_SERVER_DEV_MODE"),
        ("405 Method Not Allowed", UsageError, "answered 405"),
        ("401 Unauthorized", ServerUnavailable, "answered 401, takes 200"),
        ("500 Oops", ServerUnavailable, "answered 500"),
    ],
)
def test_a_server_that_does_not_reset_is_told_of_in_one_line(status: str, kind: type[Exception], words: str) -> None:
    with Odd(answers(f"{KEY} was wrong", status=status)) as server, pytest.raises(kind) as refused:
        reset("vllm", at(server.port))
    line = str(refused.value)
    assert line.startswith(f"--reset-cache: POST http://127.0.0.1:{server.port}/reset_prefix_cache")
    assert words in line
    assert KEY not in line
    assert "\n" not in line


def test_a_server_that_is_gone_is_unavailable() -> None:
    with pytest.raises(ServerUnavailable, match="refused"):
        reset("vllm", at(free_port()))


# -- what answers tell ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "endpoint", "payload", "cached"),
    [
        ("vllm", "completions", b'{"choices":[],"usage":{"prompt_tokens_details":{"cached_tokens":48}}}', 48),
        ("vllm", "chat", b'{"choices":[],"usage":{"prompt_tokens_details":null}}', None),
        ("openai", "chat", b'{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens_details":'
                           b'{"cached_tokens":0,"audio_tokens":0}}}', 0),
        ("openai", "completions", b'{"choices":[],"usage":{"prompt_tokens_details":[1]}}', None),
        ("openai", "completions", b'{"choices":[],"usage":{"prompt_tokens_details":{"cached_tokens":-1}}}', None),
        ("openai", "completions", b'{"choices":[],"usage":{"prompt_tokens_details":{"cached_tokens":true}}}', None),
        ("sglang", "generate", b'{"text":"a","meta_info":{"prompt_tokens":9,"cached_tokens":8}}', 8),
        ("llamacpp", "completion", b'{"content":"","stop":true,"timings":{"cache_n":7,"prompt_n":1}}', 7),
        ("llamacpp", "completions", b'{"choices":[{"text":""}],"timings":{"cache_n":7}}', 7),
        ("llamacpp", "chat", b'{"choices":[],"usage":{"prompt_tokens_details":{"cached_tokens":6}},"timings":'
                             b'{"cache_n":7}}', 6),
    ],
)  # fmt: skip
def test_answers_tell_cached_tokens(backend: str, endpoint: str, payload: bytes, cached: int | None) -> None:
    assert load(backend).choose(endpoint, Options()).door.read(payload).cached_tokens == cached
