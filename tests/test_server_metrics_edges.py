"""What servers, balancers and a Prometheus do to metrics at the edges: nothing is made of what means nothing."""

import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from latency_profile.records import Status
from latency_profile.results import point_result
from latency_profile.server import server_at
from latency_profile.server_view.reconcile import reconcile
from latency_profile.server_view.structure import Cause
from latency_profile.telemetry.common import counter_samples, readings
from latency_profile.telemetry.deltas import summaries
from latency_profile.telemetry.doors import Door, NoMetrics, own_doors
from latency_profile.telemetry.exposition import Scrape, parse
from latency_profile.telemetry.fold import PROCESS_START, Folded, same_process
from latency_profile.telemetry.prometheus import PrometheusSource
from latency_profile.telemetry.promql import Series
from latency_profile.telemetry.readings import Buckets, Readings
from latency_profile.telemetry.rounds import Asked, folded, rounds
from latency_profile.telemetry.vocabulary import METRICS, VLLM
from latency_profile.telemetry.watch import Watch
from tests.make_records import make_records
from tests.test_server_view import N, causes, point, told

TOKENS = "vllm:generation_tokens_total"
REQUESTS = "vllm:request_success_total"


def fold(backend: str, *texts: str) -> Folded:
    found = Folded(counter_samples(METRICS[backend]))
    for second, text in enumerate(texts):
        found.add(Scrape(100.0 + second, parse(text)))
    return found


def common(backend: str, *replicas: Folded) -> Readings:
    found = readings("direct", METRICS[backend], {f"r{k}": each for k, each in enumerate(replicas)}, 100.0)
    assert found is not None
    return found


def counter(name: str, value: float, process: float | None = None) -> str:
    start = "" if process is None else f"process_start_time_seconds {process}\n"
    return f"# TYPE {name} counter\n{name} {value}\n{start}"


def test_an_average_that_is_called_a_counter_restarts_nothing() -> None:
    """llama.cpp called it one for two years; it falls whenever load does."""
    looks = [
        counter("llamacpp:n_busy_slots_per_decode", busy) + counter("llamacpp:tokens_predicted_total", tokens)
        for busy, tokens in ((3.2, 10), (2.9, 20), (2.5, 30))
    ]
    found = common("llamacpp", fold("llamacpp", *looks))
    assert (found.replicas[0].restarts_s, found.at_least) == ([], None)
    assert found.counters["generated_tokens"] == 20.0


def test_a_counter_that_lost_its_type_is_one() -> None:
    found = common("vllm", fold("vllm", f"{TOKENS} 10\n", f"{TOKENS} 510\n"))
    assert found.counters["generated_tokens"] == 500.0


def test_processes_that_do_not_tell_when_they_started_behind_one_address() -> None:
    looks = [counter("sglang:generation_tokens_total", value) for value in (1000, 500) * 3]
    found = common("sglang", fold("sglang", *looks))
    assert "several processes" in str(found.unlike)
    assert found.counters == {}
    assert found.replicas[0].restarts_s == []


def test_processes_in_turn_are_no_restarts() -> None:
    """Not either where the second one began within the point."""
    for start in (20.0, 100.5):
        looks = [counter(TOKENS, 100, 10.0), counter(TOKENS, 5, start), counter(TOKENS, 101, 10.0)]
        found = common("vllm", fold("vllm", *looks))
        assert "several processes" in str(found.unlike)
        assert found.replicas[0].restarts_s == []


@pytest.mark.parametrize("clock_s", [-8.0, 0.0, 8.0])
def test_a_restart_by_a_clock_that_is_wrong(clock_s: float) -> None:
    looks = [counter(TOKENS, 100, 10.0 + clock_s), counter(TOKENS, 130, 10.0 + clock_s)]
    found = common("vllm", fold("vllm", *looks, counter(TOKENS, 5, 101.5 + clock_s)))
    assert found.unlike is None
    assert found.counters["generated_tokens"] == 35.0
    assert found.replicas[0].restarts_s == [2.0]


