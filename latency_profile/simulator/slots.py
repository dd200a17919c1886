"""Equal slots before one first-come-first-served queue, as the arrivals make it: M/D/c or M/M/c. Virtual time only."""

import random
from dataclasses import dataclass
from heapq import heapreplace
from typing import Literal


@dataclass(frozen=True, slots=True)
class SlotProfile:
    """`servers` slots; a request takes one for `service_ns`: exactly, or on average."""

    service_ns: int
    servers: int = 1
    service: Literal["fixed", "exponential"] = "fixed"


class Slots:
    """Departure = max(arrival, earliest free slot) + S. With one slot these are Lindley's recursion's departures."""

    def __init__(self, profile: SlotProfile, seed: int = 0) -> None:
        self._profile = profile
        self._free = [0] * profile.servers  # heap: when each slot is free again
        self._random = random.Random(seed)

    def take(self, arrival_ns: int) -> tuple[int, int]:
        """When the service of the next arrival begins and ends, ns."""
        start_ns = max(arrival_ns, self._free[0])
        service_ns = self._profile.service_ns
        if self._profile.service == "exponential":
            service_ns = round(self._random.expovariate(1 / service_ns))
        heapreplace(self._free, start_ns + service_ns)
        return start_ns, start_ns + service_ns
