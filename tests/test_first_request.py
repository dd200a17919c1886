"""Waiting for a server to be able, the way through a gateway, what must not be repeated: the tool as users run it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from latency_profile.records import Status, load
from tests.servers import odd
from tests.servers.odd import Call, Odd
from tests.tool import SYNTHETIC, benchmark, only_point

SECRET = "sk-live-12345"


def served(answer: Callable[[Call], None]) -> Callable[[Call], None]:
    """Healthy, serves one model, has metrics; everything else is `answer`'s."""

    def script(call: Call) -> None:
        path = call.head.split(b" ")[1]
        if path.endswith(b"/models"):
            call.send(odd.plain(b'{"data":[{"id":"m"}]}'))
        elif path.endswith(b"/metrics"):
            call.send(odd.plain(b"# TYPE vllm:x counter\nvllm:x_total 1\n", "text/plain"))
        elif call.head.startswith(b"GET"):
            call.send(odd.plain(b"", status="200 OK" if path.endswith(b"/health") else "404 Not Found"))
        else:
            answer(call)

    return script


def run(*urls: str, flags: tuple[str, ...] = ()) -> "tuple[int, str, float]":
    """Exit code, what was said, seconds that it took."""
    began = time.monotonic()
    places = [f"--url={','.join(urls)}"]
    done = benchmark(*places, "--num-prompts=4", "--concurrencies=1", "--stream-request", *SYNTHETIC, *flags)
    return done.returncode, done.stderr, time.monotonic() - began


def test_a_server_that_is_healthy_and_never_answers_is_waited_for_no_longer_than_asked() -> None:
    with Odd(served(lambda _: time.sleep(30))) as server:
        code, said, took = run(f"http://127.0.0.1:{server.port}", flags=("--wait-for-server=2",))
    assert code == 3
    assert "the server is up, and a first request fails: TIMEOUT" in said
    assert took < 25, "the server hangs for 30 s"


def test_a_wrong_key_is_said_at_once() -> None:
    with Odd(served(lambda call: call.send(odd.plain(b"no", "text/plain", "401 Unauthorized")))) as server:
        code, said, took = run(f"http://127.0.0.1:{server.port}", flags=("--wait-for-server=60",))
    assert code == 3
    assert "HTTP_UNAUTHORIZED: HTTP 401: no" in said
    assert took < 40, "it might have waited for 60 s"


def test_a_server_that_becomes_able_is_measured() -> None:
    asked: list[float] = []

    def answer(call: Call) -> None:
        asked.append(call.at_s)
        if len(asked) < 3:
            call.send(odd.plain(b"loading", "text/plain", "503 Service Unavailable"))
        else:
            call.send(odd.whole(8))

    with Odd(served(answer)) as server:
        code, said, _ = run(f"http://127.0.0.1:{server.port}", flags=("--wait-for-server=60",))
    assert code in (0, 4), said  # 4: a busy test machine bends its own numbers
    assert said.count("waiting: a first request fails: HTTP_UNAVAILABLE: HTTP 503: loading") == 1
    assert len(asked) == 3 + 4
    assert asked[2] - asked[0] > 1.5, "a pause of a second each"


def test_metrics_lie_beside_the_apis_version(tmp_path: Path) -> None:
    with Odd(served(lambda call: call.send(odd.whole(8)))) as server:
        flags = ("--scrape-server-metrics", "--save-json-results", f"--output-dir={tmp_path}")
        code, said, _ = run(f"http://127.0.0.1:{server.port}/team/v1", flags=flags)
    assert code in (0, 4), said  # 4: a busy test machine bends its own numbers
    paths = {call.head.split(b" ")[1] for call in server.calls}
    assert paths >= {b"/team/v1/models", b"/team/v1/completions", b"/team/metrics"}
    assert "vllm:x_total" in only_point(tmp_path)["server"]["metrics"]


def test_metrics_of_all_servers_are_read(tmp_path: Path) -> None:
    with (
        Odd(served(lambda call: call.send(odd.whole(8)))) as one,
        Odd(served(lambda call: call.send(odd.whole(8)))) as two,
    ):
        flags = ("--scrape-server-metrics", "--save-json-results", f"--output-dir={tmp_path}")
        code, said, _ = run(*(f"http://127.0.0.1:{server.port}" for server in (one, two)), flags=flags)
    assert code in (0, 4), said  # 4: a busy test machine bends its own numbers
    (readings,) = only_point(tmp_path)["server"]["readings"]
    assert {replica["name"] for replica in readings["replicas"]} == {f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"}


def test_metrics_of_one_of_several_servers_are_not_taken_for_all() -> None:
    def without(call: Call) -> None:
        if b"/metrics" in call.head.split(b"\r\n")[0]:
            call.send(odd.plain(b"", status="404 Not Found"))
        else:
            served(lambda answered: answered.send(odd.whole(8)))(call)

    with Odd(served(lambda call: call.send(odd.whole(8)))) as one, Odd(without) as other:
        urls = (f"http://127.0.0.1:{one.port}", f"http://127.0.0.1:{other.port}")
        code, said, _ = run(*urls, flags=("--scrape-server-metrics",))
    assert code == 3, said
    assert f"no server metrics from http://127.0.0.1:{other.port}/metrics: HTTP status 404" in said


@pytest.mark.parametrize("header", [f"Authorization: Bearer {SECRET}", f"x-key: {SECRET}"])
def test_a_secret_that_the_server_repeats_is_in_nothing(header: str, tmp_path: Path) -> None:
    body = json.dumps({"error": {"message": f"Received API Key = {SECRET}"}}).encode()
    with Odd(served(lambda call: call.send(odd.plain(body, status="401 Unauthorized")))) as server:
        flags = (f"--header={header}", "--save-json-results", f"--output-dir={tmp_path}")
        code, said, _ = run(f"http://127.0.0.1:{server.port}", flags=flags)
    assert code == 4
    assert "Received API Key = ***" in said
    assert SECRET not in said
    for path in tmp_path.iterdir():
        held = path.read_bytes()
        if path.suffix == ".npz":
            with np.load(path) as file:
                held = file["context"].tobytes()
        assert SECRET.encode() not in held, path.name


def test_a_server_that_claims_too_much_does_not_end_the_point(tmp_path: Path) -> None:
    events = [
        b'data: {"text_output":"a","num_output_tokens":2147483647}\n\n',
        b'data: {"text_output":"b","num_output_tokens":2147483647}\n\n',
    ]
    head = odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked")
    answer = b"".join([head, *map(odd.chunk, events), odd.chunk(b"")])
    with Odd(served(lambda call: call.send(answer))) as server:
        flags = ("--backend=tensorrt_llm_triton", "--save-json-results", f"--output-dir={tmp_path}")
        code, said, _ = run(f"http://127.0.0.1:{server.port}", flags=flags)
    assert code in (0, 4), said  # 4: a busy test machine bends its own numbers
    (path,) = tmp_path.glob("*.npz")
    records = load(path)
    assert records["status"].tolist() == [Status.OK] * 4
    assert records["output_tokens"].tolist() == [2 * 2147483647] * 4
