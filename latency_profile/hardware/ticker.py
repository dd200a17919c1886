"""A thread that does something at equal distances of absolute time, and knows what it costs."""

import threading
import time
from collections.abc import Callable

NS = 1_000_000_000
LONGEST_TURN_S = 5.0  # a driver that has lost its card may never answer


class Ticker:
    """Calls `tick` at once, then every `period_s` from there, and once more at its end; a tick that took longer than a
    period is followed by the next whole one. `tick` must not raise."""

    def __init__(self, name: str, period_s: float, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._period_ns = round(period_s * NS)
        self._over = threading.Event()
        self._cpu_ns = 0
        self._began_ns = self._ended_ns = time.monotonic_ns()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def cpu_s(self) -> float:
        """CPU time of the thread, the kernel's work for it included, as of its last tick."""
        return self._cpu_ns / NS

    @property
    def seconds(self) -> float:
        """From its start to its last tick."""
        return (self._ended_ns - self._began_ns) / NS

    def stop(self) -> bool:
        """Ends it with a last tick. False where it does not come back: a tick hangs, and the thread is left alone."""
        self._over.set()
        self._thread.join(LONGEST_TURN_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        due_ns = time.monotonic_ns()
        while True:
            over = self._over.is_set()
            self._tick()
            self._cpu_ns, self._ended_ns = time.thread_time_ns(), time.monotonic_ns()
            if over:
                return
            due_ns += self._period_ns * max(1, -((due_ns - self._ended_ns) // self._period_ns))
            self._over.wait((due_ns - self._ended_ns) / NS)
