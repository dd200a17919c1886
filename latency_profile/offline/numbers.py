"""From a cell's runs to its figures. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latency_profile.cost import phases, usd_per_million
from latency_profile.engines.exchange import Ran
from latency_profile.offline.measure import CellRuns
from latency_profile.offline.structure import CellResult, Estimate, Phase, Spread, TokenCost
from latency_profile.statistics import NS_PER_S, Sample, mean_interval, ordered
from latency_profile.statistics.percentiles import percentile

FEWEST_RUNS = 3  # for an interval


def cell_result(runs: CellRuns, price_per_hour_usd: float | None, utilization: float | None = None) -> CellResult:
    """Its figures; none where no full run was right. utilization: the share of the paid time in which the machine does
    such work, above 0 and at most 1."""
    cell = runs.cell
    wrong = _wrong_lengths(runs)
    full = [] if wrong else runs.full
    prefill_runs = [] if wrong else runs.prefill
    inputs, outputs = sum(cell.inputs), sum(cell.outputs)
    seconds = np.array([_generation_time_s(ran) for ran in full])
    mean = _mean(seconds) if len(seconds) else None
    # What generates one token only is its own prefill.
    alone = np.array([_generation_time_s(ran) for ran in (prefill_runs if max(cell.outputs) > 1 else full)])
    prefill = _mean(alone) if len(alone) else None
    generation = _difference(seconds, alone) if max(cell.outputs) > 1 and len(seconds) and len(alone) else None
    return CellResult(
        label=cell.label,
        size=cell.size,
        requests=len(cell),
        input_tokens=inputs,
        output_tokens=outputs,
        runs=len(full),
        trouble=wrong or runs.trouble,
        full_runs_s=seconds.tolist(),
        prefill_runs_s=[_generation_time_s(ran) for ran in prefill_runs],
        batch_generation_time_s=mean,
        batch_latency=_spread([[each] for each in seconds.tolist()]),
        request_latency=_spread([ran.end_s for ran in full]),
        ttft=_ttft(full),
        requests_per_s=_per_second(len(cell), mean),
        output_tokens_per_s=_per_second(outputs, mean),
        total_tokens_per_s=_per_second(inputs + outputs, mean),
        prefill=_phase(prefill, inputs),
        generation=_phase(generation, outputs - len(cell)),
        usd_per_million_tokens=_cost(price_per_hour_usd, inputs, outputs, mean, prefill),
        usd_per_million_tokens_with_idle=None
        if price_per_hour_usd is None or utilization is None
        else _cost(price_per_hour_usd / utilization, inputs, outputs, mean, prefill),
    )


def _generation_time_s(ran: Ran) -> float:
    """The batch's: the longest of its requests', even if some end earlier."""
    return max(ran.end_s)


def _wrong_lengths(runs: CellRuns) -> str | None:
    """Whether the engine took or made another number of tokens than was asked for."""
    for asked, made in ((runs.cell.outputs, runs.full), (tuple([1] * len(runs.cell)), runs.prefill)):
        for ran in made:
            for wanted, found, what in (
                (runs.cell.inputs, ran.input_tokens, "took prompts of"),
                (asked, ran.output_tokens, "generated"),
            ):
                for place, (each, got) in enumerate(zip(wanted, found, strict=True)):
                    if each != got:
                        return f"the engine {what} {got} tokens where {each} were asked for (request {place})"
    return None


def _mean(seconds: NDArray[np.float64]) -> Estimate:
    """With Student's interval, from three runs on."""
    mean = float(seconds.mean())
    if len(seconds) < FEWEST_RUNS:
        return Estimate(value=mean, low=None, high=None)
    low, high = mean_interval(seconds - mean, 1.0)
    return Estimate(value=mean, low=max(0.0, mean + low), high=mean + high)


def _difference(full: NDArray[np.float64], prefill: NDArray[np.float64]) -> Estimate | None:
    """Mean full run less mean prefill run. The intervals' halves are added as independent errors are (root of the sum
    of squares). None where the prefill alone took longer."""
    whole, part = _mean(full), _mean(prefill)
    value = whole.value - part.value
    if value <= 0:
        return None
    if whole.low is None or whole.high is None or part.low is None or part.high is None:
        return Estimate(value=value, low=None, high=None)
    below = np.hypot(whole.value - whole.low, part.high - part.value)
    above = np.hypot(whole.high - whole.value, part.value - part.low)
    return Estimate(value=value, low=max(0.0, value - float(below)), high=value + float(above))


def _per_second(count: int, seconds: Estimate | None) -> Estimate | None:
    """A count over a time, and its interval turned round."""
    if seconds is None or seconds.value <= 0:
        return None
    return Estimate(
        value=count / seconds.value,
        low=None if seconds.high is None else count / seconds.high,
        high=None if not seconds.low else count / seconds.low,
    )


def _phase(seconds: Estimate | None, tokens: int) -> Phase | None:
    rate = _per_second(tokens, seconds)
    return None if seconds is None or rate is None else Phase(seconds=seconds, tokens=tokens, tokens_per_s=rate)


def _ttft(full: Sequence[Ran]) -> Spread | None:
    first = [[at for at in ran.first_s if at is not None] for ran in full]
    return _spread(first) if [*map(len, first)] == [len(ran.first_s) for ran in full] else None


def _spread(by_run: Sequence[Sequence[float]]) -> Spread | None:
    """Of all values, s, in their runs: those of one run are not independent, as a slow run makes all of them slow."""
    values = np.array([value for run in by_run for value in run])
    if not len(values):
        return None
    sample, known = ordered(Sample(values * NS_PER_S, per_request=np.array([*map(len, by_run)])))
    p50, p95 = (percentile(sample, known, level, memory=1.0) for level in (0.5, 0.95))
    assert p50.value_s is not None and p95.value_s is not None  # there are values
    return Spread(
        n=len(values),
        p50_s=p50.value_s,
        p50_low_s=p50.low_s,
        p50_high_s=p50.high_s,
        p95_s=p95.value_s,
        p95_low_s=p95.low_s,
        p95_high_s=p95.high_s,
        max_s=float(values.max()),
    )


def _cost(
    price: float | None, inputs: int, outputs: int, whole: Estimate | None, prefill: Estimate | None
) -> TokenCost | None:
    total = None if price is None or whole is None else usd_per_million(price, (inputs + outputs) / whole.value)
    if price is None or whole is None or total is None:
        return None
    if prefill is None:  # it was broken off before one was measured
        return TokenCost(input=None, output=None, total=total)
    split = phases(price, prefill.value, whole.value, inputs, outputs)
    taken, made = split.usd_per_million_input_tokens, split.usd_per_million_output_tokens
    return TokenCost(
        input=None if taken is None else taken.value, output=None if made is None else made.value, total=total
    )
