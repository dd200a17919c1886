"""What /metrics, /ready and /healthz say, held against Prometheus' own library."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from latency_profile import measures
from latency_profile.errors import UsageError
from latency_profile.live import board as board_module
from latency_profile.live.board import LONGEST_BETWEEN_LOOKS_S, Board, Watched
from latency_profile.live.exposition import CONTENT_TYPE, exposition
from latency_profile.live.histogram import POWERS_OF_TWO, Histogram
from latency_profile.live.server import LiveServer
from latency_profile.live.view import Phase, View
from latency_profile.points import PlannedPoint
from latency_profile.records import Status
from latency_profile.report.progress import Snapshot
from latency_profile.verdict import Kind
from tests.make_records import make_records, uniform_records

PREFIX = "LatencyProfileGenerator:"
POINT = PlannedPoint(0, 4.0, None, np.zeros(3, dtype=np.int64), 0, 3, 10.0)
CLOSED = PlannedPoint(1, None, 32, None, 3, 100, 10.0)
RUNNING = Snapshot(2.0, 10.0, 40, sent=9, in_flight=3, completed=5, failed=1, tokens_per_s=8.0, lateness_p99_ms=1.5)


def read(view: View) -> dict[tuple[str, str], float]:
    """Each sample by its name without the prefix and the value of its label."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(exposition(view).decode()):
        for sample in family.samples:
            assert sample.name.startswith(PREFIX)
            found[sample.name.removeprefix(PREFIX), next(iter(sample.labels.values()), "")] = sample.value
    return found


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def served(board: Board) -> Iterator[LiveServer]:
    with LiveServer(board, 0) as server:
        yield server


def ask(server: LiveServer, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(host, server.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.getheader("Content-Type") or "", body


def test_a_histogram_is_prometheus_own(board: Board) -> None:
    values = np.concatenate((np.random.default_rng(0).lognormal(4, 2, 5000), [2.0, 4.0, 32768.0, 0.0, 1e9]))
    theirs = prometheus_client.Histogram("x", "x", buckets=POWERS_OF_TWO, registry=None)
    for value in values:
        theirs.observe(value)
    ours = Histogram.empty().observed(values[:100]).observed(values[100:])
    (family,) = theirs.collect()
    buckets = [sample.value for sample in family.samples if sample.name == "x_bucket"]
    total = next(sample.value for sample in family.samples if sample.name == "x_sum")
    assert ours.cumulative == buckets
    assert ours.total == pytest.approx(total)
    labels = [sample.labels["le"] for sample in family.samples if sample.name == "x_bucket"]
    view = replace(View(), histograms=replace(View().histograms, prompt_length=ours))
    assert [label for name, label in read(view) if name == "prompt_length_bucket"] == labels


def test_the_buckets_are_those_that_dashboards_know() -> None:
    assert tuple(2**power for power in range(1, 16)) == POWERS_OF_TWO


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("prompt_length", "histogram"),
        ("response_length", "histogram"),
        ("normalized_time_per_output_token_ms", "histogram"),
        ("time_per_output_token_ms", "histogram"),
        ("time_to_first_token_ms", "histogram"),
        ("active_requests", "gauge"),
        ("request_latency_ms", "histogram"),
        ("request_count", "counter"),
        ("failures", "counter"),
        ("output_tokens_per_second", "gauge"),
        ("verdict", "gauge"),
        ("lateness_ms", "histogram"),
    ],
)
def test_every_name_is_there_before_the_first_point(name: str, kind: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposition(View()).decode())}
    assert families[PREFIX + name].type == kind
    assert families[PREFIX + name].documentation


