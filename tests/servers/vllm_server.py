"""A real vLLM on the CPU out of the environment that `install_vllm.sh` makes."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.vllm_bench.client import BenchClient, bench_client
from tests.servers.process import answers, free_port, running
from tests.servers.smollm2 import MODEL_NAME

ENVIRONMENT = Path(__file__).parents[2] / ".venvs" / "vllm"
MODEL = ENVIRONMENT / "models" / MODEL_NAME  # weights and tokenizer
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def installed() -> bool:
    """Whether `install_vllm.sh` has made the environment and the model."""
    return (MODEL / "model.safetensors").exists()


@dataclass(frozen=True)
class Vllm:
    """A running vLLM: its base URL and the process that answers there."""

    url: str
    pid: int

    def kill_engine(self) -> None:
        """SIGKILL to the engine, which is a process of its own: what a crash or the kernel's memory killer do."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
                name, _, rest = stat.read_text().partition(" (")[2].rpartition(") ")
                if name.startswith("VLLM::Engine") and int(rest.split()[1]) == self.pid:
                    os.kill(int(stat.parent.name), signal.SIGKILL)
                    return
        raise ProcessLookupError("vLLM has no engine")


@contextlib.contextmanager
def serve(log: Path) -> Iterator[str]:
    """The base URL of a vLLM that serves MODEL as MODEL_NAME, without a prefix cache, until the end of the block."""
    with serve_process(log) as server:
        yield server.url


@contextlib.contextmanager
def serve_process(log: Path, *more: str, **variables: str) -> Iterator[Vllm]:
    """The same, as a process whose engine can be killed, with these further flags and environment variables."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [
        ENVIRONMENT / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server",
        "--model", MODEL, "--served-model-name", MODEL_NAME, "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs", "16",
        "--enforce-eager", "--no-enable-prefix-caching", *more,
    ]  # fmt: skip
    env = {**OFFLINE, "VLLM_CPU_KVCACHE_SPACE": "1", **variables}  # GiB
    with running(command, ready=lambda: answers(f"{url}/health"), within_s=240, log=log, env=env) as process:
        yield Vllm(url, process.pid)


@contextlib.contextmanager
def bench(url: str, log: Path) -> Iterator[BenchClient]:
    """vLLM's own client for such a server."""
    with bench_client(url, log, ENVIRONMENT / "bin" / "python", MODEL_NAME, MODEL, OFFLINE) as client:
        yield client
