"""Where a point's numbers come from: enough to run it again, and to say what it ran on."""

import os
import platform
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

from latency_profile import __version__
from latency_profile.settings import Settings
from latency_profile.settings.definition import ROWS

# Those that take part in a measurement: what they do can change a number.
PACKAGES = ("httptools", "msgspec", "numpy", "tokenizers")


def provenance(
    settings: Settings, workload: dict[str, Any], server_version: str | None, processes: int
) -> dict[str, Any]:
    """What the results say of their origin, beside the settings themselves (which the records have already). `workload`
    is Workload.description; the version is the server's own word."""
    return {
        "latency_profile": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "host": socket.gethostname(),
        "cores": len(os.sched_getaffinity(0)),
        "image": os.environ.get("LATENCY_PROFILE_IMAGE"),
        "sender_processes": processes,
        "given": [row.name for row in ROWS if settings.given(row.name)],
        "workload": workload,
        "server_version": server_version,
    }


def processor() -> str | None:
    """Its name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)
