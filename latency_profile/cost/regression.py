"""Machine time regressed on what was asked of the machines, over points of different shapes. Pure.

    busy time = p · prefill tokens + f · prompts + d · decode + c · context tokens,   p, f, d, c ≥ 0

prompts: prefill has a part that no token of it has (the smallest prefill takes as long as some hundred tokens). Without
this column short prompts bend p, and intervals hold the truth too seldom (benchmarks/cost_split.py: 87 % for 95 %).
decode: the points' decode tokens where their batches are alike; else the decode steps. A step has a fixed part (reading
the weights) that its batch shares, so that a decode token has no price of its own over batches that differ.

Least squares of relative errors: each row is divided by its busy time. With four coefficients the non-negative solution
is found by trying all subsets: it is the best of those least-squares solutions that are not negative (Lawson & Hanson,
Solving Least Squares Problems, 1974, ch. 23). Intervals reach from the solution without that bound, and from the one
with it where the two differ, and are cut at 0: Student's t on the greater of the plain variance and the one that lets
each point have an error of its own (HC3: MacKinnon & White, J. Econometrics 29, 1985). The residuals are those of the
bounded solution, the only one that is told: where points want a price below 0 the model does not hold for them, and
intervals around the other solution, which fits too well, could end below 0. A point's share varies about the common
plane beside, by what the residuals show. Refused where the columns, scaled to equal length, have a condition number
above 30: there coefficients are not known apart (Belsley, Kuh & Welsch, Regression Diagnostics, 1980, 3.2).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from latency_profile.cost.split import Estimate
from latency_profile.cost.work import Work
from latency_profile.statistics.means import student

Values = NDArray[np.float64]
Decode = Literal["decode_tokens", "decode_steps"]

COLUMNS = ("prefill tokens", "prompts", "decode", "context tokens")
OF_PREFILL = np.array([1.0, 1.0, 0.0, 0.0])  # which columns are prefill's
SPARE_POINTS = 2  # degrees of freedom: Student's t of one is 12.7, and its interval says nothing
CONDITION_LIMIT = 30.0
BATCH_RATIO = 1.5  # of the largest mean batch to the smallest: such batches are alike


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no regression."""

    reason: str
    condition_number: float | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """coefficients: s for each of COLUMNS. _free: without the bound at 0, of columns divided by `_scale`, shape (4,);
    its covariances, shape (4, 4), two of them."""

    decode: Decode
    condition_number: float
    coefficients: tuple[Estimate, ...]
    residual_sd: float  # relative, of busy time
    degrees: int
    _free: Values
    _scale: Values
    _covariances: tuple[Values, Values]

    def prefill_s(self, done: Work) -> Estimate:
        """Time of prefill in such work, by the coefficients."""
        amounts = _amounts(done, self.decode) / self._scale
        free = float(self._free * OF_PREFILL @ amounts)
        value = float(self._bounded() * OF_PREFILL @ amounts)
        return _at_least_0(value, free, self._reach(self._variance(OF_PREFILL * amounts)))

    def prefill_share(self, done: Work) -> Estimate:
        """Prefill's share of the time of a point of this work, by the coefficients."""
        amounts = _amounts(done, self.decode) / self._scale
        free_total, total = float(self._free @ amounts), float(self._bounded() @ amounts)
        value = float(self._bounded() * OF_PREFILL @ amounts) / total if total > 0 else 0.0
        if free_total <= 0:
            return Estimate(value=value, low=0.0, high=1.0)
        free = float(self._free * OF_PREFILL @ amounts) / free_total
        slope = (OF_PREFILL - free) * amounts / free_total
        found = _at_least_0(value, free, self._reach(self._variance(slope) + self.residual_sd**2))
        return msgspec.structs.replace(found, high=min(found.high or 0.0, 1.0))

    def _bounded(self) -> Values:
        return np.array([each.value for each in self.coefficients]) * self._scale

    def _variance(self, slope: Values) -> float:
        return _greatest(slope, self._covariances)

    def _reach(self, variance: float) -> float:
        return student(self.degrees) * math.sqrt(variance)


