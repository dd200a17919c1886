"""The loads of a calibration, the search for the highest event rate, and what a calibration makes of a verdict."""

import math
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from latency_profile.calibration.load import FEWEST_REQUESTS, of_point, of_rate, of_records
from latency_profile.calibration.schedule import Cadence, Schedule, assumed, most_tokens, plan_within, replayed
from latency_profile.calibration.search import MOST_STEPS, highest_rate, step_of
from latency_profile.calibration.structure import (
    Calibration,
    Events,
    MetricError,
    MetricErrors,
    Step,
    Throughputs,
    Truth,
)
from latency_profile.calibration.text import highest_lines, lines, short_text
from latency_profile.calibration.timeline import Scheduled
from latency_profile.plan import offsets_ns
from latency_profile.points import PlannedPoint
from latency_profile.records import Status
from latency_profile.report.rows import table_row
from latency_profile.results import point_result
from latency_profile.verdict.calibrated import beyond_limits, calibration_reasons
from latency_profile.verdict.evidence import evidence
from tests.make_records import make_records

MS = 1_000_000
SECOND = 1_000_000_000
CADENCE = Cadence(50.0, 10.0, 0.2)
ERROR = MetricError(n=9, mean_s=2e-5, p50_s=2e-5, p90_s=2e-5, p99_s=3e-5, sd_s=1e-5, p99_of_differences_s=5e-5)


def calibration(**changes: Any) -> Calibration:
    """One without any errors worth the name."""
    values: dict[str, Any] = {
        "cadence": "assumed",
        "planned_s": 10.0,
        "processes": 1,
        "requests": 100,
        "failed": 0,
        "lateness_p99_s": 0.001,
        "burst": False,
        "errors": MetricErrors(**dict.fromkeys(MetricErrors.__struct_fields__, ERROR)),
        "events": Events(written=1000, received=1000, lost=0, merged=0),
        "throughput": Throughputs(**dict.fromkeys(Throughputs.__struct_fields__, 1.0)),
        "truth": Truth(uncertainty_p99_s=3e-5, server_late_p99_s=0.001, events_per_s=1000.0),
        "highest": None,
    }
    return Calibration(**(values | changes))


def with_error(metric: str, **changes: float) -> Calibration:
    plain = calibration()
    errors = {metric: msgspec.structs.replace(ERROR, **changes)}
    return msgspec.structs.replace(plain, errors=msgspec.structs.replace(plain.errors, **errors))


# -- schedules --------------------------------------------------------------------------------------------------------


def test_a_replayed_schedule_is_what_was_measured_from_sent() -> None:
    records = make_records(
        [0.0, 1.0], [0.1, 1.2], [[0.3, 0.4, 0.6], [1.7]], event_tokens=[[1, 2, 1], [5]], end_s=[0.7, 1.8]
    )
    schedule = replayed(records)
    assert schedule.event_start.tolist() == [0, 3, 4]
    assert (schedule.offset_ns / MS).tolist() == [200, 300, 500, 500]
    assert schedule.event_tokens.tolist() == [1, 2, 1, 5]
    assert schedule.tokens.tolist() == [4, 5]


def test_an_answer_that_was_not_streamed_is_one_event_at_its_end() -> None:
    records = make_records([0.0, 1.0], [0.1, 1.0], end_s=[2.1, 4.0], columns={"output_tokens": [7, 9]}, streaming=False)
    schedule = replayed(records)
    assert schedule.event_start.tolist() == [0, 1, 2]
    assert (schedule.offset_ns / SECOND).tolist() == [2, 3]
    assert schedule.event_tokens.tolist() == [7, 9]


def test_requests_without_an_answer_take_their_neighbours_cadence() -> None:
    failed = [Status.TIMEOUT, Status.OK, Status.RESET, Status.OK]
    times: list[list[float]] = [[], [1.2, 1.3], [], [3.5]]
    schedule = replayed(make_records([0, 1, 2, 3], None, times, end_s=[1, 2, 3, 4], columns={"status": failed}))
    assert np.diff(schedule.event_start).tolist() == [2, 2, 2, 1]
    assert (schedule.offset_ns / MS).round().tolist() == [200, 300, 200, 300, 200, 300, 500]
    with pytest.raises(ValueError, match="none of its requests"):
        replayed(make_records([0.0], None, [[]], end_s=[1.0], columns={"status": [Status.TIMEOUT]}))


def test_the_assumed_cadence() -> None:
    schedule = assumed(np.full(2000, 5), CADENCE, seed=3)
    times = schedule.offset_ns.reshape(2000, 5) / MS
    gaps = np.diff(times, axis=1)
    assert (times[:, 0].min(), times[:, 0].max()) == pytest.approx((40, 60), abs=0.1)
    assert (gaps.min(), gaps.max()) == pytest.approx((8, 12), abs=0.02)
    assert gaps.mean() == pytest.approx(10, abs=0.1)
    assert (schedule.event_tokens == 1).all()
    assert (assumed(np.full(2000, 5), CADENCE, seed=3).offset_ns == schedule.offset_ns).all()
    slowest = assumed(np.array([most_tokens(CADENCE, 2.0)]), CADENCE, seed=0)
    assert slowest.offset_ns[-1] > 2 * SECOND


