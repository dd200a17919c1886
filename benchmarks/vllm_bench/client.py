"""`vllm bench serve`, against any server that speaks /v1/completions."""

import contextlib
import math
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import msgspec

_VARIABLES = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


class BenchResult(msgspec.Struct, frozen=True):
    """What one run found, by vLLM's names. Times in s.

    Its definitions (vllm/benchmarks, 0.24 and 0.32): a request starts just before aiohttp is asked to post it; TTFT
    ends at the first event with a choice; ITLs are the gaps between such events; TPOT is (E2E - TTFT) / (output tokens
    - 1), with E2E until the last such event (neither the usage event nor `[DONE]` counts). Arrivals are stretched so
    that the last one is due after requests / rate.
    """

    completed: int
    total_input_tokens: int
    total_output_tokens: int
    duration: float  # from the first request to the last answer's end
    ttfts: list[float]
    itls: list[list[float]]
    output_lens: list[int]

    @property
    def requests_per_s(self) -> float:
        return self.completed / self.duration

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

    def __init__(self, url: str, model: str, tokenizer: Path, process: "subprocess.Popen[bytes]") -> None:
        self._flags = [
            *("--backend", "openai", "--base-url", url, "--endpoint", "/v1/completions", "--model", model),
            *("--tokenizer", str(tokenizer), "--dataset-name", "random", "--random-range-ratio", "0"),
            *("--num-warmups", "0", "--ignore-eos", "--temperature", "0", "--disable-tqdm", "--save-detailed"),
        ]
        assert process.stdin and process.stdout
        self._in: IO[bytes] = process.stdin
        self._out: IO[bytes] = process.stdout
        self._line()

    def measure(
        self,
        *,
        input_tokens: int,
        output_tokens: int,
        requests: int,
        seed: int,
        rate: float = math.inf,
        concurrency: int | None = None,
    ) -> BenchResult:
        """`requests` random prompts of `input_tokens`, each answered with exactly `output_tokens`, greedily. rate:
        requests/s, at Poisson times; concurrency: in flight at most. RuntimeError where it fails."""
        flags = [*self._flags, "--num-prompts", str(requests), "--seed", str(seed), "--request-rate", f"{rate:g}"]
        flags += ["--random-input-len", str(input_tokens), "--random-output-len", str(output_tokens)]
        if concurrency is not None:
            flags += ["--max-concurrency", str(concurrency)]
        self._in.write(msgspec.json.encode(flags) + b"\n")
        self._in.flush()
        return msgspec.json.decode(self._line(), type=BenchResult)

    def _line(self) -> bytes:
        line = self._out.readline()
        if not line:
            raise RuntimeError("vllm bench serve has ended; its log says why")
        return line


@contextlib.contextmanager
def bench_client(
    url: str, log: Path, python: Path, model: str, tokenizer: Path, variables: Mapping[str, str] | None = None
) -> Iterator[BenchClient]:
    """A client for the server at `url`, for as long as the block runs. It is ready after about 20 s. python: one that
    has vLLM; model: as the server calls it; tokenizer: the model's, a folder."""
    script = Path(__file__).with_name("loop.py")
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [python, script],
            env={**os.environ, **_VARIABLES, **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            yield BenchClient(url, model, tokenizer, process)
        finally:
            process.terminate()
