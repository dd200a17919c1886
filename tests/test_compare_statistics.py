"""The numbers of a nightly comparison: t, windows, words, and which nights are the base."""

import math
import random

import pytest
import scipy.stats

from latency_profile.compare.history import BASE_NIGHTS, bases, wanted_stop
from latency_profile.compare.judge import combined_p, holm, judge, more_nights
from latency_profile.compare.shift import ALPHA, LONG, MAIN, WINDOWS, Base, sizes, windows
from latency_profile.compare.structure import Word
from latency_profile.compare.student import p_value, quantile

MARGIN = 0.05


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 8, 19, 20, 59])
def test_students_t_is_exact(degrees: int) -> None:
    law = scipy.stats.t(degrees)
    for t in (0.0, 0.3, -1.0, 2.5, 7.0, 40.0):
        assert p_value(t, degrees) == pytest.approx(2 * law.sf(abs(t)), rel=1e-9, abs=1e-14)
    for confidence in (0.5, 0.9, 0.944, 0.9965):
        assert quantile(confidence, degrees) == pytest.approx(law.ppf((1 + confidence) / 2), rel=1e-9)
    assert p_value(math.inf, degrees) == pytest.approx(0, abs=1e-12)


def test_the_windows_share_the_error() -> None:
    assert sum(WINDOWS.values()) == pytest.approx(1)
    assert list(sizes(1)) == [1] and list(sizes(3)) == [1, 3] and list(sizes(9)) == [1, 4, 9]
    for recent in range(1, 30):
        assert sum(sizes(recent).values()) == pytest.approx(1)
        assert max(sizes(recent)) == min(recent, LONG)


def test_a_window_is_the_t_statistic_of_two_means() -> None:
    base, recent = [1.0, 2.0, 4.0, 5.0], [6.0, 1.0, 3.0]
    found = windows(Base.of(base), recent, {1: 0.5, 3: 0.5})
    assert [each.nights for each in found] == [1, 3]
    assert [each.shift for each in found] == pytest.approx([0.0, 10 / 3 - 3])
    spread = math.sqrt(10 / 3)  # squares 4 + 1 + 1 + 4 over 3
    assert [each.error for each in found] == pytest.approx([spread * math.sqrt(1 + 1 / 4), spread * math.sqrt(7 / 12)])
    assert found[1].p == pytest.approx(2 * scipy.stats.t(3).sf(found[1].shift / found[1].error))


@pytest.mark.parametrize(("nights", "window"), [(4, 1), (6, 2), (20, 4), (20, 16)])
def test_intervals_hold_the_true_shift_as_often_as_they_say(nights: int, window: int) -> None:
    rng, held, tries, truth = random.Random(nights), 0, 2000, -0.07
    for _ in range(tries):
        base = Base.of([rng.gauss(3, 0.05) for _ in range(nights)])
        [found] = windows(base, [rng.gauss(3 + truth, 0.05) for _ in range(window)], {window: 1.0})
        low, high = found.interval(0.9)
        held += low <= truth <= high
    assert held / tries == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / tries))


def test_equal_nights_are_called_worse_as_seldom_as_is_said() -> None:
    """By Bonferroni at most half of ALPHA; the windows overlap, so that it is somewhat less."""
    rng, worse, tries = random.Random(2), 0, 2500
    for _ in range(tries):
        base = Base.of([rng.gauss(0, 0.05) for _ in range(20)])
        worse += judge(windows(base, [rng.gauss(0, 0.05) for _ in range(16)], sizes(16)), 1e-9).word is Word.REGRESSED
    assert 0.3 * ALPHA / 2 < worse / tries <= ALPHA / 2 + 3 * math.sqrt(ALPHA / 2 / tries)


def alternating(spread: float, nights: int = 20) -> list[float]:
    return [spread * (-1) ** night for night in range(nights)]


@pytest.mark.parametrize(
    ("spread", "recent", "word"),
    [
        (0.05, [0.0] * 16, Word.EQUIVALENT),
        (0.05, [0.0] * 4, Word.EQUIVALENT),
        (0.08, [0.0] * 4, Word.INCONCLUSIVE),  # the same shift: too few nights for that noise
        (0.05, [-0.08] * 4, Word.REGRESSED),
        (0.05, [0.08] * 4, Word.IMPROVED),
        (0.05, [-0.08], Word.INCONCLUSIVE),  # one night among nights that differ so cannot tell
        (0.05, [-0.4], Word.REGRESSED),  # unless all breaks down
        (0.01, [-0.03] * 4, Word.EQUIVALENT),  # real, and smaller than anybody asked for
        (0.01, [-0.046] * 4, Word.INCONCLUSIVE),
        (0.05, [-0.16] * 12 + [0.01] * 4, Word.INCONCLUSIVE),  # it was worse, and is over
    ],
)
def test_words(spread: float, recent: list[float], word: Word) -> None:
    found = windows(Base.of(alternating(spread)), recent, sizes(len(recent)))
    assert judge(found, MARGIN).word is word


def test_nights_without_any_noise() -> None:
    """As where the plan sets the throughput: to differ then is certain, and to be equal too."""
    base = Base.of([1.0] * 8)
    assert judge(windows(base, [1.0] * 4, sizes(4)), MARGIN).word is Word.EQUIVALENT
    assert judge(windows(base, [0.9] * 4, sizes(4)), MARGIN).word is Word.REGRESSED
    assert judge(windows(base, [0.99] * 4, sizes(4)), MARGIN).word is Word.EQUIVALENT


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    found = windows(Base.of(alternating(0.05)), [-0.08] * 4, sizes(4))
    assert judge(found, MARGIN, scale=1.0).word is Word.REGRESSED
    assert judge(found, MARGIN, scale=40.0).word is not Word.REGRESSED
    assert combined_p(found) == pytest.approx(min(each.p / each.part for each in found))


