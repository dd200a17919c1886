"""The parent's side of the looks at a running point: starts the process that looks, and hears what it says."""

import contextlib
import os
import select
import subprocess
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec

from latency_profile import children
from latency_profile.plan import NS
from latency_profile.records import Stopping
from latency_profile.sender.fleet import Live, Ran
from latency_profile.until_ci.tail import Order

_WAIT_S = 5.0


class Look(msgspec.Struct, frozen=True):
    """What one look has brought."""

    looks: int = 0  # so far
    enough: bool = False  # all is known as well as it is wanted


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is told that looks for --until-ci."""

    order: Order
    target: float  # a share of each percentile


class Watch:
    """`with Watch(...) as watch:` around one point. the fleet's looks go `watch.through`; `watch.enough` tells when
    nothing more needs to be sent.

    A process of its own: neither the sender, which has a clock to keep, nor the parent, which must hear the senders,
    has time to parse. One that dies leaves its traceback on standard error, and the point runs for all of its time.
    """

    def __init__(self, module: str, asked: Callable[[int], msgspec.Struct], target: float | None) -> None:
        """module: of the process that looks. asked: from the point's start, in monotonic ns, to what that is told.
        target: of `Stopping`."""
        self._target, self._asked = target, asked
        self._told = False
        self._last = Look()
        self._pending = b""
        self._process, self._in, self._out = children.start_follower(module)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        try:
            self._process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()

    def through(self, look: Callable[[Live], None]) -> Callable[[Live], None]:
        """`look`, and the first time it also has the process begin."""

        def both(live: Live) -> None:
            if not self._told:
                self._told = True
                with contextlib.suppress(BrokenPipeError):
                    self._in.write(msgspec.json.encode(self._asked(live.start_ns)) + b"\n")
                    self._in.flush()
            look(live)

        return both

    def enough(self) -> bool:
        """Whether all is known as well as it is wanted. Does not wait."""
        while not self._last.enough and select.select([self._out], [], [], 0)[0]:
            data = os.read(self._out.fileno(), 1 << 16)
            if not data:
                break
            *lines, self._pending = (self._pending + data).split(b"\n")
            for line in lines:
                self._last = msgspec.json.decode(line, type=Look)
        return self._last.enough

    def stopping(self, ran: Ran, planned_s: float | None) -> Stopping:
        """What the looks came to, of a point that is over and was to take `planned_s` at most."""
        after_s = (ran.drained_ns - ran.start_ns) / NS if ran.drained_ns is not None else None
        if after_s is not None and planned_s is not None and after_s >= planned_s:
            after_s = None  # all had been sent by then
        return Stopping(target=self._target, looks=self._last.looks, stopped_after_s=after_s)
