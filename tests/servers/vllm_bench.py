"""An independent client to compare with: `vllm bench serve`, against any server that speaks /v1/completions."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from tests.servers.smollm2 import MODEL_NAME
from tests.servers.vllm_server import ENVIRONMENT, MODEL, OFFLINE


class BenchResult(msgspec.Struct, frozen=True):
    """What one run found, by vLLM's names. Times in s.

    Its definitions (vllm/benchmarks, 0.32): a request starts just before aiohttp is asked to post it; TTFT ends at the
    first event with a choice; ITLs are the gaps between such events; TPOT is (E2E - TTFT) / (output tokens - 1), with
    E2E until the last such event (neither the usage event nor `[DONE]` counts).
    """

    completed: int
    total_input_tokens: int
    total_output_tokens: int
    ttfts: list[float]
    itls: list[list[float]]
    output_lens: list[int]

    @property
    def ttft_ms(self) -> list[float]:
        """Of each request."""
        return [1000 * ttft for ttft in self.ttfts]

    @property
    def tpot_ms(self) -> list[float]:
        """Of each request."""
        return [1000 * sum(gaps) / (tokens - 1) for gaps, tokens in zip(self.itls, self.output_lens, strict=True)]


class BenchClient:
    """A `vllm bench serve` that has been imported and waits."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self._url = url
        assert process.stdin and process.stdout
        self._in: IO[bytes] = process.stdin
        self._out: IO[bytes] = process.stdout
        self._line()

    def measure(self, *, input_tokens: int, output_tokens: int, requests: int, seed: int) -> BenchResult:
        """`requests` random prompts of `input_tokens`, one after the other, each answered with `output_tokens`; greedy,
        and the end of text ignored. RuntimeError where it fails."""
        flags = ["--backend", "openai", "--base-url", self._url, "--endpoint", "/v1/completions"]
        flags += ["--model", MODEL_NAME, "--tokenizer", str(MODEL), "--dataset-name", "random"]
        flags += ["--random-input-len", str(input_tokens), "--random-output-len", str(output_tokens)]
        flags += ["--random-range-ratio", "0", "--num-prompts", str(requests), "--num-warmups", "0"]
        flags += ["--seed", str(seed), "--ignore-eos", "--temperature", "0", "--max-concurrency", "1"]
        flags += ["--disable-tqdm", "--save-detailed"]
        self._in.write(msgspec.json.encode(flags) + b"\n")
        self._in.flush()
        return msgspec.json.decode(self._line(), type=BenchResult)

    def _line(self) -> bytes:
        line = self._out.readline()
        if not line:
            raise RuntimeError("vllm bench serve has ended; its log says why")
        return line


@contextlib.contextmanager
def bench_client(url: str, log: Path) -> Iterator[BenchClient]:
    """A client for the server at `url`, for as long as the block runs. It is ready after about 20 s."""
    script = Path(__file__).with_name("vllm_bench_loop.py")
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [ENVIRONMENT / "bin" / "python", script],
            env={**os.environ, **OFFLINE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            yield BenchClient(url, process)
        finally:
            process.terminate()
