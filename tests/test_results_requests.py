"""What results say of hidden tokens, of the server's own times, of retries and of several URLs, reckoned by hand."""

import json

import msgspec
import numpy as np
import pytest

from latency_profile import results
from latency_profile.records import NONE, Status
from latency_profile.results.errors import SEED_ERRORS, errors_by_kind, seed_errors
from tests.make_records import SECOND, make_records, nanoseconds, uniform_records

MS = 1_000_000


def as_json(records, model=None):
    return json.loads(msgspec.json.encode(results.point_result(records, model)))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Status.STALLED, "TimeoutError"),
        (Status.MALFORMED, "ContentTypeError"),
        (Status.NOT_UTF8, "ContentTypeError"),
        (Status.TOO_LONG, "ContentTypeError"),
        (Status.HTTP_UNAUTHORIZED, "unknown_error"),
        (Status.HTTP_UNAVAILABLE, "unknown_error"),
        (Status.HTTP_GATEWAY, "unknown_error"),
        (Status.ERROR_BODY, "unknown_error"),
    ],
)
def test_what_came_of_a_request_has_both_names(kind, name):
    statuses = np.array([Status.OK, kind, kind, Status.NOT_SENT])
    assert {key: n for key, n in seed_errors(statuses).items() if n} == {name: 2}
    assert {key: n for key, n in errors_by_kind(statuses).items() if n} == {kind.name: 2, "NOT_SENT": 1}
    assert set(seed_errors(statuses)) == {*SEED_ERRORS.values(), "unknown_error"}


def thinking(**context):
    """Sent 0.25 s late at 1, 3, 5, 7 s of 8: hidden tokens first, none hidden, hidden only, failed among them."""
    sent = np.array([1.0, 3.0, 5.0, 7.0])
    return make_records(
        sent - 0.25,
        sent,
        [[1.5, 2.0, 2.5], [3.5, 4.0], [5.5, 6.0], [7.5]],
        columns={
            "first_visible_ns": nanoseconds([2.0, 3.5, -1, -1]),
            "status": [Status.OK] * 3 + [Status.TRUNCATED],
        },
        **({"duration_s": 8.0, "request_rate": 0.5} | context),
    )


def test_the_visible_answers_ttft_stands_beside_that_of_any_token():
    found = as_json(thinking())
    service, response = found["latency"]["service"], found["latency"]["response"]
    assert (service["ttft"]["n"], service["ttft"]["mean_s"]) == (3, 0.5)
    visible = service["ttft_visible"]
    assert (visible["n"], visible["unfinished"], visible["min_s"], visible["max_s"]) == (2, 0, 0.5, 1.0)
    assert (response["ttft_visible"]["min_s"], response["ttft_visible"]["max_s"]) == (0.75, 1.25)
    assert found["tokens"]["hidden_only"] == 1
    assert found["metrics"]["max_TTFT_ms"] == 500  # the compatible key goes to any token


def test_hidden_answers_alone_have_a_visible_ttft_of_nothing():
    records = thinking()
    records.columns["first_visible_ns"][:] = NONE
    found = as_json(records)
    assert found["latency"]["service"]["ttft_visible"]["n"] == 0
    assert found["latency"]["service"]["ttft_visible"]["p50"]["value_s"] is None
    assert found["tokens"]["hidden_only"] == 3


def test_without_hidden_tokens_no_ttft_is_told_twice():
    found = as_json(uniform_records(20))
    assert found["latency"]["service"]["ttft_visible"] is found["latency"]["response"]["ttft_visible"] is None
    assert found["tokens"]["hidden_only"] == 0
    plain = as_json(uniform_records(20, streaming=False))
    assert plain["latency"]["service"]["ttft_visible"] is plain["tokens"]["hidden_only"] is None


def test_hidden_tokens_outside_the_window_make_no_visible_ttft():
    """Counts of tokens cover the point, latencies its window; the window begins after the thinking ones."""
    records = thinking(warmup_s=2.0, cooldown_s=4.0)
    found = as_json(records)
    assert found["window"]["requests"] == 1
    assert found["latency"]["service"]["ttft_visible"] is None
    assert found["tokens"]["hidden_only"] == 1


def timed(**context):
    """Sent at 0, 1, 2, 3 s of 4. The server tells of all but the last; the third was retried."""
    return make_records(
        [0, 1, 2, 3],
        token_times_s=[[0.5, 0.9], [1.3, 1.6], [2.5, 3.0], [3.5, 3.75]],
        end_s=[1.0, 1.7, 3.0, 3.75],
        columns={
            "server_queue_ns": [100 * MS, 0, 40 * MS, NONE],
            "server_prefill_ns": [390 * MS, 280 * MS, 10 * MS, NONE],
            "server_decode_ns": [400 * MS, 300 * MS, 500 * MS, NONE],
            "server_total_ns": [960 * MS, 680 * MS, 550 * MS, NONE],
            "retries": [0, 0, 3, 0],
        },
        **({"duration_s": 4.0, "request_rate": 1.0} | context),
    )


