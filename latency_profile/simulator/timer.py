"""One alarm on CLOCK_MONOTONIC for an asyncio loop, exact to the kernel's high-resolution timers.

asyncio's own timers end in epoll_wait, which counts whole milliseconds; a timerfd is read like a socket. Linux only.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_TFD_TIMER_ABSTIME = 1
_SECOND = 1_000_000_000

if sys.version_info >= (3, 13):

    def _create() -> int:
        return os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)

    def _set(descriptor: int, at_ns: int) -> None:
        os.timerfd_settime_ns(descriptor, flags=_TFD_TIMER_ABSTIME, initial=at_ns)

else:
    _libc = ctypes.CDLL(None, use_errno=True)
    # struct itimerspec: interval seconds and ns (0: once), then the time itself, seconds and ns.
    _spec = (ctypes.c_long * 4)()
    _libc.timerfd_settime.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    _spec_address = ctypes.addressof(_spec)

    def _create() -> int:
        descriptor: int = _libc.timerfd_create(1, os.O_NONBLOCK | os.O_CLOEXEC)  # 1 is CLOCK_MONOTONIC
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        return descriptor

    def _set(descriptor: int, at_ns: int) -> None:
        _spec[2], _spec[3] = divmod(at_ns, _SECOND)
        if _libc.timerfd_settime(descriptor, _TFD_TIMER_ABSTIME, _spec_address, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")


class Timer:
    """Calls `callback` once when the time has come. Setting it again replaces the earlier time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._descriptor = _create()
        self._at_ns: int | None = None
        loop.add_reader(self._descriptor, self._fire)

    def set(self, at_ns: int | None) -> None:
        """Rings at `at_ns`, at once if that is past; None: not at all."""
        if at_ns != self._at_ns:
            self._at_ns = at_ns
            _set(self._descriptor, at_ns or 0)  # 0 disarms

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _fire(self) -> None:
        self._at_ns = None
        self._callback()
        if self._at_ns is None:
            _set(self._descriptor, 0)  # takes the readiness away; setting a new time does so as well
