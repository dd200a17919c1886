"""The loop's own turns: how long each took, and whether the next one should wait until there is more to do.

To be woken for each event costs more than to read: at 50,000 events/s a bare loop took 13 µs an event on a virtual
machine, and 9 with rests. What has come is safe in the kernel with its time on it. So where events come so fast that
waking for each would take a good part of a core, the loop sleeps for REST_NS between two looks, and reads what has come
together. An event waits that long at most, a quarter of what would count as read late; requests do not wait at all: no
rest goes beyond the next due time.
"""

import time

from latency_profile.sender.clock import now_ns

REST_NS = 250_000
RESTFUL_READS_PER_S = 8_000  # woken for each, a tenth of a core and more
WAKING_NS = 150_000  # a sleep may last so much longer than it should
STALL_NS = 5_000_000  # a turn so long could be felt in an answer's gaps


class Turns:
    """Asked before each turn to `rest`, told after each what it took."""

    def __init__(self) -> None:
        self.longest_ns = 0
        self.stalls = 0  # turns of STALL_NS and more
        self.stalled_ns = 0  # these together
        self._restful = False
        self._reads = 0
        self._looked_ns = now_ns()

    def rest(self, next_due_ns: int) -> None:
        """Lets events gather, where they come fast, but not beyond `next_due_ns`."""
        if self._restful and next_due_ns - now_ns() > REST_NS + WAKING_NS:
            time.sleep(REST_NS / 1e9)

    def took(self, ns: int) -> None:
        self.longest_ns = max(self.longest_ns, ns)
        if ns >= STALL_NS:
            self.stalls += 1
            self.stalled_ns += ns

    def look(self, reads: int) -> None:
        """Decides anew, by the reads since the last look. `reads`: of the point so far."""
        now = now_ns()
        self._restful = reads - self._reads > RESTFUL_READS_PER_S * (now - self._looked_ns) / 1e9
        self._reads, self._looked_ns = reads, now