def test_a_point_enters_the_histograms_with_the_results_own_numbers(board: Board) -> None:
    records = uniform_records(200)
    board.point_measured(records, Kind.VALID)
    found, rows = read(board.view), measures.all_rows(records)
    ttft = measures.time_to_first_token(records, rows, "sent_ns").values / 1e6
    assert found["time_to_first_token_ms_count", ""] == 200
    assert found["time_to_first_token_ms_sum", ""] == pytest.approx(ttft.sum())
    assert found["time_to_first_token_ms_bucket", "128.0"] == (ttft <= 128).sum()
    e2e = measures.end_to_end(records, rows, "sent_ns").values / 1e6
    assert found["request_latency_ms_count", ""] == 200
    assert found["request_latency_ms_sum", ""] == pytest.approx(e2e.sum())
    assert found["prompt_length_bucket", "8.0"] == 0
    assert found["prompt_length_bucket", "16.0"] == 200  # 10 tokens each
    assert found["response_length_sum", ""] == 1000
    assert found["lateness_ms_bucket", "0.25"] == 0
    assert found["lateness_ms_bucket", "0.5"] == 200
    assert found["lateness_p99_ms", ""] == pytest.approx(0.5)
    assert found["request_count_total", ""] == 200


def test_only_answered_requests_are_in_the_latencies(board: Board) -> None:
    records = make_records(
        [0, 1, 2, 3],
        token_times_s=[[0.1, 0.2], [1.1, 1.2], [2.1, 2.2], [3.1]],
        columns={"status": [Status.OK, Status.RESET, Status.CANCELLED, Status.OK]},
        cut_short="SIGTERM",
    )
    board.point_measured(records, Kind.TOO_FEW_SAMPLES)
    found = read(board.view)
    assert found["time_to_first_token_ms_count", ""] == 2
    assert found["time_per_output_token_ms_count", ""] == 1  # the last one has a single token
    assert found["normalized_time_per_output_token_ms_count", ""] == 2
    assert found["requests_completed_total", ""] == 2
    assert found["requests_failed_total", ""] == 1
    assert found["request_latency_ms_count", ""] == 2


def test_failures_are_counted_by_how_they_ended(board: Board) -> None:
    statuses = [Status.OK, Status.RESET, Status.RESET, Status.HTTP_SERVER_ERROR, Status.CANCELLED, Status.NOT_SENT]
    records = make_records(
        [0, 1, 2, 3, 4, 5],
        token_times_s=[[second + 0.1, second + 0.2] for second in range(6)],
        columns={"status": statuses},
        cut_short="SIGTERM",
    )
    for seen in (1, 2):
        board.point_measured(records, Kind.FAILED)
        found = read(board.view)
        kinds = {label: count for (name, label), count in found.items() if name == "failures_total"}
        assert {kind: count for kind, count in kinds.items() if count} == {"RESET": 2 * seen, "HTTP_SERVER_ERROR": seen}
        assert len(kinds) == len(Status) - 3
        assert sum(kinds.values()) == found["requests_failed_total", ""] == 3 * seen


def test_what_runs_is_seen_live_and_counters_never_fall(board: Board) -> None:
    board.planned(2)
    board.point_started(POINT)
    watched = Watched(_Silent(), board)
    watched.update(RUNNING)
    live = read(board.view)
    assert (live["active_requests", ""], live["request_count_total", ""]) == (3, 9)
    assert (live["requests_completed_total", ""], live["requests_failed_total", ""]) == (5, 1)
    assert live["lateness_p99_ms", ""] == 1.5
    assert live["output_tokens_per_second", ""] == 8.0
    assert live["point_load", "requests_per_second"] == 4
    board.sending_is_over()
    assert read(board.view)["active_requests", ""] == 0
    assert read(board.view)["output_tokens_per_second", ""] == 0
    records = uniform_records(6)  # fewer than the loops had counted
    board.point_measured(records, Kind.SATURATED)
    after = read(board.view)
    assert after["request_count_total", ""] == 9
    assert after["requests_completed_total", ""] == 6
    board.point_started(CLOSED)
    watched.update(RUNNING)
    again = read(board.view)
    assert again["request_count_total", ""] == 18
    assert again["point_load", "in_flight"] == 32
    assert ("point_load", "requests_per_second") not in again
    assert again["points", ""] == 2
    assert again["points_done", ""] == 1


