"""The text format, the arithmetic between two scrapes, and the server's own /metrics."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_profile.errors import ServerUnavailable
from latency_profile.server import Server, server_at
from latency_profile.telemetry.deltas import deltas, histogram_quantile
from latency_profile.telemetry.doors import Door, NoMetrics
from latency_profile.telemetry.exposition import Scrape, parse
from latency_profile.telemetry.source import MetricsSpec, open_source
from tests.servers.process import free_port
from tests.servers.prometheus import Exporter, exporter

DATA = Path(__file__).parent / "data" / "telemetry"
BEFORE = (DATA / "vllm_before.txt").read_text()
AFTER = (DATA / "vllm_after.txt").read_text()
LLAMACPP = (DATA / "llamacpp.txt").read_text()


def change(before: str, after: str, seconds: float = 10.0) -> tuple[dict[str, dict[str, float]], list[str]]:
    return deltas(Scrape(100.0, parse(before)), Scrape(100.0 + seconds, parse(after)))


def test_parsing_of_every_form_of_a_line() -> None:
    families = parse(
        "# HELP a_total What it is.\n"
        "# TYPE a_total counter\n"
        'a_total{x="a \\"b\\" }{ \\\\ \\n c",y="2",} 3 1395066363000\n'
        "a_total 4e2\n"
        "\n"
        "# a comment\n"
        "# TYPE h histogram\n"
        'h_bucket{le="0.5"} 1\n'
        'h_bucket{le="+Inf"} 2 # {trace_id="x"} 0.67\n'
        "h_sum 1.5\n"
        "h_count 2\n"
        "# TYPE h_created gauge\n"
        "h_created 1.79e9\n"
        "nothing_said -Inf\n"
    )
    assert {name: family.kind for name, family in families.items()} == {
        "a_total": "counter",
        "h": "histogram",
        "nothing_said": "untyped",
    }
    assert families["a_total"].samples == {
        ("a_total", (("x", 'a "b" }{ \\ \n c'), ("y", "2"))): 3.0,
        ("a_total", ()): 400.0,
    }
    assert families["h"].samples == {
        ("h_bucket", (("le", "0.5"),)): 1.0,
        ("h_bucket", (("le", "+Inf"),)): 2.0,
        ("h_sum", ()): 1.5,
        ("h_count", ()): 2.0,
    }
    assert families["nothing_said"].samples == {("nothing_said", ()): -math.inf}


@pytest.mark.parametrize("text", ["<html>no</html>", "a{x=1} 2", "a one", "a{x='1'} 2", '{"error": "not found"}'])
def test_what_is_no_exposition(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        parse(text)


def test_names_stay_as_the_server_spells_them() -> None:
    families = parse(LLAMACPP)
    assert families["llamacpp:n_tokens_max"].kind == "counter"
    assert families["llamacpp:prompt_tokens_total"].samples == {("llamacpp:prompt_tokens_total", ()): 43.0}
    histograms = parse(AFTER)["vllm:iteration_tokens_total"]
    assert histograms.kind == "histogram"
    assert len(histograms.samples) == 16


def test_a_real_vllm_between_two_looks() -> None:
    """The growth of the counters is that of the two recorded files: 1565 - 94 prompt tokens and so on."""
    metrics, notices = change(BEFORE, AFTER, seconds=10.0)
    assert notices == []
    assert metrics["vllm:prompt_tokens_total"] == {"Increase": 1471.0, "Rate": 147.1}
    assert metrics["vllm:generation_tokens_total"] == {"Increase": 1216.0, "Rate": 121.6}
    assert metrics["vllm:request_success_total"]["Increase"] == 19.0  # over its series, one for each reason
    zero = dict.fromkeys(("First", "Last", "Mean", "Median", "Sd", "Min", "Max", "P90", "P95", "P99"), 0.0)
    assert metrics["vllm:num_requests_running"] == zero
    assert metrics['vllm:num_requests_waiting_by_reason{reason="capacity"}'] == zero
    lengths = metrics["vllm:request_generation_tokens"]
    assert lengths["Count"] == 19.0
    assert lengths["Mean"] == pytest.approx(1216.0 / 19.0)
    assert not any(name.endswith("_created") for name in metrics)


def test_quantiles_are_those_of_the_growth_alone() -> None:
    def exposition(counts: tuple[int, int, int, int], total: float) -> str:
        bounds = ("0.1", "0.5", "1.0", "+Inf")
        lines = [f'h_bucket{{le="{bound}",e="0"}} {count}' for bound, count in zip(bounds, counts, strict=True)]
        return "\n".join(["# TYPE h histogram", *lines, f'h_sum{{e="0"}} {total}', f'h_count{{e="0"}} {counts[-1]}'])

    metrics, notices = change(exposition((50, 50, 50, 50), 1.0), exposition((60, 140, 150, 150), 41.0))
    # The point's own 100: 10 up to 0.1, 80 in (0.1, 0.5], 10 in (0.5, 1].
    assert metrics["h"] == pytest.approx(
        {
            "Count": 100.0,
            "Sum": 40.0,
            "Mean": 0.4,
            "Median": 0.1 + 0.4 * 40 / 80,
            "P90": 0.5,
            "P95": 0.75,
            "P99": 0.95,
            "Min": 0.0,
            "Max": 1.0,
        }
    )
    assert notices == []


def test_a_quantile_beyond_the_last_bucket_is_a_lower_bound_and_says_so() -> None:
    head = "# TYPE h histogram\n"
    before = head + 'h_bucket{le="1"} 0\nh_bucket{le="+Inf"} 0\nh_sum 0\nh_count 0\n'
    after = head + 'h_bucket{le="1"} 92\nh_bucket{le="+Inf"} 100\nh_sum 500\nh_count 100\n'
    metrics, notices = change(before, after)
    assert metrics["h"]["P99"] == 1.0
    assert notices == ["h: P95, P99, Max lie beyond its last bucket; shown is that bucket's bound"]


def test_the_extremes_are_bounds_of_the_buckets_that_got_observations() -> None:
    head = "# TYPE h histogram\n"
    before = head + 'h_bucket{le="1"} 5\nh_bucket{le="2"} 5\nh_bucket{le="4"} 5\nh_bucket{le="+Inf"} 6\nh_count 6\n'
    after = head + 'h_bucket{le="1"} 5\nh_bucket{le="2"} 8\nh_bucket{le="4"} 9\nh_bucket{le="+Inf"} 10\nh_count 10\n'
    metrics, notices = change(before, after)
    assert (metrics["h"]["Min"], metrics["h"]["Max"]) == (1.0, 4.0)
    assert notices == []


def test_nothing_observed_has_no_statistics() -> None:
    metrics, _ = change(AFTER, AFTER)
    assert metrics["vllm:time_to_first_token_seconds"] == {"Count": 0.0}
    assert metrics["vllm:prompt_tokens_total"] == {"Increase": 0.0, "Rate": 0.0}


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        (0.5, [(1.0, 10.0), (2.0, 20.0), (math.inf, 20.0)], 1.0),
        (0.75, [(1.0, 10.0), (2.0, 20.0), (math.inf, 20.0)], 1.5),
        (0.25, [(1.0, 10.0), (math.inf, 10.0)], 0.25),  # the first bucket begins at 0
        (0.5, [(-1.0, 10.0), (math.inf, 10.0)], -1.0),  # unless it is negative
        (0.9, [(1.0, 5.0), (math.inf, 10.0)], 1.0),
        (0.5, [(1.0, 6.0), (2.0, 5.0), (math.inf, 10.0)], 1.0 * 5 / 6),  # scraped while it changed
        (0.5, [(1.0, 0.0), (math.inf, 0.0)], math.nan),
        (0.5, [(math.inf, 4.0)], math.nan),
        (0.5, [(1.0, 2.0), (2.0, 4.0)], math.nan),
    ],
)
def test_histogram_quantile(q: float, buckets: list[tuple[float, float]], expected: float) -> None:
    assert histogram_quantile(q, buckets) == pytest.approx(expected, nan_ok=True)


def test_a_restart_is_said_and_never_negative() -> None:
    """llama.cpp tells no process start: only its counters fall."""
    later = LLAMACPP.replace("llamacpp:prompt_tokens_total 43", "llamacpp:prompt_tokens_total 12")
    assert later != LLAMACPP
    metrics, notices = change(LLAMACPP, later)
    assert metrics["llamacpp:prompt_tokens_total"]["Increase"] == 12.0
    assert notices == [
        "the server restarted during the point (seen at 10.0 s) (llamacpp:prompt_tokens_total): increases lack what it "
        "counted between the last look at it and its end"
    ]


def test_a_histogram_is_reset_as_a_whole() -> None:
    """The first bucket has passed its old count already; the last has not."""
    head = "# TYPE h histogram\n"
    before = head + 'h_bucket{le="1"} 2\nh_bucket{le="+Inf"} 9\nh_sum 9\nh_count 9\n'
    after = head + 'h_bucket{le="1"} 5\nh_bucket{le="+Inf"} 5\nh_sum 2\nh_count 5\n'
    metrics, notices = change(before, after)
    assert metrics["h"]["Count"] == 5.0
    assert metrics["h"]["Sum"] == 2.0
    assert metrics["h"]["P99"] == pytest.approx(0.99)
    assert "restarted" in notices[0]


def started_at(text: str, unix_s: float) -> str:
    """The exposition of a process that started then."""
    line = next(line for line in text.splitlines() if line.startswith("process_start_time_seconds"))
    return text.replace(line, f"process_start_time_seconds {unix_s}")


def test_another_process_that_is_older_gives_no_increases() -> None:
    """Two looks at a balancer's address met two replicas; both have been up for long."""
    before, after = parse(started_at(BEFORE, 1000.0)), parse(started_at(AFTER, 900.0))
    metrics, notices = deltas(Scrape(5000.0, before), Scrape(5010.0, after))
    assert "several processes answer in turn" in notices[0]
    assert "vllm:prompt_tokens_total" not in metrics
    assert "vllm:num_requests_running" in metrics


