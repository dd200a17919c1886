"""Requests of a probe, running or over, as the search takes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile.capacity.scores import Answers, Floats
from latency_profile.measures import arrival_ns, waiting
from latency_profile.outcome import Status
from latency_profile.plan import NS
from latency_profile.records import Records
from latency_profile.until_ci.tail import Tail


def answers_of(records: Records) -> Answers:
    """Of a probe that is over, in order of arrival: due, or in a closed loop sent. Requests that were never answered
    have failed, but those of a closed loop whose turn never came."""
    context = records.context
    assert context.duration_s is not None
    arrival, end = arrival_ns(records), records["end_ns"]
    now_s = context.duration_s
    order = np.arange(len(arrival))
    if context.concurrency is not None:
        order = np.argsort(arrival, kind="stable")
        order = order[(arrival[order] >= 0) & ~waiting(records)[order]]
        now_s = min(now_s, float(end[order].max(initial=0)) / NS)
    return Answers(
        now_s=now_s,
        due_s=arrival[order] / NS,
        first_s=_times(records["first_token_ns"][order]),
        end_s=_times(end[order]),
        tokens=np.maximum(records["output_tokens"][order], 0).astype(np.float64),
        failed=np.asarray(records["status"][order] != Status.OK),
    )


def answers_so_far(tail: Tail, start_ns: int) -> Answers:
    """Of one that runs. How many tokens an answer has is NaN where the server does not tell."""
    ended, unfinished = tail.ended(), tail.unfinished()
    due, at, still = _planned(tail, ended, unfinished) if tail.planned else _sent(ended, unfinished)
    ended, unfinished = ended[at >= 0], unfinished[still >= 0]
    at, still = at[at >= 0], still[still >= 0]
    first, end, tokens = (np.full(len(due), np.nan) for _ in range(3))
    failed = np.zeros(len(due), dtype=np.bool_)
    sound, begun = ended[:, 4] == 1, unfinished[:, 2] >= 0
    end[at] = (ended[:, 1] + ended[:, 3]) / NS
    failed[at] = ~sound
    first[at[sound]] = (ended[sound, 1] + ended[sound, 2]) / NS
    first[still[begun]] = unfinished[begun, 2] / NS
    tokens[at[sound]] = np.where(ended[sound, 5] >= 0, ended[sound, 5], np.nan)
    return Answers(
        now_s=(tail.seen_ns - start_ns) / NS, due_s=due / NS, first_s=first, end_s=end, tokens=tokens, failed=failed
    )


_Places = NDArray[np.int64]


def _planned(
    tail: Tail, ended: NDArray[np.int64], unfinished: NDArray[np.int64]
) -> tuple[NDArray[np.int64], _Places, _Places]:
    """Due times, ns, and the places of requests among them; -1: sent, but due after what has been seen."""
    due = tail.due()
    at, still = (
        np.where(index // tail.every < len(due), index // tail.every, -1) for index in (ended[:, 0], unfinished[:, 0])
    )
    return due, at, still


def _sent(ended: NDArray[np.int64], unfinished: NDArray[np.int64]) -> tuple[NDArray[np.int64], _Places, _Places]:
    """Times sent, ns, in order, and the places of requests among them: a closed loop has no plan."""
    sent = np.concatenate([ended[:, 1], unfinished[:, 1]])
    order = np.argsort(sent, kind="stable")
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return sent[order], places[: len(ended)], places[len(ended) :]


def _times(column: NDArray[Any]) -> Floats:
    return np.where(column >= 0, column / NS, np.nan)
