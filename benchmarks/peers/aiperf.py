"""NVIDIA's AIPerf."""

import re
from collections import Counter
from pathlib import Path
from typing import ClassVar

from benchmarks.peers.tool import ENVIRONMENTS, INPUT_TOKENS, MODEL, Load, Report, Tool, read_json

_WARNING = re.compile(r"(?:WARNING|ERROR) +([^(\n]*)")
_NOT_OF_THE_LOAD = ("GPU Telemetry", "Token usage is reported", "Server Metrics", "No GPU telemetry")
_NUMBER = re.compile(r"worker_\w+|[0-9][0-9.]*")


class AiPerf(Tool):
    """With the server's token counts, which spares it a tokenizer beside the load; its tokenizer is a folder, which it
    cannot load where the hub is said to be offline."""

    name = "aiperf"
    title = "AIPerf 0.13"
    environment = ENVIRONMENTS / "peers" / "aiperf"
    variables: ClassVar = {"HF_HUB_DISABLE_TELEMETRY": "1", "COLUMNS": "400"}

    def command(self, load: Load) -> list[str]:
        command = [str(self.environment / "bin" / "aiperf"), "profile", "--url", load.url, "--model", MODEL]
        command += ["--endpoint-type", "completions", "--streaming", "--tokenizer", str(load.tokenizer)]
        command += ["--request-rate", f"{load.rate:g}", "--arrival-pattern", "poisson"]
        command += ["--request-count", str(load.requests), "--extra-inputs", "ignore_eos:true"]
        command += ["--synthetic-input-tokens-mean", str(INPUT_TOKENS), "--synthetic-input-tokens-stddev", "0"]
        command += ["--output-tokens-mean", str(load.tokens), "--output-tokens-stddev", "0"]
        command += ["--use-server-token-count", "--ui", "none", "--no-gpu-telemetry", "--no-server-metrics"]
        return [*command, "--output-artifact-dir", str(load.folder)]

    def report(self, folder: Path) -> Report:
        result = read_json(folder / "profile_export_aiperf.json")
        errors = result.get("error_summary") or []
        return Report(
            ttft_p50_ms=result["time_to_first_token"]["p50"],
            ttft_p99_ms=result["time_to_first_token"]["p99"],
            requests_per_s=result["request_throughput"]["avg"],
            succeeded=round(result["request_count"]["avg"]),
            said=(f"{len(errors)} kinds of errors",) if errors else (),
        )

    def said(self, output: str) -> tuple[str, ...]:
        """Its warnings, those that differ in their figures only together."""
        found = (" ".join(match.split()) for match in _WARNING.findall(output))
        kinds = Counter(_NUMBER.sub("…", line) for line in found if not line.startswith(_NOT_OF_THE_LOAD))
        return tuple(f"in its log, {count} ×: {line}" for line, count in kinds.items())