@pytest.mark.parametrize(("spread", "shift"), [(0.08, 0.0), (0.05, -0.06), (0.06, -0.01)])
def test_so_many_more_nights_do_settle_it(spread: float, shift: float) -> None:
    """Nights that go on as these do settle it just then, and not before."""
    base = Base.of(alternating(spread))

    def found(nights: int) -> list:  # type: ignore[type-arg]
        return windows(base, [shift] * nights, sizes(nights))

    more = more_nights(base, found(2), MARGIN, 1.0, lambda more: (20, sizes(2 + more)))
    assert judge(found(2), MARGIN).word is Word.INCONCLUSIVE and more is not None
    words = [judge(found(2 + later), MARGIN).word for later in range(1, more + 1)]
    assert words[-1] is not Word.INCONCLUSIVE and set(words[:-1]) <= {Word.INCONCLUSIVE}


def test_what_no_number_of_nights_settles() -> None:
    base = Base.of(alternating(0.2))
    found = windows(base, [-0.045] * 4, sizes(4))
    assert more_nights(base, found, MARGIN, 1.0, lambda more: (20, sizes(4 + more))) is None


def test_which_nights_are_the_base() -> None:
    """Judged are a third of the nights, four at most; a base that follows leaves room for the longest window."""
    stops = {nights: wanted_stop(nights, rolling=False) for nights in (2, 5, 6, 9, 12, 24, 25, 60)}
    assert stops == {2: 1, 5: 4, 6: 4, 9: 6, 12: 8, 24: 20, 25: 20, 60: 20}
    assert [wanted_stop(nights, rolling=True) for nights in (12, 24, 36, 60)] == [8, 20, 20, 60 - LONG]
    quiet = alternating(0.02, 60)
    first, latest = (list(bases(quiet, MARGIN, rolling))[-1][0] for rolling in (False, True))
    assert (first.base, first.stop) == (tuple(range(BASE_NIGHTS)), BASE_NIGHTS)
    assert (latest.base, latest.stop) == (tuple(range(60 - LONG - BASE_NIGHTS, 60 - LONG)), 60 - LONG)
    assert [word for _, word in bases(quiet, MARGIN, rolling=True)].count(None) == 3


@pytest.mark.parametrize("rolling", [False, True])
@pytest.mark.parametrize("begins", [9, 40])
def test_a_loss_that_stays_does_not_become_the_base(rolling: bool, begins: int) -> None:
    """Also where the base was still growing when it began: it is called one for ever, until somebody accepts it."""
    values = alternating(0.02, 120)
    values[begins:] = [each - 0.1 for each in values[begins:]]
    said = list(bases(values, MARGIN, rolling))
    assert all(word is Word.REGRESSED for _, word in said[begins - 1 + MAIN :])
    assert said[-1][0].stop <= begins + 1
    improved = [-each for each in values]
    ends = [word for _, word in bases(improved, MARGIN, rolling)]
    assert Word.REGRESSED not in ends and Word.IMPROVED in ends
    if rolling:  # what became better is taken over
        assert ends[-1] is Word.EQUIVALENT


def test_a_slow_drift_is_found_by_a_base_that_stays() -> None:
    rng = random.Random(5)
    values = [rng.gauss(0, 0.02) - 0.003 * night for night in range(80)]
    assert list(bases(values, MARGIN, rolling=False))[-1][1] is Word.REGRESSED


def test_a_loss_that_is_over_is_not_told_for_weeks() -> None:
    values = alternating(0.02, 60)
    values[30:40] = [each - 0.15 for each in values[30:40]]
    said = [word for _, word in bases(values, MARGIN, rolling=False)]
    assert said[38] is Word.REGRESSED
    assert Word.REGRESSED not in said[39 + MAIN :]


@pytest.mark.parametrize("rolling", [False, True])
def test_healthy_nights_after_a_loss_are_not_called_regressed(rolling: bool) -> None:
    """Those that the main window does not share with it, among nights that differ as real ones do: the long window
    holds the loss for two weeks, and half of all healthy means are below the base's."""
    rng, alarms, tries = random.Random(7), 0, 300
    for _ in range(tries):
        values = [rng.gauss(0, 0.05) + (math.log1p(-0.15) if 30 <= night < 40 else 0) for night in range(56)]
        said = [None, *(word for _, word in bases(values, MARGIN, rolling))]
        alarms += said[40 + MAIN - 1 : 56].count(Word.REGRESSED)
    assert alarms / tries < 1.0  # of 13


@pytest.mark.parametrize("rolling", [False, True])
def test_nights_that_were_called_regressed_are_never_the_base(rolling: bool) -> None:
    """Also after the loss was mended and the base has caught up; it grows to its full length without them."""
    for begins in (9, 30):
        values = alternating(0.02, 80)
        values[begins : begins + 10] = [each - 0.15 for each in values[begins : begins + 10]]
        said = list(bases(values, MARGIN, rolling))
        worse = {night for night, (_, word) in enumerate(said, 1) if word is Word.REGRESSED}
        assert len(worse) >= 10
        for night, (split, _) in enumerate(said, 1):
            assert worse.isdisjoint(split.base) and max(split.base) < split.stop <= night
            assert split.stop - split.passed_over == len(set(range(split.stop)) - worse)
        assert len(said[-1][0].base) == BASE_NIGHTS
        if rolling:
            assert said[-1][0].stop == 80 - LONG
