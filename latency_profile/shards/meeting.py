"""How the shards of a run find each other, start together, and hand in their records: through the results store.

Nothing is asked of the store while a point is being sent. Every document is written once, so that a pod that comes back
reads where the others are.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.sender.clock import clock_pair
from latency_profile.shards import clock, documents
from latency_profile.shards.agreement import check_same
from latency_profile.shards.documents import Card, Cut, Ready, Round, Run, Start
from latency_profile.shards.papers import Papers, pauses
from latency_profile.shards.structure import Bounds
from latency_profile.storage import NotAllowed, Store

NS_PER_S = 1_000_000_000
# From the start document to the start: for every shard to read it and to open its connections.
START_LEAD_S = 3.0
SAID_AFTER = 20  # looks without success
LOOK_BACK = 4  # of so many looks for a start, one for a round that replaces what this shard has done
# A shard waits for shard 0, which may be waiting for a third one, and has results to store.
FOLLOWERS_PATIENCE = 3
# After a signal there is no time to wait for others: a pod has 30 s, a preempted one 15.
PATIENCE_AFTER_SIGNAL_S = 5.0

_T = TypeVar("_T")


class Reopened(ServerUnavailable):
    """Shard 0 has begun a point again; `point` is its number."""

    def __init__(self, point: int) -> None:
        super().__init__(f"point {point + 1} is begun again")
        self.point = point


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
        self._papers = Papers(store, folder)
        self.index, self.shards, self.timeout_s = index, shards, timeout_s
        self.stopped: Callable[[], bool] = lambda: False
        self.say: Callable[[str], None] = lambda _: None
        self.agreement: dict[str, Any] = {}  # what all shards must have in common
        self._card: Card | None = None
        self._nonce = ""
        self._rounds: dict[int, int] = {}  # of points, as far as this shard has looked

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
                self._papers.create(documents.run_name(), Run(shards=self.shards, nonce=nonce))
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
            if self._papers.create(documents.card_name(self.index, attempt), card):
                self._card, self._nonce = card, run.nonce
                return run.nonce

    def check_alone(self) -> None:
        """Raises ServerUnavailable where another pod has come for this shard: both would send its requests."""
        own = documents.card_name(self.index, self.card.attempt)
        if self._papers.there(documents.card_name(self.index, self.card.attempt + 1)):
            raise ServerUnavailable(
                f"--shard-index: shard {self.index} was started again ({self._papers.place(own)} is not "
                f"the last): this pod leaves the rest to that one"
            )

    # -- what has become of a point -----------------------------------------------------------------------------------

    def judged(self, point: int) -> bool:
        return self._papers.there(documents.merged_name(point))

    def passed(self, point: int) -> bool:
        """Whether the run has gone on behind it."""
        return self._papers.there(documents.start_name(point + 1))

    def handed_in(self, point: int) -> bool:
        """Whether this shard's records of the present round are in the store."""
        return self._papers.there(documents.records_name(point, self.index, self.round(point)))

    def cut_short(self, point: int) -> bool:
        """Whether a signal has ended this shard in the present round."""
        return self._papers.there(documents.cut_name(point, self.index, self.round(point)))

    def late_s(self, point: int) -> float | None:
        """How long ago the present round started, by this machine's clock; None: it has not."""
        start = self._papers.get(documents.start_name(point, self.round(point)), Start)
        return None if start is None else (time.time_ns() - start.start_unix_ns) / NS_PER_S

    def round(self, point: int) -> int:
        """The round that this shard takes part in: the last one that it has seen."""
        return self._rounds[point] if point in self._rounds else self.look_for_round(point)

    def look_for_round(self, point: int) -> int:
        """Goes on to the point's last round."""
        self._rounds[point] = self._papers.last_round(point)
        return self._rounds[point]

    def open_round(self, point: int, nonce: str) -> None:
        """Has all shards send the point again, under another nonce."""
        self._papers.create(documents.round_name(point, self.round(point) + 1), Round(nonce=nonce))
        self.say(f"point {point + 1} is begun again: round {self.look_for_round(point)}")

    def nonce(self, point: int) -> str:
        """Of the present round."""
        number = self.round(point)
        if number == 1:
            return self._nonce
        found = self._papers.get(documents.round_name(point, number), Round)
        if found is None:
            raise ServerUnavailable(f"round {number} of point {point + 1} is not to be read in the store")
        return found.nonce

    def reopened(self, point: int) -> bool:
        """Whether there is a round of the point that this shard has not taken part in."""
        before = self.round(point)
        return self.look_for_round(point) > before

    # -- a point's start ----------------------------------------------------------------------------------------------

    def meet(self, point: int) -> Begin | None:
        """Waits until the point is to start. None where a signal came before.

        Raises UsageError where shards do not agree on what they send, ServerUnavailable where shard 0 does not come,
        Reopened where it has begun this point or the one before again.
        """
        number = self.round(point)
        start = self._papers.get(documents.start_name(point, number), Start)
        written_ns = time.time_ns()
        ready = Ready(card=self.card, unix_ns=written_ns, agreement=self.agreement)
        first = self._papers.create(documents.ready_name(point, self.index, number), ready)
        in_time = start is None and first  # else shard 0 saw an earlier attempt, or nobody
        if start is None and self.leads:
            start = self._lead(point)
        elif start is None:
            name = documents.start_name(point, number)
            start = self._wait(name, Start, f"shard 0 to start point {point + 1}", point)
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
        """Waits for the others and says when the point starts. Those are waited for who measured the point before, or
        were at its round before; at the first of all everybody. None where a signal came."""
        number = self.round(point)
        if number > 1:
            expected = self._papers.shards_of(point, number - 1, "ready-") | {0}
        else:
            expected = self._shards_of(point - 1, "shard-") | {0} if point else set(range(self.shards))
        seen_ns: dict[int, int] = {}
        refused = None
        deadline = time.monotonic() + self.timeout_s
        waits = pauses()
        said = False
        while True:
            new = self._shards_of(point, "ready-") - seen_ns.keys()
            now_ns = time.time_ns()  # after they were seen: clock.py goes by that
            for shard in sorted(new):
                other = self._papers.get(documents.ready_name(point, shard, number), Ready)
                if other is None:
                    continue
                seen_ns[shard] = now_ns
                if refused is None:
                    refused = _difference(self.agreement, shard, other.agreement)
            missing = sorted(expected - seen_ns.keys())
            if refused or not missing:
                break
            if self.stopped():
                return None
            if time.monotonic() > deadline:
                self.say(f"{_named(missing)} not there after {self.timeout_s:g} s: the point starts without")
                break
            if not said:
                self.say(f"waiting for {_named(missing)}")
                said = True
            time.sleep(next(waits))
        unix_ns = time.time_ns()
        start = Start(
            start_unix_ns=unix_ns + round(START_LEAD_S * NS_PER_S),
            unix_ns=unix_ns,
            seen_ns=seen_ns,
            agreement=self.agreement,
            refused=refused,
        )
        if self._papers.create(documents.start_name(point, number), start):
            return start
        return self._papers.get(documents.start_name(point, number), Start)

    # -- a point's end ------------------------------------------------------------------------------------------------

    def hand_in(self, point: int, path: Path, cut_short: str | None = None) -> None:
        """Stores this shard's records of the point, which `cut_short` has ended."""
        number = self.round(point)
        if cut_short:  # first: records of which nobody knows that they are a stump pass for the whole
            self._papers.create(documents.cut_name(point, self.index, number), Cut(reason=cut_short))
        elsewhere = self._papers.put_file(documents.records_name(point, self.index, number), path)
        if elsewhere:
            self.say(
                f"another pod has handed in records of shard {self.index}: these are {elsewhere}, and are not merged"
            )

    def gather(self, point: int, folder: Path) -> tuple[list[Path], set[int]]:
        """Waits for the records of all shards that were at the point, or until the deadline: copies of them, and the
        shards whose records are missing."""
        number = self.round(point)
        patience_s = min(self.timeout_s, PATIENCE_AFTER_SIGNAL_S) if self.stopped() else self.timeout_s
        deadline = time.monotonic() + patience_s
        waits = pauses()
        while missing := self._shards_of(point, "ready-") - (there := self._shards_of(point, "shard-")):
            if time.monotonic() > deadline:
                if not self.stopped():  # else what is missing may still come, and the next attempt finds it
                    self.say(f"no records of {_named(sorted(missing))} after {patience_s:g} s: merged without")
                break
            if self.stopped():
                deadline = min(deadline, time.monotonic() + PATIENCE_AFTER_SIGNAL_S)
            time.sleep(next(waits))
        paths = []
        for shard in sorted(there):
            data = self._papers.content(documents.records_name(point, shard, number))
            if data is not None:
                paths.append(folder / f".point-{point}-shard-{shard}.records.npz")
                paths[-1].write_bytes(data)
        return paths, missing

    def merged(self, point: int, what: msgspec.Struct) -> None:
        """Says that the point is judged: who comes back need not measure it."""
        self._papers.create(documents.merged_name(point), what)

    def _wait(self, name: str, kind: type[_T], what: str, point: int | None = None) -> _T | None:
        """The document, as soon as it is there; None where a signal came before. Raises Reopened where that `point` or
        the one before is begun again meanwhile."""
        patience_s = self.timeout_s * FOLLOWERS_PATIENCE
        deadline = time.monotonic() + patience_s
        for number, pause_s in enumerate(pauses()):
            found = self._papers.get(name, kind)
            if found is not None or self.stopped():
                return found
            if time.monotonic() > deadline:
                raise ServerUnavailable(f"waited {patience_s:g} s for {what}")
            if number == SAID_AFTER:
                self.say(f"waiting for {what}")
            if point is not None and number % LOOK_BACK == LOOK_BACK - 1:
                for each in range(max(0, point - 1), point + 1):
                    if self.reopened(each):
                        raise Reopened(each)
            time.sleep(pause_s)
        raise AssertionError("pauses do not end")

    def _shards_of(self, point: int, kind: str) -> set[int]:
        """Of the present round."""
        return self._papers.shards_of(point, self.round(point), kind)


def _difference(agreement: dict[str, Any], shard: int, other: dict[str, Any]) -> str | None:
    try:
        check_same(shard, other, 0, agreement)
    except UsageError as error:
        return str(error)
    return None


def _named(shards: list[int]) -> str:
    return f"shard{'s' if len(shards) > 1 else ''} {', '.join(map(str, shards))}"
