"""Processes of this package's own, started by module: they find it whether it is installed or not."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import msgspec

import latency_profile

_Order = TypeVar("_Order")

# Of what follows a running point. They rest nine times as long as they work, and this weight leaves them that tenth of
# a core where all cores are taken; at 19 it would be a sixtieth, and a point beside a busy server would never end
# early. A process that wakes every millisecond wakes as late beside either, and as beside none.
NICE = 10


class Child(NamedTuple):
    """A process of ours, and the pipes to it."""

    process: "subprocess.Popen[bytes]"
    to: IO[bytes]
    said: IO[bytes]


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's, with the package's folder where Python looks first."""
    root = str(Path(latency_profile.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def start(module: str) -> Child:
    process = subprocess.Popen(command(module), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    assert process.stdin and process.stdout
    return Child(process, process.stdin, process.stdout)


def start_follower(module: str) -> Child:
    """One that calls `order_to_follow`; returns when it has loaded what it needs and disturbs nobody by that."""
    child = start(module)
    child.said.readline()
    return child


def order_to_follow(kind: type[_Order], load: Callable[[], object] = lambda: None) -> _Order | None:
    """In the follower itself: gives way to everything else on the machine, has `load` do what takes long, says that it
    is ready, and waits for its order, one line of JSON; None where the parent has gone without one."""
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    load()
    print("{}", flush=True)
    line = sys.stdin.buffer.readline()
    return msgspec.json.decode(line, type=kind) if line else None
