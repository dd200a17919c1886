"""The columnar record of one point: one row a request, a ragged column of its token-carrying events.

All times are integer nanoseconds since the point's start, on one monotonic clock; `NONE` where there is no such time.
The file is a NumPy .npz without pickles; what the results need beside the rows travels in it as JSON (`context`), so
that everything right of the records can be made again from this one file.
"""

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from latency_profile.calibration.structure import Calibration
from latency_profile.errors import StorageError
from latency_profile.hardware.structure import HardwareReadings
from latency_profile.outcome import EventSource, Flag, Status, TokenSource
from latency_profile.shards.structure import Part
from latency_profile.telemetry.readings import Readings

__all__ = [
    "EVENT_COLUMNS",
    "NONE",
    "REQUEST_COLUMNS",
    "EventSource",
    "Flag",
    "PointContext",
    "Records",
    "Status",
    "TokenSource",
    "load",
]

NONE = -1  # a time or a count that is not there

REQUEST_COLUMNS: dict[str, str] = {
    "index": "u4",  # place in the plan; rows are sorted by it
    "model": "u2",  # which of context.models
    "worker": "u2",  # which sender process
    "url": "u2",  # which of context.urls
    "due_ns": "i8",  # when the plan wanted it sent; NONE in a closed loop
    "sent_ns": "i8",  # just before the first send() of its bytes, by its first attempt; NONE when it never was
    "send_ns": "i8",  # how long that send() took: its bytes went sent_ns to sent_ns + send_ns; NONE when it never was
    "first_token_ns": "i8",  # arrival of the first event that carried a token; NONE unless streamed
    "first_early_ns": "i8",  # it may have come so much earlier: bytes behind it were in the same read
    "first_visible_ns": "i8",  # the same of the visible answer, behind reasoning and tool calls
    "last_token_ns": "i8",  # arrival of the last such event
    "end_ns": "i8",  # last byte of the answer, or the moment at which the request failed
    "input_tokens": "u4",  # length of the prompt by the profile's tokenizer
    "wanted_tokens": "u4",  # output tokens asked for
    "server_input_tokens": "i4",  # prompt tokens by the server's usage; NONE where it does not say
    "cached_tokens": "i4",  # of them out of its prefix cache, by its answer; NONE where it does not say
    "output_tokens": "i8",  # NONE when unknown
    "event_output_tokens": "i8",  # sum over token ids in the events; NONE where there are none
    "text_tokens": "i8",  # of the text by the profile's tokenizer, of a sample of those counted otherwise; else NONE
    "token_source": "u1",  # TokenSource
    "event_source": "u1",  # EventSource: whose count event_tokens are
    "status": "u1",  # Status
    "http_status": "u2",  # 0 when no status line came
    "flags": "u1",  # Flag bits
    "read_delay_ns": "i8",  # largest distance from kernel receive to read in this answer; NONE without kernel stamps
    "answer_bytes": "u4",  # bytes received, headers included
    "retries": "u1",  # attempts after the first one
    "server_queue_ns": "i8",  # what the server says that the request took; NONE where it does not say
    "server_prefill_ns": "i8",
    "server_decode_ns": "i8",
    "server_total_ns": "i8",
    "merged_events": "u4",  # events behind another in a read more than 1 ms late: the earlier one's time may be lost
}

EVENT_COLUMNS: dict[str, str] = {
    "event_ns": "i8",  # arrival of the event's last byte
    "event_tokens": "u2",  # tokens that it carried
}


class Stopping(msgspec.Struct, frozen=True, kw_only=True):
    """That what a point showed was to decide when it ends, and what came of it."""

    target: float | None  # --until-ci, a share of each percentile; None: a probe of --find-capacity
    looks: int
    stopped_after_s: float | None  # when sending ended; None: it went on for all of its time


