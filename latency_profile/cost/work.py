"""What a point asked of the machines, and for how long: what a split of the cost is computed from. Pure.

Over the whole point, ramp and drain included: a window's edge would cut through requests, whose tokens and machine time
could then not be matched. For the same reason over requests that succeeded: one that hung until its timeout, or that
was cut short, has time and no tokens that are known.
"""

import math
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.measures import Rows
from latency_profile.records import NONE, Records
from latency_profile.server_view.counts import comparable
from latency_profile.statistics import CHUNK, NS_PER_S
from latency_profile.telemetry.vocabulary import Quantity

_Amount = Annotated[float, Meta(ge=0)]

# Of the gaps between a request's tokens some hold nothing but a decode step, and some a prompt that was computed beside
# it. A low quantile is of the former; the lowest are of batches that were not full yet, and of jitter on the way here.
# Simulated (benchmarks/cost_split.py): the truth is near to 10 %, and between 2 % and 50 %, to within 0.01 of a share.
STEP_LEVELS = (0.1, 0.02, 0.5)


class Work(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The work of a point's requests that succeeded, and the time that it took."""

    busy_s: Annotated[_Amount, Meta(description="in which at least one of them was in flight")]
    in_flight: Annotated[_Amount, Meta(description="of them, mean over busy_s")]
    prompts: Annotated[int, Meta(ge=0, description="their number")]
    prefill_tokens: Annotated[
        _Amount, Meta(description="prompt tokens that were computed: without prefix cache hits, where the server tells")
    ]
    decode_tokens: Annotated[_Amount, Meta(description="output tokens after each answer's first, which prefill makes")]
    context_tokens: Annotated[
        _Amount, Meta(description="tokens of context that were read, summed over the decode tokens")
    ]
    decode_steps: Annotated[
        _Amount | None,
        Meta(
            description="steps that the decode tokens shared: each counts 1 / answers that were being made at that "
            "moment; null unless streamed"
        ),
    ]
    decode_step_s: Annotated[
        _Amount | None,
        Meta(
            description="how long a step takes that carries no prompt: p10 of the gaps between an answer's events, a "
            "token; null unless streamed"
        ),
    ]
    decode_step_low_s: Annotated[_Amount | None, Meta(description="the same of their p2")]
    decode_step_high_s: Annotated[_Amount | None, Meta(description="the same of their p50")]
    server_prefill_s: Annotated[
        _Amount | None, Meta(description="the server's own prefill time, summed over requests; null: it does not tell")
    ]
    server_decode_s: Annotated[_Amount | None, Meta(description="likewise of decode")]


def work(records: Records, cached_tokens: int | None) -> Work | None:
    """cached_tokens: prompt tokens out of the server's prefix cache, None where it does not tell.

    None where nothing succeeded, where an answer's length is not known, and where a request is several sequences.
    """
    good = measures.succeeded(records, measures.all_rows(records))
    outputs = records["output_tokens"][good].astype(np.float64)
    if not good.any() or (outputs < 1).any() or not comparable(records):
        return None
    told = records["server_input_tokens"][good]
    inputs = np.where(told == NONE, records["input_tokens"][good], told).astype(np.float64)
    busy_s, in_flight = _busy(records, good)
    prefill_s, decode_s = _server_phases(records, good)
    step_s, step_low_s, step_high_s = _step_s(records, good) or (None, None, None)
    return Work(
        busy_s=busy_s,
        in_flight=in_flight,
        prompts=int(good.sum()),
        prefill_tokens=max(0.0, float(inputs.sum()) - (cached_tokens or 0)),
        decode_tokens=float((outputs - 1).sum()),
        # Token k + 1 attends to the prompt and the k tokens before it, k = 1 … outputs - 1.
        context_tokens=float(((outputs - 1) * inputs + outputs * (outputs - 1) / 2).sum()),
        decode_steps=_steps(records, good),
        decode_step_s=step_s,
        decode_step_low_s=step_low_s,
        decode_step_high_s=step_high_s,
        server_prefill_s=prefill_s,
        server_decode_s=decode_s,
    )


def _busy(records: Records, good: Rows) -> tuple[float, float]:
    """Length of the union of their times from sent to end, s, and how many were in flight in it, mean."""
    starts, ends = records["sent_ns"][good], records["end_ns"][good]
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    reached = np.concatenate(([starts[0]], np.maximum.accumulate(ends)[:-1]))
    busy = float(np.maximum(ends - np.maximum(starts, reached), 0).sum())
    return busy / NS_PER_S, float((ends - starts).sum()) / busy if busy > 0 else 0.0


def _steps(records: Records, good: Rows) -> float | None:
    """A step makes one token of each answer that is being made: each token of n answers counts 1/n. Exact where events
    are of one token each; those of several count so many steps. None without any decode token in events."""
    made = good & (records["first_token_ns"] >= 0) & (np.diff(records.event_start) > 1)
    if not records.context.streaming or not made.any():
        return None
    firsts, lasts = np.sort(records["first_token_ns"][made]), np.sort(records["last_token_ns"][made])
    counted = np.repeat(made, np.diff(records.event_start))
    counted[records.event_start[:-1][made]] = False  # prefill makes the first token
    steps = tokens = 0.0
    for start in range(0, len(counted), CHUNK):
        chosen = counted[start : start + CHUNK]
        times = records.event_ns[start : start + CHUNK][chosen]
        carried = records.event_tokens[start : start + CHUNK][chosen].astype(np.float64)
        answers = np.searchsorted(firsts, times) - np.searchsorted(lasts, times)  # began before, and not over before
        steps += float((carried / np.maximum(answers, 1)).sum())
        tokens += float(carried.sum())
    wanted = float((records["output_tokens"][made] - 1).sum())
    return steps * wanted / tokens if tokens > 0 else None


def _step_s(records: Records, good: Rows) -> tuple[float, float, float] | None:
    """Gaps at STEP_LEVELS, a token; None without gaps."""
    if not records.context.streaming:
        return None
    gaps: NDArray[np.int64] = measures.gaps(records, good).values
    tokens = (measures.tokens_in_events(records) - _first_tokens(records))[good].sum()
    if not len(gaps) or tokens < 1:
        return None
    middle, low, high = (float(gap) / NS_PER_S * len(gaps) / float(tokens) for gap in np.quantile(gaps, STEP_LEVELS))
    return middle, low, high


def _first_tokens(records: Records) -> NDArray[np.int64]:
    """Tokens of each answer's first event, shape (requests,); 0 without events."""
    filled = np.diff(records.event_start) > 0
    tokens = np.zeros(len(records), dtype=np.int64)
    tokens[filled] = records.event_tokens[records.event_start[:-1][filled]]
    return tokens


def _server_phases(records: Records, good: Rows) -> tuple[float | None, float | None]:
    """Prefill and decode, s, by what every answer says, else by the server's histograms."""
    prefill, decode = (records[f"server_{phase}_ns"][good] for phase in ("prefill", "decode"))
    if (prefill >= 0).all() and (decode >= 0).all():
        return float(prefill.sum()) / NS_PER_S, float(decode.sum()) / NS_PER_S
    for found in records.context.server_readings:
        both = [found.histograms.get(phase.value) for phase in (Quantity.PREFILL, Quantity.DECODE)]
        if found.unlike is None and all(buckets and math.fsum(buckets.counts) > 0 for buckets in both):
            of_prefill, of_decode = (buckets.total for buckets in both if buckets)
            return of_prefill, of_decode
    return None, None
