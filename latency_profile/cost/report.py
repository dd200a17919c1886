"""From points to what their tokens cost, by every method. Pure."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from latency_profile.cost.per_token import Cost, cost, digits
from latency_profile.cost.points import CostPoint
from latency_profile.cost.regression import Fit, Refusal, regress
from latency_profile.cost.split import Estimate, Split, divided, no_split
from latency_profile.cost.structure import (
    REPORT_VERSION,
    AtCapacity,
    CostReport,
    Disagreement,
    LeftOut,
    PointCost,
    Regression,
)
from latency_profile.cost.work import Work

# Requests that failed or were cut short took of the others' time, and left no tokens that are known; where more than
# this share did, time and tokens do not match.
FAILED_LIMIT = 0.01
SAME = 0.01  # figures that differ by less than this share do not disagree


def report(points: Sequence[CostPoint], price_per_hour_usd: float | None, utilization: float | None) -> CostReport:
    """Price and utilization: None takes each point's own. Raises ValueError where a point then has no price."""
    fitted: list[tuple[CostPoint, Work]] = []
    left_out: list[LeftOut] = []
    for point in points:
        done = point.work
        reason = _not_fit(point)
        if done is None or reason is not None:
            left_out.append(LeftOut(file=point.file, reason=reason or ""))
        else:
            fitted.append((point, done))
    found = regress([done for _, done in fitted])
    rows = [_point_cost(point, price_per_hour_usd, utilization, found) for point in points]
    return CostReport(
        schema_version=REPORT_VERSION,
        utilization=utilization,
        points=rows,
        at_capacity=_at_capacity(points),
        regression=_regression(found, [point.file for point, _ in fitted], left_out),
        disagreements=[each for row in rows for each in disagreement(row)],
    )


def _not_fit(point: CostPoint) -> str | None:
    """Why the point's time and tokens do not belong together; None where they do."""
    metrics = point.result.metrics
    if point.barred is not None:
        return point.barred
    if point.work is None:
        return (
            "its work is not known (of one model of several, of answers of several sequences or of unknown length, or "
            "by another version: reanalyze its records)"
        )
    if point.cache_unknown:
        return "its prompts share a prefix, and the server does not tell what came out of its cache"
    failed = metrics.num_prompts_attempted - metrics.num_prompts_succeeded
    if failed > FAILED_LIMIT * metrics.num_prompts_attempted:
        return f"{failed} of {metrics.num_prompts_attempted} requests did not succeed"
    return None


def _point_cost(
    point: CostPoint, price_per_hour_usd: float | None, utilization: float | None, found: Fit | Refusal
) -> PointCost:
    own = point.result.cost
    price = own.machine_cost_per_hour_usd if price_per_hour_usd is None and own else price_per_hour_usd
    if utilization is None and own and own.with_idle:
        utilization = own.with_idle.utilization
    of = cost(price, point.rates, point.barred is None, point.work, utilization)
    if of is None:
        raise ValueError(f"{point.file} has no price of its machines")
    good, rates = point.result.metrics.num_prompts_succeeded, point.rates
    return PointCost(
        file=point.file,
        load=point.load,
        input_tokens_mean=point.result.metrics.total_input_tokens / good if good else None,
        output_tokens_mean=point.result.metrics.total_output_token / good if good else None,
        verdict=point.result.verdict.verdict,
        barred=point.barred,
        total_tokens_per_s=rates.input_tokens + rates.output_tokens if rates else None,
        cost=_with_regression(of, point, found),
        work=point.work,
    )


def _with_regression(of: Cost, point: CostPoint, found: Fit | Refusal) -> Cost:
    if not of.splits:
        return of
    replace = msgspec.structs.replace
    idle = of.with_idle
    if idle is not None:
        paid = of.machine_cost_per_hour_usd / idle.utilization
        idle = replace(idle, splits=_ordered([*idle.splits, _by_regression(paid, point, found)]))
    here = _by_regression(of.machine_cost_per_hour_usd, point, found)
    return replace(of, splits=_ordered([*of.splits, here]), with_idle=idle)


