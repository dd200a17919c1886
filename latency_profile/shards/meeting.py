"""How the shards of a run find each other, start together, and hand in their records: through the results store.

Nothing is asked of the store while a point is being sent. Every document is written once, so that a pod that comes back
reads where the others are.
"""

import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.sender.clock import clock_pair
from latency_profile.shards import clock, documents
from latency_profile.shards.agreement import check_same
from latency_profile.shards.documents import Card, Ready, Run, Start
from latency_profile.shards.structure import Bounds
from latency_profile.storage import NotAllowed, Store

NS_PER_S = 1_000_000_000
# Between two looks, at first and at most: each is a request to a bucket, and a late look makes the clocks' bounds wide.
POLL_S = 0.1
LONGEST_POLL_S = 0.5
# From the start document to the start: for every shard to read it and to open its connections.
START_LEAD_S = 3.0
SAID_AFTER = 20  # looks without success
# A shard waits for shard 0, which may be waiting for a third one, and has results to store.
FOLLOWERS_PATIENCE = 3
# After a signal there is no time to wait for others: a pod has 30 s, a preempted one 15.
PATIENCE_AFTER_SIGNAL_S = 5.0

_SHARD = re.compile(r"(?:ready-|shard-)(\d+)\.(?:json|records\.npz)")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Begin:
    """When this shard begins a point."""

    at_ns: int  # the point's start, on this machine's monotonic clock; in the past for one that comes late
    late_s: float
    clock_s: Bounds | None  # shard 0's clock minus this one's, less what was corrected; None: not known


