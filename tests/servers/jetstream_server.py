"""A real JetStream out of the environment that `install_jetstream.sh` makes: its gRPC orchestrator, a mock engine."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import free_port, running

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parents[1] / ".venvs" / "jetstream"


@dataclass(frozen=True)
class JetStream:
    """Where a running JetStream is."""

    url: str  # of the gRPC server, in the clear
    metrics_url: str  # whole, on a port of its own


def installed() -> bool:
    """Whether `install_jetstream.sh` has made the environment."""
    return any(ENVIRONMENT.glob("lib/python3*/site-packages/google_jetstream-*.dist-info"))


@contextlib.contextmanager
def serve(log: Path) -> Iterator[JetStream]:
    """A JetStream on free ports of 127.0.0.1, eight slots of 32 tokens, until the end of the block."""
    port, metrics = free_port(), free_port()
    command = [ENVIRONMENT / "bin" / "python", HERE / "jetstream_mock.py", str(port), str(metrics)]
    env = {"JAX_PLATFORMS": "cpu"}
    ready = b"\nREADY\n"
    with running(command, ready=lambda: ready in log.read_bytes(), within_s=90, log=log, env=env, stop_within_s=5):
        yield JetStream(f"grpc://127.0.0.1:{port}", f"http://127.0.0.1:{metrics}/metrics")