def test_a_look_without_the_start_of_the_process() -> None:
    looks = [counter(TOKENS, 100, 10.0), counter(TOKENS, 110), counter(TOKENS, 120, 10.0)]
    found = common("vllm", fold("vllm", *looks))
    assert (found.unlike, found.counters["generated_tokens"]) == (None, 20.0)


def series(name: str, instance: str, at_s: Sequence[float], values: Sequence[float]) -> Series:
    return Series(name, (("instance", instance),), at_s, values)


def test_a_restart_between_a_scrape_and_another_replicas() -> None:
    """a was scraped at 110 and begins anew at 112; the round at 115 has what it said at 110."""
    tokens = [
        series(TOKENS, "a", [95, 110, 125, 140], [0, 50, 20, 60]),
        series(TOKENS, "b", [100, 115, 130, 145], [0, 40, 80, 120]),
    ]
    starts = [
        series(PROCESS_START, "a", [95, 110, 125, 140], [1, 1, 112, 112]),
        series(PROCESS_START, "b", [100, 115, 130, 145], [2] * 4),
    ]
    over = rounds(tokens, 102.0, 138.0)
    asked = {PROCESS_START: Asked("gauge", starts), TOKENS: Asked("counter", tokens)}
    replicas, _ = folded(over, asked, [TOKENS], [])
    found = readings("prometheus", VLLM, replicas, 102.0)
    assert found is not None
    assert found.unlike is None
    assert found.counters["generated_tokens"] == 50 + 60 + 120


def test_histograms_of_other_bounds_are_added_where_they_can_be() -> None:
    """200 values of at most 0.5, of which one replica only says that, and the other one that 100 are below 0.1."""
    name = "vllm:e2e_request_latency_seconds"

    def text(count: int, *bounds: str) -> str:
        rows = [f'{name}_bucket{{le="{bound}"}} {count}' for bound in (*bounds, "+Inf")]
        return "\n".join([f"# TYPE {name} histogram", *rows, f"{name}_sum {count}", f"{name}_count {count}", ""])

    new, old = ("0.1", "0.5", "1"), ("0.5", "2")
    replicas = [fold("vllm", text(0, *bounds), text(100, *bounds)) for bounds in (new, old)]
    assert common("vllm", *replicas).histograms["e2e"] == Buckets(bounds=[0.5], counts=[200.0, 0.0], total=200.0)
    row = summaries({"a": replicas[0], "b": replicas[1]}, 100.0, 101.0)[0][name]
    assert (row["Count"], row["Max"]) == (200.0, 0.5)


def test_a_series_of_a_histogram_that_ended_makes_its_sum_a_lower_bound() -> None:
    head = "# TYPE tgi_request_input_length histogram\n"
    first = head + "".join(f'tgi_request_input_length_sum{{pod="{pod}"}} 5\n' for pod in "ab")
    found = common("tgi", fold("tgi", first, head + 'tgi_request_input_length_sum{pod="a"} 9\n'))
    assert "tgi_request_input_length" in str(found.at_least)


def test_a_counter_that_is_no_number_is_no_increase() -> None:
    found = common("vllm", fold("vllm", counter(TOKENS, 1), counter(TOKENS, float("nan"))))
    assert "series ended" in str(found.at_least)
    assert found.counters["generated_tokens"] == 0.0


