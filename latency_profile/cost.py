"""What tokens cost, from the price of the machines that served them. Pure."""

from typing import Annotated

import msgspec
from msgspec import Meta

from latency_profile.rates import Rates

SECONDS_PER_HOUR = 3600
MILLION = 1e6

_PER_MILLION = (
    "the machines' whole price over the {} of the measured window; null where there were none or the verdict bars it"
)


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices in USD. Each figure spreads the whole price over its own kind of token: they are not to be added."""

    machine_cost_per_hour_usd: Annotated[
        float, Meta(ge=0, description="price of all machines that served, USD an hour")
    ]
    usd_per_million_input_tokens: Annotated[float | None, Meta(description=_PER_MILLION.format("input tokens"))]
    usd_per_million_output_tokens: Annotated[float | None, Meta(description=_PER_MILLION.format("output tokens"))]
    usd_per_million_total_tokens: Annotated[
        float | None, Meta(description=_PER_MILLION.format("input and output tokens"))
    ]


def usd_per_million(price_per_hour_usd: float, tokens_per_s: float) -> float | None:
    """USD per million tokens at a throughput; None where nothing was served."""
    if tokens_per_s <= 0:
        return None
    return price_per_hour_usd / SECONDS_PER_HOUR / tokens_per_s * MILLION


def cost(price_per_hour_usd: float | None, rates: Rates | None, usable: bool) -> Cost | None:
    """The cost of a point; None without a price, without figures where the point must not be used."""
    if price_per_hour_usd is None:
        return None
    inputs, outputs = (rates.input_tokens, rates.output_tokens) if rates is not None and usable else (0.0, 0.0)
    return Cost(
        machine_cost_per_hour_usd=float(price_per_hour_usd),
        usd_per_million_input_tokens=usd_per_million(price_per_hour_usd, inputs),
        usd_per_million_output_tokens=usd_per_million(price_per_hour_usd, outputs),
        usd_per_million_total_tokens=usd_per_million(price_per_hour_usd, inputs + outputs),
    )