class Meeting:
    """One shard's side of it. `folder` is the run's, in the store ("" or "run-id/"); `stopped` says that a signal came;
    waiting ends then."""

    def __init__(
        self,
        store: Store,
        folder: str,
        *,
        index: int,
        shards: int,
        timeout_s: float,
    ) -> None:
        self._store, self._folder = store, folder
        self.index, self.shards, self._timeout_s = index, shards, timeout_s
        self.stopped: Callable[[], bool] = lambda: False
        self.say: Callable[[str], None] = lambda _: None
        self.agreement: dict[str, Any] = {}  # what all shards must have in common
        self._card: Card | None = None
        self._nonce = ""

    @property
    def leads(self) -> bool:
        """Shard 0 says when a point starts, and judges the whole."""
        return self.index == 0

    @property
    def card(self) -> Card:
        """Of this pod; once it has joined."""
        assert self._card is not None
        return self._card

    @property
    def attempt(self) -> str:
        """A name that no other shard has, nor another attempt of this one."""
        return f"{self._nonce}-{self.index}.{self.card.attempt}"

    # -- before the first point ---------------------------------------------------------------------------------------

    def join(self, nonce: str) -> str:
        """Says that this pod is there, and returns the run's nonce: `nonce` of shard 0's first attempt.

        Raises UsageError where the run has another number of shards or the store cannot be read, ServerUnavailable
        where shard 0 does not come.
        """
        try:
            if self.leads:
                self._create(documents.run_name(), Run(shards=self.shards, nonce=nonce))
            run = self._wait(documents.run_name(), Run, "shard 0 to come")
        except NotAllowed as error:
            raise UsageError(
                f"--shards: shards meet in the results' store, and this run may not read or list there ({error}); it "
                f"takes an account that may, as roles/storage.objectUser"
            ) from None
        if run is None:
            raise ServerUnavailable("stopped before shard 0 came")
        if run.shards != self.shards:
            raise UsageError(f"--shards: got {self.shards}, takes the {run.shards} that this run id was begun with")
        attempt = 0
        while True:
            attempt += 1
            unix_ns, monotonic_ns = clock_pair()
            card = Card(
                shard=self.index,
                host=socket.gethostname(),
                attempt=attempt,
                unix_ns=unix_ns,
                monotonic_ns=monotonic_ns,
            )
            if self._create(documents.card_name(self.index, attempt), card):
                self._card, self._nonce = card, run.nonce
                return run.nonce

    # -- a point's start ----------------------------------------------------------------------------------------------

    def over(self, point: int) -> bool:
        """Whether there is nothing left for this shard to do at that point: it was here before."""
        if self._there(documents.merged_name(point)):
            return True
        if self.leads:
            return False
        return self.handed_in(point) or self._there(documents.start_name(point + 1))

    def handed_in(self, point: int) -> bool:
        """Whether this shard's records are in the store."""
        return self._there(documents.records_name(point, self.index))

    def meet(self, point: int) -> Begin | None:
        """Waits until the point is to start. None where a signal came before.

        Raises UsageError where shards do not agree on what they send, ServerUnavailable where shard 0 does not come.
        """
        start = self._get(documents.start_name(point), Start)
        written_ns = time.time_ns()
        ready = Ready(card=self.card, unix_ns=written_ns, agreement=self.agreement)
        first = self._create(documents.ready_name(point, self.index), ready)
        in_time = start is None and first  # else shard 0 saw an earlier attempt, or nobody
        if start is None and self.leads:
            start = self._lead(point)
        elif start is None:
            start = self._wait(documents.start_name(point), Start, f"shard 0 to start point {point + 1}")
        if start is None:
            return None
        read_ns, monotonic_ns = clock_pair()
        if start.refused:
            raise UsageError(start.refused)
        check_same(self.index, self.agreement, 0, start.agreement)
        known: Bounds | None = (0.0, 0.0) if self.leads else None
        if in_time and not self.leads and self.index in start.seen_ns:
            known = clock.bounds_s(written_ns, start.seen_ns[self.index], start.unix_ns, read_ns)
        correction_s = clock.correction_s(known)
        at_ns = monotonic_ns + start.start_unix_ns - round(correction_s * NS_PER_S) - read_ns
        if known is not None:
            known = (known[0] - correction_s, known[1] - correction_s)
        return Begin(at_ns, max(0.0, (monotonic_ns - at_ns) / NS_PER_S), known)

    def _lead(self, point: int) -> Start | None:
        """Waits for the others and says when the point starts. Those who measured the point before are waited for, at
        the first point all; None where a signal came."""
        expected = set(range(self.shards)) if not point else self._shards_of(point - 1, "shard-") | {0}
        seen_ns: dict[int, int] = {}
        refused = None
        deadline = time.monotonic() + self._timeout_s
        pauses = _pauses()
        said = False
        while True:
            new = self._shards_of(point, "ready-") - seen_ns.keys()
            now_ns = time.time_ns()  # after they were seen: clock.py goes by that
            for shard in sorted(new):
                seen_ns[shard] = now_ns
                other = self._get(documents.ready_name(point, shard), Ready)
                if other is not None and refused is None:
                    refused = _difference(self.agreement, shard, other.agreement)
            missing = sorted(expected - seen_ns.keys())
            if refused or not missing:
                break
            if self.stopped():
                return None
            if time.monotonic() > deadline:
                self.say(f"{_named(missing)} not there after {self._timeout_s:g} s: the point starts without")
                break
            if not said:
                self.say(f"waiting for {_named(missing)}")
                said = True
            time.sleep(next(pauses))
        unix_ns = time.time_ns()
        start = Start(
            start_unix_ns=unix_ns + round(START_LEAD_S * NS_PER_S),
            unix_ns=unix_ns,
            seen_ns=seen_ns,
            agreement=self.agreement,
            refused=refused,
        )
        if self._create(documents.start_name(point), start):
            return start
        return self._get(documents.start_name(point), Start)

    # -- a point's end ------------------------------------------------------------------------------------------------

    def hand_in(self, point: int, path: Path) -> str:
        """Stores this shard's records of the point; where."""
        return self._store.put_file(self._folder + documents.records_name(point, self.index), path)

    def gather(self, point: int, folder: Path) -> list[Path]:
        """Waits for the records of all shards that were at the point, or until the deadline; copies of them."""
        patience_s = min(self._timeout_s, PATIENCE_AFTER_SIGNAL_S) if self.stopped() else self._timeout_s
        deadline = time.monotonic() + patience_s
        pauses = _pauses()
        while missing := self._shards_of(point, "ready-") - (there := self._shards_of(point, "shard-")):
            if time.monotonic() > deadline:
                self.say(f"no records of {_named(sorted(missing))} after {patience_s:g} s: merged without")
                break
            if self.stopped():
                deadline = min(deadline, time.monotonic() + PATIENCE_AFTER_SIGNAL_S)
            time.sleep(next(pauses))
        paths = []
        for shard in sorted(there):
            data = self._store.get(self._folder + documents.records_name(point, shard))
            if data is not None:
                paths.append(folder / f".point-{point}-shard-{shard}.records.npz")
                paths[-1].write_bytes(data)
        return paths

    def merged(self, point: int, what: msgspec.Struct) -> None:
        """Says that the point is judged: who comes back need not measure it."""
        self._create(documents.merged_name(point), what)

    # -- the store ----------------------------------------------------------------------------------------------------

    def _create(self, name: str, document: msgspec.Struct) -> bool:
        return self._store.create(self._folder + name, msgspec.json.encode(document) + b"\n")

    def _get(self, name: str, kind: type[_T]) -> _T | None:
        data = self._store.get(self._folder + name)
        return None if data is None else msgspec.json.decode(data, type=kind)

    def _there(self, name: str) -> bool:
        return self._folder + name in self._store.list(self._folder + name)

    def _wait(self, name: str, kind: type[_T], what: str) -> _T | None:
        """The document, as soon as it is there; None where a signal came before."""
        patience_s = self._timeout_s * FOLLOWERS_PATIENCE
        deadline = time.monotonic() + patience_s
        for number, pause_s in enumerate(_pauses()):
            found = self._get(name, kind)
            if found is not None or self.stopped():
                return found
            if time.monotonic() > deadline:
                raise ServerUnavailable(f"waited {patience_s:g} s for {what}")
            if number == SAID_AFTER:
                self.say(f"waiting for {what}")
            time.sleep(pause_s)
        raise AssertionError("pauses do not end")

    def _shards_of(self, point: int, kind: str) -> set[int]:
        folder = self._folder + documents.point_folder(point)
        names = (name.removeprefix(folder) for name in self._store.list(folder + kind))
        return {int(found[1]) for name in names if (found := _SHARD.fullmatch(name))}


def _difference(agreement: dict[str, Any], shard: int, other: dict[str, Any]) -> str | None:
    try:
        check_same(shard, other, 0, agreement)
    except UsageError as error:
        return str(error)
    return None


def _pauses() -> Iterator[float]:
    """Seconds between one look and the next, without end."""
    pause_s = POLL_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.1, LONGEST_POLL_S)


def _named(shards: list[int]) -> str:
    return f"shard{'s' if len(shards) > 1 else ''} {', '.join(map(str, shards))}"
