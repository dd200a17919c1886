"""Run a server as a process of its own: a free port, a ready check, an end that leaves nothing behind."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


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
