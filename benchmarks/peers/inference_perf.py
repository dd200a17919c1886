"""inference-perf, of the Kubernetes project."""

import json
from pathlib import Path

from benchmarks.peers.tool import ENVIRONMENTS, INPUT_TOKENS, MODEL, Load, Report, Tool, read_json

_MS_PER_S = 1000
_UNLIMITED = 20_000  # its own default, 100 requests in flight for each worker, would cap the rate


class InferencePerf(Tool):
    """With as many workers as it takes by itself (one a core), without its cap on requests in flight, and with the
    server's token counts. It takes whole seconds only."""

    name = "inference-perf"
    title = "inference-perf 0.7"
    environment = ENVIRONMENTS / "peers" / "inference-perf"

    def command(self, load: Load) -> list[str]:
        config = load.folder / "config.json"  # JSON is YAML
        config.write_text(json.dumps(self._config(load)))
        return [str(self.environment / "bin" / "inference-perf"), "--config_file", str(config)]

    def _config(self, load: Load) -> dict[str, object]:
        return {
            "api": {"type": "completion", "streaming": True},
            "server": {"type": "vllm", "model_name": MODEL, "base_url": load.url, "ignore_eos": True},
            "tokenizer": {"pretrained_model_name_or_path": str(load.tokenizer)},
            "data": {
                "type": "random",
                "input_distribution": _fixed(INPUT_TOKENS),
                "output_distribution": _fixed(load.tokens),
            },
            "load": {
                "type": "poisson",
                "interval": 0,
                "worker_max_concurrency": _UNLIMITED,
                "worker_max_tcp_connections": _UNLIMITED,
                "stages": [{"rate": load.rate, "duration": max(1, round(load.seconds))}],
            },
            "report": {"request_lifecycle": {"percentiles": [50, 99], "use_server_output_tokens": True}},
            "storage": {"local_storage": {"path": str(load.folder / "report")}},
        }

    def report(self, folder: Path) -> Report:
        result = read_json(folder / "report" / "stage_0_lifecycle_metrics.json")
        ttft = result["successes"]["latency"]["time_to_first_token"]
        failed = result["failures"]["count"]
        return Report(
            ttft_p50_ms=ttft["median"] * _MS_PER_S,
            ttft_p99_ms=ttft["p99"] * _MS_PER_S,
            requests_per_s=result["load_summary"]["achieved_rate"],
            succeeded=result["successes"]["count"],
            said=((f"{failed} requests failed",) if failed else ())
            + _complaints(folder / "report" / "validation.json"),
        )


def _fixed(tokens: int) -> dict[str, object]:
    return {"type": "fixed", "min": tokens, "max": tokens, "mean": tokens, "std_dev": 0}


def _complaints(path: Path) -> tuple[str, ...]:
    """Of its own validation of its report of the stage."""
    if not path.exists():
        return ()
    found = read_json(path)
    parts = [found["global"], found["reports"].get("stage_0_lifecycle_metrics.json", {})]
    return tuple(entry["message"] for part in parts for kind in ("errors", "warnings") for entry in part.get(kind, []))
