"""Looks at a running point: `python -m latency_profile.until_ci`. An Order comes on standard input, Looks go out.

It gives way to everything else on the machine (nice 10), and pauses nine times as long as it has worked, so that it
takes a tenth of a core at most; what it then has not read, it reads later, and if it falls behind it follows fewer
requests. A look that comes late ends the point later, and does nothing else.
"""

import select
import sys
import time

import msgspec

from latency_profile.children import order_to_follow
from latency_profile.sender.clock import now_ns
from latency_profile.until_ci.precision import precision, reached
from latency_profile.until_ci.tail import Order, Tail
from latency_profile.until_ci.watch import Look

LARGEST_SHARE = 0.1  # of a core
SHORTEST_PAUSE_S = 0.1  # spools are written to as often
# A look costs milliseconds; there is one for every so many new requests, a share of those that were there already.
NEW_SHARE = 0.02
FIRST_LOOK = 50  # requests: fewer are bounded by nothing, at any level
BEHIND_NS = 2_000_000_000
# Requests that are in flight at the stop still change the intervals a little: what is known so much better stays known.
MARGIN = 0.95


def follow(order: Order) -> None:
    """Until it is enough, or standard input ends."""
    tail = Tail(order)
    looks = looked_at = 0
    thinned_ns = 0
    while True:
        began = time.process_time()
        more = tail.read()
        now = now_ns()
        if more and now - max(tail.seen_ns, thinned_ns) > BEHIND_NS:
            tail.thin()
            thinned_ns = now
            looked_at //= 2
        if tail.requests >= max(FIRST_LOOK, looked_at * (1 + NEW_SHARE)):
            looked_at = tail.requests
            looks += 1
            known = precision(tail.samples(), order.target)
            enough = reached(known, order.target * MARGIN)
            sys.stdout.buffer.write(msgspec.json.encode(Look(looks, enough)) + b"\n")
            sys.stdout.flush()
            if enough:
                break
        pause = (time.process_time() - began) * (1 / LARGEST_SHARE - 1)
        if select.select([0], [], [], pause if more else max(pause, SHORTEST_PAUSE_S))[0]:
            break
    tail.close()


def main() -> None:
    if (order := order_to_follow(Order)) is not None:
        follow(order)


main()