@pytest.mark.parametrize("labels", ["", '{le="x"}', '{le="nan"}'])
def test_a_bucket_without_a_bound_is_no_exposition(labels: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse(f"# TYPE a histogram\na_bucket{labels} 3\n")


def test_lines_end_where_the_format_says() -> None:
    assert parse('a_total{x="p\u2028q\x0c"} 3\r\n')["a_total"].samples == {("a_total", (("x", "p\u2028q\x0c"),)): 3.0}


def serve(answer: Callable[[socket.socket, str], None]) -> int:
    """The port of a server that answers each connection so."""
    listening = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                answer(connection, connection.recv(4096).decode().split()[1])
            except OSError:
                pass

    def run() -> None:
        while True:
            threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return int(listening.getsockname()[1])


def trickling(connection: socket.socket, path: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(600):
        connection.sendall(b"a")
        time.sleep(0.1)


def endless(connection: socket.socket, path: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\na 1\n")


def test_a_body_that_never_ends_is_not_waited_for() -> None:
    began = time.monotonic()
    for answer in (trickling, endless):
        door = Door(server_at("127.0.0.1", serve(answer), None, (), None, True))
        with pytest.raises(NoMetrics):
            door.look(0.0, 0.5)
    assert time.monotonic() - began < 20


def test_servers_at_paths_of_one_host_are_replicas_of_their_own() -> None:
    def answer(connection: socket.socket, path: str) -> None:
        body = counter("sglang:generation_tokens_total", 100 if path.startswith("/a/") else 50).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    port = serve(answer)
    servers = [server_at("", 0, f"http://127.0.0.1:{port}/{team}/v1", (), None, True) for team in "ab"]
    watch = Watch(own_doors(servers, None), ["sglang:generation_tokens_total"], [])
    watch.begin()
    watch.end()
    watch.look()
    assert [sum(each.growth("sglang:generation_tokens_total").values()) for each in watch.replicas.values()] == [0, 0]


def test_two_pods_that_began_together_are_two() -> None:
    def look(cpu_s: float | None) -> Scrape:
        used = "" if cpu_s is None else counter("process_cpu_seconds_total", cpu_s)
        return Scrape(1.0, parse(counter(TOKENS, 0, 1700000000.25) + used))

    assert same_process(look(61.2), look(61.25))
    assert same_process(look(None), look(None))
    assert not same_process(look(61.2), look(64.9))


class Samples:
    """A Prometheus that has these samples, and answers selectors of ranges."""

    def __init__(self, *found: Series) -> None:
        self._found = found

    def fresh(self) -> None:
        """As Api's."""

    def query(self, promql: str, at_unix_s: float | None = None) -> list[Series]:
        name = re.fullmatch(r"([\w:]+)\{\}\[\d+s\]", promql)
        return [each for each in self._found if name and each.name == name[1]]


def seen(at_s: Sequence[float], values: Sequence[float], begins_s: float) -> PrometheusSource:
    samples: Any = Samples(series(REQUESTS, "a", [begins_s + at for at in at_s], values))
    return PrometheusSource(samples, VLLM, settle_s=0.0, ready_s=1.0)


def test_a_scrape_at_the_very_end_has_not_everything() -> None:
    """40 requests, of which the scrape 10 ms after the last answer has 38."""
    begins_s = time.time() - 100
    found = seen([-5, 10, 20.01, 35], [0, 20, 38, 40], begins_s).point_finished(begins_s, begins_s + 20).readings
    assert found is not None
    assert found.counters["requests"] == 40.0


def test_this_clients_own_earlier_requests_are_no_other_traffic() -> None:
    """The last scrape before the point is older than the end of the point before, or a first request."""
    begins_s = time.time() - 100
    source = seen([-60, -30, 30], [0, 20, 180], begins_s)
    source.point_finished(begins_s - 40, begins_s - 10)
    found = source.point_finished(begins_s, begins_s + 20).readings
    assert found is not None
    assert (found.start_s, found.earlier_s) == (pytest.approx(-30), pytest.approx(-10))
    assert found.at_least is None
    records = point(found)
    assert point_result(records).verdict.verdict.name != "CONTAMINATED"
    assert causes(reconcile(records, found)) == [("requests", Cause.WRONG_WINDOW)]


def test_requests_that_something_sends_again_are_no_other_traffic() -> None:
    counters = {"requests": 105.0, "prompt_tokens": 1200.0, "generated_tokens": 1000.0}
    verdict = point_result(point(told(counters=counters))).verdict
    assert verdict.verdict.name != "CONTAMINATED"
    assert sum("sends requests again" in remark.text for remark in verdict.remarks) == 1


def test_gaps_of_what_was_cut_short_are_no_events_of_several_tokens() -> None:
    status = np.full(N, Status.OK)
    status[:6] = Status.CANCELLED
    itl = Buckets(bounds=[0.02], counts=[900.0, 0.0], total=9.0)
    assert causes(reconcile(point(told(), status=status), told(histograms={"itl": itl}))) == []


def test_where_all_requests_were_counted_no_process_was_left_out() -> None:
    counters = {"requests": 100.0, "prompt_tokens": 600.0, "generated_tokens": 400.0}
    found = causes(reconcile(point(told()), told(counters=counters)))
    assert found == [("prompt_tokens", Cause.OTHER_COUNT), ("generated_tokens", Cause.OTHER_COUNT)]


def test_the_cause_is_that_of_the_quantile_that_disagrees() -> None:
    """p50 is 1 ms above its bucket, which is tolerated, and p99 far below."""
    ttft = Buckets(bounds=[0.051, 0.3, 0.5], counts=[90.0, 0.0, 10.0, 0.0], total=9.0)
    (found,) = reconcile(point(told()), told(histograms={"ttft": ttft})).disagreements
    assert found.cause is Cause.WRONG_WINDOW
    assert "p99" in found.text


@pytest.mark.parametrize(("asked", "called"), [("llama-2-7b", "llama_2_7b"), ("model", "/models/model")])
def test_other_spellings_of_a_model_are_no_other_model(asked: str, called: str) -> None:
    due = np.arange(N) / 10
    records = make_records(due, due, [[at + 0.05] for at in due], models=[asked])
    assert ("model", Cause.OTHER_MODEL) not in causes(reconcile(records, told(models=[called])))


def test_behind_a_balancer_a_prometheus_tells_of_other_traffic() -> None:
    nothing = told(counters={}, histograms={}, unlike="several processes answer in turn behind one address")
    known = told(source="prometheus", counters={"requests": 150.0, "generated_tokens": 1500.0})
    records = point(nothing)
    records.context.server_readings = [nothing, known]
    result = point_result(records)
    assert result.server.reconciliation is not None
    assert result.server.reconciliation.source == "prometheus"
    assert result.verdict.verdict.name == "CONTAMINATED"


@pytest.mark.parametrize(("requests", "queue_s"), [(100.0, 0.02), (200.0, None)])
def test_seconds_of_other_requests_are_no_queue_of_these(requests: float, queue_s: float | None) -> None:
    known = told(
        counters={"requests": requests, "queue_seconds": 2.0},
        histograms={"prefill": Buckets(bounds=[1.0], counts=[100.0, 0.0], total=3.0)},
    )
    split = reconcile(point(known), known).ttft_split
    assert split is not None
    assert split.queue_s == (None if queue_s is None else pytest.approx(queue_s))


def test_replicas_of_two_versions_are_each_read_by_their_own_names() -> None:
    def version(cache: str, used: float, itl: str, count: float) -> str:
        buckets = "".join(f'vllm:{itl}_bucket{{le="{le}"}} {count}\n' for le in ("0.1", "+Inf"))
        return (
            f"# TYPE vllm:{cache} gauge\nvllm:{cache} {used}\n# TYPE vllm:{itl} histogram\n{buckets}"
            f"vllm:{itl}_sum {count / 20}\nvllm:{itl}_count {count}\n"
        )

    new = [version("kv_cache_usage_perc", 0.75, "inter_token_latency_seconds", count) for count in (0, 100)]
    old = [version("gpu_cache_usage_perc", 0.25, "time_per_output_token_seconds", count) for count in (7, 57)]
    found = common("vllm", fold("vllm", *new), fold("vllm", *old))
    assert found.gauges["kv_cache_use"] == [0.5, 0.5]
    assert found.histograms["itl"] == Buckets(bounds=[0.1], counts=[150.0, 0.0], total=pytest.approx(7.5))
    assert found.names["itl"] == ["vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"]
