"""vLLM's `vllm bench serve`."""

from pathlib import Path
from typing import ClassVar

from benchmarks.peers.tool import ENVIRONMENTS, INPUT_TOKENS, MODEL, Load, Report, Tool, read_json

_RESULT = "result.json"


class VllmBench(Tool):
    """Without its first trial request, so that every request in the server's log is one of the load's."""

    name = "vllm"
    title = "vllm bench serve 0.32"
    environment = ENVIRONMENTS / "vllm"
    excluded = ("models",)
    variables: ClassVar = {**Tool.variables, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}

    def command(self, load: Load) -> list[str]:
        command = [str(self.environment / "bin" / "vllm"), "bench", "serve", "--backend", "openai"]
        command += ["--base-url", load.url, "--endpoint", "/v1/completions"]
        command += ["--model", MODEL, "--tokenizer", str(load.tokenizer), "--dataset-name", "random"]
        command += ["--random-input-len", str(INPUT_TOKENS), "--random-output-len", str(load.tokens), "--ignore-eos"]
        command += ["--num-prompts", str(load.requests), "--request-rate", f"{load.rate:g}"]
        command += ["--ready-check-timeout-sec", "0", "--disable-tqdm", "--metric-percentiles", "50,99"]
        return [*command, "--save-result", "--result-dir", str(load.folder), "--result-filename", _RESULT]

    def report(self, folder: Path) -> Report:
        result = read_json(folder / _RESULT)
        failed = result["failed"]
        return Report(
            ttft_p50_ms=result["median_ttft_ms"],
            ttft_p99_ms=result["p99_ttft_ms"],
            requests_per_s=result["request_throughput"],
            succeeded=result["completed"],
            said=(f"{failed} requests failed",) if failed else (),
        )
