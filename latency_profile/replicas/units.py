"""Loads of a plan, which are requests/s or requests in flight. Pure."""

from latency_profile.capacity.structure import Of
from latency_profile.capacity.text import UNITS

NOUNS = {Of.RATE: "rate", Of.CONCURRENCY: "concurrency"}
STEPS = {Of.RATE: 0.0, Of.CONCURRENCY: 1.0}  # from one load to the next: users come whole


def load_text(load: float, of: Of) -> str:
    return f"{load:.4g} {UNITS[of]}"