class PointContext(msgspec.Struct, kw_only=True):
    """What the results of a point need beside its rows. Plain JSON; no secrets."""

    settings: dict[str, Any]  # every setting by its name, as the run used it
    point: int  # number of the point in its profile
    request_rate: float | None  # offered, requests/s; None: unlimited (a burst) or a closed loop
    concurrency: int | None  # closed loop
    duration_s: float | None  # length of the plan where time bounds it
    warmup_s: float
    cooldown_s: float
    models: list[str]
    urls: list[str]  # where requests went, in turn
    traffic_split: list[float] | None
    backend: str
    endpoint: str  # name of the door
    streaming: bool
    tokenizer: str
    date: str  # YYYYmmdd-HHMMSS, UTC: names the files
    started_ns: int  # wall clock at the point's start, Unix ns
    started_monotonic_ns: int  # the same moment on CLOCK_MONOTONIC: lines up with other logs of this machine
    measured_ns: int  # from the point's start until its last request ended
    nonce: str
    cut_short: str | None  # SIGINT, SIGTERM, the loss of its client, or None
    client: dict[str, Any]  # the client's own counts
    server_metrics: dict[str, Any]  # as telemetry gives them
    provenance: dict[str, Any]
    calibration: Calibration | None = None  # the client under this point's load, against a server of known timing
    until_ci: Stopping | None = None  # None: it was to run for all of its time
    first_prompt: int = 0  # place of its first request's prompt in the profile's workload
    first_sent: int = 0  # the first prompt that went out under this nonce: above 0 where an earlier attempt went before
    prefix_cache: dict[str, Any] | None = None  # telemetry.prefix_cache: queries_tokens, hits_tokens over the point
    server_readings: list[Readings] = []  # of the server's metrics, by where they were read; the exact ones first
    parts: list[Part] = []  # the shards whose requests these are, by index; empty: one process measured all of it
    hardware: HardwareReadings | None = None  # the machine while the point ran; None: not watched


@dataclass(slots=True)
class Records:
    """One point. `columns[name]` has shape (requests,); events of row i are `event_start[i]:event_start[i + 1]`."""

    context: PointContext
    columns: dict[str, NDArray[Any]]
    event_start: NDArray[np.int64]
    event_ns: NDArray[np.int64]
    event_tokens: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.columns["index"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def save(self, path: Path) -> None:
        """Writes the file whole: a temporary file beside it, then a rename. Raises StorageError where it cannot."""
        temporary = path.with_name(path.name + ".part")
        arrays: dict[str, NDArray[Any]] = {
            "context": np.frombuffer(msgspec.json.encode(self.context), dtype=np.uint8),
            "event_start": self.event_start,
            "event_ns": self.event_ns,
            "event_tokens": self.event_tokens,
            **self.columns,
        }
        try:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())  # on a volume too, the name is there only with all of its bytes
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):  # the reason above is the one that counts
                temporary.unlink(missing_ok=True)
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def load(path: Path) -> Records:
    """Reads a file that `Records.save` wrote. Raises ValueError where it is not one."""
    with _opened(path) as file:
        context = _context(file)
        missing = [name for name in REQUEST_COLUMNS if name not in file]
        if missing:
            raise ValueError(f"it was written by another version, without {', '.join(missing)}")
        columns = {name: file[name] for name in REQUEST_COLUMNS}
        return Records(context, columns, file["event_start"], file["event_ns"], file["event_tokens"])


def load_context(path: Path) -> PointContext:
    """The context alone, without the rows. Raises ValueError likewise."""
    with _opened(path) as file:
        return _context(file)


def _context(file: Any) -> PointContext:
    return msgspec.json.decode(file["context"].tobytes(), type=PointContext)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The arrays of a records file, each read when it is asked for."""
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    except (KeyError, EOFError, msgspec.DecodeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        why = "it is none (….records.npz)" if "pickle" in str(error) else error  # NumPy's advice is not to be followed
        raise ValueError(f"{path} is no records file of this version: {why}") from error