def test_what_comes_after_the_end_is_left_out() -> None:
    schedule = Schedule(np.array([0, 3, 5, 6]), np.array([1, 2, 3, 1, 2, 9]) * SECOND, np.ones(6, dtype=np.int64))
    cut = schedule.within(np.array([0, 1, 3]) * SECOND, 3 * SECOND)
    assert cut.event_start.tolist() == [0, 3, 5, 6]
    assert cut.offset_ns.tolist() == [SECOND, 2 * SECOND, 3 * SECOND, SECOND, 2 * SECOND, 50 * MS]
    closed = schedule.within(None, 2 * SECOND)
    assert closed.event_start.tolist() == [0, 2, 4, 5]
    assert closed.offset_ns[-1] == 2 * SECOND


def test_the_server_takes_it(tmp_path: Path) -> None:
    assumed(np.array([3, 1]), CADENCE, seed=0).save(tmp_path / "schedule.npz")
    timelines = Scheduled(tmp_path / "schedule.npz")
    offsets, tokens, _ = timelines.next("abc-0-0", 100, 0)
    assert (len(offsets), tokens) == (3, (1, 2, 3))
    assert timelines.next("abc-0-1", 100, 0).tokens == (1,)


# -- loads ------------------------------------------------------------------------------------------------------------


def test_a_plan_is_cut_and_a_slow_one_run_faster() -> None:
    due = np.arange(100) * SECOND
    assert (plan_within(due, 30, 20) == due[:30]).all()
    faster = plan_within(due, 10, 20)
    assert len(faster) == 20
    assert faster[-1] < 10 * SECOND
    assert np.diff(faster) / SECOND == pytest.approx(10 / 19, rel=1e-3)
    assert (plan_within(due[:3], 10, 20) == due[:3]).all()
    assert len(plan_within(due[:0], 10, 20)) == 0


def test_a_planned_point_has_its_own_plan_and_lengths() -> None:
    due = offsets_ns(50.0, duration_s=60.0, seed=0, point=2)
    point = PlannedPoint(2, 50.0, None, due, 700, len(due), 60.0)
    lengths = [20 + index % 7 for index in range(len(due))]
    load = of_point(point, lengths, lengths, CADENCE, 10.0, seed=0)
    assert load.point.due_ns is not None
    number = len(load.point.due_ns)
    assert (load.point.due_ns == due[due < 10 * SECOND]).all()
    assert (load.point.first_prompt, load.point.prompts, load.point.duration_s) == (0, number, 10.0)
    asked = list(load.prompts.requests(0, number))
    assert [request.input_length for request in asked] == lengths[:number]
    ends = load.point.due_ns + load.schedule.offset_ns[load.schedule.event_start[1:] - 1]
    assert ends.max() <= 10 * SECOND + 50 * MS
    inside = load.point.due_ns < 9 * SECOND
    assert (load.schedule.tokens[inside] == np.array(lengths[:number])[inside]).all()


def test_a_closed_loop_keeps_its_concurrency() -> None:
    point = PlannedPoint(0, None, 4, None, 0, 50, 300.0)
    load = of_point(point, [10] * 50, [1000] * 50, CADENCE, 10.0, seed=0)
    assert (load.point.concurrency, load.point.due_ns, load.point.duration_s) == (4, None, 5.0)
    assert load.schedule.offset_ns.max() <= 5 * SECOND
    assert load.events_per_s == 0


def test_a_burst_and_records_keep_their_plan() -> None:
    records = make_records([0.0, 0.0, 0.0], None, [[0.2, 0.3]] * 3, request_rate=None, duration_s=None)
    load = of_records(records, 60.0)
    assert load.point.rate == math.inf
    assert (load.cadence, load.point.prompts) == ("replayed", 3)
    few = make_records(np.arange(100) / 2, None, [[at / 2 + 0.1] for at in range(100)], duration_s=50.0)
    assert of_records(few, 20.0).point.prompts == 40
    assert of_records(few, 2.0).point.prompts == FEWEST_REQUESTS


def test_a_step_has_the_rate_that_was_asked_for() -> None:
    load = of_rate(4000.0, 300.0, CADENCE, 6.0, seed=0)
    assert load.events_per_s == pytest.approx(4000, rel=0.15)
    assert (load.schedule.tokens[:50] == 100).all()


# -- the search -------------------------------------------------------------------------------------------------------


def pod(limit: float, by: Literal["client", "server"], tried: list[float]) -> Any:
    def run(rate: float) -> Step:
        tried.append(rate)
        return Step(
            wanted_events_per_s=rate,
            events_per_s=rate,
            lateness_p99_s=0,
            ttft_p99_s=0,
            server_late_p99_s=0,
            limit=by if rate > limit else None,
        )

    return run


