"""Goodput: requests a second that keep all stated objectives. Pure."""

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from latency_profile.measures import Rows, Window, arrival_ns, is_burst, succeeded, tokens_in_events, waiting
from latency_profile.rates import UNBOUNDED, bounds, steps
from latency_profile.records import Records
from latency_profile.statistics import NS_PER_MS

_Rate = Annotated[float, Meta(ge=0)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_END = "end of the 95 % interval; null for a burst, and where no request kept them"


class Goodput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the requests that were due in the window (closed loop: sent in it), those that kept all objectives.

    TTFT and E2E are response latencies, from due; in a closed loop service latencies, from sent. A failed request keeps
    none. One that was still waiting at the stop counts as broken where it had waited too long already; else it is in
    neither the rate nor the share, and requests_per_s_high allows for its having kept them.
    """

    objectives: Annotated[dict[str, float], Meta(description="ttft, tpot and e2e at most so long, ms")]
    requests_per_s: Annotated[_Rate | None, Meta(description="null where the window has no length")]
    requests_per_s_low: Annotated[_Rate | None, Meta(description=f"lower {_END}")]
    requests_per_s_high: Annotated[_Rate | None, Meta(description=f"upper {_END}")]
    share: Annotated[_Share | None, Meta(description="kept / (kept + broken); null where there were none")]


def goodput(records: Records, rows: Rows, span: Window) -> Goodput | None:
    """The goodput of the window by the objectives of the settings, in ms; None without objectives."""
    objectives: dict[str, float] = records.context.settings.get("goodput") or {}
    if not objectives:
        return None
    kept, broken = judged(records, objectives)
    chosen = rows & span.rows
    kept, open_ones, decided = chosen & kept, chosen & ~kept & ~broken, chosen & (kept | broken)
    low, high = UNBOUNDED
    if span.length_s > 0 and not is_burst(records.context):
        arrivals = arrival_ns(records)
        low, high = bounds(span, steps(span, arrivals[kept]))
        if open_ones.any() and high is not None:
            high = bounds(span, steps(span, arrivals[kept | open_ones]))[1]
    return Goodput(
        objectives={name: float(limit) for name, limit in objectives.items()},
        requests_per_s=int(kept.sum()) / span.length_s if span.length_s > 0 else None,
        requests_per_s_low=low,
        requests_per_s_high=high,
        share=int(kept.sum()) / int(decided.sum()) if decided.any() else None,
    )


def judged(records: Records, objectives: dict[str, float]) -> tuple[Rows, Rows]:
    """Which requests kept all objectives (ms, by name: ttft, tpot, ntpot, e2e), and which broke one or failed. All from
    arrival: due, in a closed loop sent."""
    origin = arrival_ns(records)
    good = succeeded(records, np.ones(len(records), dtype=np.bool_))
    left = waiting(records)
    stop = np.where(records["end_ns"] >= 0, records["end_ns"], records.context.measured_ns)
    first = records["first_token_ns"]
    # Where fewer than two are reported, the events tell. One token has no gap, and a span of 0.
    tokens = np.where(records["output_tokens"] >= 2, records["output_tokens"], tokens_in_events(records))
    gaps = np.maximum(tokens - 1, 1)
    until = {
        "ttft": np.where(first >= 0, first, stop) - origin,
        "tpot": np.where(good, (records["last_token_ns"] - first) / gaps, 0.0),
        "ntpot": np.where(good, (stop - origin) / np.maximum(tokens, 1), 0.0),
        "e2e": stop - origin,
    }
    slow = np.zeros(len(records), dtype=np.bool_)
    for name, limit_ms in objectives.items():
        slow |= until[name] > limit_ms * NS_PER_MS
    return np.asarray(good & ~slow), np.asarray(~(good | left) | slow)
