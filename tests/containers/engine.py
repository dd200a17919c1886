"""Containers run as a strict cluster runs them: a read-only root, no capabilities, no new privileges, little to use."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BASE = "docker.io/library/python:3.12-slim-bookworm"
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")
SMALL = ("--cpus=1", "--memory=512m", "--memory-swap=512m")


def podman(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """`podman` with these arguments, whatever its exit code."""
    return subprocess.run(
        ["podman", *arguments],
        env={**os.environ, "CONTAINERS_CONF": str(HERE / "containers.conf")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def build(tag: str, *options: str, tree: Path = HERE.parents[1]) -> str:
    """Builds the Dockerfile of `tree`; what podman said. Raises RuntimeError where it came to nothing."""
    command: list[str | Path] = [tree / "tests/containers/build.sh", tag, *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the image could not be built:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout + done.stderr


def run(
    image: str, *command: str, options: Sequence[str] = (), timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """The command in a hardened container, to its end."""
    return podman("run", "--rm", *HARDENED, *options, image, *command, timeout=timeout)


@dataclass(frozen=True)
class Container:
    """One that runs in the background."""

    name: str

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As `kubectl exec` does."""
        return podman("exec", self.name, *command)

    def signal(self, name: str) -> None:
        podman("kill", f"--signal={name}", self.name)

    def exit_code(self, within_s: float) -> int:
        """Once it has ended. Raises subprocess.TimeoutExpired."""
        return int(podman("wait", self.name, timeout=within_s).stdout)

    def output(self) -> str:
        done = podman("logs", self.name)
        return done.stdout + done.stderr


@contextmanager
def running(image: str, *command: str, options: Sequence[str] = ()) -> Iterator[Container]:
    """A hardened container in the background, gone at the end of the block."""
    done = podman("run", "--detach", *HARDENED, *options, image, *command)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    container = Container(done.stdout.strip())
    try:
        yield container
    finally:
        podman("rm", "--force", "--volumes", "--time=0", container.name)
