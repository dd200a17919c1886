"""What the process is told that looks at a running probe."""

import msgspec

from latency_profile.capacity.probe import Running
from latency_profile.until_ci.tail import Order


class Probing(msgspec.Struct, frozen=True, kw_only=True):
    """A probe, and what it is to tell."""

    order: Order
    probe: Running
