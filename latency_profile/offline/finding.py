"""What a study's figures say, in words: where throughput is highest, where it stops growing, and only what the
intervals carry. Pure.

The knee is the first size from which throughput grows to no larger one as the root of the sizes' ratio does (1.41 times
a doubling): the slope of log(throughput) over log(size) is below a half from there on, halfway between growing along
and not growing at all. Where there are intervals, all that they leave possible is below it: noise has no knee, nor has
a dip behind which throughput grows on.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from latency_profile.offline.structure import CellResult, Estimate
from latency_profile.offline.studies import BATCH_SIZE, REQUEST_COUNT, SEQUENCE_LENGTH, SHAPES

SLOPE = 0.5
WORDS = {BATCH_SIZE: "batch size", SEQUENCE_LENGTH: "sequence length", REQUEST_COUNT: "request count", SHAPES: "shape"}


def measured(cells: Sequence[CellResult]) -> list[tuple[CellResult, Estimate]]:
    """Those with a throughput that may be used, and their output tokens/s; by size where they have one."""
    found = [
        (cell, cell.output_tokens_per_s)
        for cell in cells
        if cell.output_tokens_per_s is not None and cell.trouble is None
    ]
    return sorted(found, key=lambda pair: pair[0].size or 0.0)


def best(cells: Sequence[CellResult]) -> str | None:
    """Label of the cell with the highest output throughput; None where fewer than two have one."""
    found = measured(cells)
    return max(found, key=lambda pair: pair[1].value)[0].label if len(found) > 1 else None


def knee(study: str, cells: Sequence[CellResult]) -> str | None:
    """Label of the first size from which on throughput grows slower than the module says; None where it never does, or
    the study has no knee (of sequence lengths: input and output grow together, and work with them)."""
    if study not in (BATCH_SIZE, REQUEST_COUNT):
        return None
    found = measured(cells)
    for place, (cell, rate) in enumerate(found[:-1]):
        if all(_growth(rate, later_rate)[1] < _least(cell, later) for later, later_rate in found[place + 1 :]):
            return cell.label
    return None


def finding(study: str, cells: Sequence[CellResult]) -> list[str]:
    """Sentences for a reader; none where the study has nothing to compare."""
    found = measured(cells)
    word = WORDS.get(study)
    if word is None or len(found) < 2:
        return []
    top, top_rate = max(found, key=lambda pair: pair[1].value)
    said = [f"Output throughput is highest at {word} {top.label}: {_rate(top_rate)}{_rivals(top_rate, top, found)}."]
    at = knee(study, cells)
    if at is not None:
        place = [cell.label for cell, _ in found].index(at)
        (cell, rate), (later, later_rate) = found[place], found[place + 1]
        below = "" if place else " or below it"
        further = "; no larger size reaches its own" if place + 2 < len(found) else ""
        said.append(
            f"The knee is at {word} {cell.label}{below}: from there to {later.label} throughput changes "
            f"{later_rate.value / rate.value:.2f} times{_sure(rate, later_rate)}, and {_least(cell, later):.2f} "
            f"would be the square root of the sizes' ratio{further}."
        )
    said += [
        f"It falls from {word} {cell.label} to {later.label}: {_rate(rate)} to {_rate(later_rate)}."
        for (cell, rate), (later, later_rate) in pairwise(found)
        if cell.size is not None and later_rate.high is not None and rate.low is not None and later_rate.high < rate.low
    ]
    return said


def _rivals(top: Estimate, cell: CellResult, found: Sequence[tuple[CellResult, Estimate]]) -> str:
    """Which others the intervals do not tell from the best one."""
    if top.low is None:
        return " (fewer than three runs: no interval)"
    near = [each.label for each, rate in found if each is not cell and (rate.high is None or rate.high >= top.low)]
    return f", which is not told from {', '.join(near)}" if near else ""


def _growth(rate: Estimate, later: Estimate) -> tuple[float, float]:
    """Between which the ratio of two rates lies; their values' own where there were too few runs for an interval."""
    if rate.low is None or later.low is None:
        return later.value / rate.value, later.value / rate.value
    return later.low / (rate.high or math.inf), (later.high or math.inf) / rate.low


def _sure(rate: Estimate, later: Estimate) -> str:
    low, high = _growth(rate, later)
    return f" ({low:.2f} to {high:.2f})" if low < high else " (too few runs for an interval)"


def _least(cell: CellResult, later: CellResult) -> float:
    """The growth of throughput at which the knee is."""
    assert cell.size is not None and later.size is not None
    return float((later.size / cell.size) ** SLOPE)


def _rate(rate: Estimate) -> str:
    if rate.low is None:
        return f"{rate.value:,.1f} tokens/s"
    if rate.high is None:
        return f"{rate.value:,.1f} tokens/s ({rate.low:,.1f} and more)"
    return f"{rate.value:,.1f} tokens/s ({rate.low:,.1f} to {rate.high:,.1f})"