@pytest.mark.parametrize("by", ["client", "server"])
@pytest.mark.parametrize("limit", [300, 2100, 9000, 30_000, 100_000])
def test_the_search_ends_just_below_the_limit(limit: float, by: Literal["client", "server"]) -> None:
    tried: list[float] = []
    found = highest_rate(500.0, pod(limit, by, tried))
    assert found is not None and found.events_per_s is not None
    assert limit / 1.42 <= found.events_per_s <= limit
    assert found.limited_by == by
    assert [step.wanted_events_per_s for step in found.steps] == tried
    assert len(tried) <= MOST_STEPS


def test_a_search_without_end_and_one_that_is_interrupted() -> None:
    found = highest_rate(10_000.0, pod(math.inf, "client", []))
    assert found is not None
    assert (found.limited_by, found.events_per_s) == ("search", 10_000 * 2 ** (MOST_STEPS - 2))
    hopeless = highest_rate(10_000.0, pod(0, "client", []))
    assert hopeless is not None
    assert (hopeless.limited_by, hopeless.events_per_s) == ("client", None)
    assert highest_rate(1.0, lambda _: None) is None


def test_whose_limit_a_step_found() -> None:
    late = Truth(uncertainty_p99_s=None, server_late_p99_s=0.02, events_per_s=1000.0)
    wrong = with_error("ttft", p99_s=0.004)
    assert step_of(1000.0, calibration()).limit is None
    assert step_of(1000.0, calibration(truth=late)).limit is None
    assert step_of(1000.0, wrong).limit == "client"
    assert step_of(1000.0, msgspec.structs.replace(wrong, truth=late)).limit == "server"
    assert step_of(1200.0, calibration()).limit == "server"  # 1,000 written


# -- what follows from it ---------------------------------------------------------------------------------------------


def test_a_good_calibration_gives_no_reason() -> None:
    assert beyond_limits(calibration()) == []
    assert beyond_limits(calibration(lateness_p99_s=None)) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (calibration(lateness_p99_s=0.0101), "lateness is 10.1 ms (limit 10 ms)"),
        (with_error("ttft", p50_s=0.0011), "+1.1 ms at p50 (limit 1 ms)"),
        (with_error("ttft", p99_s=-0.0021), "-2.1 ms at p99 (limit 1 ms)"),
        (calibration(events=Events(written=1000, received=999, lost=1, merged=0)), "lost 1 of 1000 events"),
        (calibration(events=Events(written=1000, received=1000, lost=0, merged=11)), "1.1% of the events"),
        (calibration(failed=6), "6 of 106 requests failed"),
    ],
)
def test_errors_beyond_the_limits_are_reasons(found: Calibration, words: str) -> None:
    [reason] = beyond_limits(found)
    assert words in reason
    records = make_records([0.0], calibration=found)
    assert calibration_reasons(evidence(records)) == [reason]


def test_a_late_server_says_nothing_against_the_client() -> None:
    late = Truth(uncertainty_p99_s=None, server_late_p99_s=0.02, events_per_s=1000.0)
    found = msgspec.structs.replace(with_error("ttft", p99_s=0.004), truth=late)
    assert "was late itself: p99 20.0 ms" in beyond_limits(found)[0]
    assert calibration_reasons(evidence(make_records([0.0], calibration=found))) == []


def test_just_within_the_limits() -> None:
    assert beyond_limits(calibration(lateness_p99_s=0.0099)) == []
    assert beyond_limits(with_error("ttft", p99_s=0.00099)) == []
    assert beyond_limits(calibration(lateness_p99_s=1.0, burst=True)) == []
    assert beyond_limits(calibration(events=Events(written=1000, received=1000, lost=0, merged=10))) == []


def test_without_a_calibration_there_is_no_reason() -> None:
    records = make_records([0.0])
    assert calibration_reasons(evidence(records)) == []
    result = point_result(records)
    assert result.calibration is None
    assert not any("calibrat" in note for note in table_row("1", result).notes)


def test_results_and_table_have_it() -> None:
    result = point_result(make_records([0.0], calibration=calibration()))
    assert result.calibration == calibration()
    assert "calibrated: TTFT +0.02 ms ± 0.01" in table_row("1", result).notes


def test_what_people_read() -> None:
    found = calibration(lateness_p99_s=0.02)
    assert short_text(found) == "calibrated: TTFT +0.02 ms ± 0.01"
    text = "\n".join(lines("4 req/s", found))
    ttft = next(line for line in text.splitlines() if line.startswith("  TTFT "))
    assert ttft.split() == ["TTFT", "+0.020", "+0.020", "+0.030", "+0.020", "0.010", "0.050"]
    assert "✗ Against a server of known timing" in text
    assert max(map(len, text.splitlines())) <= 110
    searched = highest_rate(500.0, pod(9000, "server", []))
    assert searched is not None
    head = next(highest_lines(searched))
    assert head.startswith("highest event rate: at least 8,000 events/s")
