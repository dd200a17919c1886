"""Server metrics from a real Prometheus that scrapes an exporter with vLLM's recorded metrics."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import requests

from latency_profile.errors import ServerUnavailable
from latency_profile.telemetry.prometheus import Api, PrometheusSource
from latency_profile.telemetry.promql import Series
from latency_profile.telemetry.readings import COUNTED_S
from latency_profile.telemetry.rounds import Asked, appeared, folded, rounds, stragglers
from latency_profile.telemetry.vocabulary import TGI, VLLM, Metric
from tests.prometheus_points import AFTER, BEFORE, WHERE, a_point, ask, increase, value, wait_for, with_running
from tests.servers.process import free_port
from tests.servers.prometheus import Exporter, exporter, prometheus


class Shared(NamedTuple):
    """Two exporters, and what scrapes them. All are started together: it takes 5 s until a first scrape."""

    server: Exporter
    other: Exporter
    url: str  # of a Prometheus that scrapes the first one
    both: str  # of one that scrapes both
    leaving: str  # of another of the first one's, until it is told to
    leave: Callable[[], None]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    with (
        exporter(BEFORE) as server,
        exporter(BEFORE) as other,
        prometheus(folder / "one", [server.port]) as url,
        prometheus(folder / "both", [server.port, other.port]) as both,
        ExitStack() as third,
    ):
        leaving = third.enter_context(prometheus(folder / "leaving", [server.port]))
        yield Shared(server, other, url, both, leaving, third.close)


@pytest.fixture
def url(shared: Shared) -> str:
    return shared.url


@pytest.fixture
def server(shared: Shared) -> Exporter:
    """The exporter, as Prometheus has seen it since the last test."""
    shared.server.text, shared.server.status = BEFORE, 200
    wait_for(shared.url, f"vllm:generation_tokens_total{WHERE} == 47")
    return shared.server


def source(
    url: str,
    metrics: tuple[Metric, ...] = VLLM,
    *,
    settle_s: float = 5.0,
    ready_s: float = 10.0,
    job: str = "vllm-podmonitoring",
    models: tuple[str, ...] = (),
) -> PrometheusSource:
    api = Api(url, requests.Session())
    return PrometheusSource(
        api, metrics, namespace="default", job=job, models=models, settle_s=settle_s, ready_s=ready_s
    )


def series(instance: str, at_s: Sequence[float], values: Sequence[float], name: str = "a_total") -> Series:
    return Series(name, (("instance", instance),), at_s, values)


def test_rounds_of_replicas_that_are_scraped_at_different_moments() -> None:
    """The second one three times as often, and it leaves; the third comes within the point."""
    first = series("1", [7.0, 10.0, 13.0, 16.0, 19.0], [5.0, 6.0, 8.0, 11.0, 11.0])
    second = series("2", [7.5, 8.5, 9.5, 10.5, 11.5, 12.5], [10.0, 10.0, 20.0, 30.0, 40.0, 50.0])
    third = series("3", [14.0, 17.0, 20.0], [100.0, 101.0, 102.0])
    over = rounds([first, second, third], 9.0, 15.7)
    assert (over.first_s, over.last_s) == (8.5, 17.0)
    assert over.late == ["2"]
    assert not over.steady
    assert over.times_s() == [8.5, 10.0, 13.0, 16.0, 17.0]
    replicas, lacks = folded(over, {"a_total": Asked("counter", [first, second, third])}, ["a_total"], [])
    assert replicas["1"].looks_s == [8.5, 10.0, 13.0, 16.0, 17.0]
    assert replicas["2"].looks_s == [8.5, 10.0, 13.0]
    assert [look["a_total"] for look in replicas["1"].totals] == [0.0, 1.0, 3.0, 6.0, 6.0]
    assert [look["a_total"] for look in replicas["2"].totals] == [0.0, 10.0, 40.0]
    assert list(replicas["3"].growth("a_total").values()) == [1.0]  # how much of the 100 is the point's is not known
    assert replicas["3"].late
    assert lacks == []
    assert stragglers(over, {"a_total": Asked("counter", [first])}) == []
    assert stragglers(over, {"b_total": Asked("counter", [series("1", [7.0, 13.0], [5.0, 8.0])])}) == ["b_total"]
    assert appeared(over, {"a_total": Asked("counter", [first, series("1", [13.0], [2.0], "b")])}) == ["a_total"]


def test_a_point_seen_through_prometheus(server: Exporter, url: str) -> None:
    seen_by = source(url, models=("smollm2-135m",))
    seen_by.check()
    seen_by.point_started()
    start, end = a_point(server)
    told = seen_by.point_finished(start, end)
    seen = time.time()

    assert increase(told, "vllm:generation_tokens_total") == 1216.0
    assert increase(told, "vllm:request_success_total") == 19.0
    raw = ask(url, f"vllm:num_requests_running{WHERE}[60s]", seen)[0]["values"]
    scrapes = np.array([at for at, _ in raw])
    first, last = scrapes[scrapes <= start].max(), scrapes[scrapes >= end + COUNTED_S].min()
    assert told.metrics["vllm:generation_tokens_total"]["Rate"] == pytest.approx(1216.0 / (last - first))

    inside = [float(text) for at, text in raw if start < at <= end]
    running = np.array(inside)
    assert len(running) >= 6
    assert running.max() > 40.0
    expected = {
        "First": 0.0,
        "Last": 0.0,
        "Mean": running.mean(),
        "Median": np.median(running),
        "Sd": running.std(),
        "Min": running.min(),
        "Max": running.max(),
        "P90": np.percentile(running, 90),
        "P95": np.percentile(running, 95),
        "P99": np.percentile(running, 99),
    }
    assert told.metrics["vllm:num_requests_running"] == pytest.approx(expected)

    for name in ("vllm:time_to_first_token_seconds", "vllm:request_generation_tokens"):
        grown = f"sum by (le) ({name}_bucket @ {seen} - {name}_bucket @ {start})"
        row = told.metrics[name]
        assert row["Count"] == 19.0
        for key, q in {"Median": 0.5, "P90": 0.9, "P95": 0.95, "P99": 0.99}.items():
            assert row[key] == pytest.approx(value(url, f"histogram_quantile({q}, {grown})")), key
    assert told.metrics["vllm:request_generation_tokens"]["Mean"] == pytest.approx(1216.0 / 19.0)

    assert "vllm:kv_cache_usage_perc" in told.metrics
    assert "vllm:gpu_cache_usage_perc" not in told.metrics  # the old name of a server that has the new one: no notice
    assert told.notices == []
    found = told.readings
    assert found is not None
    assert (found.source, found.at_least, found.unlike, found.missing) == ("prometheus", None, None, [])
    assert found.counters["generated_tokens"] == 1216.0
    assert found.totals["generated_tokens"][0] == 0.0
    assert found.totals["generated_tokens"][-1] == 1216.0
    assert sum(found.histograms["ttft"].counts) == 19.0
    assert found.models == ["smollm2-135m"]
    assert found.start_s == pytest.approx(first - start)
    assert found.end_s == pytest.approx(last - start)
    assert [found.gauges["running"][found.times_s.index(at - start)] for at in scrapes if start < at <= end] == inside


@pytest.mark.slow
def test_old_names_serve_and_what_is_lacking_is_named_once(server: Exporter, url: str) -> None:
    text = BEFORE.replace("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
    server.text = re.sub(r"(?m)^.*vllm:(e2e_request_latency_seconds|num_preemptions_total).*\n", "", text)
    wait_for(url, f"vllm:gpu_cache_usage_perc{WHERE}")
    time.sleep(2.0)  # what ended less than 2.5 scrape intervals before a point counts as lost in it
    seen_by = source(url)
    seen_by.check()
    # Only from then on: Prometheus keeps the samples that were there before.
    start = time.time()
    time.sleep(3)
    told = seen_by.point_finished(start, time.time())
    assert "vllm:gpu_cache_usage_perc" in told.metrics
    assert "vllm:e2e_request_latency_seconds" not in told.metrics
    assert told.notices == ["Prometheus does not have vllm:num_preemptions_total, vllm:e2e_request_latency_seconds"]
    assert told.readings is not None
    assert told.readings.missing == ["preemptions", "e2e"]
    start = time.time()
    time.sleep(3)
    assert seen_by.point_finished(start, time.time()).notices == []


@pytest.mark.slow
def test_the_end_of_a_point_waits_for_the_next_scrape(server: Exporter, tmp_path: Path) -> None:
    with prometheus(tmp_path / "slow", [server.port], interval="3s") as url:
        wait_for(url, f"vllm:num_requests_running{WHERE}")
        seen_by = source(url)
        start = time.time()
        server.text = AFTER
        time.sleep(0.2)
        end = time.time()
        told = seen_by.point_finished(start, end)
        assert increase(told, "vllm:generation_tokens_total") == 1216.0
        assert value(url, f"timestamp(vllm:num_requests_running{WHERE})") >= end
        assert told.metrics["vllm:num_requests_running"].keys() == {"First", "Last"}
        assert told.notices == ["Prometheus has no scrape of the server inside the point: its gauges are left out"]


def test_without_a_scrape_after_the_point_it_says_so(server: Exporter, url: str) -> None:
    seen_by = source(url, settle_s=1.0)
    start, end = a_point(server)
    server.status = 503
    time.sleep(1.2)  # Prometheus sees the target down and ends its series
    started = time.monotonic()
    told = seen_by.point_finished(start, end + 1.2)
    assert time.monotonic() - started < 15
    assert told.notices[0].startswith("increases may lack something: Prometheus has no sample of 127.0.0.1:")
    assert told.readings is not None
    assert told.readings.at_least is not None
    assert told.metrics["vllm:num_requests_running"]["Max"] > 40.0


def test_a_server_that_was_never_there_has_no_zeros(server: Exporter, url: str) -> None:
    """Its last scrape lies before the point: nothing grew that anybody saw."""
    server.status = 503
    time.sleep(1.0)
    start = time.time()
    told = source(url, settle_s=0.5).point_finished(start, start + 0.1)
    assert told.metrics == {}
    assert told.readings is None
    assert "was not scraped after the point's start" in told.notices[0]


def test_a_restart_between_two_scrapes_keeps_what_was_counted(server: Exporter, url: str) -> None:
    start = time.time()
    server.text = AFTER
    wait_for(url, f"vllm:generation_tokens_total{WHERE} == 1263")
    # The counters fall: 47 tokens and 8 requests of another process.
    server.text = re.sub(r"(?m)^(process_start_time_seconds) .*$", rf"\1 {time.time()}", BEFORE)
    time.sleep(1.5)
    told = source(url).point_finished(start, time.time())
    assert increase(told, "vllm:generation_tokens_total") == 1216.0 + 47.0
    assert told.metrics["vllm:request_generation_tokens"]["Count"] == 19.0 + 8.0
    assert any("the server restarted during the point" in notice for notice in told.notices), told.notices
    assert told.readings is not None
    assert sum(told.readings.histograms["e2e"].counts) == 27.0
    assert "restarted" in (told.readings.at_least or "")


def test_two_replicas_add_up_and_each_is_told(server: Exporter, shared: Shared) -> None:
    other, url = shared.other, shared.both
    seen_by = source(url)
    seen_by.check()
    other.text = with_running(BEFORE, 8.0)
    wait_for(url, f"vllm:num_requests_running{WHERE} == 8")
    wait_for(url, f"count(vllm:generation_tokens_total{WHERE} == 47) == 2")
    time.sleep(1)
    start = time.time()
    time.sleep(3)
    server.text = other.text = AFTER
    told = seen_by.point_finished(start, time.time())
    assert increase(told, "vllm:generation_tokens_total") == 2432.0
    assert told.metrics["vllm:request_generation_tokens"]["Count"] == 38.0
    assert told.metrics["vllm:num_requests_running"]["Min"] == 0.0
    assert told.metrics["vllm:num_requests_running"]["Max"] == 8.0
    assert told.metrics["vllm:num_requests_running"]["Mean"] == pytest.approx(4.0)
    found = told.readings
    assert found is not None
    assert {one.name: one.counters["requests"] for one in found.replicas} == {
        f"127.0.0.1:{server.port}": 19.0,
        f"127.0.0.1:{other.port}": 19.0,
    }
    middle = [value for at, value in zip(found.times_s, found.gauges["running"], strict=True) if 0.5 < at < 3.0]
    assert len(middle) >= 4
    assert middle == [8.0] * len(middle)


@pytest.mark.slow
def test_a_replica_that_leaves_is_said_and_counted_until_then(server: Exporter, tmp_path: Path) -> None:
    with exporter(BEFORE) as other, prometheus(tmp_path / "two", [server.port, other.port]) as url:
        wait_for(url, f"count(vllm:num_requests_running{WHERE}) == 2")
        time.sleep(1.2)
        start = time.time()
        server.text = other.text = AFTER
        time.sleep(1.5)
        other.status = 503
        time.sleep(2.0)
        told = source(url, settle_s=1.0).point_finished(start, time.time())
        assert increase(told, "vllm:generation_tokens_total") == 2432.0
        assert told.metrics["vllm:request_generation_tokens"]["Count"] == 38.0
        assert told.readings is not None
        assert f"127.0.0.1:{other.port}" in (told.readings.at_least or "")


@pytest.mark.slow
@pytest.mark.parametrize("young", [True, False])
def test_a_replica_that_comes_counts_from_zero_if_it_is_new(server: Exporter, tmp_path: Path, young: bool) -> None:
    with exporter(BEFORE) as other, prometheus(tmp_path / "two", [server.port, other.port]) as url:
        other.status = 503
        wait_for(url, f"vllm:num_requests_running{WHERE}")
        time.sleep(1.5)
        start = time.time()
        if young:
            other.text = re.sub(r"(?m)^process_start_time_seconds .*$", f"process_start_time_seconds {start}", AFTER)
        other.status = 200
        time.sleep(2.5)
        told = source(url).point_finished(start, time.time())
    assert increase(told, "vllm:generation_tokens_total") == (1263.0 if young else 0.0)
    assert told.readings is not None
    assert (told.readings.at_least is None) == young


@pytest.mark.slow
def test_only_the_models_series_count(server: Exporter, tmp_path: Path) -> None:
    text = AFTER.replace('model_name="smollm2-135m"', 'model_name="another"')
    with (
        exporter(text.replace(" 1263.0", " 5.0")) as other,
        prometheus(tmp_path / "two", [server.port, other.port]) as url,
    ):
        wait_for(url, f"count(vllm:num_requests_running{WHERE}) == 2")
        time.sleep(0.7)
        seen_by = source(url, models=("smollm2-135m",))
        strange = source(url, models=("what-the-gateway-calls-it",))
        start = time.time()
        server.text = other.text = AFTER
        other.text = text
        time.sleep(1.2)
        end = time.time()
        told = seen_by.point_finished(start, end)
        assert increase(told, "vllm:generation_tokens_total") == 1216.0
        assert [one.name for one in told.readings.replicas] == [f"127.0.0.1:{server.port}"] if told.readings else False
        both = strange.point_finished(start, end)
        assert increase(both, "vllm:generation_tokens_total") == 1216.0 + 1258.0
        said = "the server calls its model another, smollm2-135m, not what-the-gateway-calls-it: its metrics are taken"
        assert said in both.notices
        assert said not in strange.point_finished(start, end).notices


def test_values_that_are_no_numbers_are_left_out(server: Exporter, url: str) -> None:
    server.text = with_running(BEFORE, "NaN")
    wait_for(url, f"vllm:num_requests_running{WHERE} != vllm:num_requests_running{WHERE}")
    seen_by = source(url)
    time.sleep(0.6)
    start = time.time()
    time.sleep(1.2)
    server.text = with_running(BEFORE, 4.0)
    time.sleep(1.8)
    told = seen_by.point_finished(start, time.time())
    assert told.metrics["vllm:num_requests_running"]["Min"] == 4.0
    assert told.metrics["vllm:num_requests_running"]["Mean"] == 4.0
    assert told.readings is not None
    running = told.readings.gauges["running"]
    assert running[0] is None
    assert running[-1] == 4.0


TGI_TEXT = """\
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 3
# TYPE tgi_queue_size gauge
tgi_queue_size 0
# TYPE tgi_request_success counter
tgi_request_success{{method="generate"}} {count}
# TYPE tgi_request_input_length histogram
tgi_request_input_length_bucket{{le="100"}} {count}
tgi_request_input_length_bucket{{le="+Inf"}} {count}
tgi_request_input_length_sum {tokens}
tgi_request_input_length_count {count}
"""


@pytest.mark.slow
def test_the_sum_of_a_histogram_counts_tokens(tmp_path: Path) -> None:
    with exporter(TGI_TEXT.format(count=2, tokens=70)) as server, prometheus(tmp_path / "tgi", [server.port]) as url:
        seen_by = source(url, TGI)
        seen_by.check()
        time.sleep(1.1)
        start = time.time()
        server.text = TGI_TEXT.format(count=12, tokens=570)
        time.sleep(1.0)
        told = seen_by.point_finished(start, time.time())
        assert told.readings is not None
        assert told.readings.counters == {"requests": 10.0, "prompt_tokens": 500.0}
        assert "tgi_request_duration" in told.notices[-1]


@pytest.mark.slow
def test_increase_agrees_within_what_it_extrapolates(tmp_path: Path) -> None:
    """Prometheus 2.42, promql/functions.go, extrapolatedRate: of n samples in the window [s, e], the first at f and the
    last at l, with the mean interval i = (l - f) / (n - 1), it takes the growth between f and l times
    (l - f + a + b) / (l - f), where a is f - s if that is less than 1.1 i, else i / 2 (and never more than it took the
    counter to come from 0), and b likewise e - l. A counter of a steady rate thus comes out wrong by no more than what
    it counts in 1.1 i at each edge. The edges of the source are exact."""
    base, rate = 5000.0, 40.0  # tokens, a second
    text = "# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total {}\n"
    with exporter(text.format(base)) as server, prometheus(tmp_path / "one", [server.port], interval="1s") as url:
        wait_for(url, f"vllm:generation_tokens_total{WHERE}")
        wait_for(url, f"count_over_time(vllm:generation_tokens_total{WHERE}[30s]) >= 2")
        seen_by = source(url)
        start = time.time()
        while (gone := time.time() - start) < 8.0:
            server.text = text.format(base + rate * gone)
            time.sleep(0.02)
        server.text = text.format(base + rate * 8.0)
        end = time.time()
        told = seen_by.point_finished(start, end)
        window = f"{WHERE}[{round((end - start) * 1000)}ms]"
        theirs = value(url, f"sum(increase(vllm:generation_tokens_total{window}))", end)
        pairs = ask(url, f"vllm:generation_tokens_total{window}", end)[0]["values"]
    assert increase(told, "vllm:generation_tokens_total") == pytest.approx(rate * 8.0, rel=1e-9)

    n, (first, _), (last, _) = len(pairs), pairs[0], pairs[-1]
    interval = (last - first) / (n - 1)
    grown = float(pairs[-1][1]) - float(pairs[0][1])
    edges = [edge if edge < 1.1 * interval else interval / 2 for edge in (first - start, end - last)]
    assert n in {8, 9}
    assert theirs == pytest.approx(grown * (last - first + sum(edges)) / (last - first), rel=1e-3)
    assert abs(theirs - rate * 8.0) <= 2 * 1.1 * interval * rate
    assert theirs != pytest.approx(rate * 8.0, rel=1e-9)  # it does guess


def test_wrong_labels_name_the_flags(server: Exporter, url: str) -> None:
    expected = (
        r'has no metrics of the server with {namespace="default",job="no\"such"}; see --pm-namespace and --pm-job'
    )
    with pytest.raises(ServerUnavailable) as caught:
        source(url, job='no"such', ready_s=0.5).check()
    assert expected in str(caught.value)


def test_check_waits_for_the_first_scrape(server: Exporter, url: str) -> None:
    with exporter(BEFORE) as late:
        late.status = 503
        with_job = source(url, job="late", ready_s=0.2)
        with pytest.raises(ServerUnavailable, match="has no metrics of the server"):
            with_job.check()


def test_no_prometheus_is_one_clear_error_before_the_run() -> None:
    started = time.monotonic()
    with pytest.raises(
        ServerUnavailable, match=r"^no server metrics: Prometheus at http://127.0.0.1:\d+: no connection$"
    ):
        source(f"http://user:secret@127.0.0.1:{free_port()}").check()
    assert time.monotonic() - started < 20


def test_what_is_no_prometheus(server: Exporter) -> None:
    with pytest.raises(
        ServerUnavailable, match=r"^no server metrics: Prometheus at \S+ has no query API there \(HTTP status 404\)"
    ):
        source(server.url).check()
    with pytest.raises(ServerUnavailable, match="does not answer like a Prometheus"):
        source(server.url + "/metrics?").check()


def test_a_prometheus_that_goes_away_kills_nothing(shared: Shared) -> None:
    seen_by = source(shared.leaving)
    seen_by.check()
    start = time.time()
    shared.leave()
    started = time.monotonic()
    told = seen_by.point_finished(start, time.time())
    assert time.monotonic() - started < 20
    assert told.metrics == {}
    assert told.readings is None
    lost = f"server metrics of this point are missing: Prometheus at {shared.leaving}: no connection"
    assert told.notices == [lost]
