"""Run by vLLM's Python: what vLLM's own code makes of the requests in a file that `export --format vllm-bench` wrote.

Arguments: the file, and the objectives as JSON ({"ttft": ms, …}). Prints one line of JSON, by the file's keys.
"""

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

from vllm.benchmarks.lib.endpoint_request_func import RequestFuncOutput
from vllm.benchmarks.serve import calculate_metrics

KEYS = {"total_input": "total_input_tokens", "total_output": "total_output_tokens"}


def main(path: str, objectives: str) -> None:
    of = json.loads(Path(path).read_text())
    names = ("errors", "latencies", "output_lens", "ttfts", "itls", "input_lens", "start_times")
    outputs = [
        RequestFuncOutput(
            success=not error, latency=latency, output_tokens=tokens, ttft=ttft, itl=itl, prompt_len=prompt,
            start_time=start, error=error,
        )
        for error, latency, tokens, ttft, itl, prompt, start in zip(*(of[name] for name in names), strict=True)
    ]  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):
        metrics, _ = calculate_metrics([], outputs, of["duration"], None, [50, 90, 95, 99], json.loads(objectives))
    found = {}
    for name, value in dataclasses.asdict(metrics).items():
        if name.startswith("percentiles_"):
            latency = name.removeprefix("percentiles_")
            found |= {f"p{level}_{latency}": value_ms for level, value_ms in value}
        else:
            found[KEYS.get(name, name)] = value
    print(json.dumps(found))


main(*sys.argv[1:])
