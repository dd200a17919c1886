"""SIGTERM from the first moment to the last, with real processes, also as pid 1 of a container."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from latency_profile.live.termination import MOST_BYTES, TerminationLog, shortened
from tests.servers.process import free_port
from tests.tool import ROOT, SYNTHETIC, command, environment, only_point

WITHIN_S = 20.0  # on a machine that does other things too; what a signal ends here would take 30 s and more
KINDS = ("plain", "pid 1")


def may_unshare() -> bool:
    """Whether a process can be pid 1 of a namespace of its own here."""
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "-p", "-f", "true"], check=False).returncode == 0


class Running:
    """A profile that runs, as it would on a machine or as the first process of a container."""

    def __init__(self, arguments: Sequence[str], kind: str, log: Path, **env: str) -> None:
        self.log = log
        prefix = ["unshare", "-p", "-f", "--kill-child"] if kind == "pid 1" else []
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*prefix, *arguments], stdout=output, stderr=subprocess.STDOUT, env=environment(**env), cwd=ROOT
            )
        self.pid = self._child() if prefix else self._process.pid

    def _child(self) -> int:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        until(lambda: bool(children.read_text().split()))
        return int(children.read_text().split()[0])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def code(self) -> int:
        """Its exit code. The test fails where it does not come."""
        return self._process.wait(WITHIN_S)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture(params=KINDS)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a profile with these flags and a termination log at tmp_path / "why"."""
    kind: str = request.param
    if kind == "pid 1" and not may_unshare():
        pytest.skip("this user may make no pid namespace (unshare -p)")
    running: list[Running] = []

    def started(*flags: str) -> Running:
        arguments = command("--backend=vllm", "--models=simulated", *SYNTHETIC, *flags)
        where = {"LATENCY_PROFILE_TERMINATION_LOG": str(tmp_path / "why")}
        running.append(Running(arguments, kind, tmp_path / "log", **where))
        return running[-1]

    yield started
    for one in running:
        one.kill()


@contextlib.contextmanager
def simulator(*flags: str) -> Iterator[int]:
    started = [sys.executable, "-m", "latency_profile.simulator", *flags]
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        try:
            yield int(line.rstrip().rpartition(":")[2])
        finally:
            process.kill()


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


