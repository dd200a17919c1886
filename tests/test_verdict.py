"""Each verdict on a point that deserves it, on one that just does not, and their order."""

import heapq

import numpy as np
import pytest
import scipy.stats

from latency_profile.errors import Exit
from latency_profile.records import Status
from latency_profile.verdict import Kind, Name, Verdict, exit_code, judge, samples, saturation
from tests.make_records import SECOND, make_records, uniform_records
from tests.tool import ROOT

NO_FAILURE = (Status.OK, Status.CANCELLED, Status.NOT_SENT)


def queue(rate, capacity, duration_s, slots=8, seed=0, **context):
    """Poisson arrivals at `slots` servers that together do `capacity` requests/s: first come, first served."""
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * duration_s * 1.2)))
    due = due[due < duration_s]
    free = [0.0] * slots
    ends = []
    for at in due:
        end = max(at, heapq.heappop(free)) + slots / capacity * rng.uniform(0.8, 1.2)
        heapq.heappush(free, end)
        ends.append(end)
    return make_records(
        due, due + 0.0005, end_s=ends, request_rate=rate, duration_s=duration_s, streaming=False, **context
    )


def failing(failed, of=1000, kind=Status.RESET):
    status = np.full(of, Status.OK)
    status[:: of // failed][:failed] = kind
    rng = np.random.default_rng(1)
    due = np.arange(of) / 10
    return make_records(
        due, end_s=due + rng.uniform(0.1, 0.5, of), columns={"status": status}, duration_s=of / 10, streaming=False
    )


def late(ms, share, of=1000):
    """The given share of requests sent so late, spread at random."""
    rng = np.random.default_rng(2)
    due = np.arange(of) / 10
    sent = due + np.where(rng.permutation(of) < share * of, ms / 1e3, 0.0002)
    return make_records(due, sent, end_s=sent + rng.uniform(0.1, 0.5, of), duration_s=of / 10, streaming=False)


def test_a_steady_well_sampled_point_is_valid():
    assert judge(uniform_records(1000)) == Verdict(verdict=Kind.VALID, reasons=[], remarks=[])


def test_failed_above_one_in_twenty():
    found = judge(failing(51))
    assert found.verdict is Kind.FAILED
    assert found.reasons[0] == "51 of 1000 requests failed (5.1%); the limit is 5%."
    assert judge(failing(50)).verdict is Kind.VALID


def test_unfinished_requests_are_not_failures():
    assert judge(failing(100, kind=Status.CANCELLED)).verdict is not Kind.FAILED


@pytest.mark.parametrize("kind", [kind for kind in Status if kind not in NO_FAILURE])
def test_every_other_end_is_a_failure(kind):
    assert judge(failing(51, kind=kind)).verdict is Kind.FAILED


def test_a_retried_request_is_as_late_as_its_first_attempt():
    """Its answer came from a second attempt, seconds later: the client was not late."""
    records = late(0.2, 1)
    records.columns["retries"][::10] = 2
    records.columns["end_ns"][::10] += 5 * SECOND
    assert judge(records).verdict is Kind.VALID


def test_late_sends_limit_the_point():
    found = judge(late(12, 0.02))
    assert found.verdict is Kind.CLIENT_LIMITED
    assert "p99 of its lateness is 12.0 ms; the limit is 10 ms" in found.reasons[0]
    assert judge(late(9, 0.02)).verdict is Kind.VALID
    assert judge(late(12, 0.005)).verdict is Kind.VALID


def test_a_reason_of_another_kind_says_which():
    records = late(12, 0.02)
    records.columns["status"][:51] = Status.RESET
    found = judge(records)
    assert found.verdict is Kind.FAILED
    assert found.reasons[0].startswith("51 of 1000 requests failed")
    assert found.reasons[1].startswith("CLIENT_LIMITED: ")


def test_requests_that_were_never_sent_are_late():
    records = late(0, 0)
    never = np.arange(1000) % 40 == 0
    records.columns["status"][never] = Status.NOT_SENT
    records.columns["sent_ns"][never] = -1
    assert judge(records).verdict is Kind.CLIENT_LIMITED


def test_a_burst_is_never_late():
    burst = make_records(np.zeros(1000), np.arange(1000) / 1000, request_rate=None, duration_s=None, streaming=False)
    assert judge(burst).verdict is not Kind.CLIENT_LIMITED


@pytest.mark.parametrize(("merged", "kind"), [(99, Kind.VALID), (102, Kind.CLIENT_LIMITED)])
def test_late_reads_that_merge_events_limit_the_point(merged, kind):
    records = uniform_records(1000)
    events = len(records.event_ns)
    records.columns["merged_events"][: merged * events // 10_000] = 1
    found = judge(records)
    assert found.verdict is kind
    if kind is Kind.CLIENT_LIMITED:
        assert "of the events shared a read with a later one" in found.reasons[0]


def test_a_growing_backlog_is_saturation_and_its_growth_is_told():
    found = judge(queue(rate=50, capacity=40, duration_s=60))
    assert found.verdict is Kind.SATURATED
    assert float(found.reasons[0].split("grew by ")[1].split()[0]) == pytest.approx(10, rel=0.35)


def test_far_overload_is_saturation_though_few_answers_ended():
    assert judge(queue(rate=200, capacity=10, duration_s=20)).verdict is Kind.SATURATED


def test_steady_points_are_not_called_saturated():
    found = [judge(queue(rate=40, capacity=50, duration_s=60, seed=seed)) for seed in range(40)]
    assert sum(one.verdict is Kind.SATURATED for one in found) <= 1


def test_a_ramp_is_not_saturation():
    """Answers of 16 s in a point of 20 s: what is in flight grows until the first of them end, then stays."""
    rng = np.random.default_rng(3)
    due = np.arange(0, 20, 0.05)
    records = make_records(due, end_s=due + rng.uniform(15.5, 16.5, len(due)), duration_s=20.0, streaming=False)
    assert judge(records).verdict is not Kind.SATURATED


def test_closed_loops_and_bursts_are_not_judged_by_backlog():
    sent = np.arange(1000) / 20
    closed = make_records(
        np.full(1000, -1.0), sent, end_s=sent + 0.1 + sent, request_rate=None, concurrency=4, streaming=False
    )
    assert judge(closed).verdict is not Kind.SATURATED
    burst = make_records(np.zeros(1000), end_s=sent + 1, request_rate=None, duration_s=None, streaming=False)
    assert judge(burst).verdict is not Kind.SATURATED


def test_too_few_samples_names_the_percentiles():
    found = judge(uniform_records(120))
    assert found.verdict is Kind.TOO_FEW_SAMPLES
    assert [reason.split(" has")[0] for reason in found.reasons] == ["The p99 of response TTFT and E2E"]
    assert "it takes 368" in found.reasons[0]
    assert judge(make_records([])).verdict is Kind.TOO_FEW_SAMPLES


@pytest.mark.parametrize("left_out", [{"warmup_s": 15.0}, {"warmup_s": 6.0, "cooldown_s": 7.0}])
def test_a_warm_up_longer_than_the_point_is_named(left_out: dict[str, float]):
    """Of a point that its number of requests bounds; nothing can be said of a p99 then."""
    found = judge(uniform_records(120, duration_s=None, **left_out))
    warmup, cooldown = left_out["warmup_s"], left_out.get("cooldown_s", 0.0)
    assert found.verdict is Kind.TOO_FEW_SAMPLES
    assert found.reasons == [
        f"Nothing is measured: the point lasted 12.0 s, of which the first {warmup:g} s (--warmup-seconds) "
        f"and the last {cooldown:g} s (--cooldown-seconds) are left out."
    ]


def test_a_closed_loop_is_sampled_by_service_latency():
    found = judge(make_records([-1.0] * 9, np.arange(9), request_rate=None, concurrency=1, streaming=False))
    assert [reason.split(" has")[0] for reason in found.reasons] == ["The p99 of service E2E"]


def test_unfinished_requests_alone_may_leave_the_p99_without_an_end():
    """Enough of them tell, but the slowest fiftieth is not over."""
    status = np.where(np.arange(2000) % 50 == 7, Status.CANCELLED, Status.OK)
    found = judge(uniform_records(2000, columns={"status": status}, streaming=False))
    [reason] = [reason for reason in found.reasons if "p99" in reason]
    assert reason.endswith("has no 95% interval: 2.0% of the requests are unfinished, so that it has no upper end.")


def test_the_worst_verdict_comes_first_and_all_reasons_are_told():
    records = queue(rate=50, capacity=40, duration_s=4)
    records.columns["sent_ns"] = records.columns["sent_ns"] + 20_000_000
    records.columns["status"][::10] = Status.HTTP_SERVER_ERROR
    found = judge(records)
    assert found.verdict is Kind.FAILED
    told = [word in " ".join(found.reasons) for word in ("failed", "sent late", "no 95% interval")]
    assert told == [True, True, False]  # how wide unusable numbers are is no reason


def test_only_the_window_is_judged():
    records = failing(10)
    records.columns["status"][:100] = Status.RESET
    records.columns["sent_ns"][:100] += 10**9
    assert judge(records).verdict is Kind.FAILED
    records.context.warmup_s = 10.0
    assert judge(records).verdict is Kind.VALID


def test_a_model_is_judged_by_its_own_requests():
    models = np.arange(2000) % 2
    records = uniform_records(2000, models=["a", "b"])
    records.columns["model"] = models.astype(np.uint16)
    records.columns["status"][models == 1] = np.where(np.arange(1000) % 10 == 0, Status.TIMEOUT, Status.OK)
    assert judge(records, "a").verdict is Kind.VALID
    assert judge(records, "b").verdict is Kind.FAILED
    with pytest.raises(ValueError):
        judge(records, "c")


def test_exit_codes():
    def of(*kinds):
        return exit_code(Verdict(verdict=kind, reasons=[], remarks=[]) for kind in kinds)

    assert of() == of(Kind.VALID, Kind.SATURATED, Kind.TOO_FEW_SAMPLES) == Exit.DONE
    assert of(Kind.VALID, Kind.FAILED) == of(Kind.CLIENT_LIMITED) == Exit.UNUSABLE


def test_constants_are_what_their_comments_say():
    assert scipy.stats.t.ppf(0.995, saturation.GROWTH_STEPS - 1) == pytest.approx(saturation.GROWTH_T_LIMIT, abs=1e-3)
    assert 0.99**samples.SAMPLES_FOR_P99 <= 0.025 < 0.99 ** (samples.SAMPLES_FOR_P99 - 1)


def test_a_closed_loop_that_finds_no_connection_has_failed():
    """Those were never sent; they came all the same."""
    n = 400
    sent = np.arange(n) / 10
    status = np.full(n, Status.OK)
    status[100:] = Status.CONNECT_REFUSED
    sent_ns = np.where(status == Status.OK, (sent * SECOND).astype(np.int64), -1)
    records = make_records(
        np.full(n, -1.0),
        sent,
        end_s=sent + 0.2,
        columns={"status": status, "sent_ns": sent_ns},
        request_rate=None,
        concurrency=4,
        duration_s=n / 10,
        streaming=False,
    )
    found = judge(records)
    assert found.verdict is Kind.FAILED
    assert "requests failed (74.9%)" in found.reasons[0]  # the last two came after the window's end


def test_the_readme_has_every_verdict_and_remark() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [kind.value for kind in Kind if f"| {kind.value} |" not in readme] == []
    assert [name.value for name in Name if f"`{name.value}`" not in readme] == []
