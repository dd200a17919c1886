"""The embedded model server as a process of its own, with its truth log."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from latency_profile.simulator.log import TruthLog, read_log


@dataclass
class Simulator:
    """A running simulator. `truth` may be asked for once it has been stopped."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self) -> int:
        """Ends it as a user would; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def truth(self) -> TruthLog:
        """Stops it and reads what it did."""
        assert self.stop() == 0
        return read_log(self.log)


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
            process.wait(timeout=20)
        process.stdout.close()
