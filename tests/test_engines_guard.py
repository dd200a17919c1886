"""The guard between the runner and a server, with real processes."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from latency_profile.guarded.process import how_it_ended
from latency_profile.launch import process
from latency_profile.launch.process import ServerProcess, port_for
from tests.launching import MARK, marked, until
from tests.tool import ROOT

# Ignores SIGTERM, and leaves a process in a session of its own that ignores it too.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("grandchild", flush=True)
        os.write(tell, b".")
        time.sleep(600)
    os._exit(0)
os.read(told, 1)
print("up", flush=True)
time.sleep(600)
"""


def serve(tmp_path: Path, mark: str, *words: str) -> ServerProcess:
    return ServerProcess(words, {**os.environ, MARK: mark}, tmp_path / f"{mark}.log")


def left(mark: str) -> list[str]:
    return [line for _, line in marked(mark)]


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


def test_what_ignores_sigterm_and_hides_in_another_session_is_stopped(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_WITHIN_S", 0.3)
    with serve(tmp_path, mark, sys.executable, "-c", STUBBORN) as server:
        until(lambda: set(server.last_lines(20)) == {"up", "grandchild"})
        until(lambda: len(left(mark)) == 2)  # the one between them may still be ending
        assert server.ended_by_itself() is None
    assert left(mark) == []


RUNNER = """
import os, sys, time
from pathlib import Path
from latency_profile.launch.process import ServerProcess
with ServerProcess(sys.argv[2:], os.environ, Path(sys.argv[1])):
    time.sleep(600)
"""


def test_nothing_is_left_of_a_runner_that_is_killed(tmp_path: Path, mark: str) -> None:
    stubborn = STUBBORN.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "")
    command = [sys.executable, "-c", RUNNER, str(tmp_path / "log"), sys.executable, "-c", stubborn]
    runner = subprocess.Popen(command, env={**os.environ, MARK: mark}, cwd=ROOT)
    until(lambda: (tmp_path / "log").exists() and "up\n" in (tmp_path / "log").read_text())
    until(lambda: len(left(mark)) == 4)  # runner, guard, server, and what that left behind
    runner.kill()
    runner.wait()
    until(lambda: not left(mark))


def test_what_a_server_leaves_when_it_crashes_is_stopped(tmp_path: Path, mark: str) -> None:
    crash = STUBBORN.rpartition("time.sleep")[0] + "os._exit(7)"
    with serve(tmp_path, mark, sys.executable, "-c", crash) as server:
        until(lambda: server.ended_by_itself() is not None)
        assert server.ended_by_itself() == "ended with exit code 7"
        assert left(mark) == []
        assert "grandchild" in server.last_lines(20)


def test_a_guard_that_is_killed_takes_the_server_with_it(tmp_path: Path, mark: str) -> None:
    with serve(tmp_path, mark, "sleep", "600") as server:
        until(lambda: len(left(mark)) == 1)
        os.kill(server.guard_pid, signal.SIGKILL)
        until(lambda: not left(mark))


def test_the_servers_environment_is_in_no_command_line(tmp_path: Path, mark: str) -> None:
    with serve(tmp_path, mark, "sleep", "600") as server:
        until(lambda: len(left(mark)) == 1)
        assert mark not in Path(f"/proc/{server.guard_pid}/cmdline").read_text()


def test_a_program_that_is_not_there_is_said(tmp_path: Path, mark: str) -> None:
    with serve(tmp_path, mark, "/nowhere/llama-server") as server:
        until(lambda: server.ended_by_itself() is not None)
        assert server.ended_by_itself() == "could not be started"
        assert server.last_lines(20) == ["cannot start /nowhere/llama-server: No such file or directory"]


def test_of_a_long_log_the_last_lines_are_shown(tmp_path: Path, mark: str) -> None:
    with serve(tmp_path, mark, "seq", "100000") as server:
        until(lambda: server.ended_by_itself() is not None)
        assert server.last_lines(20) == [str(n) for n in range(99981, 100001)]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (137, "was ended by SIGKILL"),
        (139, "was ended by SIGSEGV"),
        (250, "exit code 250"),
    ],
)
def test_how_it_ended_is_said_in_words(code: int, words: str) -> None:
    assert words in how_it_ended(code)


def test_a_taken_port_is_left_to_whom_it_belongs() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert port_for(port) != port
    assert port_for(port) == port
