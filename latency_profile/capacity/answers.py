"""Requests of a probe, running or over, as the search takes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile.capacity.scores import Answers, Floats
from latency_profile.outcome import Status
from latency_profile.plan import NS
from latency_profile.records import Records
from latency_profile.until_ci.tail import Tail


def answers_of(records: Records) -> Answers:
    """Of a probe that is over, in order of due time. Requests that were never answered have failed."""
    assert records.context.duration_s is not None
    return Answers(
        now_s=records.context.duration_s,
        due_s=records["due_ns"] / NS,
        first_s=_times(records["first_token_ns"]),
        end_s=_times(records["end_ns"]),
        tokens=np.maximum(records["output_tokens"], 0).astype(np.float64),
        failed=np.asarray(records["status"] != Status.OK),
    )


def answers_so_far(tail: Tail, start_ns: int) -> Answers:
    """Of one that runs. How many tokens an answer has is not known before its records are made: NaN."""
    due = tail.due()
    first, end, tokens = (np.full(len(due), np.nan) for _ in range(3))
    failed = np.zeros(len(due), dtype=np.bool_)
    ended, begun = tail.ended(), tail.begun()
    ended, begun = (known[known[:, 0] // tail.every < len(due)] for known in (ended, begun))
    at, sound = ended[:, 0] // tail.every, ended[:, 4] == 1
    end[at] = (ended[:, 1] + ended[:, 3]) / NS
    failed[at] = ~sound
    first[at[sound]] = (ended[sound, 1] + ended[sound, 2]) / NS
    first[begun[:, 0] // tail.every] = begun[:, 1] / NS
    return Answers(
        now_s=(tail.seen_ns - start_ns) / NS, due_s=due / NS, first_s=first, end_s=end, tokens=tokens, failed=failed
    )


def _times(column: NDArray[Any]) -> Floats:
    return np.where(column >= 0, column / NS, np.nan)
