"""The machines' price divided between input and output tokens, by one point's own figures. Pure.

    price = input tokens · $ an input token + output tokens · $ an output token

so that, otherwise than the figures of each kind of token alone, the two are to be added. Methods:

measured        the server's own prefill and decode time, summed over requests. Requests of one batch are computed
                together, and their seconds overlap (decode's more, its batches are larger): they are no machine time,
                and only their ratio is used. Right where requests came one at a time; else decode is overstated.
                Offline (`phases`): runs that only prefill against full ones, which is machine time.
gaps            decode = the steps that carried decode tokens · the time of one that carries no prompt, both seen in the
                answers' events. All other time in which a request was in flight is prefill's, its way to the server
                with it: at low loads that is a share too high. Its range is that of p2 to p50 of the gaps; jitter on
                the way from the server makes it wide.
regression      see `regression`.
convention-1:4  an output token costs as much as 4 input tokens, whatever was served: GKE's convention (GKE Recommender
                API v1, Cost: $/output token = $/s / (input tokens/s / 4 + output tokens/s)).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from latency_profile.cost.work import Work

Method = Literal["measured", "gaps", "regression", "convention-1:4"]
CONVENTION = 4.0  # an output token's cost in input tokens
ALONE = 1.1  # requests in flight, mean: up to here their seconds are machine time
SECONDS_PER_HOUR = 3600
MILLION = 1e6


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure and the 95 % interval of its truth (of `gaps` a range); null where the method gives none."""

    value: float
    low: float | None = None
    high: float | None = None


class Split(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole price divided by one method. Null where it cannot tell; `reason` says why."""

    method: Method
    prefill_share: Annotated[Estimate | None, Meta(description="of the machines' time, and so of the price")]
    usd_per_million_input_tokens: Estimate | None
    usd_per_million_output_tokens: Estimate | None
    reason: Annotated[str | None, Meta(description="why there are no figures; null where there are")]
    remark: Annotated[str | None, Meta(description="what one should know before one uses them; mostly null")]


def phases(
    price_per_hour_usd: float, prefill_s: float, total_s: float, input_tokens: float, output_tokens: float
) -> Split:
    """The split of an offline engine, by measured phases.

    prefill_s: machine time of the run that stops behind each prompt (its one output token comes with it); total_s: of
    the full run over the same prompts. Tokens are of the full run. Figures are None where a run that does less took
    longer, and where there were no tokens of a kind. Raises ValueError for a price or time that is not above 0.
    """
    if price_per_hour_usd <= 0 or total_s <= 0 or prefill_s <= 0:
        raise ValueError(f"price {price_per_hour_usd}, prefill {prefill_s} s, total {total_s} s: each must be above 0")
    if prefill_s > total_s:
        return no_split("measured", f"prefill alone took {prefill_s:.3g} s, and the full run {total_s:.3g} s")
    rates = input_tokens / total_s, output_tokens / total_s
    return divided("measured", price_per_hour_usd, Estimate(value=prefill_s / total_s), *rates)


def splits(price_per_hour_usd: float, inputs_per_s: float, outputs_per_s: float, done: Work | None) -> list[Split]:
    """The splits that one point gives by itself. Throughput of its window, tokens/s."""
    rates = inputs_per_s, outputs_per_s
    measured = _of_point("measured", price_per_hour_usd, measured_share(done), *rates)
    if done is not None and measured.reason is None and done.in_flight > ALONE:
        measured = msgspec.structs.replace(
            measured,
            remark="several requests were in flight at a time (work.in_flight), and their seconds overlap, decode's "
            "more than prefill's: decode is overstated",
        )
    return [
        measured,
        _of_point("gaps", price_per_hour_usd, gaps_share(done), *rates),
        convention(price_per_hour_usd, *rates),
    ]


def measured_share(done: Work | None) -> Estimate | str:
    """Prefill's share of the server's own time; a reason where there is none."""
    if done is None:
        return _UNKNOWN_WORK
    if done.server_prefill_s is None or done.server_decode_s is None:
        return "the server tells no prefill and decode time (--scrape-server-metrics reads it where it does)"
    total = done.server_prefill_s + done.server_decode_s
    if total <= 0:
        return "the server's prefill and decode time are 0"
    return Estimate(value=done.server_prefill_s / total)


def gaps_share(done: Work | None) -> Estimate | str:
    """Prefill's share of the time in which requests were in flight, and its range; a reason where there is none."""
    if done is None:
        return _UNKNOWN_WORK
    steps_s = (done.decode_step_s, done.decode_step_low_s, done.decode_step_high_s)
    if done.decode_steps is None or None in steps_s:
        return "answers of one event have no gaps (--stream-request)"
    decode, least, most = (done.decode_steps * (step_s or 0.0) / done.busy_s for step_s in steps_s)
    if decode > 1:
        return f"steps without a prompt would have taken {decode * done.busy_s:.3g} s of {done.busy_s:.3g} s"
    return Estimate(value=1 - decode, low=max(0.0, 1 - most), high=1 - least)


def convention(price_per_hour_usd: float, inputs_per_s: float, outputs_per_s: float) -> Split:
    weighted = inputs_per_s + CONVENTION * outputs_per_s
    if weighted <= 0:
        return no_split("convention-1:4", "no tokens were received")
    share = inputs_per_s / weighted
    return divided("convention-1:4", price_per_hour_usd, Estimate(value=share), inputs_per_s, outputs_per_s)


def divided(
    method: Method, price_per_hour_usd: float, prefill: Estimate, inputs_per_s: float, outputs_per_s: float
) -> Split:
    """prefill: its share of the machines' time. Decode has the rest, with the same interval from its other end."""
    if inputs_per_s <= 0 or outputs_per_s <= 0:
        kind = "input" if inputs_per_s <= 0 else "output"
        return no_split(method, f"no {kind} tokens were received")
    usd_per_s = price_per_hour_usd / SECONDS_PER_HOUR
    of_input, of_output = (usd_per_s * MILLION / rate for rate in (inputs_per_s, outputs_per_s))
    decode = Estimate(
        value=1 - prefill.value,
        low=None if prefill.high is None else 1 - prefill.high,
        high=None if prefill.low is None else 1 - prefill.low,
    )
    return Split(
        method=method,
        prefill_share=prefill,
        usd_per_million_input_tokens=_times(prefill, of_input),
        usd_per_million_output_tokens=_times(decode, of_output),
        reason=None,
        remark=None,
    )


def no_split(method: Method, reason: str) -> Split:
    return Split(
        method=method,
        prefill_share=None,
        usd_per_million_input_tokens=None,
        usd_per_million_output_tokens=None,
        reason=reason,
        remark=None,
    )


_UNKNOWN_WORK = "the point's work is not known"


def _of_point(method: Method, price_per_hour_usd: float, share: Estimate | str, *rates: float) -> Split:
    if isinstance(share, str):
        return no_split(method, share)
    return divided(method, price_per_hour_usd, share, *rates)


def _times(share: Estimate, usd: float) -> Estimate:
    return Estimate(
        value=share.value * usd,
        low=None if share.low is None else share.low * usd,
        high=None if share.high is None else share.high * usd,
    )
