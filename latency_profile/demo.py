"""The first run of a new user: starts the embedded model server and profiles it at five request rates."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from latency_profile.cli import profile
from latency_profile.errors import ServerUnavailable

ENGINE = "h100-8b"
RATES = "2,4,8,16,32"
SECONDS = 12
FLAGS = (
    "--stream-request",
    "--ignore-eos",
    "--tokenizer=bundled",
    "--input-len=512",
    "--input-len-stddev=256",
    "--input-len-min=16",
    "--output-len=128",
    "--output-len-stddev=64",
    "--output-len-min=8",
    f"--request-rates={RATES}",
    f"--benchmark-time-seconds={SECONDS}",
    "--warmup-seconds=2",
    "--machine-cost=4.0",
    "--save-json-results",
    "--output-dir=results",
    "--file-prefix=demo",
)


def demo(arguments: Sequence[str]) -> int:
    """Further flags go to the profile, and win over the demo's own."""
    with embedded_server("--engine", ENGINE) as port:
        return profile([*FLAGS, "--host=127.0.0.1", f"--port={port}", *arguments])


@contextmanager
def embedded_server(*flags: str) -> Iterator[int]:
    """The simulator on a free loopback port, in a process of its own, for as long as the block runs."""
    command = [sys.executable, "-m", "latency_profile.simulator", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
        assert server.stdout
        try:
            line = server.stdout.readline()  # "listening on http://127.0.0.1:PORT"
            if not line:
                raise ServerUnavailable("the embedded model server did not start")
            yield int(line.rstrip().rpartition(":")[2])
        finally:
            server.terminate()
