"""Points as a Prometheus sees them: what an exporter tells, and how it moves."""

import json
import re
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from latency_profile.telemetry.told import Told
from tests.servers.prometheus import Exporter

DATA = Path(__file__).parent / "data" / "telemetry"
BEFORE = (DATA / "vllm_before.txt").read_text()
AFTER = (DATA / "vllm_after.txt").read_text()
WHERE = '{namespace="default",job="vllm-podmonitoring"}'


def with_running(text: str, requests: float | str) -> str:
    """The exposition with that many requests running."""
    changed, count = re.subn(r"(?m)^(vllm:num_requests_running\{.*\}) .*$", rf"\g<1> {requests}", text)
    assert count == 1
    return changed


def ask(url: str, query: str, at: float | None = None) -> Any:
    """Prometheus' own answer, by plain HTTP."""
    parameters = {"query": query} | ({"time": str(at)} if at else {})
    with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def value(url: str, query: str, at: float | None = None) -> float:
    (row,) = ask(url, query, at)
    return float(row["value"][1])


def wait_for(url: str, query: str) -> None:
    """Until the query has a result."""
    deadline = time.monotonic() + 60
    while not ask(url, query):
        assert time.monotonic() < deadline, f"{url} never has {query}"
        time.sleep(0.1)


def a_point(*servers: Exporter, seconds: float = 3.6, rest_s: float = 0.7) -> tuple[float, float]:
    """Moves the exporters as a point would: requests run, then the counters stand where the load left them."""
    time.sleep(rest_s)
    start = time.time()
    steps = 8
    for step in range(steps):
        for server in servers:
            server.text = with_running(BEFORE if step < steps / 2 else AFTER, 10.0 * (step + 1))
        time.sleep(seconds / steps)
    for server in servers:
        server.text = AFTER
    return start, time.time()


def increase(told: Told, name: str) -> float:
    return told.metrics[name]["Increase"]