def until(true: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def why(folder: Path) -> str:
    return (folder / "why").read_text()


@pytest.mark.parametrize("after_s", [0.15, 0.5, 1.0])
def test_a_signal_while_it_starts_ends_it(start: Callable[..., Running], tmp_path: Path, after_s: float) -> None:
    """In imports, in the tokenizer, in the prompts: nothing has been measured, and nothing keeps it."""
    running = start("--request-rates=1", f"--port={free_port()}", "--wait-for-server=60")
    until(lambda: handles_sigterm(running.pid))
    time.sleep(after_s)
    running.signal(signal.SIGTERM)
    assert running.code() == 143
    assert "Traceback" not in running.said
    assert "Exit code 143." in why(tmp_path)


def handles_sigterm(pid: int) -> bool:
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_signal_while_it_waits_for_the_server(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start("--request-rates=1", f"--port={free_port()}", "--wait-for-server=60")
    until(lambda: "waiting for" in running.said)
    running.signal(signal.SIGTERM)
    assert running.code() == 143
    assert why(tmp_path) == "0 points: none measured. Exit code 143."


def test_a_server_that_hangs_keeps_no_signal_from_being_heard(start: Callable[..., Running]) -> None:
    """It takes the connection and does not list its models: that question has 30 s."""
    with silent_server() as port:
        running = start("--request-rates=1", "--host=127.0.0.1", f"--port={port}", "--metrics-port=0")
        until(lambda: connected(running.pid, port))
        running.signal(signal.SIGTERM)
        assert running.code() == 143
        assert "Traceback" not in running.said


def connected(pid: int, port: int) -> bool:
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


def test_an_answer_of_a_minute_does_not_delay_the_end(start: Callable[..., Running], tmp_path: Path) -> None:
    """And a second SIGTERM, while results are made and stored, changes nothing."""
    with simulator("--fixed-timing", "60000,20") as port:
        flags = ("--stream-request", "--request-rates=20", "--benchmark-time-seconds=60", "--save-json-results")
        watched = free_port()
        metrics = f"--metrics-port={watched}"
        running = start("--host=127.0.0.1", f"--port={port}", f"--output-dir={tmp_path}", metrics, *flags)
        until(lambda: "started" in running.said)
        until(lambda: active_requests(watched) > 10)
        running.signal(signal.SIGTERM)
        time.sleep(0.1)
        running.signal(signal.SIGTERM)
        assert running.code() == 143
    point = only_point(tmp_path)
    assert point["cut_short"] == "SIGTERM"
    assert point["load"]["counts"]["unfinished"] >= 10
    assert list(tmp_path.glob("*.records.npz"))
    assert why(tmp_path).endswith("Exit code 143.")


def test_a_second_ctrl_c_ends_it_at_once(start: Callable[..., Running], tmp_path: Path) -> None:
    with simulator("--fixed-timing", "100,20") as port:
        running = start("--host=127.0.0.1", f"--port={port}", "--request-rates=20", "--benchmark-time-seconds=60")
        until(lambda: "started" in running.said)
        running.signal(signal.SIGINT)
        running.signal(signal.SIGINT)
        assert running.code() == 130


def test_it_stays_up_and_idle_and_then_ends_with_the_profiles_code(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    port = free_port()
    with simulator("--fixed-timing", "20,5") as server:
        flags = ("--request-rates=30", "--benchmark-time-seconds=1", "--stay", f"--metrics-port={port}")
        running = start("--host=127.0.0.1", f"--port={server}", *flags)
        until(lambda: "Exit code" in running.said)
    code = int(running.said.rstrip(".\n").rpartition(" ")[2])
    assert why(tmp_path) == running.said.splitlines()[-1]
    status, body = get(port, "/ready")
    assert (status, body.rstrip("\n")) == (200, f"done: {why(tmp_path)}")
    assert f"LatencyProfileGenerator:exit_code {code}\n" in get(port, "/metrics")[1]
    until(lambda: rests(running.pid))
    assert running.alive
    running.signal(signal.SIGTERM)
    assert running.code() == code


def test_a_container_that_is_started_again_measures_nothing_again_and_idles(tmp_path: Path) -> None:
    port = free_port()
    metric = "LatencyProfileGenerator:"
    with simulator("--fixed-timing", "20,5") as server:
        flags = ("--request-rates=30", "--benchmark-time-seconds=1", "--save-json-results", "--run-id=job-1", "--stay")
        where = (f"--output-dir={tmp_path}", "--host=127.0.0.1", f"--port={server}", f"--metrics-port={port}")
        arguments = command("--backend=vllm", "--models=simulated", *SYNTHETIC, *flags, *where)
        for attempt, sent in enumerate((True, False)):
            running = Running(arguments, "plain", tmp_path / f"log-{attempt}")
            until(lambda running=running: "Exit code" in running.said)
            text = get(port, "/metrics")[1]
            running.signal(signal.SIGTERM)
            running.code()
            assert (f"{metric}request_count_total 0\n" in text) is not sent
            assert f"{metric}points_done 1\n" in text
            assert ("not measured again" in running.said) is not sent
    assert len(list(tmp_path.glob("**/*.records.npz"))) == 1


def active_requests(port: int) -> int:
    lines = get(port, "/metrics")[1].splitlines()
    return int(next(line for line in lines if line.startswith("LatencyProfileGenerator:active_requests ")).split()[1])


def ticks(pid: int) -> int:
    """CPU time of the process, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def rests(pid: int) -> bool:
    """Whether it sleeps for two seconds; it may have had to end something before."""
    before = ticks(pid)
    time.sleep(2)
    return ticks(pid) - before <= 1


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_ready_says_no_while_the_server_is_not_there(start: Callable[..., Running]) -> None:
    port = free_port()
    running = start("--request-rates=1", f"--port={free_port()}", "--wait-for-server=60", f"--metrics-port={port}")
    until(lambda: "waiting for" in running.said)
    status, body = get(port, "/ready")
    assert status == 503
    assert body.startswith("waiting: waiting for http://localhost:")
    assert get(port, "/healthz") == (200, "ok\n")


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--request-rates=x",), 2, "--request-rates"),
        (("--request-rates=1", "--wait-for-server=0.2"), 3, "not ready within 0.2 s"),
        (("--request-rates=1", "--wait-for-server=0.2", "--stay"), 3, "not ready within 0.2 s"),
    ],
)
def test_an_error_is_the_termination_message(tmp_path: Path, flags: tuple[str, ...], code: int, said: str) -> None:
    """Also one in the flags, which may be that of the file: the environment has told it before."""
    place = tmp_path / "why"
    done = subprocess.run(
        command("--backend=vllm", "--host=127.0.0.1", f"--port={free_port()}", *SYNTHETIC, *flags),
        env=environment(LATENCY_PROFILE_TERMINATION_LOG=str(place)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    text = place.read_text()
    assert said in text
    assert text.endswith(f". Exit code {code}.")
    assert text.startswith(done.stderr.splitlines()[-1].rstrip("."))


def test_a_termination_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        command("--request-rates=1", *SYNTHETIC, f"--termination-log={tmp_path}/no/where"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    missing = not (tmp_path / "no").exists()
    assert missing
    assert done.returncode == 2
    assert "--termination-log" in done.stderr


def test_a_long_message_keeps_its_end() -> None:
    text = "é" * 5000 + " Exit code 4."
    short = shortened(text)
    assert len(short.encode()) <= MOST_BYTES
    assert short.endswith("é Exit code 4.")
    assert short.startswith("ééé")
    assert shortened("Exit code 0.\n") == "Exit code 0."


def test_outside_of_a_pod_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latency_profile.live.termination.POD_FILE", tmp_path / "termination-log")
    log = TerminationLog()
    log.write("done")
    assert not list(tmp_path.iterdir())
    (tmp_path / "termination-log").touch()
    log.write("done")
    assert (tmp_path / "termination-log").read_text() == "done"
