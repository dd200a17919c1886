"""An engine's process, from outside: started in the Python that has the engine, told what to do, stopped with all that
it started. A crash is told apart from a refusal, and carries the last lines of what the engine printed.
"""

import os
import select
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import latency_profile
from latency_profile.engines.exchange import Batch, Failed, Load, Message, Ran, Ready, Refused, read
from latency_profile.errors import ProfileError, UsageError
from latency_profile.guarded.process import GuardedProcess, how_it_ended

TAIL_LINES = 12
GOODBYE_S = 10.0  # for an engine to end by itself
STOP_WITHIN_S = 2.0  # from SIGTERM to SIGKILL: nobody waits for its answer any more
LOOK_S = 0.2  # how often it is seen that the caller wants no more
_READ_BYTES = 1 << 16

_Reply = TypeVar("_Reply", Ready, Ran)


class EngineLost(ProfileError):
    """The engine crashed, failed or did not answer in time. tail: the last lines that it printed."""

    def __init__(self, reason: str, tail: str) -> None:
        super().__init__(reason)
        self.tail = tail


class Stopped(Exception):
    """The wait for an engine was given up, as its caller wished."""


class EngineProcess:
    """One loaded engine. A context manager: when it is left, nothing of the engine is left running."""

    def __init__(
        self,
        python: str,
        wanted: Load,
        log: Path,
        environ: Mapping[str, str],
        timeout_s: float,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Starts it and waits until the model is loaded. log: where its output goes, behind what is there; timeout_s:
        for loading, and for each batch; stop: whether to wait no longer. Raises UsageError where the engine refuses,
        EngineLost, and Stopped."""
        if shutil.which(python) is None:
            raise UsageError(f"--engine-python {python}: there is no such program; takes a Python to run")
        self._timeout_s = timeout_s
        self._stop = stop
        self._pending = b""
        # Its Python sees this package and what the user's PYTHONPATH names. Our own packages may be for another Python.
        self._path = tempfile.TemporaryDirectory(prefix="latency-profile-engine-")
        Path(self._path.name, "latency_profile").symlink_to(Path(latency_profile.__file__).parent)
        seen = os.pathsep.join(filter(None, [self._path.name, environ.get("PYTHONPATH")]))
        (told, tell), (self._replies, reply) = os.pipe(), os.pipe()
        self._orders = os.fdopen(tell, "wb")
        try:
            self._process = GuardedProcess(
                [python, "-m", "latency_profile.engines.child", str(told), str(reply)],
                {**environ, "PYTHONPATH": seen, "PYTHONUNBUFFERED": "1"},
                log,
                STOP_WITHIN_S,
                [told, reply],
            )
        finally:
            os.close(told)
            os.close(reply)
        try:
            self.ready = self._ask(wanted, Ready)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()

    def run(self, batch: Batch) -> Ran:
        """Generates a batch. Raises UsageError where the engine refuses it, and EngineLost: it is gone then."""
        return self._ask(batch, Ran)

    def close(self) -> None:
        """Ends the engine, and whatever it has started."""
        with suppress(OSError):
            self._orders.close()  # its order to end
        self._process.exit_code(GOODBYE_S)
        self._process.stop()
        with suppress(OSError):
            os.close(self._replies)
        self._path.cleanup()

    def _ask(self, order: Message, reply: type[_Reply]) -> _Reply:
        try:
            self._orders.write(order.line().encode())
            self._orders.flush()
        except BrokenPipeError:
            raise self._lost(self._how_it_ended()) from None
        said = read(self._line(), reply, Refused, Failed)
        if isinstance(said, reply):
            return said
        if isinstance(said, Failed):
            raise self._lost(said.reason)
        assert isinstance(said, Refused)
        raise UsageError(said.reason)

    def _line(self) -> str:
        deadline = time.monotonic() + self._timeout_s
        while b"\n" not in self._pending:
            if not select.select([self._replies], [], [], LOOK_S)[0]:
                if self._stop():
                    self._process.stop()
                    raise Stopped
                if time.monotonic() > deadline:
                    raise self._lost(f"no answer within {self._timeout_s:g} s")
                continue
            part = os.read(self._replies, _READ_BYTES)
            if not part:
                raise self._lost(self._how_it_ended())
            self._pending += part
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def _how_it_ended(self) -> str:
        code = self._process.exit_code(GOODBYE_S)
        return "it does not listen any more" if code is None else f"it {how_it_ended(code)}"

    def _lost(self, reason: str) -> EngineLost:
        self._process.stop()
        return EngineLost(f"the engine was lost: {reason}", "\n".join(self._process.last_lines(TAIL_LINES)))
