"""The loop of a process that looks at a running point: reads what is new, looks, and rests.

It gives way to everything else on the machine (nice 10), and pauses nine times as long as it has worked, so that it
takes a tenth of a core at most; what it then has not read, it reads later, and if it falls behind it follows fewer
requests. A look that comes late ends the point later, and does nothing else.
"""

import select
import sys
import time
from typing import Protocol

import msgspec

from latency_profile.sender.clock import now_ns
from latency_profile.until_ci.tail import Order, Tail
from latency_profile.until_ci.watch import Look

LARGEST_SHARE = 0.1  # of a core
SHORTEST_PAUSE_S = 0.1  # spools are written to as often
BEHIND_NS = 2_000_000_000


class Sight(Protocol):
    """What is looked for."""

    def due(self, tail: Tail) -> bool:
        """Whether enough is new for another look, which costs milliseconds."""

    def enough(self, tail: Tail) -> bool:
        """Whether nothing more needs to be sent."""

    def thinned(self) -> None:
        """From now on every second request is followed."""


def follow(order: Order, sight: Sight) -> None:
    """Until it is enough, or standard input ends. A Look goes to standard output each time."""
    tail = Tail(order)
    looks = 0
    thinned_ns = 0
    while True:
        began = time.process_time()
        more = tail.read()
        now = now_ns()
        if more and now - max(tail.seen_ns, thinned_ns) > BEHIND_NS:
            tail.thin()
            thinned_ns = now
            sight.thinned()
        if sight.due(tail):
            looks += 1
            enough = sight.enough(tail)
            sys.stdout.buffer.write(msgspec.json.encode(Look(looks, enough)) + b"\n")
            sys.stdout.flush()
            if enough:
                break
        pause = (time.process_time() - began) * (1 / LARGEST_SHARE - 1)
        if select.select([0], [], [], pause if more else max(pause, SHORTEST_PAUSE_S))[0]:
            break
    tail.close()
