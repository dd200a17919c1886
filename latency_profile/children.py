"""Processes of this package's own, started by module: they find it whether it is installed or not."""

import os
import sys
from pathlib import Path

import latency_profile


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's, with the package's folder where Python looks first."""
    root = str(Path(latency_profile.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}
