"""A real `transformers serve` on the CPU out of the environment that `install_transformers_serve.sh` makes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.servers.process import answers, free_port, running
from tests.servers.smollm2 import MODEL_NAME

ENVIRONMENT = Path(__file__).parents[2] / ".venvs" / "transformers-serve"
MODEL = ENVIRONMENT / "models" / MODEL_NAME  # weights and tokenizer


def installed() -> bool:
    """Whether `install_transformers_serve.sh` has made the environment and the model."""
    return (MODEL / "model.safetensors").exists()


@contextlib.contextmanager
def serve(log: Path) -> Iterator[str]:
    """The base URL of a server that is pinned to MODEL_NAME, until the end of the block.

    It knows a model by the path that it was started with, so it is started in the model's folder.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [
        "env", f"--chdir={MODEL.parent}",
        ENVIRONMENT / "bin" / "transformers", "serve", MODEL_NAME,
        "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "bfloat16",
    ]  # fmt: skip
    env = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    with running(command, ready=lambda: answers(f"{url}/health"), within_s=120, log=log, env=env):
        yield url