def _by_regression(price_per_hour_usd: float, point: CostPoint, found: Fit | Refusal) -> Split:
    done, rates = point.work, point.rates
    if isinstance(found, Refusal):
        return no_split("regression", found.reason)
    if done is None or rates is None:
        return no_split("regression", "the point's work is not known")
    if found.decode == "decode_steps" and done.decode_steps is None:
        return no_split(
            "regression", "it counts decode steps, which answers of one event do not show (--stream-request)"
        )
    share = found.prefill_share(done)
    return divided("regression", price_per_hour_usd, share, rates.input_tokens, rates.output_tokens)


def _ordered(splits: Sequence[Split]) -> list[Split]:
    """The convention last: it knows nothing of the server."""
    return sorted(splits, key=lambda split: split.method == "convention-1:4")


def _at_capacity(points: Sequence[CostPoint]) -> list[AtCapacity]:
    """Tokens/s of different workloads are not to be compared: longer prompts alone make them more. Nor are those of one
    that is not known."""
    most: dict[bytes, tuple[float, str]] = {}
    for point in points:
        lasts = point.barred is None and not point.saturated and not point.burst
        workload = point.workload
        if lasts and point.rates is not None and workload is not None:
            found = point.rates.input_tokens + point.rates.output_tokens, point.file
            most[workload] = max(most.get(workload, found), found, key=lambda each: each[0])
    full = {point.workload for point in points if point.saturated}
    return [AtCapacity(file=file, reached=workload in full) for workload, (_, file) in most.items()]


def _regression(found: Fit | Refusal, files: list[str], left_out: list[LeftOut]) -> Regression:
    fit = found if isinstance(found, Fit) else None
    million = [_scaled(each, 1e6) for each in fit.coefficients] if fit else [None] * 4
    return Regression(
        refused=found.reason if isinstance(found, Refusal) else None,
        points=files,
        left_out=left_out,
        condition_number=found.condition_number,
        decode=fit.decode if fit else None,
        prefill_s_per_million_tokens=million[0],
        prefill_s_per_million_prompts=million[1],
        decode_s_per_million=million[2],
        context_s_per_million_tokens=million[3],
        residual_sd=fit.residual_sd if fit else None,
    )


def _scaled(found: Estimate, factor: float) -> Estimate:
    return Estimate(
        value=found.value * factor,
        low=None if found.low is None else found.low * factor,
        high=None if found.high is None else found.high * factor,
    )


def disagreement(row: PointCost) -> Iterator[Disagreement]:
    """For input tokens and for output tokens, where two methods are further apart than their intervals reach."""
    told = [split for split in row.cost.splits if split.reason is None]
    kinds: tuple[Literal["input", "output"], ...] = ("input", "output")
    for tokens in kinds:
        figures = {split.method: getattr(split, f"usd_per_million_{tokens}_tokens") for split in told}
        if any(_apart(one, other) for one, other in itertools.combinations(figures.values(), 2)):
            said = ", ".join(f"{shown(figure)} by {method}" for method, figure in figures.items())
            text = f"At {row.load} a million {tokens} tokens cost {said}."
            yield Disagreement(file=row.file, tokens=tokens, text=text)


def _apart(one: Estimate, other: Estimate) -> bool:
    (low, high), (other_low, other_high) = _reach(one), _reach(other)
    gap = max(low, other_low) - min(high, other_high)
    return gap > SAME * max(one.value, other.value)


def _reach(found: Estimate) -> tuple[float, float]:
    return found.value if found.low is None else found.low, found.value if found.high is None else found.high


def shown(found: Estimate) -> str:
    """USD, with the interval where there is one."""
    if found.low is None or found.high is None:
        return f"${digits(found.value)}"
    return f"${digits(found.value)} ({digits(found.low)} to {digits(found.high)})"
