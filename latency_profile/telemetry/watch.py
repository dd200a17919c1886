"""Looks at every replica of a server once a second while a point runs, in a thread of its own.

The thread waits for sockets nearly all of its time; senders are processes of their own and do not notice it. All looks
of one round bear the time at which the round began, so that what the replicas said can be added up.
"""

import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from latency_profile.telemetry.doors import Door, NoMetrics
from latency_profile.telemetry.exposition import Scrape
from latency_profile.telemetry.fold import Folded, process_starts, same_process

PERIOD_S = 1.0
EDGE_TIMEOUT_S = 5.0  # of the looks at a point's edges, which counters need
TIMEOUT_S = 2.0  # of those in between
MOST_AT_ONCE = 16  # replicas that are asked at the same time
RESOLVE_ROUNDS = 5  # host names are looked up every so many rounds


class Watch:
    """Over one point. `begin`, then `end`; what was seen is in `replicas` by the names of their addresses."""

    def __init__(self, doors: Sequence[Door], tracked: Collection[str], models: Collection[str]) -> None:
        self._doors, self._tracked, self._models = doors, tracked, models
        self._places: list[tuple[str, Door, str | None]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="server metrics", daemon=True)
        self._first_s = 0.0
        self._twins: dict[str, frozenset[float]] = {}  # other addresses of a process, by name: when it started
        self.replicas: dict[str, Folded] = {}
        self.failures: dict[str, str] = {}  # by place: why the last look at it failed

    def begin(self) -> None:
        """The first look, and the thread. Where nobody answers it goes on trying."""
        self._resolve()
        self._first_s = time.time()
        self._round(self._first_s, EDGE_TIMEOUT_S)
        self._thread.start()

    def end(self) -> None:
        """Stops the thread; waits for the look that it has begun."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """One more look at all, after `end`."""
        self._resolve()
        self._round(time.time(), EDGE_TIMEOUT_S)

    def _run(self) -> None:
        began = time.monotonic()
        number = 0
        while True:
            elapsed = time.monotonic() - began
            number = int(elapsed / PERIOD_S) + 1  # a round that took long makes no burst of later ones
            if self._over.wait(number * PERIOD_S - elapsed):
                return
            if number % RESOLVE_ROUNDS == 0:
                self._resolve()
            self._round(time.time(), TIMEOUT_S)

    def _resolve(self) -> None:
        """Who is there now. A name that cannot be looked up leaves its replicas as they were."""
        places: list[tuple[str, Door, str | None]] = []
        for door in self._doors:
            try:
                found = door.addresses()
            except NoMetrics as error:
                self.failures[door.url] = str(error)
                places += [place for place in self._places if place[1] is door]
                continue
            self.failures.pop(door.url, None)
            places += [(_name(door, address), door, address) for address in found]
        doors = Counter(name for name, _, _ in places)
        self._places = [
            (name if doors[name] == 1 else f"{name} ({door.url})", door, address) for name, door, address in places
        ]

    def _round(self, at_s: float, timeout_s: float) -> None:
        if len(self._places) == 1:
            looks = [self._look(at_s, timeout_s, *self._places[0])]
        else:
            with ThreadPoolExecutor(max(1, min(len(self._places), MOST_AT_ONCE))) as pool:
                looks = list(pool.map(lambda place: self._look(at_s, timeout_s, *place), self._places))
        taken: list[Scrape] = []
        for (name, _, _), scrape in zip(self._places, looks, strict=True):
            if scrape is None:
                continue
            if name not in self.replicas and any(same_process(scrape, other) for other in taken):
                self._twins[name] = process_starts(scrape)
            if self._twins.get(name) == process_starts(scrape):
                continue
            taken.append(scrape)
            if name not in self.replicas:
                since_s = None if at_s == self._first_s else self._first_s
                self.replicas[name] = Folded(self._tracked, since_s, self._models)
            self.replicas[name].add(scrape)

    def _look(self, at_s: float, timeout_s: float, name: str, door: Door, address: str | None) -> Scrape | None:
        try:
            scrape = door.look(at_s, timeout_s, address)
        except NoMetrics as error:
            self.failures[name] = str(error)
            return None
        self.failures.pop(name, None)
        return scrape


def _name(door: Door, address: str | None) -> str:
    if address is None:
        return door.server.authority
    return f"[{address}]:{door.server.port}" if ":" in address else f"{address}:{door.server.port}"
