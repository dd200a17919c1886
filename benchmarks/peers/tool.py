"""What every tool is asked for, and what it reported: one load, one server, one result."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venvs"
MODEL = "calibration"
INPUT_TOKENS = 32


class NoResult(Exception):
    """The tool left no result that could be read. `str(error)` says why."""


@dataclass(frozen=True)
class Load:
    """One run's load: Poisson arrivals of streamed /v1/completions, each of exactly `tokens` tokens."""

    url: str
    rate: float  # requests/s
    requests: int
    tokens: int
    folder: Path  # empty, for whatever the tool writes
    tokenizer: Path  # a Hugging Face folder

    @property
    def seconds(self) -> float:
        """How long the requests take to be sent."""
        return self.requests / self.rate


@dataclass(frozen=True)
class Plan:
    """When a tool meant to send: known only of one that writes its plan down."""

    rate: float  # requests/s, from first to last
    variation: float  # coefficient of variation of the gaps
    lateness_p99_ms: float


@dataclass(frozen=True)
class Report:
    """What a tool told about its run."""

    ttft_p50_ms: float
    ttft_p99_ms: float
    requests_per_s: float | None  # by its own account, whatever it means by it
    succeeded: int
    said: tuple[str, ...] = ()  # its own words where it says that something was wrong with the measurement
    plan: Plan | None = None


class Tool(ABC):
    """One load generator in an environment of its own, in the settings that suit it best."""

    name: ClassVar[str]
    title: ClassVar[str]  # with its version
    environment: ClassVar[Path]
    excluded: ClassVar[tuple[str, ...]] = ()  # parts of the environment that are not the tool's
    variables: ClassVar[Mapping[str, str]] = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"}

    @abstractmethod
    def command(self, load: Load) -> list[str]:
        """The command line. May write a configuration into the load's folder."""

    @abstractmethod
    def report(self, folder: Path) -> Report:
        """Reads the result. OSError, KeyError, ValueError or TypeError where there is none, or it is another one."""

    def said(self, output: str) -> tuple[str, ...]:
        """What its output says against the measurement, beside its result."""
        del output
        return ()

    def installed(self) -> bool:
        return (self.environment / "bin").is_dir()

    def process_environment(self) -> dict[str, str]:
        """This process's environment with the tool's first on the path."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LATENCY_PROFILE_")}
        path = f"{self.environment / 'bin'}{os.pathsep}{kept.get('PATH', '')}"
        return {**kept, "PATH": path, **self.variables}

    def installed_mb(self) -> float:
        """Disk space of its environment, MB: what `du` counts."""
        return sum(disk_bytes(path) for path in self.environment.iterdir() if path.name not in self.excluded) / 1e6

    def read(self, folder: Path, output: str) -> Report:
        """The result with all that was said. Raises NoResult."""
        try:
            report = self.report(folder)
        except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
            raise NoResult(f"no result ({type(error).__name__}: {error})") from error
        more = self.said(output)
        return report if not more else Report(**{**report.__dict__, "said": report.said + more})


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def only(folder: Path, pattern: str) -> Path:
    """The one file of that pattern. ValueError where there are none or several."""
    [path] = folder.glob(pattern)
    return path


def disk_bytes(path: Path) -> int:
    """Blocks on disk of a file or a folder, links not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_blocks * 512
    return sum(disk_bytes(child) for child in path.iterdir())
