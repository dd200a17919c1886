"""The search for the capacity in users of a closed loop: its ends, and whole searches against the engine model."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import capacity_users as benchmark
from benchmarks.capacity_model import SETTINGS
from latency_profile.capacity.scores import Answers
from latency_profile.capacity.structure import Capacity, Ended, Of
from latency_profile.capacity.text import capacity_text
from latency_profile.capacity.users import MOST_PROBES, UsersSearch
from latency_profile.slo.grammar import parse
from latency_profile.slo.structure import Outcome

FAILS = math.inf
Server = Callable[[int], float]


def looped(users: int, requests: int, e2e_s: float, seed: int) -> Answers:
    """Users whose answers take `e2e_s` in the mean, spread by a tenth of it; FAILS: none is answered."""
    drawn = np.random.default_rng(seed)
    failed = math.isinf(e2e_s)
    took = (0.01 if failed else e2e_s) * (1 + 0.1 * drawn.standard_normal((math.ceil(requests / users), users)))
    end = np.cumsum(took, axis=0)
    sent = np.concatenate([np.zeros((1, users)), end[:-1]])
    order = np.argsort(sent, axis=None, kind="stable")[:requests]
    due, ends = sent.ravel()[order], end.ravel()[order]
    return Answers(
        now_s=float(ends.max()),
        due_s=due,
        first_s=np.full(len(due), np.nan) if failed else ends,
        end_s=ends,
        tokens=np.ones(len(due)),
        failed=np.full(len(due), failed),
    )


def search(server: Server, highest: int = 200, lowest: int = 1, max_s: float = math.inf) -> tuple[Capacity, list[int]]:
    """By a server that is a function of the number of users; looked at after every 30 % more requests."""
    of = UsersSearch([parse("e2e:mean<1s"), parse("errors<5%")], lowest, highest, max_s)
    tried = []
    while not isinstance(asked := of.next(), Capacity):
        users = round(asked.load)
        tried.append(users)
        assert asked.requests is not None
        number = 20.0
        while True:
            answers = looped(users, min(asked.requests, math.ceil(number)), server(users), len(tried))
            if answers.now_s > asked.seconds:
                answers = Answers(
                    asked.seconds,
                    *(each[:1] for each in (answers.due_s, answers.first_s)),
                    *(each[:1] for each in (answers.end_s, answers.tokens, answers.failed)),
                )
                break
            if of.running().look(answers) is not Outcome.UNRESOLVED or number >= asked.requests:
                break
            number *= 1.3
        of.told(answers)
    return asked, tried


def test_neighbours_are_told_apart() -> None:
    """1 s for the answers to 14 users and a little more for 15."""
    found, tried = search(lambda users: 0.97 + 0.05 * (users - 14))
    assert found.ended is Ended.CONFIRMED and found.of is Of.CONCURRENCY
    assert (found.estimate, found.low, found.high) == (14, 14, 14)
    assert found.binding == "e2e:mean<1s" and found.highest_kept == 14 and found.lowest_broken == 15
    assert tried[:5] == [1, 2, 4, 8, 16] and len(tried) == found.probes <= 9
    assert capacity_text(found).startswith("Capacity: 14 in flight (14 to 14, 95%); e2e:mean<1s breaks first (")


def test_many_users_are_told_to_a_share() -> None:
    found, _ = search(lambda users: users / 150.5)
    assert found.ended is Ended.CONFIRMED
    assert found.low is not None and found.high is not None
    assert found.low <= 150 <= found.high <= 1.06 * found.low


def test_what_is_too_near_to_tell_stays_between() -> None:
    """14 users take 1 s sharp: no probe of them is ever clear."""
    found, tried = search(lambda users: users / 14)
    assert found.ended is Ended.UNRESOLVED and found.answered
    assert (found.low, found.high) == (13, 14) and found.estimate in (13, 14)
    assert tried.count(14) == 1 and "too near" in found.reason


def test_nothing_beyond_the_highest() -> None:
    found, tried = search(lambda users: 0.5, highest=6)
    assert found.ended is Ended.MAX_CONCURRENCY_KEPT and found.answered
    assert tried == [1, 2, 4, 6]
    assert (found.estimate, found.low, found.high, found.highest_kept) == (None, None, None, 6)
    assert "at least 6 in flight" in capacity_text(found)


def test_a_first_concurrency_that_is_broken() -> None:
    found, tried = search(lambda users: 2.0, lowest=4)
    assert found.ended is Ended.FIRST_CONCURRENCY_BROKEN and found.answered
    assert tried == [4] and "below 4 in flight" in capacity_text(found)


def test_a_first_concurrency_that_is_not_clear_gives_no_interval() -> None:
    found, tried = search(float, lowest=1)
    assert found.ended is Ended.UNRESOLVED and not found.answered
    assert tried == [1, 2] and found.low is None


def test_nothing_beyond_the_time() -> None:
    found, _ = search(lambda users: users / 40, max_s=30.0)
    assert found.ended is Ended.MAX_DURATION and not found.answered
    assert found.seconds <= 30
    assert found.highest_kept and found.lowest_broken is None
    assert capacity_text(found).startswith(
        "No capacity: the time was over before the interval was as narrow as wanted; "
    )
    assert f"; {found.highest_kept:.0f} in flight is clearly kept (" in capacity_text(found)


def test_a_server_that_breaks_is_left_alone() -> None:
    found, tried = search(lambda users: FAILS)
    assert found.ended is Ended.SERVER_SUFFERS and tried == [1] and not found.answered
    found, tried = search(lambda users: FAILS if users > 10 else 0.5)
    assert len(tried) > 5 and (found.low is None or found.low <= 10)


def test_a_probe_that_must_be_sent_again_counts() -> None:
    of = UsersSearch([parse("e2e:mean<1s")], 2, 8, 100.0)
    first = of.next()
    again = of.again(60.0)
    assert not isinstance(first, Capacity) and not isinstance(again, Capacity)
    assert (first.load, first.seconds, again.load, again.seconds) == (2, 100, 2, 40)
    over = of.again(40.0)
    assert isinstance(over, Capacity) and over.ended is Ended.MAX_DURATION and over.seconds == 100


def test_truths_lie_between_neighbours() -> None:
    """Of the means, with few requests."""
    for name in ("cpu-135m", "few slots", "small cache"):
        objectives, users = benchmark.TRUTH[name][1]
        kept, broken = (benchmark.mean_scores(SETTINGS[name], objectives, 8000, each)[0] for each in (users, users + 1))
        assert kept < 1 < broken


def test_a_search_finds_the_engines_capacity_and_the_same_one_again() -> None:
    objectives, users = benchmark.TRUTH["small cache"][1]
    found = benchmark.run(SETTINGS["small cache"], objectives, 1)
    assert found.low is not None and found.high is not None
    assert found.low <= users <= found.high <= found.low + 1
    assert found.probes <= MOST_PROBES / 2
    assert benchmark.run(SETTINGS["small cache"], objectives, 1) == found


@pytest.mark.slow
def test_coverage_of_few_runs() -> None:
    """One run of each row. The whole of it is `python -m benchmarks.capacity_users`."""
    for name, rows in benchmark.TRUTH.items():
        for objectives, users in rows:
            found = benchmark.run(SETTINGS[name], objectives, 500)
            assert found.low is not None and found.high is not None
            assert found.low <= users <= found.high
