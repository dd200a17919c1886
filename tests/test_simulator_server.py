"""The running simulator: its log against a raw client, its pacing, its /metrics, its end."""

import json
import re
import signal
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from latency_profile.simulator.log import Finish, TruthLog, read_log
from latency_profile.simulator.metrics import Histogram, token_bounds
from tests.launching import until
from tests.servers.http_exchange import Connection
from tests.servers.simulator import Simulator, simulator

COMPLETIONS = "/v1/completions"
CAPTURE = Path(__file__).with_name("data") / "vllm" / "metrics.body"  # its own, without those of the process
MS = 1_000_000


def stream(server: Simulator, name: str, tokens: int, words: int = 5) -> list[int]:
    """One streamed request; when each read that brought events returned, a time for each token event."""
    parts = urlsplit(server.url)
    body = json.dumps({"prompt": f"{name}" + " word" * words, "max_tokens": tokens, "stream": True}).encode()
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {name}\r\nContent-Length: {len(body)}\r\n\r\n"
    times: list[int] = []
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            piece = connection.recv(65536)
            now = time.monotonic_ns()
            assert piece
            received += piece
            times += [now] * (received.count(b'"text":') - len(times))
    return times


def at_once(server: Simulator, requests: int, tokens: int) -> dict[str, list[int]]:
    """Some streams side by side."""
    times: dict[str, list[int]] = {}

    def one(name: str) -> None:
        times[name] = stream(server, name, tokens)

    threads = [threading.Thread(target=one, args=(f"request-{k}",)) for k in range(requests)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    return times


def check_against_client(truth: TruthLog, times: dict[str, list[int]]) -> None:
    """Every token that the client saw is in the log, and was written before it was seen and not before it was due."""
    assert sorted(truth.request_id) == sorted(times)
    soonest = []
    assert (truth.written_ns >= truth.scheduled_ns).all()
    for row, name in enumerate(truth.request_id):
        events = slice(truth.event_start[row], truth.event_start[row + 1])
        written = truth.written_ns[events]
        seen = np.array(times[str(name)])
        assert len(written) == len(seen) == truth.output_tokens[row] == truth.event_tokens[events].sum()
        assert (seen > written).all()
        soonest.append((seen - written).min())
        assert truth.arrival_ns[row] < written[0]
        assert truth.end_ns[row] == written[-1]
    assert (truth.finish == Finish.LENGTH).all()
    # Loopback. Of each answer the soonest, of those the middle: a machine that pauses makes late what is on its way.
    assert np.median(soonest) < 20 * MS


def test_log_of_an_engine(tmp_path: Path) -> None:
    with simulator(tmp_path, "--engine", "instant") as server:
        times = at_once(server, 6, 40)
        check_against_client(server.truth(), times)


def test_fixed_timing_is_absolute(tmp_path: Path) -> None:
    with simulator(tmp_path, "--fixed-timing", "30,4") as server:
        times = at_once(server, 5, 600)
        truth = server.truth()
    check_against_client(truth, times)
    for row in range(len(truth)):
        events = slice(truth.event_start[row], truth.event_start[row + 1])
        due = truth.arrival_ns[row] + 30 * MS + 4 * MS * np.arange(600)
        assert (truth.scheduled_ns[events] == due).all()  # to the nanosecond, whatever happened in between
        late = truth.written_ns[events] - due
        # A loop that slept 4 ms after each token would be late by 300 wake-ups and more: 15 ms at 50 µs each. A machine
        # that pauses makes some late; who keeps to absolute times is on time again after that.
        assert np.min(late[-300:]) < 5 * MS


def test_slots_are_lindley_in_the_log(tmp_path: Path) -> None:
    with simulator(tmp_path, "--slot", "40") as server:
        times = at_once(server, 10, 3)
        truth = server.truth()
    assert all(len(seen) == 1 for seen in times.values())  # one event, all tokens
    assert list(truth.event_tokens) == [3] * 10
    free = 0
    for row in range(len(truth)):
        start = max(int(truth.arrival_ns[row]), free)
        free = start + 40 * MS
        assert truth.started_ns[row] == start
        assert truth.scheduled_ns[row] == free
    assert (truth.started_ns > truth.arrival_ns).any()  # arrivals 20 ms apart did queue


def samples(url: str) -> dict[str, float]:
    """/metrics by full series name."""
    with Connection(url) as connection:
        answer = connection.exchange("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_names_are_vllms(tmp_path: Path) -> None:
    def described(text: str) -> set[str]:
        """HELP and TYPE lines, which vLLM words itself."""
        return {line for line in text.splitlines() if line.startswith("# ")}

    def series(text: str) -> set[str]:
        """Series by name and labels, without what depends on this machine."""
        lines = (line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#"))
        return {line for line in lines if "cache_config_info" not in line}

    flags = ("--engine", "cpu-135m", "--model", "smollm2-135m", "--max-model-len", "2048")
    with simulator(tmp_path, *flags) as server, Connection(server.url) as connection:
        ours = connection.exchange("/metrics").body.decode()
    theirs = CAPTURE.read_text()
    ours = "".join(f"{line}\n" for line in ours.splitlines() if "process_start_time_seconds" not in line)
    assert described(ours) <= described(theirs)
    assert series(ours) <= series(theirs)
    labels = set(re.findall(r'(\w+)="', next(line for line in theirs.splitlines() if "cache_config_info{" in line)))
    assert (
        set(re.findall(r'(\w+)="', next(line for line in ours.splitlines() if "cache_config_info{" in line))) <= labels
    )
    missing = {line.split()[2].removeprefix("vllm:") for line in described(theirs) - described(ours)}
    unmodelled = ("estimated_", "external_", "mm_cache", "engine_sleep", "admission", "num_requests_waiting_by_reason")
    assert {name for name in missing if not name.startswith((*unmodelled, "prompt_tokens_cached_by_source"))} == set()


def test_metrics_add_up(tmp_path: Path) -> None:
    with simulator(tmp_path, "--engine", "instant", "--model", "m") as server:
        at_once(server, 4, 25)
        with Connection(server.url) as connection:
            usage = connection.exchange(COMPLETIONS, {"prompt": "one two", "max_tokens": 7}).json["usage"]
        metrics = samples(server.url)
        truth = server.truth()

    def value(name: str, **labels: str) -> float:
        pairs = [f'{key}="{text}"' for key, text in sorted({"engine": "0", "model_name": "m", **labels}.items())]
        return metrics[f"vllm:{name}{{{','.join(pairs)}}}"]

    assert truth.prompt_tokens[-1] == usage["prompt_tokens"]
    assert value("prompt_tokens_total") == truth.prompt_tokens.sum() == value("request_prompt_tokens_sum")
    assert value("generation_tokens_total") == 4 * 25 + 7 == value("request_generation_tokens_sum")
    assert value("request_success_total", finished_reason="length") == 5
    assert value("inter_token_latency_seconds_count") == 4 * 24 + 6
    assert value("iteration_tokens_total_sum") == value("prompt_tokens_total") + value("generation_tokens_total")
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_decode_time_seconds"):
        assert value(f"{name}_count") == value(f"{name}_bucket", le="+Inf") == 5
    # Sums of times are the log's own schedule.
    first = truth.scheduled_ns[truth.event_start[:4]]
    last = truth.scheduled_ns[truth.event_start[1:5] - 1]
    decode = (last - first).sum() / 1e9 + 6e-3  # the whole answer: seven steps of exactly 1 ms
    assert value("request_decode_time_seconds_sum") == pytest.approx(decode, abs=1e-9)
    assert value("inter_token_latency_seconds_sum") == pytest.approx(decode, abs=1e-9)
    e2e = (truth.scheduled_ns[truth.event_start[1:] - 1] - truth.arrival_ns).sum() / 1e9
    assert value("e2e_request_latency_seconds_sum") == pytest.approx(e2e, abs=1e-9)
    parts = [value(f"request_{part}_time_seconds_sum") for part in ("queue", "prefill", "decode")]
    assert sum(parts) == pytest.approx(e2e, abs=1e-9)
    assert value("num_requests_running") == value("num_requests_waiting") == 0
    assert "vllm:kv_cache_usage_perc" in {name.partition("{")[0] for name in metrics}


def test_prefix_cache_shows(tmp_path: Path) -> None:
    with simulator(tmp_path, "--engine", "h100-8b", "--model", "m") as server:
        with Connection(server.url) as connection:
            for _ in range(2):
                connection.exchange(COMPLETIONS, {"prompt": list(range(100)), "max_tokens": 1})
        metrics = samples(server.url)
    labels = '{engine="0",model_name="m"}'
    assert metrics[f"vllm:prefix_cache_queries_total{labels}"] == 200
    assert metrics[f"vllm:prefix_cache_hits_total{labels}"] == 96  # six full blocks of 16, the second time
    assert metrics[f"vllm:prompt_tokens_cached_total{labels}"] == 96


def test_histogram_bounds_are_inclusive() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert token_bounds(2048)[-3:] == [500.0, 1000.0, 2000.0]


def test_a_client_that_goes_is_an_abort(tmp_path: Path) -> None:
    with simulator(tmp_path, "--fixed-timing", "10,10") as server:
        parts = urlsplit(server.url)
        body = json.dumps({"prompt": "x", "max_tokens": 10_000, "stream": True}).encode()
        with socket.create_connection((parts.hostname, parts.port or 0)) as connection:
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            assert connection.recv(100_000)
            time.sleep(0.1)
        aborted = 'vllm:request_success_total{engine="0",finished_reason="abort",model_name="simulated"}'
        until(lambda: samples(server.url).get(aborted) == 1)
        metrics = samples(server.url)
        truth = server.truth()
    assert metrics['vllm:num_requests_running{engine="0",model_name="simulated"}'] == 0
    assert list(truth.finish) == [Finish.ABORT]
    assert truth.output_tokens[0] < 5000, "of 10 000 in 100 s"


def test_log_on_demand_and_at_the_end(tmp_path: Path) -> None:
    with simulator(tmp_path, "--fixed-timing", "5,5") as server:
        stream(server, "first", 3)
        before = server.log.stat().st_mtime_ns
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: server.log.stat().st_mtime_ns != before)
        assert list(read_log(server.log).request_id) == ["first"]
        stream(server, "second", 3)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=20) == 0
        assert list(read_log(server.log).request_id) == ["first", "second"]
    with pytest.raises(ValueError, match="no simulator log"):
        read_log(Path(__file__))
