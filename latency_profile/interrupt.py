"""Ctrl-C and SIGTERM end the point, and what was measured is kept. A second Ctrl-C ends the program at once.

The kernel drops a signal to the first process of a container (pid 1) unless a handler stands. So one does from the
command line's first line to its last: where there is nothing to keep yet it raises `Ended` (`ending`); where there is,
it only takes note (`interrupts`), and whoever measures looks.

In the middle of an import nothing is raised: compiled modules lose an exception that comes while they are made, or take
it for a failure of their own and crash (SIGSEGV in one of 60 starts). There the process ends at once.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from latency_profile.errors import Exit

_Handler = Callable[[int, FrameType | None], Any]

EXITS = {"SIGINT": Exit.SIGINT, "SIGTERM": Exit.SIGTERM}


class Ended(BaseException):
    """SIGTERM came while there was nothing to keep. No Exception: nobody on the way may take it for an error."""


class Interrupt:
    """`reason` is the name of the first signal that came, or None."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __bool__(self) -> bool:
        return self.reason is not None

    @property
    def exit_code(self) -> Exit:
        return EXITS[self.reason] if self.reason else Exit.DONE

    def take(self, number: int, _: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = self.reason or signal.Signals(number).name


@contextmanager
def interrupts() -> Iterator[Interrupt]:
    """Takes both signals while the block runs."""
    interrupt = Interrupt()
    with _handled({signal.SIGINT: interrupt.take, signal.SIGTERM: interrupt.take}):
        yield interrupt


@contextmanager
def ending(last_words: Callable[[], None]) -> Iterator[None]:
    """While the block runs there is nothing to keep: Ctrl-C raises KeyboardInterrupt, SIGTERM raises Ended, wherever
    the program is, in an import or in a connection that hangs. A Ctrl-C that the program was started to ignore (in a
    shell's background) stays ignored. last_words: called where SIGTERM ends the process at once."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt what the first one has to tidy up
        if _importing(frame):
            last_words()
            _leave(Exit.SIGTERM)
        raise Ended

    handlers: dict[signal.Signals, _Handler] = {signal.SIGTERM: end}
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        handlers[signal.SIGINT] = _break_off
    with _handled(handlers):
        yield


def _break_off(_: int, frame: FrameType | None) -> None:
    if _importing(frame):
        _leave(Exit.SIGINT)
    raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave(code: Exit) -> NoReturn:
    """Without a way back through what is half imported."""
    with suppress(OSError, RuntimeError, ValueError):  # what was being printed, as far as it can be
        sys.stdout.flush()
    os._exit(code)


@contextmanager
def _handled(handlers: dict[signal.Signals, _Handler]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) != signal.SIG_IGN:  # as `end` leaves it
                signal.signal(number, handler)
