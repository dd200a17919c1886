"""Stores a running point in parts: `python -m latency_profile.chunks`. An Order comes in, a Done goes out, as JSON.

It gives way to everything else on the machine (nice 10) and rests nine times as long as it has worked. It ends with the
line "end", when the records are whole; where its parent is gone without one, it stores what is left first.
"""

import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from latency_profile.children import order_to_follow
from latency_profile.chunks.follow import Growing
from latency_profile.chunks.structure import BODIES, FILES, NOTE, Done, Order, part_name
from latency_profile.errors import ProfileError
from latency_profile.storage import Store

EVERY_S = 5.0  # what was measured since then is lost with the machine
LARGEST_SHARE = 0.1  # of a core
END = b"end\n"


class _Follower:
    def __init__(self, order: Order) -> None:
        self._order, self._folder = order, Path(order.folder)
        self._stores: list[Store] = [place.open() for place in order.places]
        self._spools: dict[int, Growing] = {}
        self._files: set[str] = set()
        self._parts = self._bytes = 0

    def store(self) -> Done:
        """All that is new. One failure ends this try; the next begins where it failed."""
        try:
            self._store_files(FILES)
            self._store_spools()
            self._store_files([BODIES])
        except ProfileError as error:
            return Done(parts=self._parts, stored_bytes=self._bytes, failure=str(error))
        return Done(parts=self._parts, stored_bytes=self._bytes)

    def _store_files(self, names: Sequence[str]) -> None:
        for name in names:
            path = self._folder / name
            if name not in self._files and path.exists():
                for store in self._stores:
                    store.put_file(f"{self._order.prefix}{name}", path)
                self._files.add(name)

    def _store_spools(self) -> None:
        for path in self._folder.glob("spool-*"):
            self._spools.setdefault(int(path.name.rpartition("-")[2]), Growing(path, self._order.secrets))
        for number, spool in self._spools.items():
            while data := spool.next():
                for store in self._stores:
                    store.put(f"{self._order.prefix}{part_name(number, spool.parts + 1)}", data, own=True)
                spool.taken()
                self._parts += 1
                self._bytes += len(data)

    @property
    def started(self) -> bool:
        return (self._folder / NOTE).exists()


def follow(order: Order) -> Done:
    """Until the line "end", or standard input's end."""
    follower = _Follower(order)
    done = Done(parts=0, stored_bytes=0)
    while True:
        began = time.process_time()
        if follower.started:
            done = follower.store()
        pause = max(EVERY_S, (time.process_time() - began) * (1 / LARGEST_SHARE - 1))
        if select.select([0], [], [], pause)[0]:
            return done if sys.stdin.buffer.readline() == END else follower.store()


def _load() -> None:
    import google.cloud.storage  # noqa: F401  (a second of work that nobody should have to wait for later)


def main() -> None:
    if (order := order_to_follow(Order, _load)) is not None:
        sys.stdout.buffer.write(msgspec.json.encode(follow(order)) + b"\n")


main()
