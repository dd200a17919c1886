"""Sets tonight's profile against earlier nights: `compare`. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from latency_profile.compare import text
from latency_profile.compare.history import BASE_NIGHTS, CATCH_UP, base_of, wanted_stop
from latency_profile.compare.judge import EQUIVALENCE_CONFIDENCE, combined_p, holm, judge, more_nights, scale_of
from latency_profile.compare.measures import Series, all_series, primary
from latency_profile.compare.names import AUTO, MARGIN
from latency_profile.compare.nights import Night, of_one_run
from latency_profile.compare.shift import FEWEST_BASE, Base, Window, sizes, windows
from latency_profile.compare.structure import Comparison, LeftOut, MeasureResult, NightNamed, Shift, Word
from latency_profile.errors import Exit
from latency_profile.fingerprint import differences

SCHEMA_VERSION = "1.0"

Values = list[float]
Grown = Callable[[int], tuple[int, dict[int, float]]]


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a comparison. since: a date as profiles have it, from which on nights count; rolling: the base
    is the latest nights, not the first ones (`history`)."""

    measure: str = AUTO
    margin: float = MARGIN
    since: str = ""
    rolling: bool = False


@dataclass(frozen=True, slots=True)
class _Split:
    """All nights in order, and which are the base; `parts`, `grown`: see `shift.sizes` and `judge.more_nights`."""

    base: list[Night]
    recent: list[Night]  # tonight's last
    passed_over: list[Night]  # called regressed, and no longer judged
    parts: Callable[[int], dict[int, float]]
    grown: Callable[[int, int], Grown]  # of how many base and recent nights have the measure
    lacking: int  # nights that are missing for any verdict


def compare(new: Sequence[Night], earlier: Sequence[Night], options: Options) -> Comparison:
    """Tonight's profile (the last of `new`) against earlier ones, both oldest first.

    With one new night those before it are split into the base and what is judged along with it; several are judged
    together, against all earlier ones. Profiles of other fingerprints are left out, as is what has not the primary
    measure, and all of it is named.
    """
    tonight = new[-1]
    usable, left_out = _same(tonight, new, earlier, options.since)
    series = all_series(tonight, usable)
    main = primary(options.measure, series, tonight, usable)
    if main is None:
        first = not usable
        reason = text.too_few(0, FEWEST_BASE) if first else text.nothing_to_compare(options.measure)
        return _comparison(tonight, left_out, options, None, [], reason, FEWEST_BASE if first else None)
    with_it = [night for night in usable if main.value(night)[0] is not None]
    left_out += [LeftOut(date=n.date, file=n.file, reason=main.value(n)[1]) for n in usable if n not in with_it]
    split = _several(with_it, new) if len(new) > 1 else _history(with_it, tonight, main, options)
    left_out += [LeftOut(date=n.date, file=n.file, reason=text.PASSED_OVER) for n in split.passed_over]
    others = [_Measured.of(each, split) for each in series if each is not main]
    found = [_Measured.of(main, split), *(each for each in others if each.base_values or each.tonight is not None)]
    adjusted = [combined_p(found[0].windows), *holm([combined_p(each.windows) for each in found[1:]])]
    results = [each.result(options.margin, p, split) for each, p in zip(found, adjusted, strict=True)]
    return _comparison(tonight, left_out, options, split, results)


def _same(
    tonight: Night, new: Sequence[Night], earlier: Sequence[Night], since: str
) -> tuple[list[Night], list[LeftOut]]:
    """Earlier nights that may be compared, and the others."""
    usable, left_out = [], []
    for night in earlier:
        if night.date < since or any(of_one_run(night, each) for each in new):
            continue
        found = differences(night.fingerprint, tonight.fingerprint)
        reason = night.problem
        if found and not reason:
            reason = f"another fingerprint: {'; '.join(found)}"
        elif len(new) == 1 and night.date > tonight.date:
            reason = "it is later than the profile that is compared"
        if reason:
            left_out.append(LeftOut(date=night.date, file=night.file, reason=reason))
        else:
            usable.append(night)
    return usable, left_out


def _history(earlier: list[Night], tonight: Night, main: Series, options: Options) -> _Split:
    nights = [*earlier, tonight]
    goodness = [_goodness(main, value) for night in nights if (value := main.value(night)[0]) is not None]
    if main.value(tonight)[0] is None:  # the split is made as if it had one: it is told without
        goodness.append(goodness[-1] if goodness else 0.0)
    split = base_of(goodness, options.margin, options.rolling)
    stop, held = split.stop, len(split.base)

    def grown(base: int, recent: int) -> Grown:
        def later(more: int) -> tuple[int, dict[int, float]]:
            wanted = wanted_stop(len(nights) + more, options.rolling, split.passed_over)
            end = min(max(stop, wanted), stop + CATCH_UP * more)
            return base + min(BASE_NIGHTS - held, end - stop), sizes(max(1, recent + more - (end - stop)))

        return later

    lacking = next(more for more in range(FEWEST_BASE * 3) if wanted_stop(len(nights) + more, False) >= FEWEST_BASE)
    passed_over = [nights[night] for night in range(min(split.base, default=0), stop) if night not in split.base]
    return _Split([nights[night] for night in split.base], nights[stop:], passed_over, sizes, grown, lacking)


