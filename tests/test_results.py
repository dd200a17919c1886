"""Point results: every compatibility key with its meaning, and the new keys, on records reckoned by hand."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from latency_profile import results
from latency_profile.records import NONE, Status, TokenSource
from latency_profile.results.errors import SEED_ERRORS
from tests.make_records import SECOND, make_records, uniform_records

ANCESTOR = json.loads(next((Path(__file__).parent / "data" / "ancestor").glob("*.json")).read_text())
PREFIXES = ("avg", "median", "sd", "min", "max", "p90", "p99")
STREAMED = {f"{prefix}_{name}" for prefix in PREFIXES for name in ("TTFT_ms", "ITL_ms", "TPOT_ms")}


def as_json(records, model=None):
    return json.loads(msgspec.json.encode(results.point_result(records, model)))


def three_requests(**context):
    """Two answers and a failure. Sent at 1, 2 and 4 s; the point lasts 8 s."""
    return make_records(
        [1.0, 2.0, 3.5],
        [1.0, 2.0, 4.0],
        [[1.5, 1.6, 1.9], [2.25, 3.0], []],
        [2.0, 3.0, 8.0],
        columns={
            "status": [Status.OK, Status.OK, Status.TIMEOUT],
            "input_tokens": [7, 18, 100],
            "output_tokens": [3, 2, NONE],
        },
        **({"measured_ns": 8 * SECOND, "request_rate": 0.5, "duration_s": 8.0} | context),
    )


def test_key_sets_are_the_ancestors():
    plain = as_json(uniform_records(20, streaming=False))
    streamed = as_json(uniform_records(20))
    assert set(plain["metrics"]) == set(ANCESTOR["metrics"])
    assert set(streamed["metrics"]) == set(ANCESTOR["metrics"]) | STREAMED
    for found in (plain, streamed):
        assert set(found["dimensions"]) == set(ANCESTOR["dimensions"])
        assert set(found["config"]) == set(ANCESTOR["config"])
        assert set(found["config"]["start_time"]) == set(ANCESTOR["config"]["start_time"])
        theirs, ours = ANCESTOR["summary_stats"]["stats"], found["summary_stats"]["stats"]
        assert len(ours) == len(theirs) == 1
        assert set(ours[0]) == set(theirs[0])
        for name in ("request_latency", "throughput", "input_length", "output_length", "tpot"):
            assert set(ours[0][name]) == set(theirs[0][name])


def test_types_are_the_ancestors():
    found = as_json(uniform_records(20))["metrics"]
    for key, value in ANCESTOR["metrics"].items():
        assert type(found[key]) is type(value), key


def test_flat_metrics_by_hand():
    found = as_json(three_requests())["metrics"]
    expected = {
        "num_prompts_attempted": 3,
        "num_prompts_succeeded": 2,
        "request_rate": 0.5,
        "queries_per_second": 3 / 4.0,
        "benchmark_time": 8.0,
        "throughput_rps": 2 / 8,
        "throughput": 5 / 8,
        "total_output_token": 5,
        "total_input_tokens": 25,
        "input_tokens_per_sec": 25 / 8,
        "total_tokens": 30,
        "tokens_per_sec": 30 / 8,
        "avg_latency_ms": 1000,
        "sd_latency_ms": 0,
        "avg_per_token_latency_ms": (1000 / 10 + 1000 / 20) / 2,
        "avg_normalized_time_per_output_token_ms": (1000 / 3 + 500) / 2,
        "median_TTFT_ms": (500 + 250) / 2,
        "min_TTFT_ms": 250,
        "max_ITL_ms": 750,
        "avg_ITL_ms": (100 + 300 + 750) / 3,
        "median_ITL_ms": 300,
        "avg_TPOT_ms": (200 + 750) / 2,
        "p90_TPOT_ms": 200 + 0.9 * 550,
        "avg_input_len": 12.5,
        "sd_input_len": 5.5,
        "max_output_len": 3,
        "TimeoutError": 1,
        "ClientConnectorError": 0,
        "unknown_error": 0,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_flat_metrics_are_numpys():
    records = uniform_records(300)
    found = as_json(records)["metrics"]
    e2e = (records["end_ns"] - records["sent_ns"]) / 1e6
    gaps = np.concatenate([np.diff(times) for times in records.event_ns.reshape(300, 5)]) / 1e6
    for name, values in (("latency_ms", e2e), ("ITL_ms", gaps)):
        by_numpy = (
            values.mean(),
            np.median(values),
            values.std(),
            values.min(),
            values.max(),
            np.percentile(values, 90),
            np.percentile(values, 99),
        )
        assert [found[f"{prefix}_{name}"] for prefix in PREFIXES] == pytest.approx(by_numpy, rel=1e-9)


def test_compatibility_keys_cover_warm_up_and_new_keys_do_not():
    found = as_json(uniform_records(300, warmup_s=10.0, cooldown_s=5.0))
    assert found["metrics"]["num_prompts_succeeded"] == 300
    assert found["load"]["counts"]["planned"] == 300
    bounds = {name: found["window"][name] for name in ("start_s", "end_s", "requests")}
    assert bounds == {"start_s": 10, "end_s": 25, "requests": 150}
    assert found["latency"]["service"]["e2e"]["n"] == 150
    assert found["latency"]["service"]["itl"]["n"] == 150 * 4


def test_summary_stats_repeat_the_flat_metrics():
    found = as_json(three_requests())
    stats, metrics = found["summary_stats"]["stats"][0], found["metrics"]
    fields = dict(zip(PREFIXES, ("mean", "median", "sd", "min", "max", "p90", "p99"), strict=True))
    for ours, flat in (
        ("request_latency", "latency_ms"),
        ("input_length", "input_len"),
        ("output_length", "output_len"),
        ("tpot", "normalized_time_per_output_token_ms"),
    ):
        assert {prefix: stats[ours][field] for prefix, field in fields.items()} == {
            prefix: metrics[f"{prefix}_{flat}"] for prefix in PREFIXES
        }
    assert stats["throughput"]["mean"] == metrics["throughput"]


def test_dimensions_and_config():
    extra = {"gpu": "H100", "nodes": 2, "spot": True, "labels": {"a": [1]}}
    records = three_requests(settings={"additional_metadata_metrics_to_save": extra})
    found = as_json(records)
    assert found["dimensions"] == {
        "date": "20260102-030405",
        "backend": "vllm",
        "model_id": "org/model",
        "tokenizer_id": "org/tokenizer",
        "gpu": "H100",
        "nodes": "2",
        "spot": "true",
        "labels": '{"a":[1]}',
    }
    assert found["config"] == {
        "model": "org/model",
        "num_models": 1,
        "model_server": "vllm",
        "start_time": {"seconds": 1_767_323_045, "nanos": 123},
    }


def test_the_users_metadata_may_replace_a_dimension_as_it_always_could():
    settings_ = {"additional_metadata_metrics_to_save": {"model_id": "llama-3"}}
    found = as_json(three_requests(settings=settings_))
    assert found["dimensions"]["model_id"] == "llama-3"
    assert found["config"]["model"] == "org/model"


def test_server_metrics_stand_in_three_places():
    metrics = {"vllm:num_requests_running": {"Mean": 3.5, "P99": 8.0}}
    found = as_json(three_requests(server_metrics=metrics))
    assert found["metrics"]["server_metrics"] == found["server"]["metrics"] == metrics
    assert found["summary_stats"]["stats"][0]["model_server_metrics"] == [
        {"Name": "vllm:num_requests_running", "Mean": 3.5, "P99": 8.0}
    ]


@pytest.mark.parametrize("context", [{"request_rate": None}, {"request_rate": None, "concurrency": 4}])
def test_an_unlimited_rate_and_a_closed_loop_are_inf(context):
    found = as_json(three_requests(**context))
    assert found["metrics"]["request_rate"] == "inf"
    assert found["summary_stats"]["stats"][0]["request_rate"] == "inf"
    assert found["load"]["offered_requests_per_s"] is None
    assert (found["latency"]["response"] is None) == ("concurrency" in context)
    assert (found["load"]["lateness"] is None) == ("concurrency" in context)


def test_each_status_has_its_name_and_errors_sum_up():
    kinds = list(Status)
    found = as_json(make_records(range(len(kinds)), columns={"status": kinds}))
    metrics = found["metrics"]
    named = {
        "ClientConnectorError": 3,
        "TimeoutError": 2,
        "ContentTypeError": 5,
        "ClientOSError": 1,
        "ServerDisconnectedError": 2,
        "unknown_error": 12,
    }
    assert {key: metrics[key] for key in named} == named
    assert sum(named.values()) == metrics["num_prompts_attempted"] - metrics["num_prompts_succeeded"]
    assert found["errors_by_kind"] == {kind.name: 1 for kind in Status if kind is not Status.OK}
    assert set(SEED_ERRORS.values()) | {"unknown_error"} == set(named)


def test_latency_over_the_window_in_seconds():
    found = as_json(three_requests())["latency"]
    assert found["service"]["e2e"]["n"] == 2
    assert found["service"]["e2e"]["mean_s"] == pytest.approx(1.0)
    assert found["service"]["ttft"]["min_s"] == pytest.approx(0.25)
    assert found["service"]["itl"]["max_s"] == pytest.approx(0.75)
    assert found["service"]["tpot"]["p50"]["value_s"] == pytest.approx(0.475)
    assert found["service"]["ntpot"]["max_s"] == pytest.approx(0.5)
    assert found["service"]["e2e"]["p99"] == {
        "value_s": 1.0,
        "low_s": 1.0,
        "high_s": None,
        "resolved": False,
        "effective_n": 2.0,
    }


def test_response_holds_the_lateness_that_service_does_not():
    found = as_json(make_records([1, 2, 3], [1.5, 2.5, 3.5], end_s=[2, 3, 4], duration_s=10.0, streaming=False))
    assert found["latency"]["service"]["e2e"]["mean_s"] == pytest.approx(0.5)
    assert found["latency"]["response"]["e2e"]["mean_s"] == pytest.approx(1.0)
    assert found["latency"]["response"]["ttft"] is None
    assert found["load"]["lateness"] == {"p50_s": 0.5, "p99_s": 0.5, "max_s": 0.5}


def test_load_rates_by_hand():
    found = as_json(three_requests())["load"]
    assert found["offered_requests_per_s"] == found["sent_requests_per_s"] == 3 / 8
    assert found["completed_requests_per_s"] == 1 / 6  # the first two had ended at 2 s: until then it was the ramp
    assert (found["request_rate"], found["concurrency"], found["streaming"]) == (0.5, None, True)
    assert found["counts"] == {
        "planned": 3,
        "attempted": 3,
        "sent": 3,
        "succeeded": 2,
        "failed": 1,
        "resent": 0,
        "retried": 0,
        "retries": 0,
        "unfinished": 0,
        "not_sent": 0,
    }


@pytest.mark.parametrize(
    ("context", "name"),
    [
        ({}, "poisson"),
        ({"settings": {"arrival": "gamma"}}, "gamma"),
        ({"settings": {"arrival": "constant"}}, "constant"),
        ({"request_rate": None}, "burst"),
        ({"request_rate": None, "concurrency": 3}, "closed_loop"),
    ],
)
def test_arrival_process(context, name):
    assert as_json(three_requests(**context))["load"]["arrival_process"] == name


def test_stalls_by_hand():
    records = make_records([0, 0, 0], token_times_s=[[1, 1.1, 2.2], [1, 1.5], [1.0]], duration_s=4.0)
    found = as_json(records)["stalls"]
    assert (found["n"], found["limit_s"], found["share_above_limit"]) == (2, 1.0, 0.5)
    assert found["max_s"] == pytest.approx(1.1)
    assert found["p50_s"] == pytest.approx(0.8)
    assert as_json(uniform_records(9, streaming=False))["stalls"] is None


def disagreement(compared, differing, largest, p5, median, p95):
    """Percentiles are numpy's linear ones."""
    known = {"p5_tokens": p5, "median_tokens": median, "p95_tokens": p95}
    return {
        "compared": compared,
        "differing": differing,
        "largest_tokens": largest,
        **{name: value if value is None else pytest.approx(value) for name, value in known.items()},
    }


