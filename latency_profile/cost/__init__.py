"""What tokens cost, from the price of the machines that served them. Pure but for the command.

Two kinds of figures, which are never mixed. Each kind of token alone: the machines' whole price over the input tokens,
over the output tokens, and over both; they are not to be added. A split: the whole price is divided between input and
output by a stated method, and the two add up to it (`split`, `regression`).
"""

from latency_profile.cost.per_token import Cost, WithIdle, cost, digits, usd_per_million
from latency_profile.cost.split import MILLION, SECONDS_PER_HOUR, Estimate, Split, phases
from latency_profile.cost.work import Work, work

__all__ = [
    "MILLION",
    "SECONDS_PER_HOUR",
    "Cost",
    "Estimate",
    "Split",
    "WithIdle",
    "Work",
    "cost",
    "digits",
    "phases",
    "usd_per_million",
    "work",
]
