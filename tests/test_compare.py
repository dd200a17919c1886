"""Tonight's profile against earlier nights: what is compared, what is left out, and what is said."""

import dataclasses
import math
import random
from collections.abc import Sequence

import pytest

from latency_profile.compare import names
from latency_profile.compare.compared import Options, compare
from latency_profile.compare.history import bases
from latency_profile.compare.measures import AT_LOAD, WHOLE
from latency_profile.compare.nights import Night, in_order
from latency_profile.compare.structure import Comparison, MeasureResult, Word
from latency_profile.errors import Exit
from tests.make_nights import make_night, make_point

CLOSED = {"rate": None, "concurrency": 8}


def history(tokens: Sequence[float], **point: object) -> list[Night]:
    """A closed loop's nights, of these output tokens/s."""
    return [make_night(night, make_point(tokens=value, **{**CLOSED, **point})) for night, value in enumerate(tokens)]


def noisy(nights: int, spread: float = 0.02, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    return [1000 * math.exp(rng.gauss(0, spread)) for _ in range(nights)]


def judged(nights: Sequence[Night], **options: object) -> Comparison:
    return compare(nights[-1:], nights[:-1], dataclasses.replace(Options(), **options))  # type: ignore[arg-type]


def measure(found: Comparison, name: str, load: str | None) -> MeasureResult:
    results = [*found.others, *([found.primary] if found.primary else [])]
    [one] = [each for each in results if (each.name, each.load) == (name, load)]
    return one


def test_every_measure_can_be_named() -> None:
    assert set(names.NAMES) == {names.AUTO, *(each.name for each in (*AT_LOAD, *WHOLE))}


@pytest.mark.parametrize(
    ("factor", "word", "code"),
    [(0.9, Word.REGRESSED, 5), (1.1, Word.IMPROVED, 0), (1.0, Word.EQUIVALENT, 0)],
)
def test_the_word_and_the_exit_code(factor: float, word: Word, code: int) -> None:
    values = noisy(28)
    found = judged(history([*values[:24], *(factor * value for value in values[24:])]))
    assert (found.word, found.exit_code) == (word, code)
    assert found.primary is not None and found.primary.name == "output_tokens_per_s"
    assert len(found.base) == 20 and found.base[0].date.startswith("20260101")
    assert [night.date for night in found.recent][-1] == found.date
    [window] = [each for each in found.primary.shifts if each.nights == 4]
    base = [math.log(value) for value in values[:20]]
    last = [math.log(factor * value) for value in values[24:]]
    assert window.shift == pytest.approx(math.exp(sum(last) / 4 - sum(base) / 20) - 1)
    assert window.low < window.shift < window.high
    assert found.primary.base_mean == pytest.approx(math.exp(sum(base) / 20))
    assert found.primary.tonight == pytest.approx(factor * values[-1])


def test_the_words_are_those_that_were_simulated() -> None:
    """`benchmarks.compare` counts what `bases` says; this is the same, night for night."""
    values = noisy(40, 0.05, seed=3)
    values[25:] = [0.9 * value for value in values[25:]]
    nights = history(values)
    for rolling in (False, True):
        said = [word for _, word in bases([math.log(value) for value in values], 0.05, rolling)]
        for last in (6, 20, 28, 40):
            found = judged(nights[:last], rolling=rolling)
            assert found.word is (said[last - 2] or Word.INCONCLUSIVE)


def test_slower_is_worse_and_dearer_is_worse() -> None:
    """A latency that grows has regressed, with a shift above 0."""
    values = noisy(24)
    nights = [make_night(night, make_point(rate=8.0, tokens=1000, e2e=value)) for night, value in enumerate(values)]
    slow = [make_night(24 + night, make_point(rate=8.0, tokens=1000, e2e=1150.0)) for night in range(4)]
    found = judged([*nights, *slow])
    assert found.primary is not None and (found.primary.name, found.primary.load) == ("e2e_p50", "8 req/s")
    assert found.primary.decided_by in (1, 4)
    assert found.word is Word.REGRESSED and found.primary.better == "lower"
    assert found.primary.shifts[-1].low > 0
    assert "+1" in found.reason and "beyond the margin of 5 %" in found.reason
    assert measure(found, "ttft_p99", "8 req/s").word is Word.REGRESSED
    assert measure(found, "requests_per_s", "8 req/s").word is Word.EQUIVALENT  # the plan's own
    dear = [0.5 if night < 24 else 0.7 for night in range(28)]
    priced = [
        make_night(night, make_point(**CLOSED, cost={"usd_per_million_output_tokens": price}))
        for night, price in enumerate(dear)
    ]
    assert measure(judged(priced), "usd_per_million_output_tokens", "8 in flight").word is Word.REGRESSED


@pytest.mark.parametrize(("earlier", "more"), [(1, 3), (2, 2), (3, 1)])
def test_few_nights_give_no_verdict(earlier: int, more: int) -> None:
    """However much tonight differs; and so many more nights are enough for one."""
    nights = history([*[1000.0, 1001.0, 999.0][:earlier], 100.0])
    found = judged(nights)
    assert (found.word, found.exit_code, found.more_nights) == (Word.INCONCLUSIVE, 0, more)
    assert found.primary is not None and not found.primary.shifts
    assert f"{more} night" in found.reason
    if earlier == 1:
        assert found.reason.startswith("one earlier night tells nothing of how nights differ")
    after = history([*[1000.0, 1001.0, 999.0, 1000.0][: earlier + more], 100.0])
    assert judged(after[:-1]).word is Word.INCONCLUSIVE
    assert judged(after).word is Word.REGRESSED


def test_the_first_night() -> None:
    found = judged(history([1000.0]))
    assert (found.word, found.exit_code, found.more_nights, found.primary) == (Word.INCONCLUSIVE, 0, 4, None)
    assert "no earlier night" in found.reason


@pytest.mark.parametrize("verdict", ["FAILED", "CLIENT_LIMITED", "CONTAMINATED"])
def test_points_that_must_not_be_used_are_left_out_and_named(verdict: str) -> None:
    nights = history(noisy(10))
    nights[3] = make_night(3, make_point(tokens=1.0, **CLOSED, verdict=verdict))
    nights[5] = make_night(5, make_point(tokens=1.0, **CLOSED, cut_short="SIGTERM"))
    found = judged(nights)
    assert [each.reason for each in found.left_out] == [f"8 in flight: {verdict}", "8 in flight: cut short by SIGTERM"]
    assert {nights[3].date, nights[5].date}.isdisjoint(night.date for night in (*found.base, *found.recent))
    assert found.word is not Word.REGRESSED
    last = judged([*nights[:-1], make_night(20, make_point(tokens=1.0, **CLOSED, verdict=verdict))])
    assert last.word is Word.INCONCLUSIVE and f"8 in flight: {verdict}" in last.reason


def test_other_fingerprints_are_left_out_and_the_difference_named() -> None:
    nights = history(noisy(10))
    nights[4] = make_night(4, make_point(tokens=1.0, **CLOSED), of={"output_len": 99})
    found = judged(nights)
    [out] = found.left_out
    assert out.date == nights[4].date and "output_len: 99, null" in out.reason


def test_what_was_accepted_by_hand() -> None:
    values = noisy(24)
    nights = history([*values, *(0.85 * value for value in noisy(10, seed=2))])
    assert judged(nights).word is Word.REGRESSED
    found = judged(nights, since=nights[24].date[:8])
    assert found.word is not Word.REGRESSED and found.base[0].date == nights[24].date


def test_the_measure_that_decides_is_chosen_by_earlier_nights() -> None:
    def two(night: int, verdict: str, low: str = "VALID") -> Night:
        points = make_point(rate=4.0, tokens=400, verdict=low), make_point(rate=16.0, tokens=900, verdict=verdict)
        return make_night(night, *points)

    def decides(nights: list[Night], **options: object) -> tuple[str, str | None]:
        primary = judged(nights, **options).primary
        assert primary is not None
        return primary.name, primary.load

    valid, saturated = ([two(night, word) for night in range(8)] for word in ("VALID", "SATURATED"))
    assert decides(valid) == ("e2e_p50", "16 req/s")
    assert decides(saturated) == ("output_tokens_per_s", "16 req/s")
    assert decides([*valid, two(8, "SATURATED")]) == ("e2e_p50", "16 req/s")
    assert decides([two(night, "CLIENT_LIMITED") for night in range(8)]) == ("e2e_p50", "4 req/s")
    assert decides(valid, measure="tpot_p99") == ("tpot_p99", "16 req/s")
    assert decides(saturated, measure="highest_completed_rate") == ("highest_completed_rate", None)
    burst = [make_night(night, make_point(rate=None)) for night in range(8)]
    assert decides(burst) == ("output_tokens_per_s", "unlimited rate")


def test_the_latency_of_saturated_points_is_not_compared() -> None:
    nights = [make_night(night, make_point(rate=16.0, verdict="SATURATED")) for night in range(8)]
    found = judged(nights)
    assert {each.name for each in found.others} == {"highest_completed_rate", "requests_per_s"}
    unfit = judged(nights, measure="e2e_p50")
    assert unfit.primary is None and unfit.reason.startswith("there is no e2e_p50 to compare: ")


def test_a_server_that_now_saturates_has_regressed() -> None:
    """Its latency counts, although it describes the run's length: it is not missing because it is bad."""
    nights = [make_night(night, make_point(rate=16.0, e2e=value)) for night, value in enumerate(noisy(20))]
    nights.append(make_night(20, make_point(rate=16.0, e2e=9000.0, verdict="SATURATED")))
    assert judged(nights).word is Word.REGRESSED


def test_the_highest_completed_rate_of_all_loads() -> None:
    def night(number: int, high: float, verdict: str = "SATURATED") -> Night:
        return make_night(number, make_point(rate=4.0, tokens=400), make_point(rate=16.0, tokens=high, verdict=verdict))

    nights = [night(number, 900 + number % 2) for number in range(12)]
    found = measure(judged(nights), "highest_completed_rate", None)
    assert found.tonight == pytest.approx(9.01) and found.word is Word.EQUIVALENT
    barred = measure(judged([*nights, night(12, 100, "CLIENT_LIMITED")]), "highest_completed_rate", None)
    assert barred.word is Word.INCONCLUSIVE and barred.tonight is None


def test_where_no_load_saturates_the_highest_completed_rate_is_the_plans_own() -> None:
    """It would call a server equivalent that now carries half of what it did."""
    nights = [make_night(night, make_point(rate=16.0, tokens=1600)) for night in range(12)]
    found = judged(nights)
    assert "highest_completed_rate" not in {each.name for each in found.others}
    named = judged(nights, measure="highest_completed_rate")
    assert (named.word, named.exit_code) == (Word.INCONCLUSIVE, 0)
    assert named.reason == "tonight has no highest_completed_rate (no load saturates)"
    lower = [make_night(n, make_point(rate=4.0, verdict="SATURATED"), make_point(rate=16.0)) for n in range(12)]
    assert "highest_completed_rate" not in {each.name for each in judged(lower).others}


def test_a_profile_without_any_load_to_compare() -> None:
    """`auto` is the flag's word, not the measure's name."""
    nights = [make_night(night, make_point(rate=4.0)) for night in range(8)]
    found = judged([*nights, make_night(8, make_point(rate=5.0))])
    assert found.word is Word.INCONCLUSIVE
    assert found.reason == "tonight's profile has no load that could be used on most earlier nights"


def test_what_decides_stays_where_a_server_now_saturates_for_good() -> None:
    """Half of all nights and more saturated: it is still compared with what it was when it did not."""
    nights = [make_night(night, make_point(rate=16.0, e2e=value)) for night, value in enumerate(noisy(22))]
    nights += [make_night(22 + n, make_point(rate=16.0, e2e=9000.0, verdict="SATURATED")) for n in range(30)]
    found = judged(nights)
    assert found.primary is not None and found.primary.name == "e2e_p50" and found.word is Word.REGRESSED


def test_a_base_that_follows_leaves_out_what_was_called_regressed() -> None:
    """A loss that was mended; its nights are named, so that one sees what the base lacks."""
    values = noisy(60)
    values[30:40] = [0.85 * value for value in values[30:40]]
    nights = history(values)
    found = judged(nights, rolling=True)
    bad = {night.date for night in nights[30:40]}
    assert len(found.base) == 20 and bad.isdisjoint(night.date for night in found.base)
    assert {each.date for each in found.left_out} >= bad
    assert {each.reason for each in found.left_out} == {"it was called regressed: no base"}
    assert found.primary is not None and found.primary.base_spread == pytest.approx(0.02, rel=0.5)


def test_the_others_are_corrected_for_their_number() -> None:
    """What is enough for the one measure that decides is not enough for one among ten."""
    values = noisy(20, 0.05)
    base = [make_night(night, make_point(**CLOSED, e2e=value)) for night, value in enumerate(values)]
    mean = math.exp(sum(map(math.log, values)) / 20)
    last = [make_night(20 + night, make_point(**CLOSED, e2e=mean * 1.075)) for night in range(4)]
    alone = judged([*base, *last], measure="e2e_p50")
    assert alone.word is Word.REGRESSED
    found = judged([*base, *last])
    assert found.word is Word.EQUIVALENT
    other = measure(found, "e2e_p50", "8 in flight")
    assert other.word is Word.INCONCLUSIVE
    assert other.p_adjusted is not None and alone.primary is not None and alone.primary.p_adjusted is not None
    assert other.p_adjusted > 3 * alone.primary.p_adjusted


def test_several_new_runs_are_judged_together() -> None:
    """Against all earlier ones, also where both were measured in turn."""
    earlier, new = history(noisy(6, 0.02)), history([850.0, 860.0, 840.0])
    found = compare(new, earlier, Options())
    assert found.word is Word.REGRESSED and (len(found.base), len(found.recent)) == (6, 3)
    assert found.primary is not None and [each.nights for each in found.primary.shifts] == [3]


def test_a_run_counts_once() -> None:
    """It was interrupted and went on: its second file has the first one's points."""
    first, second = make_point(rate=4.0, tokens=400), make_point(rate=8.0, tokens=800)
    cut = make_night(1, first, make_point(rate=8.0, tokens=10, cut_short="SIGTERM"))
    whole, other = make_night(1, first, second), make_night(1, make_point(rate=4.0, tokens=401))
    assert in_order([cut, whole]) == in_order([whole, cut]) == [whole]
    assert len(in_order([whole, other])) == 2
    nights = history(noisy(10))
    assert compare(nights[-1:], nights, Options()) == compare(nights[-1:], nights[:-1], Options())


def test_two_runs_of_one_second_are_two_where_a_point_failed_in_both() -> None:
    names = ("completed_requests_per_s", "output_tokens_per_s", "ttft", "tpot", "e2e", "cost")
    failed = make_point(rate=5.0, verdict="FAILED", **dict.fromkeys(names))
    runs = [make_night(0, failed, make_point(rate=1.0, tokens=tokens)) for tokens in (100, 120)]
    assert len(in_order(runs)) == 2
    assert len(in_order([runs[0], runs[0]])) == len(in_order([make_night(0, failed), make_night(0, failed)])) == 1


def test_of_a_load_that_was_measured_twice_the_point_counts_that_may_be_used() -> None:
    good, late = make_point(tokens=1000), make_point(tokens=10, verdict="CLIENT_LIMITED")
    for points in ((good, late), (late, good), (make_point(tokens=5), good)):
        [point] = make_night(0, *points).points.values()
        assert (point.barred, point.output_tokens_per_s) == (None, 1000)
    [point] = make_night(0, late, make_point(cut_short="SIGTERM")).points.values()
    assert point.barred == "cut short by SIGTERM"


def test_later_nights_do_not_count() -> None:
    nights = history(noisy(10))
    found = compare(nights[7:8], nights, Options())
    assert [each.reason for each in found.left_out] == ["it is later than the profile that is compared"] * 2
    assert found.exit_code == Exit.DONE and len(found.base) + len(found.recent) == 8