def test_token_sources_and_disagreements():
    records = make_records(
        [0, 1, 2, 3],
        token_times_s=[[0.5, 0.6], [1.5, 1.6], [2.5], [3.5]],
        event_tokens=[[1, 3], [2, 2], [9], [50]],
        columns={
            "output_tokens": [4, 5, 9, 50],
            "event_output_tokens": [4, 8, 3, NONE],
            "token_source": [TokenSource.USAGE, TokenSource.USAGE, TokenSource.TOKEN_IDS, TokenSource.USAGE],
            "input_tokens": [10, 10, 10, 10],
            "server_input_tokens": [10, 8, 21, NONE],
            "status": [Status.OK, Status.OK, Status.OK, Status.TRUNCATED],
        },
    )
    found = as_json(records)["tokens"]
    assert found["sources"] == {"USAGE": 2, "TOKEN_IDS": 1, "TOKENIZER": 0, "NONE": 0}
    assert found["disagreements"] == {
        "output_usage_token_ids": disagreement(2, 1, 3, -2.85, -1.5, -0.15),
        "output_usage_events": disagreement(3, 1, 1, 0, 0, 0.9),
        "output_usage_wanted": None,
        "output_usage_text": disagreement(0, 0, 0, None, None, None),
        "input_usage_tokenizer": disagreement(3, 2, 11, -1.8, 0, 9.9),
    }
    assert found["tokens_per_event"] == {"mean": 17 / 5, "max": 9}


