"""The embedded model server as a process of its own, with its truth log."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from latency_profile.simulator.log import TruthLog, read_log

DATA = Path(__file__).parents[1] / "data"
SILENCE_S = 15.0  # longer than a busy machine pauses: who expects a server that stays silent gives less


def shape(value: Any) -> Any:
    """What must be equal: keys in their order, types, nulls. Not lengths of lists, not values."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def captured(server: str, name: str) -> tuple[dict[str, Any], bytes]:
    """Request and answer of a real server."""
    request = (DATA / server / f"{name}.request.json").read_bytes()
    return msgspec.json.decode(request), (DATA / server / f"{name}.body").read_bytes()


def post(path: str, body: bytes | dict[str, Any], headers: str = "") -> bytes:
    """The bytes of a request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def raw_exchange(url: str, data: bytes, silence_s: float = SILENCE_S) -> bytes:
    """Sends bytes and reads until the server closes the connection or has been silent for so long."""
    return raw_end(url, data, silence_s)[0]


def raw_end(url: str, data: bytes, silence_s: float = SILENCE_S) -> tuple[bytes, str]:
    """Likewise, and how it ended: `closed`, `reset` or `silent`."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=silence_s) as connection:
        connection.sendall(data)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except TimeoutError:
            return received, "silent"
        except ConnectionResetError:
            return received, "reset"
        return received, "closed"


@dataclass
class Simulator:
    """A running simulator. `truth` may be asked for once it has been stopped."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self) -> int:
        """Ends it as a user would; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def truth(self) -> TruthLog:
        """Stops it and reads what it did."""
        assert self.stop() == 0
        return read_log(self.log)


def instant(backend: str, tmp_path_factory: pytest.TempPathFactory, *flags: str) -> Iterator[str]:
    """The URL of one that speaks as that server, a millisecond a step; for a fixture to yield from."""
    folder = tmp_path_factory.mktemp(backend)
    with simulator(folder, "--engine", "instant", "--backend", backend, "--max-model-len", "2048", *flags) as server:
        yield server.url


@contextmanager
def simulator(folder: Path, *flags: str) -> Iterator[Simulator]:
    """Starts one on a free port and waits until it listens; stops it at the end if the test has not."""
    log = folder / "truth.npz"
    command = [sys.executable, "-m", "latency_profile.simulator", "--log", str(log), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http://"), line
        yield Simulator(line.removeprefix("listening on ").strip(), process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        process.stdout.close()