def test_another_process_that_is_younger_is_a_restart_and_counts_from_0() -> None:
    """Also where its counters have passed the old ones already."""
    before, after = parse(started_at(BEFORE, 1000.0)), parse(started_at(AFTER, 5004.0))
    metrics, notices = deltas(Scrape(5000.0, before), Scrape(5010.0, after))
    assert metrics["vllm:prompt_tokens_total"]["Increase"] == 1565.0
    assert notices[0].startswith("the server restarted during the point (seen at 10.0 s)")


def test_a_counter_that_falls_in_the_same_process_is_no_restart() -> None:
    process = "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1000\n"
    before, after = (parse(f"# TYPE a counter\na {value}\n{process}") for value in (9, 4))
    metrics, notices = deltas(Scrape(5000.0, before), Scrape(5010.0, after))
    assert metrics["a"]["Increase"] == 4.0
    assert notices == ["counters began anew during the point; increases lack what they lost: a"]


def test_a_series_that_ended_is_said() -> None:
    before = '# TYPE a counter\na{pod="1"} 5\na{pod="2"} 7\n'
    metrics, notices = change(before, '# TYPE a counter\na{pod="1"} 6\n')
    assert metrics["a"]["Increase"] == 1.0
    assert notices == ["series ended during the point; increases may lack some of theirs: a"]


