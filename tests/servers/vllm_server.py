"""A real vLLM on the CPU out of the environment that `install_vllm.sh` makes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.servers.process import answers, free_port, running
from tests.servers.smollm2 import MODEL_NAME

ENVIRONMENT = Path(__file__).parents[2] / ".venvs" / "vllm"
MODEL = ENVIRONMENT / "models" / MODEL_NAME  # weights and tokenizer
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def installed() -> bool:
    """Whether `install_vllm.sh` has made the environment and the model."""
    return (MODEL / "model.safetensors").exists()


@contextlib.contextmanager
def serve(log: Path) -> Iterator[str]:
    """The base URL of a vLLM that serves MODEL as MODEL_NAME, without a prefix cache, until the end of the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [
        ENVIRONMENT / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server",
        "--model", MODEL, "--served-model-name", MODEL_NAME, "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs", "16",
        "--enforce-eager", "--no-enable-prefix-caching",
    ]  # fmt: skip
    env = {**OFFLINE, "VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB
    with running(command, ready=lambda: answers(f"{url}/health"), within_s=240, log=log, env=env):
        yield url
