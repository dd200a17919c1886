"""The clock of the instrument: CLOCK_MONOTONIC in integer nanoseconds, and a timer that fires on it."""

import ctypes
import os
import struct
import time
from collections.abc import Callable

now_ns: Callable[[], int] = time.monotonic_ns

_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK  # TFD_CLOEXEC and TFD_NONBLOCK have these values (timerfd_create(2))
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_NS = 1_000_000_000
_PAIR_TRIES = 5
_GOOD_BRACKET_NS = 5_000

_libc = ctypes.CDLL(None, use_errno=True)


# Waking a process takes some 100 µs, on an idle virtual machine more. Where there is nothing else to do for
# WORTH_LEADING_NS, a timer can fire LEAD_NS early and the rest be waited out awake: at most a tenth of a core.
LEAD_NS = 300_000
WORTH_LEADING_NS = 3_000_000


def wait_until(at_ns: int) -> None:
    """Waits awake; for a time that is at most LEAD_NS away."""
    while now_ns() < at_ns:
        pass


class Timer:
    """A timerfd: fires at an absolute time, to the microsecond. (epoll's own timeout is in whole milliseconds.)"""

    def __init__(self) -> None:
        self.fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _CLOEXEC_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    def set(self, at_ns: int, every_ns: int = 0) -> None:
        """Fires at `at_ns`; at once when that has passed; with `every_ns`, again and again."""
        at_ns = max(at_ns, 1)  # zero would disarm it
        spec = struct.pack("@4q", every_ns // _NS, every_ns % _NS, at_ns // _NS, at_ns % _NS)
        if _libc.timerfd_settime(self.fd, _ABSOLUTE, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def disarm(self) -> None:
        """It does not fire any more, nor say that it has."""
        if _libc.timerfd_settime(self.fd, 0, bytes(32), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def set_early(self, at_ns: int) -> None:
        """Fires just before `at_ns`, for `wait_until`, where that is worth it; else at `at_ns`."""
        self.set(at_ns - LEAD_NS if at_ns - now_ns() > WORTH_LEADING_NS else at_ns)

    def clear(self) -> None:
        """Takes note that it has fired, so that epoll stops saying so."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:  # set anew since epoll looked
            return

    def close(self) -> None:
        os.close(self.fd)


def clock_pair() -> tuple[int, int]:
    """(realtime ns, monotonic ns) of one moment: kernel receive stamps are of the realtime clock.

    The realtime reading is bracketed by two monotonic ones; of a few tries the narrowest bracket counts.
    """
    best: tuple[int, int, int] | None = None
    for _ in range(_PAIR_TRIES):
        before = now_ns()
        realtime = time.time_ns()
        after = now_ns()
        if best is None or after - before < best[0]:
            best = (after - before, realtime, (before + after) // 2)
        if best[0] < _GOOD_BRACKET_NS:
            break
    assert best is not None
    return best[1], best[2]
