"""An independent client to compare with: `vllm bench serve`, against any server that speaks /v1/completions."""

import os
import subprocess
from pathlib import Path

import msgspec

from tests.servers.smollm2 import MODEL_NAME
from tests.servers.vllm_server import ENVIRONMENT, MODEL, OFFLINE


class BenchResult(msgspec.Struct, frozen=True):
    """What `vllm bench serve --save-result` wrote, by its own names. Times in ms.

    Its definitions (vllm/benchmarks, 0.32): a request starts just before aiohttp is asked to post it; TTFT ends at the
    first event with a choice, E2E at the last such event (neither the usage event nor `[DONE]` counts); TPOT is
    (E2E − TTFT) / (output tokens − 1). The input tokens are the server's own where its usage tells them.
    """

    completed: int
    failed: int
    duration: float  # s
    median_ttft_ms: float
    median_tpot_ms: float
    median_itl_ms: float
    median_e2el_ms: float
    total_input_tokens: int
    total_output_tokens: int


def bench_serve(
    url: str, folder: Path, *, input_tokens: int, output_tokens: int, requests: int, warmups: int = 1, seed: int = 0
) -> BenchResult:
    """Measure `requests` random prompts of `input_tokens`, one after the other, each answered with `output_tokens`.

    Greedy, end-of-sequence ignored, so every answer has its full length. Its start, with the import of vLLM, takes
    about 15 s of CPU that no figure contains. `folder` takes the result file. RuntimeError with the end of its output
    if it fails.
    """
    name = f"bench-{seed}.json"
    command = [
        ENVIRONMENT / "bin" / "vllm", "bench", "serve", "--backend", "openai", "--base-url", url,
        "--endpoint", "/v1/completions", "--model", MODEL_NAME, "--tokenizer", MODEL,
        "--dataset-name", "random", "--random-input-len", input_tokens, "--random-output-len", output_tokens,
        "--random-range-ratio", 0, "--num-prompts", requests, "--num-warmups", warmups, "--seed", seed,
        "--ignore-eos", "--temperature", 0, "--max-concurrency", 1, "--disable-tqdm",
        "--percentile-metrics", "ttft,tpot,itl,e2el",
        "--save-result", "--result-dir", folder, "--result-filename", name,
    ]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **OFFLINE},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"vllm bench serve ended with {done.returncode}:\n{done.stdout.decode()[-3000:]}")
    return msgspec.json.decode((folder / name).read_bytes(), type=BenchResult)
