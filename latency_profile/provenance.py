"""Where a point's numbers come from: enough to run it again, and to say what it ran on."""

import os
import platform
import socket
from typing import Any

from latency_profile import __version__


def provenance(workload: dict[str, Any], server_version: str | None, processes: int) -> dict[str, Any]:
    """The provenance block. `workload` is Workload.description; the version is the server's own word."""
    return {
        "latency_profile": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cores": len(os.sched_getaffinity(0)),
        "image": os.environ.get("LATENCY_PROFILE_IMAGE"),
        "sender_processes": processes,
        "workload": workload,
        "server_version": server_version,
    }