def test_the_servers_own_times_and_what_they_leave_unexplained():
    times = as_json(timed())["server"]["times"]
    assert set(times) == {"queue", "prefill", "decode", "total", "unexplained_e2e", "unexplained_ttft"}
    told = {name: (one["n"], one["min_s"], one["p50"]["value_s"], one["max_s"]) for name, one in times.items()}
    assert told["queue"] == (3, 0.0, 0.04, 0.1)
    assert told["prefill"] == (3, 0.01, 0.28, 0.39)
    assert told["decode"] == (3, 0.3, 0.4, 0.5)
    assert told["total"] == (3, 0.55, 0.68, 0.96)
    assert told["unexplained_e2e"] == (2, 0.02, 0.03, 0.04)  # 1.0 - 0.96 and 0.7 - 0.68
    assert told["unexplained_ttft"] == (2, 0.01, 0.015, 0.02)  # 0.5 - 0.1 - 0.39 and 0.3 - 0.28


def test_the_servers_times_are_those_of_the_window():
    times = as_json(timed(warmup_s=1.0))["server"]["times"]
    assert (times["total"]["n"], times["total"]["max_s"]) == (2, 0.68)
    assert as_json(timed(warmup_s=3.0))["server"]["times"] is None


def test_a_server_that_tells_only_some_of_its_times():
    records = timed()
    for name in ("server_queue_ns", "server_total_ns"):
        records.columns[name][:] = NONE
    times = as_json(records)["server"]["times"]
    assert times["queue"] is times["total"] is times["unexplained_e2e"] is None
    assert times["unexplained_ttft"]["max_s"] == pytest.approx(0.11)  # the queue is part of it


def test_without_a_stream_no_first_token_is_explained():
    records = make_records(
        [0, 1], columns={"server_prefill_ns": [MS, MS], "server_total_ns": [MS, MS]}, streaming=False
    )
    times = as_json(records)["server"]["times"]
    assert times["unexplained_ttft"] is None
    assert times["unexplained_e2e"]["mean_s"] == pytest.approx(0.999)


def test_a_server_that_tells_nothing_has_no_times():
    assert as_json(uniform_records(9))["server"]["times"] is None


def test_retries_are_counted_over_the_point():
    found = as_json(timed(warmup_s=3.0))
    assert (found["load"]["counts"]["retried"], found["load"]["counts"]["retries"]) == (1, 3)


def two_urls(**context):
    """In turn to two servers, at 0, 1, … 5 s; the window is from 1 to 5 s. Two of b's fail, one of them behind it."""
    status = [Status.OK] * 6
    status[3], status[5] = Status.HTTP_UNAVAILABLE, Status.RESET
    return make_records(
        [0, 1, 2, 3, 4, 5],
        token_times_s=[[0.5, 1.5], [1.25, 1.75], [2.5, 3.0], [], [4.5, 5.5], [5.25, 5.5]],
        end_s=[1.5, 1.75, 3.0, 3.25, 5.5, 5.5],
        columns={"status": status, "url": [0, 1, 0, 1, 0, 1]},
        urls=["http://a:1", "http://b:1"],
        **({"duration_s": 6.0, "warmup_s": 1.0, "cooldown_s": 1.0, "request_rate": 1.0} | context),
    )


def test_results_by_url():
    found = as_json(two_urls())
    a, b = found["by_url"]
    assert (a["url"], b["url"]) == ("http://a:1", "http://b:1")
    assert [(one["planned"], one["succeeded"], one["failed"]) for one in (a, b)] == [(2, 2, 0), (2, 1, 1)]
    assert {kind: n for kind, n in b["errors_by_kind"].items() if n} == {"HTTP_UNAVAILABLE": 1}
    assert a["errors_by_kind"] == dict.fromkeys(found["errors_by_kind"], 0)
    assert (a["ttft"]["n"], a["ttft"]["mean_s"], a["e2e"]["mean_s"]) == (2, 0.5, 1.25)
    assert (b["ttft"]["n"], b["ttft"]["mean_s"], b["e2e"]["mean_s"]) == (1, 0.25, 0.75)
    # The first requests have ended at 1.5 s. Of a's tokens those at 2.5, 3 and 4.5 s came from then on; of b's one.
    assert found["window"]["rates_start_s"] == 1.5
    assert (a["output_tokens_per_s"], b["output_tokens_per_s"]) == (3 / 3.5, 1 / 3.5)
    assert found["throughput"]["output_tokens_per_s"] == pytest.approx(4 / 3.5)


def test_by_url_of_one_model_of_several():
    records = two_urls(models=["x", "y"])
    records.columns["model"] = np.array([0, 0, 0, 0, 1, 1], dtype=np.uint16)
    assert [one["planned"] for one in as_json(records, "x")["by_url"]] == [1, 2]
    assert [one["planned"] for one in as_json(records, "y")["by_url"]] == [1, 0]


def test_one_url_is_not_told_apart():
    assert as_json(uniform_records(9))["by_url"] is None


def test_by_url_without_a_stream_or_a_window():
    whole = as_json(two_urls(streaming=False))["by_url"]
    assert [one["ttft"] for one in whole] == [None, None]
    none = as_json(two_urls(warmup_s=3.0, cooldown_s=3.0))["by_url"]
    assert [(one["planned"], one["output_tokens_per_s"]) for one in none] == [(0, None), (0, None)]


def test_a_retried_requests_latency_counts_from_its_first_attempt():
    records = make_records([1.0], [1.5], [[4.0, 5.0]], columns={"retries": [1]}, measured_ns=6 * SECOND)
    found = as_json(records)
    assert found["latency"]["service"]["ttft"]["max_s"] == 2.5
    assert found["latency"]["response"]["e2e"]["max_s"] == 4.0
    assert found["load"]["lateness"]["max_s"] == 0.5