def test_cost_by_hand():
    records = uniform_records(400, settings={"machine_cost": 7.2})
    found = as_json(records)
    throughput = found["throughput"]
    assert throughput["output_tokens_per_s"] == pytest.approx(50, rel=0.01)  # 10 requests/s of five tokens
    assert throughput["total_tokens_per_s"] == throughput["input_tokens_per_s"] + throughput["output_tokens_per_s"]
    assert found["cost"]["machine_cost_per_hour_usd"] == 7.2
    assert found["cost"]["usd_per_million_output_tokens"] == pytest.approx(40, rel=0.01)  # 0.002 $/s over 50 tokens/s
    assert found["cost"]["usd_per_million_input_tokens"] == pytest.approx(20, rel=0.01)
    assert found["cost"]["usd_per_million_total_tokens"] == pytest.approx(0.002 / 150 * 1e6, rel=0.01)
    assert as_json(uniform_records(9))["cost"] is None


def test_a_point_that_must_not_be_used_has_no_cost():
    records = uniform_records(400, settings={"machine_cost": 7.2})
    records.columns["sent_ns"] = records.columns["sent_ns"] + 50_000_000
    found = as_json(records)
    assert found["verdict"]["verdict"] == "CLIENT_LIMITED"
    assert found["cost"]["machine_cost_per_hour_usd"] == 7.2
    assert found["cost"]["usd_per_million_output_tokens"] is None


