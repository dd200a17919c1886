"""A real Triton out of the environment that `install_triton.sh` makes; its Python model has TensorRT-LLM's tensors."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pytest

from tests.servers.process import answers, free_port, running

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parents[1] / ".venvs" / "triton"
MODEL = HERE / "triton_model"
DECOUPLED, WHOLE = "ensemble", "tensorrt_llm_bls"  # one model, configured once to stream and once not to


@dataclass(frozen=True)
class Triton:
    """Where a running Triton is."""

    url: str
    metrics_url: str  # whole, on a port of its own
    models: Path  # its model repository

    def generated(self, model: str) -> int:
        """Tokens that this model says it has generated so far."""
        return sum(map(int, (self.models / model / "generated_tokens").read_text().split()))


def need() -> None:
    """Without the environment the test is skipped, and fails under CI: there `make test` has to have installed it."""
    if (ENVIRONMENT / "backends" / "python" / "triton_python_backend_stub").exists():
        return
    message = "needs Triton: tests/servers/install_triton.sh installs nvidia-pytriton 0.7.0, as `make test` does"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def write_repository(folder: Path) -> None:
    """Triton's model repository, a folder for each model, in `folder`."""
    config = Template((MODEL / "config.pbtxt").read_text())
    for name, decoupled in ((DECOUPLED, "true"), (WHOLE, "false")):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config.substitute(name=name, decoupled=decoupled))
        (folder / name / "1" / "model.py").write_text((MODEL / "model.py").read_text())


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Triton]:
    """A Triton that serves both models, on free ports of 127.0.0.1, until the end of the block.

    Its files, server.log among them, are in `folder`, which must not exist.
    """
    write_repository(folder / "models")
    script = "import sysconfig as s; print(s.get_path('purelib'), s.get_config_var('LIBDIR'), sep='\\n')"
    python = ENVIRONMENT / "bin" / "python"
    asked = subprocess.run([python, "-c", script], check=True, capture_output=True, text=True)
    packages, library = asked.stdout.splitlines()
    http, grpc, metrics = free_port(), free_port(), free_port()
    command: list[str | Path] = [
        f"{packages}/pytriton/tritonserver/bin/tritonserver",
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={ENVIRONMENT / 'backends'}",
        "--http-address=127.0.0.1", f"--http-port={http}",
        "--grpc-address=127.0.0.1", f"--grpc-port={grpc}",
        "--metrics-address=127.0.0.1", f"--metrics-port={metrics}",
        "--allow-gpu-metrics=false", "--exit-timeout-secs=3",
    ]  # fmt: skip
    env = {
        "LD_LIBRARY_PATH": f"{packages}/nvidia_pytriton.libs:{library}",
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": packages,
        "VIRTUAL_ENV": str(ENVIRONMENT),
    }
    url = f"http://127.0.0.1:{http}"
    told = f"http://127.0.0.1:{metrics}/metrics"  # it listens there last

    def ready() -> bool:
        return answers(f"{url}/v2/health/ready") and answers(told)

    with running(command, ready=ready, within_s=60, log=folder / "server.log", env=env):
        yield Triton(url, told, folder / "models")
