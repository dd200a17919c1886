"""What a probe's requests say of each objective, as scores whose mean is 1 where the objective is only just kept."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_profile.slo.grammar import ERRORS, Objective

MS_PER_S = 1000.0
_WAITS = {"ttft", "e2e"}  # an open request is over such a limit once it has waited for so long

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answers:
    """A probe's requests as far as they have come, in order of due time. Times in s from its start, shape (requests,);
    NaN: not come yet, or never."""

    now_s: float
    due_s: Floats
    first_s: Floats  # first token
    end_s: Floats  # last byte of the answer, or of its failure
    tokens: Floats
    failed: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one objective, of requests in order of due time up to the first that does not tell yet; shape (requests,).

    A percentile's (errors') score is 1 / (1 - level) for a miss, and 0: its mean is 1 where just as many miss as may. A
    mean's is the value / the limit. weights: 1; in a mean 0 for a request without a value, which has a score of 0.
    """

    due_s: Floats
    sums: Floats
    weights: Floats
    values: Floats  # the metric, s; NaN where a request failed or is open

    def after(self, start_s: float) -> "Scores":
        first = int(np.searchsorted(self.due_s, start_s))
        return Scores(self.due_s[first:], self.sums[first:], self.weights[first:], self.values[first:])


def scores(answers: Answers, objective: Objective) -> Scores:
    """Failed requests are misses of every share, and in no mean. Raises ValueError for the gaps of `itl`."""
    failed = answers.failed
    values = _values(answers, objective.metric)
    values[failed] = np.nan
    decided = ~np.isnan(answers.end_s)
    if objective.metric == ERRORS:
        weights, sums = np.ones(len(values)), failed / (1 - _level(objective))
    elif objective.level is None:
        weights = (~np.isnan(values)).astype(np.float64)
        sums = np.where(np.isnan(values), 0.0, values) / _limit_s(objective)
    else:
        age = answers.now_s - answers.due_s
        late = ~decided & (age > _limit_s(objective)) if objective.metric in _WAITS else np.zeros(len(age), dtype=bool)
        if objective.metric == "ttft":
            late &= np.isnan(values)
            decided |= ~np.isnan(values)
        over = failed | late | (values > _limit_s(objective))
        decided |= late
        weights = np.ones(len(values))  # an answer of one token has no TPOT to be slow: it kept the limit
        sums = over / (1 - objective.level)
    open_ = np.flatnonzero(~decided)
    until = int(open_[0]) if len(open_) else len(decided)
    return Scores(answers.due_s[:until], sums[:until], weights[:until], values[:until])


def _values(answers: Answers, metric: str) -> Floats:
    """In s, NaN where a request has none (yet)."""
    if metric == "ttft":
        return answers.first_s - answers.due_s
    if metric == "e2e":
        return answers.end_s - answers.due_s
    if metric == "ntpot":
        return np.where(answers.tokens > 0, (answers.end_s - answers.due_s) / np.maximum(answers.tokens, 1), np.nan)
    if metric == "tpot":
        between = (answers.end_s - answers.first_s) / np.maximum(answers.tokens - 1, 1)
        return np.where(answers.tokens > 1, between, np.nan)
    if metric == ERRORS:
        return np.full(len(answers.due_s), np.nan)
    raise ValueError(metric)


def _limit_s(objective: Objective) -> float:
    assert objective.limit_ms is not None
    return objective.limit_ms / MS_PER_S


def _level(objective: Objective) -> float:
    assert objective.level is not None
    return objective.level
