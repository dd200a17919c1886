"""Runs `benchmark_engines.py` as a user does, and finds what its servers leave behind."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.servers import smollm2
from tests.tool import ROOT, environment

MARK = "LAUNCH_TEST_MARK"
LLAMACPP = Path(__file__).with_name("servers") / "llamacpp.py"


@dataclass(frozen=True)
class Started:
    """A run of `benchmark_engines.py`; all that comes from it carries `mark` in its environment."""

    process: "subprocess.Popen[str]"
    mark: str
    output: Path

    def ends(self, within_s: float = 90) -> tuple[int, str, str]:
        """Exit code, standard output and error."""
        out, err = self.process.communicate(timeout=within_s)
        return self.process.returncode, out, err

    def left(self) -> list[str]:
        """The command lines of all its processes that still run."""
        return [line for _, line in marked(self.mark)]

    def pid_of(self, word: str) -> int:
        """The one process with that word in its command line."""
        (pid,) = [pid for pid, line in marked(self.mark) if word in line]
        return pid


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Every process of this machine with the mark in its environment, but for those that have ended."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                yield int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue


@contextmanager
def started(tmp_path: Path, sections: dict[str, Any], *flags: str, prompts: int = 18) -> Iterator[Started]:
    """With these servers' settings, a data set of so many prompts, and results in tmp_path / "results"."""
    (tmp_path / "servers.yaml").write_text(yaml.safe_dump(sections))
    dataset(tmp_path / "benchmark_dataset.json", prompts)
    mark = uuid.uuid4().hex
    output = tmp_path / "results"
    command = [
        *(sys.executable, str(ROOT / "benchmark_engines.py"), "--config", str(tmp_path / "servers.yaml")),
        *("--dataset", str(tmp_path / "benchmark_dataset.json"), "--output", str(output), *flags),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**{MARK: mark}),
        cwd=ROOT,
        start_new_session=True,
    )
    run = Started(process, mark, output)
    try:
        yield run
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream
            stream.close()
        until(lambda: not run.left())


def dataset(path: Path, prompts: int) -> None:
    """As the generator of the data set writes it."""
    categories = ("coding", "reasoning", "creative writing")
    items = [
        {"prompt": f"Explain subject {n} in some detail.", "category": categories[n % 3], "max_tokens": 8 + n % 4}
        for n in range(prompts)
    ]
    path.write_text(json.dumps(items))


def simulator(*flags: str, backend: str = "vllm") -> dict[str, Any]:
    """A section that starts the embedded server in place of the real one."""
    command = [sys.executable, "-m", "latency_profile.simulator", "--port", "{port}", "--host", "{host}"]
    return {"tokenizer": "bundled", "command": [*command, "--backend", backend, *flags]}


def llamacpp(gguf: Path, tokenizer: Path) -> dict[str, Any]:
    """A section that starts the real llama.cpp through its Python package."""
    command = [sys.executable, str(LLAMACPP), "{model}", "{port}", smollm2.MODEL_NAME]
    return {"tokenizer": str(tokenizer), "model_path": str(gguf), "command": command}


def answers_arrive(output: Path, backend: str) -> bool:
    """Whether bytes of a point's answers have been written."""
    return any(path.stat().st_size > 0 for path in output.glob(f"{backend}_*/*point-0*/spool-*"))


def until(true: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run_file(output: Path, backend: str) -> dict[str, Any]:
    """The one JSON of that engine."""
    (path,) = output.glob(f"{backend}_????????_??????.json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in {path.name}")

    read: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    return read


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
