"""Synthetic records: one point, from the times that a test gives, in seconds since the point's start."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from latency_profile.records import EVENT_COLUMNS, NONE, REQUEST_COLUMNS, PointContext, Records, Status, TokenSource

SECOND = 1_000_000_000
SERVER_TIMES = ("server_queue_ns", "server_prefill_ns", "server_decode_ns", "server_total_ns")


def nanoseconds(times_s: Any) -> Any:
    """Seconds as integer ns; a time below 0 becomes NONE."""
    times = np.asarray(times_s, dtype=np.float64)
    return np.where(times < 0, NONE, np.rint(times * SECOND)).astype(np.int64)


def make_context(**changes: Any) -> PointContext:
    """The context of an open loop at 10 requests/s for 10 s, streamed, with `changes`."""
    values: dict[str, Any] = {
        "settings": {"file_prefix": "benchmark"},
        "point": 0,
        "request_rate": 10.0,
        "concurrency": None,
        "duration_s": 10.0,
        "warmup_s": 0.0,
        "cooldown_s": 0.0,
        "models": ["org/model"],
        "urls": ["http://127.0.0.1:8000"],
        "traffic_split": None,
        "backend": "vllm",
        "endpoint": "completions",
        "streaming": True,
        "tokenizer": "org/tokenizer",
        "date": "20260102-030405",
        "started_ns": 1_767_323_045_000_000_123,
        "started_monotonic_ns": 5_000_000_000_000,
        "measured_ns": 10 * SECOND,
        "nonce": "abc",
        "cut_short": None,
        "client": {"workers": 1},
        "server_metrics": {},
        "provenance": {"version": "0.1.0"},
    }
    return PointContext(**(values | changes))


def make_records(
    due_s: Sequence[float] | np.ndarray,
    sent_s: Sequence[float] | np.ndarray | None = None,
    token_times_s: Sequence[Sequence[float]] | None = None,
    end_s: Sequence[float] | np.ndarray | None = None,
    *,
    columns: dict[str, Any] | None = None,
    event_tokens: Sequence[Sequence[int]] | None = None,
    **context: Any,
) -> Records:
    """One point's records. Columns of requests have shape (requests,).

    due_s, sent_s: when each was due (below 0: no due time) and sent (None: as due; below 0: never).
    token_times_s: the arrivals of each answer's token-carrying events; event_tokens: how many each carried (one).
    end_s: each answer's last byte; None: its last event, or one second after it was sent.
    columns: values that replace what follows from these, by column. Without them every answer is visible, the server
    says nothing of its times, and nothing is retried.
    context: changes to the context. Without measured_ns, the point ends with its last request.
    """
    n = len(due_s)
    due = nanoseconds(due_s)
    sent = due if sent_s is None else nanoseconds(sent_s)
    events = [nanoseconds(times) for times in token_times_s] if token_times_s is not None else [nanoseconds([])] * n
    tokens = [np.ones(len(times)) for times in events] if event_tokens is None else event_tokens
    if end_s is not None:
        end = nanoseconds(end_s)
    else:
        end = np.array([times[-1] if len(times) else at + SECOND for times, at in zip(events, sent, strict=True)])
    first = [times[0] if len(times) else NONE for times in events]
    known: dict[str, Any] = {
        "index": np.arange(n),
        "due_ns": due,
        "sent_ns": sent,
        "first_token_ns": first,
        "first_visible_ns": first,
        "last_token_ns": [times[-1] if len(times) else NONE for times in events],
        "end_ns": end,
        "input_tokens": np.full(n, 10),
        "wanted_tokens": np.full(n, 10),
        "server_input_tokens": np.full(n, NONE),
        "cached_tokens": np.full(n, NONE),
        "output_tokens": [int(np.sum(carried)) if len(carried) else 10 for carried in tokens],
        "event_output_tokens": np.full(n, NONE),
        "text_tokens": np.full(n, NONE),
        "token_source": np.full(n, TokenSource.USAGE),
        "status": np.full(n, Status.OK),
        "http_status": np.full(n, 200),
        "read_delay_ns": np.full(n, NONE),
        "merged_events": np.zeros(n),
        **{name: np.full(n, NONE) for name in SERVER_TIMES},
        **(columns or {}),
    }
    filled = {name: np.asarray(known.get(name, np.zeros(n))).astype(kind) for name, kind in REQUEST_COLUMNS.items()}
    context.setdefault("measured_ns", int(max(end.max(initial=0), 0)))
    return Records(
        make_context(**context),
        filled,
        np.concatenate(([0], np.cumsum([len(times) for times in events]))).astype(np.int64),
        np.concatenate([nanoseconds([]), *events]),
        np.concatenate([np.asarray([], dtype=EVENT_COLUMNS["event_tokens"]), *tokens]).astype(np.uint16),
    )


def uniform_records(n: int, events: int = 5, seed: int = 0, **context: Any) -> Records:
    """A steady open loop of `n` requests at 10 a second: independent times, `events` events an answer."""
    rng = np.random.default_rng(seed)
    due = np.arange(n) / 10
    first = due + rng.uniform(0.05, 0.15, n)
    times = first[:, None] + np.cumsum(rng.uniform(0.01, 0.03, (n, events)), axis=1)
    return make_records(due, due + 0.0005, list(times), **({"duration_s": n / 10} | context))
