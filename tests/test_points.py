"""The points of a profile, as the flags order them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_profile.errors import UsageError
from latency_profile.plan import NS
from latency_profile.points import PlannedPoint, plan_points
from latency_profile.settings import load
from latency_profile.settings.definition import Settings

COMMON = ["--host", "127.0.0.1", "--use-dummy-text", "--tokenizer", "bundled", "--backend", "vllm", "--models", "m"]


def settings(*flags: str) -> Settings:
    return load([*COMMON, *flags], {})


def points(*flags: str) -> list[PlannedPoint]:
    return plan_points(settings(*flags))


def test_rates_come_in_the_order_of_the_flag_and_each_has_its_own_prompts() -> None:
    planned = points("--request-rates", "4,1,inf", "--num-prompts", "50", "--seed", "3")
    assert [point.number for point in planned] == [0, 1, 2]
    assert [point.rate for point in planned] == [4, 1, math.inf]
    assert [point.first_prompt for point in planned] == [0, 50, 100]
    assert [point.prompts for point in planned] == [50, 50, 50]
    assert [point.label for point in planned] == ["4 req/s", "1 req/s", "unlimited"]
    assert [point.load for point in planned] == ["4", "1", "inf"]
    first, second, burst = (point.due_ns for point in planned)
    assert first is not None and second is not None and burst is not None
    assert not np.array_equal(first, second // 4), "every point draws its own gaps"
    assert not burst.any()
    assert planned[2].planned_s is None
    assert planned[0].planned_s == first[-1] / NS


def test_time_bounds_all_but_bursts() -> None:
    planned = points("--request-rates", "20,inf", "--num-prompts", "7", "--benchmark-time-seconds", "30")
    steady, burst = planned
    assert steady.due_ns is not None and steady.due_ns[-1] < 30 * NS
    assert abs(steady.prompts - 600) < 4 * math.sqrt(600)
    assert steady.duration_s == steady.planned_s == 30
    assert (burst.prompts, burst.duration_s, burst.first_prompt) == (7, None, steady.prompts)


def test_a_closed_loop_has_no_plan() -> None:
    planned = points("--concurrencies", "1,8", "--num-prompts", "40", "--benchmark-time-seconds", "30")
    assert [(point.concurrency, point.rate, point.due_ns) for point in planned] == [(1, None, None), (8, None, None)]
    assert [point.first_prompt for point in planned] == [0, 40]
    assert [point.prompts for point in planned] == [40, 40]
    assert [point.duration_s for point in planned] == [30, 30]
    assert [point.label for point in planned] == ["1 in flight", "8 in flight"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--request-rates=9,0.001", "--benchmark-time-seconds=1"], "--benchmark-time-seconds: got 1, takes a time in"),
        (
            ["--request-rates=0.001,9", "--adaptive-rates=5", "--benchmark-time-seconds=2"],
            "--benchmark-time-seconds: got 2, takes a time in which a request is due; at 0.001 req/s none is",
        ),
        (
            ["--find-capacity", "--slo=e2e:p90<1s", "--request-rate=0.001", "--max-rate=1", "--max-duration=3"],
            "--max-duration: got 3, takes a time in which a request is due; at 0.001 req/s none is",
        ),
    ],
)
def test_a_time_that_is_too_short_for_a_request_is_refused(flags: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        points(*flags)
    assert says in str(caught.value)


def test_the_same_flags_plan_the_same() -> None:
    def plans(seed: int) -> list[list[int]]:
        flags = ("--request-rates", "3,9", "--num-prompts", "20", "--seed", str(seed))
        return [point.due_ns.tolist() for point in points(*flags) if point.due_ns is not None]

    assert plans(1) == plans(1)
    assert plans(1) != plans(2)


@pytest.mark.parametrize(
    ("processes", "concurrency", "limit", "prompts", "urls", "shards"),
    [
        (4, None, 0, 100, 1, 4),
        (4, 3, 0, 100, 1, 3),
        (4, 9, 0, 100, 1, 4),
        (4, None, 2, 100, 1, 2),
        (4, 3, 1, 100, 1, 1),
        (4, None, 0, 2, 1, 2),
        (4, None, 0, 0, 1, 1),
        (4, None, 0, 100, 3, 4),
        (4, None, 3, 100, 3, 3),  # each has one URL, and one connection
        (4, None, 4, 100, 3, 3),
        (2, None, 5, 100, 3, 1),  # each would have requests for all three URLs
        (2, None, 6, 100, 3, 2),
        (4, None, 4, 100, 4, 4),
        (4, None, 8, 100, 6, 3),
    ],
)
def test_no_shard_without_something_to_send(
    processes: int, concurrency: int | None, limit: int, prompts: int, urls: int, shards: int
) -> None:
    point = PlannedPoint(0, None, concurrency, None, 0, prompts, None)
    assert point.shards(processes, limit, urls) == shards


@given(st.integers(1, 32), st.integers(1, 12), st.integers(0, 40), st.integers(0, 100))
def test_each_shard_may_have_a_connection_to_each_of_its_urls(
    processes: int, urls: int, more: int, prompts: int
) -> None:
    limit = urls + more
    shards = PlannedPoint(0, None, None, None, 0, prompts, None).shards(processes, limit, urls)
    for shard in range(shards):
        needed = {index % urls for index in range(shard, prompts, shards)}
        assert len(needed) <= len(range(shard, limit, shards))


@pytest.mark.parametrize("rate", ["0.123456789", "1234567.5", "250"])
def test_a_load_is_told_as_the_user_wrote_it(rate: str) -> None:
    (point,) = points("--request-rate", rate, "--num-prompts", "1")
    assert point.load == rate
