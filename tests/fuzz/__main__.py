"""`python -m tests.fuzz --seconds 600 [TARGET …]`: fuzzes each target so long, two at a time, and watches their memory.

Needs atheris (requirements-fuzz.txt). Fails on an exception, on an input that takes longer than a few seconds, and on
memory that grows. What it finds lies in `--found`; `--keep` adds to the kept corpus what reaches code that nothing else
there reaches, as few inputs as can be.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.targets import TARGETS, seeds

CORPUS = Path(__file__).with_name("corpus")
LONGEST_INPUT = 4096  # bytes
SECONDS_AN_INPUT = 5
MACHINE = "machine"  # hypothesis' state machine of the spool, which takes no bytes
MOST_GROWTH_KB = 64 * 1024  # from a third of the time on; the fuzzer itself keeps every input that reaches new code
AT_ONCE = 2


class Run:
    """One target in a process of its own."""

    def __init__(self, target: str, seconds: int, found: Path, folder: Path) -> None:
        self.target, self._seconds = target, seconds
        self.inputs = folder / target
        self._log = (folder / f"{target}.log").open("w+")
        self._began = time.monotonic()
        self._early_kb: int | None = None
        self.late_kb = 0
        command = [sys.executable, "-m", "tests.fuzz.machine", str(seconds)]
        if target != MACHINE:
            self._write_seeds()
            limits = [f"-max_total_time={seconds}", f"-timeout={SECONDS_AN_INPUT}", f"-max_len={LONGEST_INPUT}"]
            limits += [f"-artifact_prefix={found / target}-", "-rss_limit_mb=1024"]
            kept = CORPUS / target
            kept.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "tests.fuzz.one", target, *limits, str(self.inputs), str(kept)]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)

    def _write_seeds(self) -> None:
        self.inputs.mkdir()
        for number, data in enumerate(dict.fromkeys(seeds(self.target))):
            if len(data) <= LONGEST_INPUT:
                (self.inputs / f"seed-{number}").write_bytes(data)

    def over(self) -> bool:
        """Whether it has ended; looks at its memory."""
        if self._process.poll() is not None:
            return True
        resident = _resident_kb(self._process.pid)
        if self._early_kb is None and time.monotonic() - self._began > self._seconds / 3:
            self._early_kb = resident
        self.late_kb = resident or self.late_kb
        return False

    def verdict(self) -> str | None:
        """What went wrong."""
        if self._process.returncode:
            self._log.seek(0)
            return "".join(self._log.readlines()[-40:])
        if self._early_kb and self.late_kb - self._early_kb > MOST_GROWTH_KB:
            return f"memory grew from {self._early_kb} to {self.late_kb} KiB"
        return None

    def report(self) -> str:
        self._log.seek(0)
        done = [line for line in self._log if line.startswith("Done ")]
        return (
            f"{self.target}: {done[-1].strip() if done else 'no end'}; {self._early_kb} KiB, at the end {self.late_kb}"
        )


def _resident_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


def keep(target: str, inputs: Path) -> None:
    """Merges into the kept corpus the inputs that reach code which neither it nor the seeds reach."""
    with tempfile.TemporaryDirectory() as name:
        merged = Path(name)
        known = merged / "known"
        known.mkdir()
        for number, data in enumerate(dict.fromkeys(seeds(target))):
            (known / f"seed-{number}").write_bytes(data)
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "tests.fuzz.one",
            target,
            "-merge=1",
            known,
            CORPUS / target,
            inputs,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for path in known.iterdir():
            if not path.name.startswith("seed-"):
                (CORPUS / target / path.name[:16]).write_bytes(path.read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join([*TARGETS, MACHINE]))
    parser.add_argument("--seconds", type=int, default=600, help="for each target (600)")
    parser.add_argument("--found", type=Path, default=Path(), help="folder for inputs that fail")
    parser.add_argument("--keep", action="store_true", help="add what is new to tests/fuzz/corpus")
    given = parser.parse_args()
    waiting = list(given.targets or [*TARGETS, MACHINE])
    if unknown := set(waiting) - {*TARGETS, MACHINE}:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    given.found.mkdir(parents=True, exist_ok=True)
    running: list[Run] = []
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        while waiting or running:
            while waiting and len(running) < min(AT_ONCE, os.cpu_count() or 1):
                running.append(Run(waiting.pop(0), given.seconds, given.found.resolve(), Path(name)))
            time.sleep(0.5)
            for run in [run for run in running if run.over()]:
                running.remove(run)
                problem = run.verdict()
                print(run.report(), flush=True)
                if problem is not None:
                    failed += 1
                    print(problem, flush=True)
                elif given.keep and run.target != MACHINE:
                    keep(run.target, run.inputs)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
