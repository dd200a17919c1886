"""The loads that a calibration puts on the client: a point's own plan, and steps of a given event rate. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backends.base import Request
from latency_profile.calibration.encoded import MODEL
from latency_profile.calibration.schedule import Cadence, Schedule, assumed, most_tokens, plan_within, replayed
from latency_profile.plan import offsets_ns
from latency_profile.points import PlannedPoint
from latency_profile.records import Records
from latency_profile.statistics import NS_PER_S

FEWEST_REQUESTS = 20  # a slower plan is run faster, so that so many requests fit
LONGEST_STEP_ANSWER = 100  # tokens: longer answers would only make the ramp longer


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts of a calibration's own: about as long as the profile's, and none of them."""

    inputs: Sequence[int]  # tokens of each, about
    outputs: Sequence[int]

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": "calibration"}

    def requests(self, start: int, count: int) -> Iterator[Request]:
        for index in range(start, start + count):
            length = self.inputs[index]
            yield Request(index, MODEL, " and" * length, length, self.outputs[index])

    def count_tokens(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]


@dataclass(frozen=True, slots=True)
class LoadToRun:
    """One load: when requests are due, what they are like, and when their answers come."""

    point: PlannedPoint
    prompts: Prompts
    schedule: Schedule
    cadence: Literal["assumed", "replayed"]
    seconds: float

    @property
    def events_per_s(self) -> float:
        """Over the later half of its time, by plan and schedule, when the ramp is over; 0 in a closed loop."""
        if self.point.due_ns is None or not len(self.point.due_ns):
            return 0.0
        due = np.repeat(self.point.due_ns, np.diff(self.schedule.event_start))
        times = np.sort(due + self.schedule.offset_ns)
        half = max(float(times[-1]) / 2, 1.0)
        return float((times > half).sum()) / half * NS_PER_S


def of_point(
    point: PlannedPoint, inputs: Sequence[int], outputs: Sequence[int], cadence: Cadence, seconds: float, seed: int
) -> LoadToRun:
    """A planned point in the assumed cadence, no more than `seconds` of it. Lengths: of the point's own prompts."""
    due, number = _cut(point.due_ns, seconds), len(outputs)
    if due is not None:
        number = len(due)
    wanted = np.minimum(np.asarray(outputs[:number], dtype=np.int64), most_tokens(cadence, seconds))
    return _load(point, due, inputs[:number], assumed(wanted, cadence, seed), "assumed", seconds)


def of_records(records: Records, seconds: float) -> LoadToRun:
    """A point's own plan and cadence, no more than `seconds` of it. Raises ValueError where nothing was answered."""
    context = records.context
    closed = context.concurrency is not None
    rate = None if closed else context.request_rate or math.inf
    due = _cut(None if closed else records["due_ns"], seconds)
    number = len(records) if due is None else len(due)
    point = PlannedPoint(0, rate, context.concurrency, due, 0, number, context.duration_s)
    schedule = replayed(records)
    schedule = _first(schedule, number)
    return _load(point, due, records["input_tokens"][:number].tolist(), schedule, "replayed", seconds)


def of_rate(events_per_s: float, mean_tokens: float, cadence: Cadence, seconds: float, seed: int) -> LoadToRun:
    """So many events a second once the ramp is over: Poisson arrivals, answers of equal length."""
    tokens = max(1, min(round(mean_tokens), LONGEST_STEP_ANSWER))
    rate = events_per_s / tokens
    due = offsets_ns(rate, duration_s=seconds, seed=seed, point=0)
    if not len(due):
        due = np.zeros(1, dtype=np.int64)
    point = PlannedPoint(0, rate, None, due, 0, len(due), seconds)
    schedule = assumed(np.full(len(due), tokens), cadence, seed)
    return _load(point, due, [32] * len(due), schedule, "assumed", seconds)


def _cut(due_ns: NDArray[np.int64] | None, seconds: float) -> NDArray[np.int64] | None:
    return None if due_ns is None else plan_within(due_ns, seconds, FEWEST_REQUESTS)


def _first(schedule: Schedule, number: int) -> Schedule:
    events = int(schedule.event_start[number])
    return Schedule(schedule.event_start[: number + 1], schedule.offset_ns[:events], schedule.event_tokens[:events])


def _load(
    point: PlannedPoint,
    due: NDArray[np.int64] | None,
    inputs: Sequence[int],
    schedule: Schedule,
    cadence: Literal["assumed", "replayed"],
    seconds: float,
) -> LoadToRun:
    # A closed loop's requests begin when others have ended: half of the time for these, half for the last answers.
    limited = seconds if due is not None else seconds / 2
    schedule = schedule.within(due, round(limited * NS_PER_S))
    changes: dict[str, Any] = {"number": 0, "due_ns": due, "first_prompt": 0, "prompts": len(schedule)}
    if due is None:
        changes["duration_s"] = min(limited, point.duration_s or limited)
    elif point.duration_s is not None:
        changes["duration_s"] = min(seconds, point.duration_s)
    prompts = Prompts(inputs, schedule.tokens.tolist())
    return LoadToRun(replace(point, **changes), prompts, schedule, cadence, changes.get("duration_s") or seconds)
