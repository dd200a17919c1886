"""Ctrl-C and SIGTERM end the point, and what was measured is kept. A second Ctrl-C ends the program at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from latency_profile.errors import Exit

EXITS = {"SIGINT": Exit.SIGINT, "SIGTERM": Exit.SIGTERM}


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
    before = {number: signal.signal(number, interrupt.take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
