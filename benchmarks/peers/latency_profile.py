"""This tool, as a user runs it: `benchmark_serving.py`, all else at its defaults."""

import sys
from pathlib import Path

import numpy as np

from benchmarks.peers.tool import (
    ENVIRONMENTS,
    INPUT_TOKENS,
    MODEL,
    ROOT,
    Load,
    Plan,
    Report,
    Tool,
    disk_bytes,
    only,
    read_json,
)
from latency_profile import records
from latency_profile.records import Records

_PACKAGES = ("backends", "latency_profile", "benchmark_serving.py")
_FINE = "VALID"
_OWN = ENVIRONMENTS / "peers" / "latency-profile"  # what a run needs and nothing else; without it, whatever is there


class LatencyProfile(Tool):
    """TTFT is the service TTFT of `metrics`: all requests, from the first `send()` on, as its peers count it."""

    name = "ours"
    title = "latency-profile"
    environment = _OWN if _OWN.exists() else Path(sys.prefix)

    def command(self, load: Load) -> list[str]:
        return [
            str(self.environment / "bin" / "python"),
            str(ROOT / "benchmark_serving.py"),
            "--backend=vllm",
            "--endpoint=/v1/completions",
            f"--url={load.url}",
            f"--model={MODEL}",
            "--tokenizer=bundled",
            f"--input-len={INPUT_TOKENS}",
            f"--output-len={load.tokens}",
            "--ignore-eos",
            "--stream-request",
            f"--request-rate={load.rate:g}",
            f"--num-prompts={load.requests}",
            "--save-json-results",
            f"--output-dir={load.folder}",
        ]

    def report(self, folder: Path) -> Report:
        [path] = [path for path in folder.glob("*.json") if "-profile-" not in path.name]
        point = read_json(path)
        metrics, verdict = point["metrics"], point["verdict"]
        return Report(
            ttft_p50_ms=metrics["median_TTFT_ms"],
            ttft_p99_ms=metrics["p99_TTFT_ms"],
            requests_per_s=point["load"]["sent_requests_per_s"],
            succeeded=metrics["num_prompts_succeeded"],
            said=() if verdict["verdict"] == _FINE else (f"{verdict['verdict']}: {' '.join(verdict['reasons'])}",),
            plan=plan(records.load(only(folder, "*.records.npz"))),
        )

    def installed(self) -> bool:
        return True  # this interpreter will do where its own environment has not been made

    def installed_mb(self) -> float:
        """Its requirements' environment, and the packages themselves, which run from the checkout."""
        return super().installed_mb() + sum(disk_bytes(ROOT / name) for name in _PACKAGES) / 1e6


def plan(point: Records) -> Plan:
    """Of a point's own due times."""
    due = np.sort(point["due_ns"])
    late = (point["sent_ns"] - point["due_ns"])[point["sent_ns"] >= 0]
    gaps = np.diff(due)
    return Plan(
        len(gaps) / (float(gaps.sum()) / 1e9), float(gaps.std() / gaps.mean()), float(np.percentile(late, 99) / 1e6)
    )
