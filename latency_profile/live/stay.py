"""Stays up after the profile, for `kubectl logs` and `kubectl cp`: idle, until a signal."""

import select
import signal
import socket

from latency_profile.errors import Exit
from latency_profile.interrupt import Interrupt, interrupts

# After 2 nothing was sent, and after 3 the container should be started again: there is nothing to stay for.
_ENDS = frozenset({Exit.USAGE, Exit.UNAVAILABLE, Exit.SIGINT, Exit.SIGTERM})


def stays_after(code: Exit) -> bool:
    """Whether there is something to stay for."""
    return code not in _ENDS


def stay() -> None:
    """Until SIGTERM or Ctrl-C. Sleeps in the kernel: a signal writes a byte that is waited for, so that one that comes
    just before the wait is not missed."""
    with interrupts() as interrupt:
        _until_signalled(interrupt)


def _until_signalled(interrupt: Interrupt) -> None:
    wakes, waker = socket.socketpair()
    with wakes, waker:
        waker.setblocking(False)
        before = signal.set_wakeup_fd(waker.fileno())
        try:
            while not interrupt:
                select.select([wakes], [], [])
                wakes.recv(64)
        finally:
            signal.set_wakeup_fd(before)