def test_the_verdict_is_the_last_points_and_all_are_counted(board: Board) -> None:
    for verdict in (Kind.VALID, Kind.VALID, Kind.SATURATED):
        board.point_measured(uniform_records(10), verdict)
    board.point_kept(Kind.VALID)
    board.point_measured(uniform_records(10), None)  # its verdict is another pod's
    found = read(board.view)
    assert [kind for kind in Kind if found["verdict", kind.value]] == [Kind.VALID]
    assert found["verdicts_total", "VALID"] == 3
    assert found["verdicts_total", "SATURATED"] == 1
    assert found["points_done", ""] == 5
    assert ("exit_code", "") not in found
    board.done(4, "all of it. Exit code 4.")
    assert read(board.view)["exit_code", ""] == 4
    assert read(board.view)["phase", "DONE"] == 1


def test_ready_waits_for_the_server_and_says_how_far_it_is(board: Board, served: LiveServer) -> None:
    assert ask(served, "/ready") == (503, "text/plain; charset=utf-8", b"starting\n")
    board.phase(Phase.WAITING)
    Watched(_Silent(), board).say("waiting for http://vllm:8000: connection refused")
    status, _, body = ask(served, "/ready")
    assert (status, body) == (503, b"waiting: waiting for http://vllm:8000: connection refused\n")
    board.server_is_ready()
    board.planned(2)
    board.point_started(POINT)
    board.looked(RUNNING)
    status, _, body = ask(served, "/ready?verbose")
    assert status == 200
    assert body == b"measuring: point 1 of 2, 4 req/s: 0:02/0:10, sent 9, in flight 3, failed 1\n"
    board.done(0, "2 points: 2 VALID. Exit code 0.")
    assert ask(served, "/ready")[::2] == (200, b"done: 2 points: 2 VALID. Exit code 0.\n")


def test_healthy_while_the_main_thread_looks(board: Board, served: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(served, "/healthz")[0] == 200, "data sets take minutes, and so does waiting for a server"
    board.looked(RUNNING)
    now = time.monotonic()
    monkeypatch.setattr(board_module.time, "monotonic", lambda: now + LONGEST_BETWEEN_LOOKS_S - 1)
    assert ask(served, "/healthz")[0] == 200
    monkeypatch.setattr(board_module.time, "monotonic", lambda: now + LONGEST_BETWEEN_LOOKS_S + 1)
    assert ask(served, "/healthz")[0] == 503
    board.sending_is_over()
    assert ask(served, "/healthz")[0] == 200, "reading the answers of a long point takes its time"


def test_metrics_over_http(board: Board, served: LiveServer) -> None:
    status, content_type, body = ask(served, "/metrics")
    assert (status, content_type) == (200, CONTENT_TYPE)
    assert body == exposition(board.view)
    status, _, nothing = ask(served, "/metrics", "HEAD")
    assert (status, nothing) == (200, b"")
    assert ask(served, "/")[0] == 404
    assert ask(served, "/metrics", "POST")[0] == 501


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_pods_of_ipv6_are_heard_too(served: LiveServer) -> None:
    assert ask(served, "/healthz", host="::1")[0] == 200


def test_a_client_that_says_nothing_keeps_nobody_waiting(served: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", served.port)):
        assert ask(served, "/healthz")[0] == 200


def test_a_port_that_is_taken_is_one_line(board: Board, served: LiveServer) -> None:
    with pytest.raises(UsageError, match=r"^--metrics-port: got \d+, takes a free port \(Address already in use\)$"):
        LiveServer(board, served.port)


def test_the_server_ends_at_once_and_frees_its_port(board: Board) -> None:
    began = time.monotonic()
    with LiveServer(board, 0) as server:
        assert ask(server, "/healthz")[0] == 200
        assert any(thread.name == "metrics" for thread in threading.enumerate())
    assert time.monotonic() - began < 5
    with LiveServer(board, server.port):
        pass


class _Silent:
    """Progress that nobody sees."""

    def point_started(self, label: str, number: int, of: int) -> None: ...

    def update(self, snapshot: Snapshot) -> None: ...

    def point_finished(self, line: str) -> None: ...

    def say(self, text: str) -> None: ...
