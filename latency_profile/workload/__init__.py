"""Where prompts and lengths come from: a data set, dummy text, or synthetic prompts of exact token lengths.

Importing this package is cheap; numpy and tokenizers are imported by `prepare`.
"""

import typing
from dataclasses import dataclass
from pathlib import Path

if typing.TYPE_CHECKING:
    from latency_profile.workload.prepared import Workload

__all__ = ["Lengths", "Workload", "WorkloadSpec", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Token lengths: normal with `mean` and `stddev`, rounded to integers, truncated to low..high (both included).

    The law is that of drawing again until a length fits, so nothing piles up at the bounds. `stddev` 0: always `mean`.
    """

    mean: float
    stddev: float = 0
    low: int = 1
    high: int

    @classmethod
    def fixed(cls, length: int) -> "Lengths":
        """Always `length` tokens."""
        return cls(mean=length, low=length, high=length)


@dataclass(frozen=True, kw_only=True)
class WorkloadSpec:
    """What to ask, as the settings have it. Exactly one of dataset, dummy_text and the two lengths is given."""

    tokenizer: str  # folder, tokenizer.json file, hub name, or "bundled"
    dataset: Path | None = None  # ShareGPT JSON, or JSON Lines of {prompt, output_len}
    dummy_text: bool = False  # prompts of max_input_length tokens that say one word again and again
    input_lengths: Lengths | None = None  # synthetic prompts, together with output_lengths
    output_lengths: Lengths | None = None
    models: tuple[str, ...]
    traffic_split: tuple[float, ...] | None = None
    max_input_length: int = 1024
    max_output_length: int = 1024
    seed: int = 0  # order, lengths, synthetic words and models
    nonce: str  # of the run: other nonce, other first cache block of every prompt
    unique: bool = True  # every prompt begins with words that spell its index under the nonce
    shared_prefix: int = 0  # tokens before those words that are the same for a group; with `unique` only
    shared_prefix_groups: int = 1  # prompt k is of group k mod this
    trust_remote_code: bool = False
    cache_dir: Path | None = None  # None: latency-profile in $XDG_CACHE_HOME or ~/.cache


def prepare(spec: WorkloadSpec, count: int) -> "Workload":
    """Loads what `count` requests need. Raises UsageError, one line that names the flag, where that cannot be."""
    from latency_profile.workload.prepared import Workload

    return Workload.prepare(spec, count)


def __getattr__(name: str) -> object:
    if name == "Workload":
        from latency_profile.workload.prepared import Workload

        return Workload
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
