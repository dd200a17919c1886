"""The truth log: what the server really did, for each request and each write. Compact columns, written as one .npz."""

import enum
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latency_profile.simulator.job import NONE

_LONGEST_ID = 256  # characters of a request id that are kept


class Finish(enum.IntEnum):
    """How an answer ended, in the log and in vLLM's `request_success` labels."""

    RUNNING = 0
    LENGTH = 1
    STOP = 2
    ABORT = 3  # the client closed the connection, or the server was stopped
    ERROR = 4  # refused, or broken off by a fault that was asked for


@dataclass(frozen=True, slots=True)
class TruthLog:
    """All requests that were understood, in order of arrival. Times are CLOCK_MONOTONIC ns, `NONE` (-1) for none.

    Events (writes that carried tokens) of request i are `event_start[i]:event_start[i + 1]`.
    """

    request_id: NDArray[np.str_]  # the x-request-id header; where there was none, the answer's own id
    arrival_ns: NDArray[np.int64]  # when the kernel had the request's last bytes
    started_ns: NDArray[np.int64]  # when the timing model first gave it service
    end_ns: NDArray[np.int64]  # just before the write that ended the answer, or when it was aborted
    prompt_tokens: NDArray[np.uint32]
    output_tokens: NDArray[np.uint32]  # written so far
    finish: NDArray[np.uint8]  # Finish
    fault: NDArray[np.str_]  # the kind of fault that was drawn for it; "" for none
    event_start: NDArray[np.int64]
    scheduled_ns: NDArray[np.int64]  # when the event was due: when its last token was complete
    written_ns: NDArray[np.int64]  # just before the write
    wrote_ns: NDArray[np.int64]  # just after it, where that was taken
    event_tokens: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.arrival_ns)


class LogWriter:
    """Takes rows and events as they happen; costs five appends an event."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._arrival = array("q")
        self._started = array("q")
        self._end = array("q")
        self._prompt = array("I")
        self._output = array("I")
        self._finish = array("B")
        self._fault: list[str] = []
        self._event_row = array("I")
        self._scheduled = array("q")
        self._written = array("q")
        self._wrote = array("q")
        self._event_tokens = array("I")

    def begin(self, request_id: str, arrival_ns: int, prompt_tokens: int, fault: str = "") -> int:
        """Opens a row and returns its number."""
        self._ids.append(request_id[:_LONGEST_ID])
        self._arrival.append(arrival_ns)
        self._started.append(NONE)
        self._end.append(NONE)
        self._prompt.append(prompt_tokens)
        self._output.append(0)
        self._finish.append(Finish.RUNNING)
        self._fault.append(fault)
        return len(self._ids) - 1

    def event(self, row: int, scheduled_ns: int, written_ns: int, tokens: int, wrote_ns: int = NONE) -> None:
        self._event_row.append(row)
        self._scheduled.append(scheduled_ns)
        self._written.append(written_ns)
        self._wrote.append(wrote_ns)
        self._event_tokens.append(tokens)

    def events(
        self, row: int, scheduled_ns: list[int], written_ns: list[int], tokens: list[int], wrote_ns: list[int]
    ) -> None:
        """All events of a row at once."""
        self._event_row.extend([row] * len(tokens))
        self._scheduled.extend(scheduled_ns)
        self._written.extend(written_ns)
        self._wrote.extend(wrote_ns)
        self._event_tokens.extend(tokens)

    def end(self, row: int, end_ns: int, started_ns: int, output_tokens: int, finish: Finish) -> None:
        self._end[row] = end_ns
        self._started[row] = started_ns
        self._output[row] = output_tokens
        self._finish[row] = finish

    def save(self, path: Path) -> None:
        """Writes what there is by now, whole: a temporary file beside it, then a rename."""
        rows = np.array(self._event_row, dtype=np.int64)
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=len(self._ids))
        temporary = path.with_name(path.name + ".part")
        with temporary.open("wb") as file:
            np.savez(
                file,
                request_id=np.array(self._ids, dtype=np.str_),
                arrival_ns=np.array(self._arrival, dtype=np.int64),
                started_ns=np.array(self._started, dtype=np.int64),
                end_ns=np.array(self._end, dtype=np.int64),
                prompt_tokens=np.array(self._prompt, dtype=np.uint32),
                output_tokens=np.array(self._output, dtype=np.uint32),
                finish=np.array(self._finish, dtype=np.uint8),
                fault=np.array(self._fault, dtype=np.str_),
                event_start=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
                scheduled_ns=np.array(self._scheduled, dtype=np.int64)[order],
                written_ns=np.array(self._written, dtype=np.int64)[order],
                wrote_ns=np.array(self._wrote, dtype=np.int64)[order],
                event_tokens=np.array(self._event_tokens, dtype=np.uint32)[order],
            )
        temporary.replace(path)


def read_log(path: Path) -> TruthLog:
    """Reads a file that the simulator wrote. Raises ValueError where it is not one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return TruthLog(**{name: file[name] for name in TruthLog.__dataclass_fields__})
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no simulator log: {error}") from error
