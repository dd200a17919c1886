"""A port that somebody else takes: with real sockets, and real servers in both places."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_profile.launch.listening import stranger_at
from tests.launching import run_file, simulator, started, until
from tests.servers.simulator import simulator as running_simulator

LISTENS = """
import socket, sys, time
one = socket.socket()
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
one.bind(("127.0.0.1", int(sys.argv[1])))
one.listen()
print("listens", flush=True)
time.sleep(600)
"""
# Says its port, waits until somebody listens there, and then starts in earnest (or, at that port, never does).
LATE = """
import os, socket, sys, time
from pathlib import Path
said, then, port = sys.argv[1], sys.argv[2], sys.argv[3]
if not Path(said).exists():
    Path(said).write_text(port)
    while socket.socket().connect_ex(("127.0.0.1", int(port))):
        time.sleep(0.01)
    if then == "hangs":
        time.sleep(600)
os.execv(sys.executable, [sys.executable, "-m", "latency_profile.simulator", *sys.argv[4:], "--port", port])
"""


@pytest.fixture
def shared() -> Iterator[socket.socket]:
    """A socket that listens at a port of its own and lets others do so too."""
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(("127.0.0.1", 0))
        own.listen()
        yield own


def test_who_listens_is_told_by_the_sockets_that_a_process_holds(shared: socket.socket) -> None:
    port = shared.getsockname()[1]
    assert not stranger_at(port, [os.getpid()])
    assert stranger_at(port, [])
    with subprocess.Popen([sys.executable, "-c", LISTENS, str(port)], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout and other.stdout.readline() == b"listens\n"
            assert stranger_at(port, [os.getpid()])
            assert stranger_at(port, [other.pid])
            assert not stranger_at(port, [os.getpid(), other.pid])
        finally:
            other.kill()
    assert not stranger_at(port, [os.getpid(), other.pid])  # which is no process any more


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_a_stranger_at_any_address_that_answers_is_found(address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as own:
        if ":" in address:
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        own.bind((address, 0))
        assert not stranger_at(own.getsockname()[1], [])  # it does not listen yet
        own.listen()
        assert stranger_at(own.getsockname()[1], [])
        assert not stranger_at(own.getsockname()[1], [os.getpid()])


@pytest.mark.parametrize("then", ["binds", "hangs"])
def test_a_port_that_is_taken_while_the_server_starts(tmp_path: Path, then: str) -> None:
    """It ends, as it cannot listen; or is still loading while the stranger says that it is healthy."""
    section = simulator("--engine", "instant")
    late = [sys.executable, "-c", LATE, str(tmp_path / "port"), then, "{port}"]
    section["command"] = [*late, "--host", "{host}", "--engine", "instant"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        section["port"] = probe.getsockname()[1]
    with started(tmp_path, {"vllm": section}, "--backend=vllm", prompts=8) as run:
        until(lambda: (tmp_path / "port").exists() and (tmp_path / "port").read_text() != "")
        with running_simulator(tmp_path, "--engine", "instant", f"--port={section['port']}") as stranger:
            code, _, err = run.ends()
            assert len(stranger.truth()) == 0
    assert code in (0, 4), err
    assert f"somebody else listens at port {section['port']}; vllm starts again at " in err
    found = run_file(run.output, "vllm")
    assert found["failure"] is None
    assert found["url"] != f"http://127.0.0.1:{section['port']}"
    assert found["result"]["metrics"]["num_prompts_succeeded"] == 8
