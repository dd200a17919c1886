"""What `latency-profile cost` prints. Pure."""

from collections.abc import Iterator, Sequence

from latency_profile.cost.per_token import Cost, WithIdle, digits
from latency_profile.cost.report import shown
from latency_profile.cost.split import Estimate, Split
from latency_profile.cost.structure import CostReport, PointCost

_FIGURES = ("input", "output", "total")


def lines(found: CostReport) -> Iterator[str]:
    """The costs of each kind of token, the splits, the regression, and where methods differ."""
    prices = sorted({row.cost.machine_cost_per_hour_usd for row in found.points})
    said = ", ".join(f"${price:g}" for price in prices)
    yield f"USD per million tokens, of machines at {said} an hour"
    yield ""
    yield "Each kind alone: the whole price over its tokens. These are not to be added."
    yield from table(["", "load", "in/out", "tok/s", *_FIGURES, "with idle time", "verdict"], list(_alone(found)))
    yield from _capacity(found)
    divided = list(_split(found))
    if divided:
        yield ""
        yield "The whole price divided: input / output, to be added. In brackets 95 % intervals (of gaps: a range)."
        yield from table(["load", "in/out", "method", "prefill's share", "input", "output", "with idle time"], divided)
    every = [split for row in found.points for split in row.cost.splits]
    yield from dict.fromkeys(f"{split.method}: {split.reason}." for split in every if split.reason)
    yield from dict.fromkeys(f"{split.method}: {split.remark}." for split in every if split.remark)
    yield from _regression(found)
    yield from _disagreements(found)


def _alone(found: CostReport) -> Iterator[list[str]]:
    marks = {each.file: "*" if each.reached else "?" for each in found.at_capacity}
    for row in found.points:
        yield [
            marks.get(row.file, ""),
            row.load,
            _lengths(row),
            _number(row.total_tokens_per_s),
            *_three(row.cost),
            " / ".join(_three(row.cost.with_idle)) if row.cost.with_idle else "",
            row.verdict if row.barred in (None, row.verdict) else f"{row.verdict}, {row.barred}",
        ]


def _three(figures: Cost | WithIdle) -> list[str]:
    return [_number(getattr(figures, f"usd_per_million_{kind}_tokens")) for kind in _FIGURES]


def _capacity(found: CostReport) -> Iterator[str]:
    most = "most tokens/s of its workload, without saturation and no burst"
    if not found.at_capacity:
        yield (
            "No point can be called capacity: each is barred, saturates, is a burst at an unlimited rate, or is of a "
            "workload that is not known."
        )
    if any(each.reached for each in found.at_capacity):
        yield f"* at capacity: {most}; another load saturates"
    if not all(each.reached for each in found.at_capacity):
        yield f"? {most}; no load saturates: there may be more, for less"


def _split(found: CostReport) -> Iterator[list[str]]:
    for row in found.points:
        idle = {split.method: split for split in row.cost.with_idle.splits} if row.cost.with_idle else {}
        for k, split in enumerate(split for split in row.cost.splits if split.reason is None):
            yield [
                *((row.load, _lengths(row)) if k == 0 else ("", "")),
                split.method,
                _percent(split.prefill_share),
                *_both(split),
                " / ".join(_number(each.value) for each in _pair(idle[split.method])) if idle else "",
            ]


def _pair(split: Split) -> list[Estimate]:
    both = (split.usd_per_million_input_tokens, split.usd_per_million_output_tokens)
    return [each for each in both if each is not None]


def _both(split: Split) -> list[str]:
    return [shown(each) for each in _pair(split)]


def _regression(found: CostReport) -> Iterator[str]:
    of = found.regression
    seconds = {
        "prefill tokens": of.prefill_s_per_million_tokens,
        "prompts": of.prefill_s_per_million_prompts,
        (of.decode or "").replace("_", " "): of.decode_s_per_million,
        "context tokens": of.context_s_per_million_tokens,
    }
    if of.refused is None and of.residual_sd is not None:
        yield (
            f"regression: over {len(of.points)} points; condition number {of.condition_number:.3g}, residuals "
            f"{of.residual_sd:.1%}. Machine time, s for a million:"
        )
        yield from (f"  {name}: {_seconds(found)}" for name, found in seconds.items() if found)
    yield from (f"regression: without {out.file}: {out.reason}." for out in of.left_out)


def _disagreements(found: CostReport) -> Iterator[str]:
    """Where to look: the figures stand in the table."""
    for row in found.points:
        tokens = [each.tokens for each in found.disagreements if each.file == row.file]
        if tokens:
            kinds = " and ".join(tokens)
            yield f"methods differ by more than their intervals at {row.load} {_lengths(row)}: {kinds} tokens"


def _seconds(found: Estimate) -> str:
    return f"{_number(found.value)} ({_number(found.low)} to {_number(found.high)})"


def _lengths(row: PointCost) -> str:
    return f"{_whole(row.input_tokens_mean)}/{_whole(row.output_tokens_mean)}"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _percent(share: Estimate | None) -> str:
    if share is None:
        return "–"
    if share.low is None or share.high is None:
        return f"{share.value:.1%}"
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def _number(value: float | None) -> str:
    return "–" if value is None else digits(value)


def table(heads: Sequence[str], cells: Sequence[list[str]]) -> Iterator[str]:
    """Columns as wide as what is in them; those with nothing in them are left out."""
    kept = [k for k in range(len(heads)) if any(row[k] for row in cells)]
    widths = [max(len(heads[k]), *(len(row[k]) for row in cells)) for k in kept]
    for row in (heads, *cells):
        yield "  ".join(row[k].ljust(width) for k, width in zip(kept, widths, strict=True)).rstrip()
