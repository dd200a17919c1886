"""Run a server as a process of its own: a free port, a ready check, an end that leaves nothing behind."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

LOWEST_PORT = 20_000  # below are those of services that may run here
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago, and that this process was not given before.

    Not one of those that the system picks itself: another test's connection or server could get it meanwhile, and a
    client that asks for it while nobody listens could get it as its own, and be connected to itself.
    """
    first_ephemeral = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 0
    free = [port for port in range(LOWEST_PORT, first_ephemeral) if port not in _given]
    for port in random.SystemRandom().sample(free, min(len(free), 100)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with 200 within a second."""
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            ok: bool = response.status == 200
    except (urllib.error.URLError, OSError):
        return False
    return ok


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    ready: Callable[[], bool],
    within_s: float,
    log: Path,
    env: Mapping[str, str] | None = None,
    stop_within_s: float = 20.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process of `command`, from the moment `ready()` holds until the end of the block.

    Its output goes to `log`, whose end is part of the error when it dies or is not ready `within_s` seconds after its
    start. It is stopped with SIGTERM, with SIGKILL if that takes longer than `stop_within_s`; what is left of its
    process group goes too.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until(ready, process, within_s, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(stop_within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(ProcessLookupError):  # children that outlived it
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], within_s: float, log: Path) -> None:
    deadline = time.monotonic() + within_s
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}:\n{_end(log)}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{process.args!r} was not ready in {within_s} s:\n{_end(log)}")
        time.sleep(0.05)


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]
