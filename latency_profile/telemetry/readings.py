"""What was read of a server over one point, in the common vocabulary: kept in the records, results are made of it."""

from typing import Literal

import msgspec

Source = Literal["direct", "prometheus", "google"]
COUNTED_S = 0.3  # a server counts a request a moment after its last byte


class Buckets(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram of what was observed within the point."""

    bounds: list[float]  # upper, ascending, inclusive; without the last one, which is infinite
    counts: list[float]  # observations in each bucket, not cumulated; one more than bounds
    total: float  # sum of the observed values


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One process behind the server's address. Times in s since the point's start."""

    name: str  # host:port, or a Prometheus' instance
    looks: int
    first_s: float | None  # of its looks; None where there is none, or the source does not tell
    last_s: float | None
    restarts_s: list[float]  # of the looks at which they showed
    counters: dict[str, float]  # increases, by quantity


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """All replicas of a server. Quantities are those of telemetry.vocabulary, times in s since the point's start."""

    source: Source
    start_s: float  # what counters and histograms cover: from the last look before the point
    end_s: float  # to the first one after it
    names: dict[str, list[str]]  # the server's own names of each quantity
    missing: list[str]  # quantities that this kind of server usually has, and this one does not
    replicas: list[Replica]
    models: list[str]  # as the server's metrics call them
    counters: dict[str, float]  # increases, over all replicas
    histograms: dict[str, Buckets]  # over all replicas
    times_s: list[float]  # of the looks at all replicas together
    gauges: dict[str, list[float | None]]  # at each of them, over all replicas; None where one was not read
    totals: dict[str, list[float | None]]  # how much each counter had grown by then
    at_least: str | None  # why increases may lack something; None: they are exact
    earlier_s: float | None = None  # when this client's last request before the point had ended, where that is known
    unlike: str | None = None  # why increases mean nothing and are left out; None: they mean something