def test_only_finite_values_come_out() -> None:
    metrics, _ = change("a NaN\nb 1\n", "a NaN\nb +Inf\nc 2\n")
    assert metrics == {
        "b": {"First": 1.0},
        "c": {"Last": 2.0, "Sd": 0.0} | dict.fromkeys(("Mean", "Median", "Min", "Max", "P90", "P95", "P99"), 2.0),
    }


@pytest.fixture
def server() -> Iterator[Exporter]:
    with exporter(BEFORE) as running:
        yield running


def at(url: str, *headers: tuple[str, str]) -> Server:
    return server_at("", 0, url, headers, None, True)


def spec(server: Exporter, **changes: object) -> MetricsSpec:
    values: dict[str, object] = {"kind": "direct", "servers": [at(server.url)], "backend": "vllm"}
    return MetricsSpec(**(values | changes))  # type: ignore[arg-type]


def test_the_direct_source_reads_the_edges(server: Exporter) -> None:
    source = open_source(spec(server, servers=[at(server.url, ("Authorization", "Bearer key"))]))
    source.check()
    began = time.monotonic()
    source.point_started()
    time.sleep(0.5)
    server.text = AFTER
    metrics, _, notices, _ = source.point_finished(0.0, 0.0)
    took_s = time.monotonic() - began
    assert took_s < 10
    assert notices == []
    assert metrics["vllm:generation_tokens_total"]["Increase"] == 1216.0
    seconds = 1216.0 / metrics["vllm:generation_tokens_total"]["Rate"]
    assert 0.7 < seconds < took_s
    assert all(headers["Authorization"] == "Bearer key" for headers in server.headers)


