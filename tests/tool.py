"""Runs the tool as a user does: its own process, flags in, files and an exit code out."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jsonschema

import latency_profile

ROOT = Path(__file__).parent.parent
SYNTHETIC = ("--tokenizer=bundled", "--input-len=32", "--output-len=8", "--ignore-eos")


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "benchmark_serving.py"), *arguments]


def environment(**more: str) -> dict[str, str]:
    """A user's environment without settings of ours in it, or a key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LATENCY_PROFILE_")}
    kept.pop("OPENAI_API_KEY", None)
    return kept | more


def benchmark(*arguments: str, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    """`benchmark_serving.py` with these flags, whatever its exit code."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment(**env),
        cwd=ROOT,
    )


def called(command: Callable[[Sequence[str]], int], *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """What a command of `latency_profile.cli` says and returns, called in this process and in a user's environment: for
    what ends before anything is sent. A process of its own would spend most of its second on imports."""
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ, environment(**env), clear=True), redirect_stdout(out), redirect_stderr(err):
        code = command(arguments)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def latency_profile_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m latency_profile` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", "latency_profile", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
        cwd=ROOT,
    )


def schema(name: str) -> dict[str, Any]:
    text = Path(latency_profile.__file__).with_name(f"{name}.schema.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def point_files(folder: Path) -> list[Path]:
    """The point files in a folder, without the profile's own, by name."""
    return sorted(path for path in folder.glob("*.json") if "-profile-" not in path.name)


def read_point(path: Path) -> dict[str, Any]:
    """A point file, held against the schema; NaN and Infinity are no JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in {path.name}")

    point: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    jsonschema.validate(point, schema("point"))
    return point


def only_point(folder: Path) -> dict[str, Any]:
    paths: Sequence[Path] = point_files(folder)
    assert len(paths) == 1, [path.name for path in paths]
    return read_point(paths[0])
