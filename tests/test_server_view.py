"""Both views of a point side by side, from records and readings whose differences are known."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from latency_profile.records import NONE, Records, Status, TokenSource
from latency_profile.report.server_rows import server_figures
from latency_profile.results import point_result
from latency_profile.server_view.quantities import quantile_of
from latency_profile.server_view.reconcile import excess_share, reconcile
from latency_profile.server_view.structure import Cause, QuantileView, Reconciliation
from latency_profile.telemetry.common import readings
from latency_profile.telemetry.exposition import Scrape, parse
from latency_profile.telemetry.fold import Folded
from latency_profile.telemetry.readings import Buckets, Readings, Replica
from latency_profile.telemetry.table import markdown
from latency_profile.telemetry.vocabulary import JETSTREAM, LLAMACPP, METRICS, TRITON, Metric, metrics_of
from tests.make_records import make_records

N = 100
BOUNDS = [0.02, 0.04, 0.06, 0.08, 0.1]
REPLICA = Replica(name="a:8000", looks=12, first_s=-0.1, last_s=10.5, restarts_s=[], counters={"requests": 100.0})


def buckets(*counts: float, total: float = 5.0) -> Buckets:
    return Buckets(bounds=BOUNDS[: len(counts) - 1], counts=list(counts), total=total)


def told(**changes: Any) -> Readings:
    """Readings that agree with `point`: 100 requests of 12 and 10 tokens, TTFT 50 ms, of which 10 queue, 30 prefill."""
    values: dict[str, Any] = {
        "source": "direct",
        "start_s": -0.1,
        "end_s": 10.5,
        "names": {},
        "missing": [],
        "replicas": [REPLICA],
        "models": ["org/model"],
        "counters": {"requests": 100.0, "prompt_tokens": 1200.0, "generated_tokens": 1000.0},
        "histograms": {
            "ttft": buckets(0, 0, 100, 0, total=5.0),
            "queue": buckets(100, 0, total=1.0),
            "prefill": buckets(0, 100, 0, total=3.0),
        },
        "times_s": [-0.1, *(float(k) for k in range(1, 10)), 10.5],
        "gauges": {"running": [0.0, *(float(k) for k in range(1, 10)), 0.0]},
        "totals": {"generated_tokens": [0.0, *(100.0 * k for k in range(1, 10)), 1000.0]},
        "at_least": None,
    }
    return Readings(**(values | changes))


def point(found: Readings, lateness_s: float = 0.002, **columns: Any) -> Records:
    """100 requests a tenth of a second apart: first token 52 ms after sent, then nine more 10 ms apart."""
    due = np.arange(N) / 10
    sent = due + lateness_s
    events = [[at + 0.052 + 0.01 * k for k in range(10)] for at in sent]
    given = {"server_input_tokens": np.full(N, 12)} | columns
    return make_records(due, sent, events, columns=given, server_readings=[found])


def test_the_terminals_figures_of_the_server() -> None:
    figures = server_figures(point_result(point(told())))
    assert (figures.running, figures.most_waiting) == (5.0, None)
    parts = (figures.outside_ms, figures.queue_ms, figures.prefill_ms)
    assert parts == pytest.approx((2.0, 10.0, 30.0))
    assert (figures.gpu_percent, figures.watts, figures.joules_per_token) == (None, None, None)


def causes(found: Reconciliation) -> list[tuple[str, Cause]]:
    return [(each.what, each.cause) for each in found.disagreements]


def test_two_views_that_agree() -> None:
    found = reconcile(point(told()), told())
    assert found.requests is not None
    assert found.prompt_tokens is not None
    assert found.generated_tokens is not None
    assert [(both.client, both.server) for both in (found.requests, found.prompt_tokens, found.generated_tokens)] == [
        (100, 100),
        (1200, 1200),
        (1000, 1000),
    ]
    assert found.ttft is not None
    assert found.ttft.agrees is True
    assert found.ttft.server_p99 == QuantileView(low=0.04, high=0.06)
    assert found.disagreements == []
    assert excess_share(found) == 0
    split = found.ttft_split
    assert split is not None
    parts = (split.lateness_s, split.outside_s, split.queue_s, split.prefill_s, split.rest_s)
    assert parts == pytest.approx((0.002, 0.002, 0.01, 0.03, 0.01))
    assert split.total_s == pytest.approx(0.054)


@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        (
            {"requests": 105, "generated_tokens": 1050},
            [("requests", "OTHER_TRAFFIC"), ("generated_tokens", "OTHER_TRAFFIC")],
        ),
        ({"requests": 105}, [("requests", "RETRIES")]),
        ({"requests": 50, "generated_tokens": 490}, [("requests", "ROUTER"), ("generated_tokens", "ROUTER")]),
        ({"generated_tokens": 900}, [("generated_tokens", "OTHER_COUNT")]),
    ],
)  # fmt: skip
def test_each_difference_of_counts_has_a_name(counters: dict[str, float], expected: list[tuple[str, str]]) -> None:
    base = {"requests": 100.0, "prompt_tokens": 1200.0, "generated_tokens": 1000.0}
    found = reconcile(point(told()), told(counters=base | counters))
    assert [(what, cause.name) for what, cause in causes(found)] == expected


def test_what_failed_may_have_been_counted_or_not() -> None:
    """Five were reset after they had been sent, and one was tried twice: 95 to 101."""
    status = np.full(N, Status.OK)
    status[:5] = Status.RESET
    retries = np.zeros(N)
    retries[50] = 1
    for requests, excess, lack in ((95, 0, 0), (101, 0, 0), (102, 1, 0), (94, 0, 1)):
        counters = {"requests": float(requests)}
        found = reconcile(point(told(), status=status, retries=retries), told(counters=counters))
        assert found.requests is not None
        assert (found.requests.client, found.requests.client_most) == (95, 101)
        assert (found.requests.excess, found.requests.lack) == (excess, lack)


def test_tokens_that_the_tokenizer_counted_are_not_held_against_the_server() -> None:
    source = np.full(N, TokenSource.TOKENIZER)
    unknown = np.full(N, NONE)
    found = reconcile(point(told(), token_source=source, server_input_tokens=unknown), told())
    assert (found.prompt_tokens, found.generated_tokens) == (None, None)
    assert found.requests is not None


@pytest.mark.parametrize(
    ("ttft", "cause"),
    [
        (buckets(100, 0, total=1.0), Cause.OUTSIDE),  # at most 20 ms, and 52 here
        (buckets(0, 0, 0, 0, 100, 0, total=9.0), Cause.WRONG_WINDOW),  # at least 80 ms
        (buckets(0, 100, 0, total=3.8), Cause.OUTSIDE),
        (buckets(0, 0, 0, 100, 0, total=6.5), Cause.WRONG_WINDOW),
    ],
)
def test_quantiles_outside_of_the_servers_bucket(ttft: Buckets, cause: Cause) -> None:
    found = reconcile(point(told()), told(histograms={"ttft": ttft}))
    assert causes(found) == [("ttft", cause)]


def test_a_bucket_that_is_missed_by_less_than_the_tolerance_is_none() -> None:
    bounds = Buckets(bounds=[0.04, 0.0475, 0.1], counts=[0.0, 100.0, 0.0, 0.0], total=4.7)
    assert causes(reconcile(point(told()), told(histograms={"ttft": bounds}))) == []


def test_several_tokens_an_event() -> None:
    """900 gaps here, and 1,800 at the server."""
    itl = Buckets(bounds=[0.02], counts=[1800.0, 0.0], total=9.0)
    (found,) = reconcile(point(told()), told(histograms={"itl": itl})).disagreements
    assert found.cause is Cause.SEVERAL_TOKENS_AN_EVENT
    assert "2.00 tokens each" in found.text


def test_tokens_of_other_clients_are_no_tokens_of_one_event() -> None:
    """900 gaps here, and 990 at the server, of which 90 belong to the tenth of its tokens that others had."""
    counters = {"requests": 110.0, "prompt_tokens": 1320.0, "generated_tokens": 1100.0}
    itl = Buckets(bounds=[0.02], counts=[990.0, 0.0], total=5.0)
    found = causes(reconcile(point(told()), told(counters=counters, histograms={"itl": itl})))
    assert {cause for _, cause in found} == {Cause.OTHER_TRAFFIC}


def test_metrics_of_another_model() -> None:
    assert ("model", Cause.OTHER_MODEL) in causes(reconcile(point(told()), told(models=["org/other"])))
    assert causes(reconcile(point(told()), told(models=["model"]))) == []


def test_histograms_of_other_requests_are_not_compared() -> None:
    found = reconcile(point(told()), told(histograms={"ttft": buckets(150, 0, total=1.0)}))
    assert found.ttft is not None
    assert found.ttft.agrees is None
    assert found.ttft_split is None


def test_contaminated_beyond_one_request_in_a_hundred() -> None:
    counters = {"requests": 105.0, "prompt_tokens": 1260.0, "generated_tokens": 1050.0}
    verdict = point_result(point(told(counters=counters))).verdict
    assert verdict.verdict.name == "CONTAMINATED"
    assert "5.0% beyond this client's load" in verdict.reasons[0]
    counters = {"requests": 101.0, "prompt_tokens": 1212.0, "generated_tokens": 1010.0}
    verdict = point_result(point(told(counters=counters))).verdict
    assert verdict.verdict.name != "CONTAMINATED"
    assert [remark.name.name for remark in verdict.remarks].count("SERVER_DISAGREES") == 3
    counters = {"requests": 105.0}
    extrapolated = told(counters=counters, source="prometheus", at_least="extrapolated")
    assert point_result(point(extrapolated)).verdict.verdict.name != "CONTAMINATED"


def test_the_results_have_the_window_and_the_series() -> None:
    result = msgspec.to_builtins(point_result(point(told())))
    (view,) = result["server"]["readings"]
    assert view["gauges"]["running"] == {
        "n": 9, "mean": 5.0, "median": 5.0, "sd": pytest.approx(math.sqrt(60 / 9)), "min": 1.0, "max": 9.0,
        "p90": pytest.approx(8.2), "p95": pytest.approx(8.6), "p99": pytest.approx(8.92),
    }  # fmt: skip
    assert view["counters"]["generated_tokens"] == {"increase": 1000.0, "per_second": 100.0}
    assert view["counters"]["requests"] == {"increase": 100.0, "per_second": None}
    assert view["histograms"]["queue"]["mean"] == pytest.approx(0.01)
    assert view["series"]["times_s"][0] == -0.1
    assert result["server"]["reconciliation"]["requests"]["server"] == 100


@pytest.mark.parametrize(
    ("counts", "level", "expected"),
    [
        ((10, 10, 0), 0.5, (0.0, 0.02)),  # the tenth of twenty
        ((10, 10, 0), 0.51, (0.02, 0.04)),
        ((0, 0, 5), 0.5, (0.04, None)),
        ((1, 0, 99), 0.01, (0.0, 0.02)),
        ((0, 0, 0), 0.5, None),
    ],
)
def test_a_quantile_lies_in_the_bucket_of_its_rank(counts: tuple[float, ...], level: float, expected: Any) -> None:
    found = quantile_of(buckets(*counts), level)
    assert (None if found is None else (found.low, found.high)) == expected


def fold(*texts: str) -> Folded:
    folded = Folded(tracked={name for metrics in METRICS.values() for metric in metrics for name in metric.names})
    for second, text in enumerate(texts):
        folded.add(Scrape(100.0 + second, parse(text)))
    return folded


def common(known: tuple[Metric, ...], *replicas: Folded) -> Readings:
    found = readings("direct", known, {f"r{k}": folded for k, folded in enumerate(replicas)}, 100.0)
    assert found is not None
    return found


def test_old_and_new_names_of_vllm() -> None:
    old = "# TYPE vllm:gpu_cache_usage_perc gauge\nvllm:gpu_cache_usage_perc 0.25\n"
    new = "# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc 0.75\n" + old
    known = METRICS["vllm"]
    assert common(known, fold(old, old)).gauges["kv_cache_use"] == [0.25, 0.25]
    assert common(known, fold(new, new)).gauges["kv_cache_use"] == [0.75, 0.75]
    assert common(known, fold(new, new)).names["kv_cache_use"] == ["vllm:kv_cache_usage_perc"]
    missing = common(known, fold(old, old)).missing
    assert "ttft" in missing
    assert "prefill" not in missing, "older versions have none"


def test_replicas_are_added_and_shares_averaged() -> None:
    def one(running: float, use: float, tokens: float) -> str:
        return (
            f'# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{{engine="0"}} {running}\n'
            f"# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc {use}\n"
            f"# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total {tokens}\n"
        )

    found = common(METRICS["vllm"], fold(one(1, 0.2, 10), one(3, 0.4, 30)), fold(one(2, 0.4, 5), one(0, 0.2, 9)))
    assert found.gauges["running"] == [3.0, 3.0]
    assert found.gauges["kv_cache_use"] == pytest.approx([0.3, 0.3])
    assert found.counters["generated_tokens"] == 24.0
    assert [replica.counters["generated_tokens"] for replica in found.replicas] == [20.0, 4.0]
    assert found.totals["generated_tokens"] == [0.0, 24.0]
    assert found.at_least is None


def test_a_replica_that_left_or_came_late_makes_sums_lower_bounds() -> None:
    def text(tokens: float) -> str:
        return f"# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total {tokens}\n"

    left = common(METRICS["vllm"], fold(text(1), text(2), text(5)), fold(text(1), text(3)))
    assert "r1 did not tell at the end" in str(left.at_least)
    late = Folded(since_s=100.0)
    for second, tokens in ((1, 50), (2, 70)):
        late.add(Scrape(100.0 + second, parse(text(tokens))))
    came = common(METRICS["vllm"], fold(text(1), text(2), text(5)), late)
    assert came.counters["generated_tokens"] == 4 + 20
    assert "r1 did not tell at the beginning" in str(came.at_least)


def test_a_replica_that_is_younger_than_the_point_counts_from_0() -> None:
    counter = "# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total 50\n"
    text = f"{counter}process_start_time_seconds 105\n"
    young = Folded(since_s=100.0)
    young.add(Scrape(107.0, parse(text)))
    found = common(METRICS["vllm"], young)
    assert found.counters["generated_tokens"] == 50.0


def test_units_and_labels_of_other_servers() -> None:
    triton = (
        '# TYPE nv_trt_llm_request_metrics gauge\nnv_trt_llm_request_metrics{request_type="waiting"} 7\n'
        'nv_trt_llm_request_metrics{request_type="scheduled"} 3\n'
        '# TYPE nv_inference_queue_duration_us counter\nnv_inference_queue_duration_us{model="ensemble"} {us}\n'
    )
    found = common(TRITON, fold(triton.replace("{us}", "0"), triton.replace("{us}", "2500000")))
    assert (found.gauges["waiting"][-1], found.gauges["running"][-1]) == (7.0, 3.0)
    assert found.counters["queue_seconds"] == pytest.approx(2.5)
    assert found.models == ["ensemble"]
    jetstream = (
        '# TYPE jetstream_slots_available_percentage gauge\njetstream_slots_available_percentage{idx="0"} 0.25\n'
    )
    assert common(JETSTREAM, fold(jetstream, jetstream)).gauges["kv_cache_use"] == [0.75, 0.75]
    llamacpp = (
        "# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total {a}\n"
        "# TYPE llamacpp:prompt_tokens_cached_total counter\nllamacpp:prompt_tokens_cached_total {b}\n"
    )
    looks = [llamacpp.replace("{a}", a).replace("{b}", b) for a, b in (("10", "1"), ("30", "6"))]
    assert common(LLAMACPP, fold(*looks)).counters["prompt_tokens"] == 25.0


def test_a_request_in_an_ensemble_is_one() -> None:
    """Triton counts it in each model that it goes through."""
    parts = ("ensemble", "preprocessing", "tensorrt_llm")

    def text(count: int) -> str:
        rows = [f'nv_inference_request_success{{model="{part}",version="1"}} {count}' for part in parts]
        return "\n".join(["# TYPE nv_inference_request_success counter", *rows, ""])

    folded = Folded(tracked=["nv_inference_request_success"], models=["ensemble"])
    for second, count in enumerate((3, 8)):
        folded.add(Scrape(100.0 + second, parse(text(count))))
    found = common(TRITON, folded)
    assert found.counters["requests"] == 5.0
    assert found.totals["requests"] == [0.0, 5.0]
    assert found.models == sorted(parts)
    assert "r0 did not" not in str(found.at_least)


def test_the_page_of_names_is_that_of_the_code() -> None:
    page = Path(__file__).parents[1] / "docs" / "server-metrics.md"
    assert page.read_text() == markdown(), "run: make docs"


def test_the_openai_backend_finds_out_whose_metrics_they_are() -> None:
    assert metrics_of("openai", frozenset({"sglang:num_running_reqs"})) == METRICS["sglang"]
    assert metrics_of("openai", frozenset({"http_requests_total"})) == ()
    assert metrics_of("sax") == ()
