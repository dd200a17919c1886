"""The search for the capacity: its parts by hand, its ends, and whole searches against the engine model."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import capacity as benchmark
from benchmarks.capacity_model import OBJECTIVES, SETTINGS, TRUTH, Probe, truth
from latency_profile.capacity import isotonic
from latency_profile.capacity.clear import Clarity, clear, grows, suffers
from latency_profile.capacity.fit import blocks, crossing
from latency_profile.capacity.near import Near, each_look, teaching
from latency_profile.capacity.scores import Answers, Scores, scores
from latency_profile.capacity.search import Search
from latency_profile.capacity.structure import Capacity, Ended
from latency_profile.slo.grammar import parse
from latency_profile.slo.structure import Outcome

NAN = math.nan


def made(
    due_s: object, first_s: object, end_s: object, *, now_s: float, tokens: object = 1.0, failed: object = False
) -> Answers:
    """Answers from lists or scalars."""
    due = np.asarray(due_s, dtype=np.float64)

    def column(values: object, kind: type = np.float64) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, dtype=kind), due.shape).copy()

    return Answers(now_s, due, column(first_s), column(end_s), column(tokens), column(failed, np.bool_))


def test_scores_by_hand() -> None:
    """Due at 0, 1, 2, 3, 4; now 5: on time, late, still without a token after 3 s, failed, and open for 1 s."""
    answers = made(
        [0.0, 1.0, 2.0, 3.0, 4.0],
        [0.5, 3.5, NAN, NAN, NAN],
        [1.0, 4.0, NAN, 3.2, NAN],
        now_s=5.0,
        failed=[False, False, False, True, False],
    )
    waits = scores(answers, parse("ttft:p90<2s"))
    assert waits.sums == pytest.approx([0, 10, 10, 10])  # the last one does not tell yet
    assert waits.due_s.tolist() == [0, 1, 2, 3]
    assert waits.weights.tolist() == [1, 1, 1, 1]
    mean = scores(answers, parse("e2e:mean<2s"))
    assert mean.sums == pytest.approx([0.5, 1.5])  # open from the third on: what takes long is not left out
    lost = scores(answers, parse("errors<10%"))
    assert lost.sums == pytest.approx([0, 0])
    assert scores(made([0.0], [NAN], [0.1], now_s=1.0, failed=True), parse("errors<10%")).sums == pytest.approx([10])


def test_scores_of_a_mean_leave_failures_out() -> None:
    answers = made([0.0, 1.0], [NAN, 1.1], [0.1, 1.5], now_s=5.0, tokens=[0.0, 3.0], failed=[True, False])
    for name, value in (("e2e:mean<1s", 0.5), ("tpot:mean<1s", 0.2), ("ntpot:mean<1s", 0.5 / 3)):
        found = scores(answers, parse(name))
        assert found.sums == pytest.approx([0, value])
        assert found.weights.tolist() == [0, 1]


def test_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="itl"):
        scores(made([0.0], [0.1], [0.2], now_s=1.0), parse("itl:p99<50ms"))


def test_the_isotonic_curve_pools_what_falls() -> None:
    assert isotonic.ends([(1.0, 0.0, 1.0), (2.0, 0.5, 1.0), (4.0, 3.0, 1.0)]) == (2.0, 4.0)
    # The probe at 2 was unlucky: with those above it the mean is 0.7.
    assert isotonic.ends([(1.0, 0.0, 1.0), (2.0, 1.5, 1.0), (3.0, 0.3, 2.0), (4.0, 3.0, 1.0)]) == (3.0, 4.0)
    assert isotonic.ends([(1.0, 1.5, 1.0), (2.0, 0.2, 1.0)]) == (2.0, None)
    assert isotonic.ends([(1.0, math.inf, 1.0)]) == (None, 1.0)


def line(rate: float, seconds: float, seed: int, slope: float) -> Scores:
    """Independent misses of a percentile p98 whose share crosses 2 % at rate 10."""
    drawn = np.random.default_rng(seed)
    due = np.cumsum(drawn.exponential(1 / rate, int(rate * seconds * 1.2)))
    due = due[due < seconds]
    missed = drawn.random(len(due)) < 0.02 * (rate / 10) ** slope
    return Scores(due, missed / 0.02, np.ones(len(due)), np.zeros(len(due)))


def test_the_crossing_is_found_and_its_interval_holds() -> None:
    held = 0
    for seed in range(60):
        parts = [blocks(rate, line(rate, 600.0, 10 * seed + k, 12.0), 0.0) for k, rate in enumerate((9.6, 9.9, 10.4))]
        found = crossing([part for part in parts if part], math.log(10), 0.95)
        assert found is not None
        assert found.x == pytest.approx(math.log(10), abs=0.06)
        held += found.low is None or found.high is None or found.low <= math.log(10) <= found.high
    assert 52 <= held <= 60


def test_the_plans_luck_is_taken_out() -> None:
    """Scores that follow the arrivals alone, five times as strongly: the blocks differ, the estimate does not."""
    drawn = np.random.default_rng(1)
    errors = {True: [], False: []}
    for _ in range(30):
        parts = []
        for rate in (9.7, 10.3):
            part = blocks(rate, line(rate, 400.0, 0, 0.0), 0.0)
            assert part
            arrived = part.expected + drawn.normal(0, math.sqrt(part.expected), len(part.sums))
            sums = part.expected * (rate / 10) ** 10 * (1 + 5 * (arrived / part.expected - 1))
            parts.append((rate, sums, arrived, part.expected))
        for told in (True, False):
            found = crossing(
                [type(part)(r, s, a if told else np.full(len(a), e), e) for r, s, a, e in parts], math.log(10), 0.95
            )
            assert found is not None
            errors[told].append(found.x - math.log(10))
    assert np.std(errors[True]) < np.std(errors[False]) / 10


def test_one_rate_or_no_miss_gives_no_crossing() -> None:
    part = blocks(10.0, line(10.0, 600.0, 1, 12.0), 0.0)
    assert part is not None
    assert crossing([part, part], math.log(10), 0.95) is None
    none = dataclasses.replace(part, sums=np.zeros(len(part.sums)))
    assert crossing([none, dataclasses.replace(none, rate=11.0)], math.log(10), 0.95) is None


def test_each_look_is_pococks() -> None:
    assert each_look(0.95) == pytest.approx(0.9894)


def steady(rate: float, seconds: float, e2e_s: float, *, failed: bool = False, seed: int = 1) -> Answers:
    """Requests that all take the same time."""
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, int(2 * rate * seconds) + 10))
    due = due[due < seconds]
    end = due + e2e_s
    end[end > seconds] = NAN
    return made(due, end, end, now_s=seconds, failed=failed & ~np.isnan(end))


def overloaded(rate: float, seconds: float, most: float, seed: int = 1) -> Answers:
    """A server that ends `most` requests a second."""
    answers = steady(rate, seconds, 0.0, seed=seed)
    end = np.maximum(answers.due_s + 0.1, np.arange(1, len(answers.due_s) + 1) / most)
    end[end > seconds] = NAN
    return made(answers.due_s, end, end, now_s=seconds)


def test_what_is_clear() -> None:
    objective = parse("ttft:p90<1s")

    def outcome(answers: Answers) -> Outcome:
        return clear([(objective, scores(answers, objective))], Clarity())

    assert outcome(steady(10, 60, 0.5)) is Outcome.KEPT
    assert outcome(steady(10, 1, 0.5)) is Outcome.UNRESOLVED
    assert outcome(steady(10, 60, 1.5)) is Outcome.BROKEN


def test_a_backlog_that_grows_is_seen_and_a_steady_one_is_not() -> None:
    assert all(grows(overloaded(20, 30, 10, seed), 0.0) for seed in range(20))
    assert not any(grows(steady(10, 60, 0.5, seed=seed), 5.0) for seed in range(50))


def test_a_server_that_suffers() -> None:
    assert suffers(steady(10, 30, 0.5, failed=True))
    assert not suffers(steady(10, 30, 0.5))


def search(server: Callable[[float, float], Answers], **options: float) -> tuple[Capacity, list[float]]:
    """By a server that is a function of rate and seconds; looked at every tenth of a probe."""
    of = Search([parse("ttft:p90<1s"), parse("errors<1%")], **{"lowest": 1.0, "max_rate": 100.0} | options)
    rates = []
    while not isinstance(asked := of.next(), Capacity):
        rates.append(asked.load)
        for part in range(1, 11):
            answers = server(asked.load, asked.seconds * part / 10)
            if of.look(answers) is not Outcome.UNRESOLVED:
                break
        of.told(answers)
    return asked, rates


def jump(rate: float, seconds: float) -> Answers:
    """All is well up to 10 requests/s; beyond, it collapses."""
    return overloaded(rate, seconds, 7.0) if rate > 10 else steady(rate, seconds, 0.2)


def test_a_jump_is_bracketed() -> None:
    """No miss below, no steady state above: there is no line, and the interval is that of two clear probes."""
    found, rates = search(jump)
    assert found.ended is Ended.CONFIRMED
    assert found.low is not None and found.high is not None
    assert found.low <= 10 <= found.high <= 1.06 * found.low
    assert found.binding is None and "clearly" in found.reason
    assert rates[:5] == [1, 2, 4, 8, 16]
    assert found.probes == len(rates) < 20


def test_an_overload_ends_a_probe_within_seconds() -> None:
    of = Search([parse("ttft:p90<1s")], 20.0, 100.0)
    asked = of.next()
    assert not isinstance(asked, Capacity)
    looks = [seconds for seconds in range(1, 60) if of.look(overloaded(20.0, seconds, 10.0)) is Outcome.BROKEN]
    assert looks[0] <= 12 < asked.seconds / 5


def test_nothing_beyond_the_highest_rate() -> None:
    found, rates = search(jump, max_rate=6.0)
    assert found.ended is Ended.MAX_RATE_KEPT
    assert rates == [1, 2, 4, 6]
    assert (found.estimate, found.low, found.high, found.highest_kept) == (None, None, None, 6)
    assert found.reason


def test_ends_that_the_user_gives_are_tried_as_they_are() -> None:
    """Rounded like the rates between, the highest one would never be reached, and the first not be known again."""
    found, rates = search(jump, lowest=1.00005, max_rate=6.00004)
    assert found.ended is Ended.MAX_RATE_KEPT
    assert rates == [1.00005, 2.0, 4.0, 6.00004] and found.highest_kept == 6.00004
    found, rates = search(lambda rate, seconds: steady(rate, seconds, 0.2, failed=True), lowest=1.00005)
    assert found.ended is Ended.SERVER_SUFFERS and rates == [1.00005]


def seems(missed: float) -> Callable[[float, float], Answers]:
    """All is well up to 10 requests/s; beyond, such a share has to wait for too long."""

    def server(rate: float, seconds: float) -> Answers:
        answers = steady(rate, seconds, 0.2)
        late = np.random.default_rng(1).random(len(answers.due_s)) < (missed if rate > 10 else 0.0)
        return dataclasses.replace(answers, first_s=answers.due_s + np.where(late, 1.1, 0.2), end_s=answers.due_s + 1.2)

    return server


def test_what_is_not_clear_is_not_said_to_be() -> None:
    found, rates = search(seems(0.09), max_rate=16.0)
    assert found.ended is Ended.MAX_RATE_KEPT and rates[-1] == 16 and found.highest_kept == 8
    assert "seems to keep all objectives, but not clearly" in found.reason
    assert found.answered, "at least 8 is known"
    found, rates = search(seems(0.11), lowest=12.0)
    assert found.ended is Ended.FIRST_RATE_BROKEN and rates == [12] and found.lowest_broken is None
    assert "seems to break an objective already, but not clearly" in found.reason and not found.answered


def test_a_width_that_nothing_has() -> None:
    """Its square is no number; the search goes on for as long as it may."""
    parts = [blocks(rate, line(rate, 600.0, k, 12.0), 0.0) for k, rate in enumerate((9.6, 9.9, 10.4))]
    found = crossing([part for part in parts if part], math.log(10), 0.95)
    rate, requests = teaching(Near((found,), 18000.0), math.inf, 1e-300, 0.95, 1500.0)
    assert 9 < rate < 11 and requests == 8 * 1500


def test_nothing_beyond_the_time() -> None:
    found, _ = search(jump, max_seconds=100.0)
    assert found.ended is Ended.MAX_DURATION
    assert found.seconds == pytest.approx(100)
    assert found.low is None or found.high is None or found.low <= 10 <= found.high


def test_a_first_rate_that_is_broken() -> None:
    found, rates = search(jump, lowest=20.0)
    assert found.ended is Ended.FIRST_RATE_BROKEN
    assert rates == [20]
    assert (found.estimate, found.lowest_broken) == (None, 20)


def test_a_server_that_breaks_is_left_alone() -> None:
    found, rates = search(lambda rate, seconds: steady(rate, seconds, 0.2, failed=True))
    assert found.ended is Ended.SERVER_SUFFERS
    assert rates == [1]
    # One that refuses only what is too much is asked for less.
    found, rates = search(lambda rate, seconds: steady(rate, seconds, 0.2, failed=rate > 10))
    assert found.ended in (Ended.CONFIRMED, Ended.SERVER_SUFFERS)
    assert len(rates) > 6


def test_the_engine_in_virtual_time_can_be_looked_at() -> None:
    """What is known at a look stays as it is."""
    setting = SETTINGS["cpu-135m"]
    probe, whole = Probe(setting, 8.0, 40.0, 1, 2), Probe(setting, 8.0, 40.0, 1, 2).until(60.0)
    first = probe.until(20.0)
    later = probe.until(60.0)
    n = len(first.due_s)
    assert 0 < n < len(later.due_s)
    assert np.array_equal(later.end_s, whole.end_s) and not np.isnan(later.end_s).any()
    known = ~np.isnan(first.end_s)
    assert np.array_equal(first.end_s[known], later.end_s[:n][known])
    assert (later.end_s[:n][~known] > 20.0).all()


def test_truths_are_those_of_their_command() -> None:
    """Of one setting, with fewer requests: within four of its standard errors."""
    found = truth(SETTINGS["cpu-135m"], ("e2e:mean<1.4s",), 9.0, 3000, 5)
    stated = TRUTH["cpu-135m"][1]
    assert abs(found.capacity / stated.capacity - 1) < 4 * found.error < 0.1


def test_a_search_finds_the_engines_capacity_and_the_same_one_again() -> None:
    setting, objectives, stated = SETTINGS["a100-8b"], OBJECTIVES["a100-8b"][1], TRUTH["a100-8b"][1]
    rates: list[float] = []
    found = benchmark.run(setting, objectives, 1, rates.append)
    assert found.ended is Ended.CONFIRMED and found.binding == "e2e:mean<1.1s"
    assert found.low is not None and found.high is not None and found.estimate is not None
    assert found.low <= stated.capacity <= found.high
    assert found.high - found.low <= 0.06 * found.estimate
    assert found.probes == len(rates) <= 25
    assert found.requests < benchmark.RATES_OF_GRID * stated.requests / 3


@pytest.mark.slow
def test_coverage_of_few_runs() -> None:
    """Of each setting, one run of each set of objectives. The whole of it is `python -m benchmarks.capacity`."""
    held = runs = 0
    for name, setting in SETTINGS.items():
        for objectives, stated in zip(OBJECTIVES[name], TRUTH[name], strict=True):
            found = benchmark.study(setting, objectives, stated, [500])
            held, runs = held + sum(found.held), runs + len(found.held)
            assert found.of_grid <= 2 * benchmark.SHARE_LIMIT
    assert held >= 0.8 * runs