def test_several_models_are_told_apart():
    records = three_requests(models=["org/a", "b"])
    records.columns["model"] = np.array([0, 1, 1], dtype=np.uint16)
    whole, a, b = as_json(records), as_json(records, "org/a"), as_json(records, "b")
    assert [one["config"]["model"] for one in (whole, a, b)] == ["weighted", "org/a", "b"]
    assert [one["metrics"]["num_prompts_attempted"] for one in (whole, a, b)] == [3, 1, 2]
    assert [one["metrics"]["num_prompts_succeeded"] for one in (whole, a, b)] == [2, 1, 1]
    assert [one["metrics"]["throughput"] for one in (whole, a, b)] == [5 / 8, 3 / 8, 2 / 8]
    assert a["metrics"]["avg_ITL_ms"] == pytest.approx(200)
    assert b["metrics"]["avg_ITL_ms"] == pytest.approx(750)
    assert b["metrics"]["TimeoutError"] == 1
    assert whole["throughput"]["output_tokens_per_s"] == pytest.approx(
        a["throughput"]["output_tokens_per_s"] + b["throughput"]["output_tokens_per_s"]
    )
    with pytest.raises(ValueError):
        results.point_result(records, "c")


def test_nothing_succeeded_gives_nulls_and_counts():
    found = as_json(make_records([0, 1], columns={"status": [Status.RESET] * 2}))
    assert found["metrics"]["avg_latency_ms"] is None
    assert found["metrics"]["p99_TTFT_ms"] is None
    assert found["metrics"]["throughput"] == 0
    assert found["verdict"]["verdict"] == "FAILED"


def test_a_point_of_nothing_has_a_result():
    found = as_json(make_records([]))
    assert found["metrics"]["num_prompts_attempted"] == 0
    assert found["metrics"]["queries_per_second"] is None
    assert found["metrics"]["throughput"] is None