def regress(points: Sequence[Work]) -> Fit | Refusal:
    """The regression over points of one server, or why it is refused."""
    needed = len(COLUMNS) + SPARE_POINTS
    if len(points) < needed:
        return Refusal(
            f"{len(points)} point{'' if len(points) == 1 else 's'} can be used, and {needed} are needed: add points of "
            "other input and output lengths"
        )
    decode = _decode_regressor(points)
    time = np.array([each.busy_s for each in points])
    rows = np.array([_amounts(each, decode) for each in points]) / time[:, None]
    scale = np.sqrt(np.square(rows).sum(axis=0))
    if (scale == 0).any():
        return Refusal(f"no point has any {COLUMNS[int(np.argmin(scale))]}")
    rows = rows / scale
    condition = float(np.linalg.cond(rows))
    if condition > CONDITION_LIMIT:
        return Refusal(
            f"the points' shapes cannot tell prefill, decode and context apart (condition number {condition:.3g}, "
            f"limit {CONDITION_LIMIT:g}): add points whose prompts are longer against their answers, and some whose "
            "answers are longer against their prompts",
            condition,
        )
    return _fitted(rows, scale, decode, condition)


def _fitted(rows: Values, scale: Values, decode: Decode, condition: float) -> Fit:
    ones = np.ones(len(rows))
    degrees = len(rows) - len(COLUMNS)
    inverse = np.linalg.inv(rows.T @ rows)
    free = inverse @ rows.T @ ones
    bounded = non_negative(rows, ones)
    residuals = ones - rows @ bounded
    leverage = np.einsum("ij,jk,ik->i", rows, inverse, rows)
    own = np.square(residuals / np.maximum(1 - leverage, 1e-9))
    plain = inverse * float(residuals @ residuals) / degrees
    robust = inverse @ (rows.T @ (own[:, None] * rows)) @ inverse
    t = student(degrees)

    def coefficient(k: int) -> Estimate:
        reach = t * math.sqrt(_greatest(np.eye(len(COLUMNS))[k], (plain, robust)))
        unit = float(scale[k])
        return _at_least_0(float(bounded[k]) / unit, float(free[k]) / unit, reach / unit)

    return Fit(
        decode=decode,
        condition_number=condition,
        coefficients=tuple(coefficient(k) for k in range(len(COLUMNS))),
        residual_sd=math.sqrt(float(residuals @ residuals) / degrees),
        degrees=degrees,
        _free=free,
        _scale=scale,
        _covariances=(plain, robust),
    )


def non_negative(rows: Values, wanted: Values) -> Values:
    """The x ≥ 0 that makes |rows · x - wanted| least; shape (columns,). For few columns: tries all subsets."""
    columns = rows.shape[1]
    best, least = np.zeros(columns), float(wanted @ wanted)
    for size in range(1, columns + 1):
        for chosen in itertools.combinations(range(columns), size):
            found = np.linalg.lstsq(rows[:, chosen], wanted, rcond=None)[0]
            error = float(np.square(rows[:, chosen] @ found - wanted).sum())
            if (found >= 0).all() and error < least:
                best, least = np.zeros(columns), error
                best[list(chosen)] = found
    return best


def _decode_regressor(points: Sequence[Work]) -> Decode:
    batches = [each.decode_tokens / each.decode_steps for each in points if each.decode_steps]
    alike = len(batches) < len(points) or max(batches) <= BATCH_RATIO * min(batches)
    return "decode_tokens" if alike else "decode_steps"


def _amounts(done: Work, decode: Decode) -> Values:
    of_decode = done.decode_tokens if decode == "decode_tokens" else done.decode_steps or 0.0
    return np.array([done.prefill_tokens, done.prompts, of_decode, done.context_tokens])


def _greatest(slope: Values, covariances: Sequence[Values]) -> float:
    return max(float(slope @ covariance @ slope) for covariance in covariances)


def _at_least_0(bounded: float, free: float, reach: float) -> Estimate:
    """The bounded solution, and the interval about both, cut at 0."""
    return Estimate(value=bounded, low=max(0.0, min(bounded, free) - reach), high=max(bounded, free) + reach)
