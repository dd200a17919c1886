"""What a comparison says to people: its sentences, the log's lines, and Markdown. Pure."""

from collections.abc import Iterator

from latency_profile.compare.names import AUTO
from latency_profile.compare.structure import Comparison, MeasureResult, Shift, Word

HEADER = ("measure", "load", "base", "tonight", "shift", "interval", "word")
PASSED_OVER = "it was called regressed: no base"


def percent(share: float) -> str:
    """+8.3 %; the sign is told."""
    return f"{share:+.1%}".replace("%", " %").replace("-", "−")


def nights(count: int) -> str:
    return f"{count} night{'' if count == 1 else 's'}"


def interval(shift: Shift) -> str:
    confidence = f"{shift.confidence:.1%}".replace(".0%", "%").replace("%", " %")
    return f"{confidence} interval {percent(shift.low)} to {percent(shift.high)}"


def too_few(base: int, more: int) -> str:
    """Why there is no verdict at all."""
    if base == 0:
        return f"there is no earlier night of this fingerprint: {nights(more)} more"
    if base == 1:
        return f"one earlier night tells nothing of how nights differ: {nights(more)} more"
    return f"{base} earlier nights tell too little of how nights differ: {nights(more)} more"


def nothing_to_compare(measure: str) -> str:
    """Why there is no verdict although there are earlier nights. measure: as it was asked for."""
    if measure == AUTO:
        return "tonight's profile has no load that could be used on most earlier nights"
    return f"there is no {measure} to compare: no load could be used on most nights, or the highest of these saturates"


def reason(label: str, word: Word, shift: Shift, base: int, margin: float, more: int | None) -> str:
    """One sentence. label: the measure's; more: nights that would settle it."""
    last = "tonight" if shift.nights == 1 else f"over the last {nights(shift.nights)}"
    found = f"{label}: {percent(shift.shift)} {last} against {base} base nights ({interval(shift)})"
    wide = f"{margin:.1%}".replace(".0%", "%").replace("%", " %")
    match word:
        case Word.EQUIVALENT:
            return f"{found}, within the margin of {wide}"
        case Word.INCONCLUSIVE:
            settle = f"about {nights(more)} more settle it" if more else "more nights alone would not settle it"
            return f"{found}, which shows neither a shift beyond the margin of {wide} nor that there is none; {settle}"
        case _:
            return f"{found}, beyond the margin of {wide}"


def compared_line(found: Comparison) -> str:
    """The word and why, in a sentence."""
    return f"Compared with earlier nights: {found.word.value}: {found.reason}."


def lines(found: Comparison) -> Iterator[str]:
    """For the log: the word and why, what else moved, and what was left out."""
    yield compared_line(found)
    for each in found.others:
        if each.word in (Word.REGRESSED, Word.IMPROVED):
            yield f"  also {each.word.value}: {each.reason}"
    if found.left_out:
        last = found.left_out[-1]
        yield f"  {nights(len(found.left_out))} left out, such as {last.date}: {last.reason}"


def markdown(found: Comparison) -> str:
    """The summary, a page."""
    return "\n".join(_markdown(found)) + "\n"


def _markdown(found: Comparison) -> Iterator[str]:
    yield f"# {found.date}: {found.word.value}"
    yield ""
    yield f"{found.word.value.capitalize()}: {found.reason}."
    yield ""
    base = f" ({found.base[0].date} to {found.base[-1].date})" if found.base else ""
    last = "tonight" if len(found.recent) == 1 else f"the last {nights(len(found.recent))}"
    yield f"- Base: {nights(len(found.base))}{base}; judged: {last}."
    yield f"- Fingerprint {found.fingerprint}; margin {found.margin:.1%}; exit code {found.exit_code}."
    results = [*([found.primary] if found.primary else []), *found.others]
    if results:
        yield ""
        yield f"| {' | '.join(HEADER)} |"
        yield f"|{'---|' * len(HEADER)}"
        for each in results:
            yield _row(each, each is found.primary)
        yield ""
        yield "The measure in bold decides the exit code. The others' words are corrected for their number (Holm),"
        yield "their intervals are not. Intervals come from how nights differ, not requests."
    if found.left_out:
        yield ""
        yield "Left out:"
        yield ""
        for night in found.left_out:
            yield f"- {night.date} (`{night.file}`): {night.reason}"


def _row(each: MeasureResult, bold: bool) -> str:
    name, *cells = row(each)
    return f"| {' | '.join([f'**{name}**' if bold else name, *cells])} |"


def row(each: MeasureResult) -> tuple[str, ...]:
    """A measure as a row of HEADER."""
    shift = next((shift for shift in each.shifts if shift.nights == each.decided_by), None)
    more = f" ({nights(each.more_nights)} more)" if each.more_nights else ""
    return (
        *(each.name, each.load or "all", _value(each.base_mean, each.unit), _value(each.tonight, each.unit)),
        "–" if shift is None else f"{percent(shift.shift)} over {nights(shift.nights)}",
        "–" if shift is None else interval(shift),
        f"{each.word.value}{more}",
    )


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value * 1000:.4g} ms" if unit == "s" else f"{value:.4g} {unit}"
