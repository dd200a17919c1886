"""The server's own /metrics: read at the edges of each point, and once a second in between."""

import time
from collections.abc import Sequence

from latency_profile.errors import ServerUnavailable
from latency_profile.telemetry.common import counter_samples, readings
from latency_profile.telemetry.deltas import summaries
from latency_profile.telemetry.doors import Door, NoMetrics
from latency_profile.telemetry.readings import COUNTED_S
from latency_profile.telemetry.told import Told
from latency_profile.telemetry.vocabulary import Metric, Quantity, metrics_of
from latency_profile.telemetry.watch import EDGE_TIMEOUT_S, Watch

DRAIN_S = 2.0  # how long it may still say that requests run which have been answered
DRAIN_PAUSE_S = 0.2


class DirectSource:
    """Of all processes that the doors lead to."""

    def __init__(self, doors: Sequence[Door], backend: str, models: Sequence[str] = ()) -> None:
        self._doors, self._backend, self._models = doors, backend, models
        self._known: tuple[Metric, ...] = metrics_of(backend)
        self._watch: Watch | None = None

    def check(self) -> None:
        names: set[str] = set()
        for door in self._doors:
            try:
                for address in door.addresses():
                    names |= door.look(time.time(), EDGE_TIMEOUT_S, address).families.keys()
            except NoMetrics as error:
                raise ServerUnavailable(f"no server metrics from {error}") from error
        self._known = metrics_of(self._backend, frozenset(names))

    def point_started(self) -> None:
        self.point_abandoned()
        self._watch = Watch(self._doors, counter_samples(self._known), self._models)
        self._watch.begin()

    def used(self) -> None:
        """Nothing: a point's first look is taken when it begins."""

    def point_abandoned(self) -> None:
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    def point_finished(self, start_unix_s: float, end_unix_s: float) -> Told:
        """Waits until the server says that nothing runs any more, if it says that at all: it is then fully counted."""
        watch = self._watch
        if watch is None:
            return Told({}, None, ["server metrics of this point are missing: no point has begun"])
        watch.end()
        self._watch = None
        time.sleep(COUNTED_S)
        deadline = time.monotonic() + DRAIN_S
        watch.look()
        while self._busy(watch, start_unix_s) and time.monotonic() < deadline:
            time.sleep(DRAIN_PAUSE_S)
            watch.look()
        if not watch.replicas:
            why = "; ".join(watch.failures.values()) or "nobody was there"
            return Told({}, None, [f"server metrics of this point are missing: {why}"])
        metrics, notices = summaries(watch.replicas, start_unix_s, end_unix_s)
        notices += [f"no server metrics at the end of the point: {why}" for why in watch.failures.values()]
        lacking = "; ".join(watch.failures.values()) or None
        found = readings("direct", self._known, watch.replicas, start_unix_s, lacking=lacking)
        if found is not None and found.missing:
            notices.append(f"the server's metrics lack {', '.join(found.missing)}")
        return Told(metrics, found, notices)

    def _busy(self, watch: Watch, start_unix_s: float) -> bool:
        found = readings("direct", self._known, watch.replicas, start_unix_s)
        if found is None:
            return False
        return any((found.gauges.get(gauge) or [0.0])[-1] for gauge in (Quantity.RUNNING.value, Quantity.WAITING.value))
