"""Whether a probe, while it runs, clearly keeps or clearly breaks its objectives: sequences of intervals that hold at
every look at once. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_profile.capacity.scores import Answers, Floats, Scores
from latency_profile.confidence_sequence import Anytime
from latency_profile.slo.attainment import KEPT
from latency_profile.slo.grammar import ERRORS, Objective
from latency_profile.slo.structure import Outcome
from latency_profile.statistics import NS_PER_S, Sample, autocorrelation_time, effective_size, growth
from latency_profile.statistics.percentiles import memory_of

FEWEST = 10  # independent values of a mean, below which its variance is not known
FEWEST_IN_STEPS = 60  # requests due over the steps of the backlog
GROWTH_STEPS = 20
# One-sided, of Student's t with 19 degrees of freedom: of the many looks at one steady probe one in a hundred errs.
GROWTH_T_LIMIT = 4.2
GROWTH_SHARE_LIMIT = 0.02  # of the offered rate
FEWEST_ENDED, LAST_ENDED = 10, 40


@dataclass(frozen=True, slots=True)
class Clarity:
    """How sure a probe is to be."""

    alpha: float = 0.02  # of all looks at one objective together
    tightest_at: int = 500  # independent requests; a probe is to be over soon


COARSE = Clarity()


def clear(found: Sequence[tuple[Objective, Scores]], asked: Clarity) -> Outcome:
    """Broken where one objective is, kept where all are, else unresolved. found: scores without the transient."""
    outcomes = {
        _mean(of, asked) if objective.level is None else _share(objective, of, asked) for objective, of in found
    }
    if Outcome.BROKEN in outcomes:
        return Outcome.BROKEN
    return Outcome.KEPT if outcomes == {Outcome.KEPT} else Outcome.UNRESOLVED


def grows(answers: Answers, start_s: float, share: float = GROWTH_SHARE_LIMIT) -> bool:
    """Whether the backlog grows, by so much of the offered rate, over the later half of what has passed since
    start_s."""
    start_s = (start_s + answers.now_s) / 2
    step_s = (answers.now_s - start_s) / GROWTH_STEPS
    due = answers.due_s
    offered = int(np.searchsorted(due, answers.now_s) - np.searchsorted(due, start_s))
    if step_s <= 0 or offered < FEWEST_IN_STEPS:
        return False
    times = start_s + step_s * np.arange(GROWTH_STEPS + 1)
    ended = np.sort(answers.end_s)  # those that have not ended are NaN, and last
    levels = np.searchsorted(due, times, "right") - np.searchsorted(ended, times, "right")
    slope = growth(levels.astype(np.float64), step_s)
    limit = max(share * offered / (step_s * GROWTH_STEPS), GROWTH_T_LIMIT * slope.standard_error)
    return slope.per_s > limit


def suffers(answers: Answers) -> bool:
    """Whether half of the requests that ended last failed: the server is not slow, it breaks."""
    ended = np.flatnonzero(~np.isnan(answers.end_s))
    last = ended[np.argsort(answers.end_s[ended], kind="stable")][-LAST_ENDED:]
    return len(last) >= FEWEST_ENDED and 2 * int(answers.failed[last].sum()) >= len(last)


def _share(objective: Objective, of: Scores, asked: Clarity) -> Outcome:
    """The misses are taken to hang together for as long as the metric does: see `slo.judge`."""
    assert objective.level is not None
    counted = of.weights > 0
    misses = Sample((of.sums[counted] > 0).astype(np.int8))
    n = len(misses.values)
    if not n:
        return Outcome.UNRESOLVED
    memory = 1.0
    if objective.metric != ERRORS:
        values = (of.values[~np.isnan(of.values)] * NS_PER_S).astype(np.int64)
        memory = memory_of(Sample(values), np.sort(values)) if len(values) > FEWEST else math.inf
    missed = int(np.count_nonzero(misses.values != KEPT))
    effective = n / memory if missed in (0, n) else effective_size(misses, KEPT, memory)
    size = math.floor(effective)
    if size < 1:
        return Outcome.UNRESOLVED
    kept = (n - missed) / n * size
    lower, upper = Anytime(asked.alpha, asked.tightest_at).ranks(size, objective.level)
    if upper is not None and kept >= upper:
        return Outcome.KEPT
    return Outcome.BROKEN if lower is not None and kept < lower else Outcome.UNRESOLVED


def _mean(of: Scores, asked: Clarity) -> Outcome:
    """By an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, Time-uniform central limit
    theory and asymptotic confidence sequences, Ann. Statist. 52, 2024, theorem 2.2)."""
    values: Floats = of.sums[of.weights > 0]
    if len(values) <= FEWEST:
        return Outcome.UNRESOLVED
    mean = float(values.mean())
    residuals = values - mean
    n = len(values) / autocorrelation_time(residuals)
    if n < FEWEST:
        return Outcome.UNRESOLVED
    width = 2 * math.log(1 / asked.alpha)
    scale = (width + math.log(1 + width)) / asked.tightest_at  # rho²
    reach = (n * scale + 1) / (n * n * scale) * (math.log(n * scale + 1) + 2 * math.log(1 / asked.alpha))
    half = float(residuals.std(ddof=1)) * math.sqrt(reach)
    if mean + half <= 1:
        return Outcome.KEPT
    return Outcome.BROKEN if mean - half > 1 else Outcome.UNRESOLVED