def _several(earlier: list[Night], new: Sequence[Night]) -> _Split:
    def grown(base: int, recent: int) -> Grown:
        return lambda more: (base, {recent + more: 1.0})

    return _Split(earlier, list(new), [], lambda nights: {nights: 1.0}, grown, max(0, FEWEST_BASE - len(earlier)))


def _goodness(series: Series, value: float) -> float:
    return math.log(value) if series.measure.better == "higher" else -math.log(value)


@dataclass(frozen=True, slots=True)
class _Measured:
    """One measure of all nights, before its word is found."""

    series: Series
    base_values: Values
    recent: int  # recent nights that have it
    base: Base | None  # None: too few nights
    windows: list[Window]
    tonight: float | None
    missing: str  # why tonight has none

    @classmethod
    def of(cls, series: Series, split: _Split) -> "_Measured":
        then, lately = ([series.value(night)[0] for night in part] for part in (split.base, split.recent))
        base_values = [value for value in then if value is not None]
        recent = [_goodness(series, value) for value in lately if value is not None]
        base, found = None, []
        if len(base_values) >= FEWEST_BASE:
            base = Base.of([_goodness(series, value) for value in base_values])
            if lately[-1] is not None:
                found = windows(base, recent, split.parts(len(recent)))
        return cls(series, base_values, len(recent), base, found, *series.value(split.recent[-1]))

    def result(self, margin: float, p: float, split: _Split) -> MeasureResult:
        word, by, more, reason = self._judged(margin, p, split)
        measure = self.series.measure
        sign = 1 if measure.better == "higher" else -1
        mean = sign * math.fsum(map(math.log, self.base_values)) / len(self.base_values) if self.base_values else None
        return MeasureResult(
            name=measure.name,
            load=self.series.load,
            unit=measure.unit,
            better=measure.better,
            word=word,
            reason=reason,
            more_nights=more,
            tonight=self.tonight,
            base_nights=len(self.base_values),
            base_mean=None if mean is None else math.exp(sign * mean),
            base_spread=None if self.base is None else self.base.spread,
            shifts=[self._shift(each, each.confidence) for each in self.windows],
            decided_by=by,
            p_adjusted=p if self.windows else None,
        )

    def _judged(self, margin: float, p: float, split: _Split) -> tuple[Word, int | None, int | None, str]:
        """The word, the nights that gave it, how many more it takes, and why."""
        label = self.series.label
        if self.tonight is None:
            return Word.INCONCLUSIVE, None, None, f"tonight has no {label} ({self.missing})"
        if self.base is None:
            lacking = max(split.lacking, FEWEST_BASE - len(self.base_values))
            return Word.INCONCLUSIVE, None, lacking, text.too_few(len(split.base), lacking)
        scale = scale_of(p, combined_p(self.windows))
        judged = judge(self.windows, margin, scale)
        settled = judged.word is not Word.INCONCLUSIVE
        grown = split.grown(len(self.base_values), self.recent)
        more = None if settled else more_nights(self.base, self.windows, margin, scale, grown)
        confidence = EQUIVALENCE_CONFIDENCE if judged.word is Word.EQUIVALENT else judged.by.confidence
        shown = self._shift(judged.by, confidence)
        why = text.reason(label, judged.word, shown, len(self.base_values), margin, more)
        return judged.word, shown.nights, more, why

    def _shift(self, window: Window, confidence: float) -> Shift:
        sign = 1 if self.series.measure.better == "higher" else -1
        low, high = sorted(math.expm1(sign * end) for end in window.interval(confidence))
        return Shift(
            nights=window.nights,
            shift=math.expm1(sign * window.shift),
            low=low,
            high=high,
            confidence=confidence,
            p=window.p,
        )


def _comparison(
    tonight: Night,
    left_out: list[LeftOut],
    options: Options,
    split: _Split | None,
    results: list[MeasureResult],
    reason: str = "",
    more: int | None = None,
) -> Comparison:
    main = results[0] if results else None
    word = Word.INCONCLUSIVE if main is None else main.word
    return Comparison(
        schema_version=SCHEMA_VERSION,
        date=tonight.date,
        file=tonight.file,
        fingerprint=tonight.fingerprint.sha256,
        word=word,
        reason=reason if main is None else main.reason,
        more_nights=more if main is None else main.more_nights,
        exit_code=Exit.REGRESSION if word is Word.REGRESSED else Exit.DONE,
        margin=options.margin,
        base=[] if split is None else [NightNamed(date=night.date, file=night.file) for night in split.base],
        recent=[NightNamed(date=n.date, file=n.file) for n in ([tonight] if split is None else split.recent)],
        left_out=left_out,
        primary=main,
        others=results[1:],
    )
