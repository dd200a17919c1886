"""What tokens cost at a point, while its machines work and with the time in which they idle. Pure."""

from typing import Annotated

import msgspec
from msgspec import Meta

from latency_profile.cost.split import MILLION, SECONDS_PER_HOUR, Split, splits
from latency_profile.cost.work import Work
from latency_profile.rates import Rates

Utilization = Annotated[float, Meta(gt=0, le=1)]
_PER_MILLION = (
    "the machines' whole price over the {} of the measured window, of answers that succeeded, prompts out of a cache "
    "with them; null where there were none or the verdict bars it"
)
_SPLITS = "the same price divided between input and output, by each method; empty where the verdict bars it"


class _Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    usd_per_million_input_tokens: Annotated[float | None, Meta(description=_PER_MILLION.format("input tokens"))]
    usd_per_million_output_tokens: Annotated[float | None, Meta(description=_PER_MILLION.format("output tokens"))]
    usd_per_million_total_tokens: Annotated[
        float | None, Meta(description=_PER_MILLION.format("input and output tokens"))
    ]
    splits: Annotated[list[Split], Meta(description=_SPLITS)]


class WithIdle(_Figures, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same figures where the machines serve this load for a part of the time that they are paid for, and nothing
    for the rest: each / utilization."""

    utilization: Utilization


class Cost(_Figures, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices in USD. usd_per_million_*: each spreads the whole price over its own kind of token: they are not to be
    added. Those of a split are. Of one of several models: as if the machines had served it alone; the file of all of
    them has what they cost together."""

    machine_cost_per_hour_usd: Annotated[
        float, Meta(gt=0, description="price of all machines that served (--machine-cost), USD an hour")
    ]
    with_idle: Annotated[WithIdle | None, Meta(description="null without --utilization")]


def usd_per_million(price_per_hour_usd: float, tokens_per_s: float) -> float | None:
    """USD per million tokens at a throughput; None where nothing was served."""
    if tokens_per_s <= 0:
        return None
    return price_per_hour_usd / SECONDS_PER_HOUR / tokens_per_s * MILLION


def digits(value: float) -> str:
    """USD in three significant digits, whole from 1000 on."""
    return f"{value:.0f}" if value >= 999.5 else f"{value:.3g}"


def cost(
    price_per_hour_usd: float | None,
    rates: Rates | None,
    usable: bool,
    done: Work | None = None,
    utilization: float | None = None,
) -> Cost | None:
    """The cost of a point; None without a price, without figures where the point must not be used.

    utilization: the share of the paid time in which the machines serve this load, above 0 and at most 1.
    """
    if not price_per_hour_usd:  # runs of earlier versions may have one of 0
        return None
    inputs, outputs = (rates.input_tokens, rates.output_tokens) if rates is not None and usable else (0.0, 0.0)

    def figures(price: float) -> dict[str, float | None]:
        return {
            "usd_per_million_input_tokens": usd_per_million(price, inputs),
            "usd_per_million_output_tokens": usd_per_million(price, outputs),
            "usd_per_million_total_tokens": usd_per_million(price, inputs + outputs),
        }

    def divisions(price: float) -> list[Split]:
        return splits(price, inputs, outputs, done) if inputs + outputs > 0 else []

    price = float(price_per_hour_usd)
    idle = None
    if utilization is not None:
        paid = price / utilization
        idle = WithIdle(utilization=utilization, **figures(paid), splits=divisions(paid))
    return Cost(machine_cost_per_hour_usd=price, **figures(price), splits=divisions(price), with_idle=idle)