def test_without_metrics_the_reason_is_one_line(server: Exporter) -> None:
    server.status = 501
    with pytest.raises(
        ServerUnavailable, match=r"^no server metrics from http://127.0.0.1:\d+/metrics: HTTP status 501$"
    ):
        open_source(spec(server)).check()


def test_a_server_that_is_gone_and_its_key_stays_secret() -> None:
    with pytest.raises(NoMetrics, match="Connection refused") as caught:
        Door(at(f"http://127.0.0.1:{free_port()}", ("authorization", "Bearer secret"))).look(0.0, 5.0)
    assert "secret" not in str(caught.value)


def test_what_is_no_exposition_is_no_metrics(server: Exporter) -> None:
    server.text = "<html></html>"
    with pytest.raises(NoMetrics, match="not Prometheus' text format"):
        Door(at(server.url)).look(0.0, 5.0)
    server.text = "\n"
    with pytest.raises(NoMetrics, match="no metrics"):
        Door(at(server.url)).look(0.0, 5.0)


@pytest.mark.parametrize("edge", ["before", "after"])
def test_a_failing_look_is_recorded_and_kills_nothing(server: Exporter, edge: str) -> None:
    """There is one look: it tells gauges, and of no counter that it stood still."""
    source = open_source(spec(server))
    source.check()
    server.status = 503 if edge == "before" else 200
    source.point_started()
    server.status = 503 if edge == "after" else 200
    metrics, (readings,), notices, _ = source.point_finished(0.0, 0.0)
    assert metrics["vllm:num_requests_running"]["First"] == 0.0
    assert "vllm:prompt_tokens_total" not in metrics
    assert (readings.counters, readings.histograms) == ({}, {})
    said = "the server was first seen at" if edge == "before" else "the server was seen only once"
    assert said in notices[0]
    assert ("HTTP status 503" in str(readings.at_least)) is (edge == "after")
    server.status = 200
    source.point_started()
    assert source.point_finished(0.0, 0.0)[0]["vllm:prompt_tokens_total"]["Increase"] == 0.0


def test_no_look_at_all_is_one_notice(server: Exporter) -> None:
    source = open_source(spec(server))
    source.check()
    server.status = 503
    source.point_started()
    metrics, readings, notices, _ = source.point_finished(0.0, 0.0)
    assert (metrics, readings) == ({}, [])
    assert len(notices) == 1
    assert notices[0].startswith("server metrics of this point are missing: http://127.0.0.1:")


def test_a_source_that_is_not_required_is_a_notice(server: Exporter) -> None:
    server.status = 404
    source = open_source(spec(server, required=False))
    source.check()
    source.point_started()
    metrics, _, notices, _ = source.point_finished(0.0, 0.0)
    assert metrics == {}
    assert "HTTP status 404" in notices[0]


def test_auto_goes_on_without_google_where_its_credentials_do_not_serve(
    server: Exporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    source = open_source(spec(server, kind="auto"))
    source.check()
    source.point_started()
    server.text = AFTER
    metrics, _, notices, _ = source.point_finished(0.0, 0.0)
    assert metrics["vllm:generation_tokens_total"]["Increase"] == 1216.0
    assert "no Google Cloud credentials" in notices[0]
    with pytest.raises(ServerUnavailable, match="no Google Cloud credentials"):
        open_source(spec(server, kind="google")).check()


def test_a_project_that_is_named_is_not_passed_over(
    server: Exporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(ServerUnavailable, match="no Google Cloud credentials"):
        open_source(spec(server, kind="auto", project="named")).check()


def test_auto_takes_the_servers_own_metrics_off_google(
    server: Exporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{free_port()}")
    source = open_source(spec(server, kind="auto"))
    source.check()
    source.point_started()
    server.text = AFTER
    assert source.point_finished(0.0, 0.0)[0]["vllm:generation_tokens_total"]["Increase"] == 1216.0
