"""How two pods' clocks stand to each other, from documents that one wrote and the other read. Pure.

A document is read after it was written. Shard k stamps one with its clock, shard 0 sees it and stamps that with its
own; shard 0 stamps one, and k sees that: two inequalities that hold the difference of the clocks between them, whatever
the store's delays are (F. Cristian, Probabilistic clock synchronization, 1989). Nothing is asked of the store's own
clock, which buckets tell in whole seconds and folders by whichever machine they are on.
"""

from latency_profile.shards.structure import Bounds

NS_PER_S = 1e9


def bounds_s(written_ns: int, seen_ns: int, started_ns: int, read_ns: int) -> Bounds:
    """Shard 0's clock minus shard k's: least and greatest, s. Of realtime clocks, Unix ns:

    written_ns: k's, before it wrote that it is there; seen_ns: shard 0's, after it had read that; started_ns: shard
    0's, before it wrote the start; read_ns: k's, after it had read that.
    """
    return (started_ns - read_ns) / NS_PER_S, (seen_ns - written_ns) / NS_PER_S


def correction_s(known: Bounds | None) -> float:
    """What to take for the difference: none while the clocks agree as far as one can tell, else the middle."""
    if known is None or known[0] <= 0 <= known[1]:
        return 0.0
    return (known[0] + known[1]) / 2


def error_s(known: Bounds) -> float:
    """The most that the difference may be."""
    return max(abs(known[0]), abs(known[1]))
