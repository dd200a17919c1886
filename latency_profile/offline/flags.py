"""The flags of benchmark_offline.py, and what they say together."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latency_profile import command_flags
from latency_profile.engines.exchange import Load
from latency_profile.errors import UsageError
from latency_profile.offline.studies import (
    BATCH_SIZE,
    DATASET,
    REQUEST_COUNT,
    SEQUENCE_LENGTH,
    SHAPES,
    STEP_TOKENS,
    STUDIES,
)
from latency_profile.settings import kinds
from latency_profile.workload import Lengths

ENGINES = ("transformers", "llamacpp", "vllm")
ALL = "all"
REPEATS = {BATCH_SIZE: 20, SEQUENCE_LENGTH: 5, REQUEST_COUNT: 5, SHAPES: 5, DATASET: 1}
DEFAULT_SLOTS = 32  # requests at once in an engine whose place for each is made beforehand
GPU_MEMORY = 0.9  # as vLLM has it
LONGEST = 1 << 20  # tokens that a length is cut to

_USAGE = "benchmark_offline.py [FLAG …]"
_DESCRIPTION = """\
Measures an engine without a server: how fast it generates for batches of several sizes, lengths and counts, its prefill
and its generation apart, and what a million tokens cost. Without --model the engine `transformers` runs a tiny model
with random weights. Each batch is given to the engine at once; repeats come in random order, each after a request that
is not counted, as the first run of each batch is not. Exit code 4 where a figure must not be used."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """As given, read and checked one by one."""

    study: tuple[str, ...]
    engine: str
    engine_python: str | None
    model: str | None
    tokenizer: str | None
    device: str
    dtype: str
    load_format: str
    tensor_parallel_size: int
    gpu_memory_utilization: float | None
    max_num_batched_tokens: int | None
    max_num_seqs: int | None
    max_model_len: int | None
    threads: int | None
    enforce_eager: bool
    batch_sizes: tuple[int, ...]
    num_batches: int | None
    input_len: int
    output_len: int
    input_len_stddev: float
    output_len_stddev: float
    sequence_lengths: tuple[int, ...]
    num_requests: int
    request_counts: tuple[int, ...]
    input_lens: tuple[int, ...]
    output_lens: tuple[int, ...]
    dataset: Path | None
    num_prompts: int
    gpu_price: float | None
    utilization: float | None
    seed: int
    output_dir: str
    timeout: float

    @property
    def inputs(self) -> Lengths:
        return Lengths(mean=self.input_len, stddev=self.input_len_stddev, high=LONGEST)

    @property
    def outputs(self) -> Lengths:
        return Lengths(mean=self.output_len, stddev=self.output_len_stddev, high=LONGEST)

    @property
    def machine_cost_per_hour_usd(self) -> float | None:
        """A GPU's price times the GPUs that hold the model."""
        return None if self.gpu_price is None else self.gpu_price * self.tensor_parallel_size

    def repeats(self, study: str) -> int:
        return self.num_batches or REPEATS[study]

    def load(self, study: str, longest: int) -> Load:
        """The engine for a study. longest: tokens of its longest request."""
        slots = self.max_num_seqs
        if slots is None and self.engine != "vllm":
            slots = max(self.batch_sizes) if study == BATCH_SIZE else DEFAULT_SLOTS
        return Load(
            engine=self.engine,
            model=self.model,
            device=self.device,
            dtype=self.dtype,
            load_format=self.load_format,
            tensor_parallel_size=self.tensor_parallel_size,
            gpu_memory_utilization=self.gpu_memory_utilization or GPU_MEMORY,
            max_num_batched_tokens=self.max_num_batched_tokens or STEP_TOKENS[study],
            max_num_seqs=slots,
            max_model_len=self.max_model_len or (longest if self.engine == "llamacpp" else None),
            threads=self.threads,
            enforce_eager=self.enforce_eager,
            seed=self.seed,
        )

    def plain(self) -> dict[str, Any]:
        """For the results: JSON."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


def read(arguments: Sequence[str]) -> Flags:
    """Raises UsageError, one line that names the flag, what it got and what it takes."""
    given = vars(_parser().parse_args(arguments))
    drawn = all(given[name] is not None for name in _LENGTHS)
    given |= {name: default for name, default in _LENGTHS.items() if given[name] is None}
    flags = Flags(
        **{name: _value(name, given[name]) if name in _KINDS else given[name] for name in Flags.__dataclass_fields__}
    )
    for name in _NOT_OF[flags.engine]:
        if given[name]:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag}: got it with --engine {flags.engine}, which takes no such setting here")
    if flags.utilization is not None and flags.gpu_price is None:
        raise UsageError("--utilization: takes --gpu-price beside it")
    if DATASET in flags.study and flags.dataset is None and not drawn:
        raise UsageError(
            "--study dataset: takes a data set's file (--dataset), or lengths to draw (--input-len, --output-len)"
        )
    if flags.dataset is not None and DATASET not in flags.study:
        raise UsageError(f"--dataset: --study is {','.join(flags.study)}; a data set takes --study dataset")
    return flags


def _value(name: str, value: str | None) -> Any:
    return None if value is None else command_flags.read(f"--{name.replace('_', '-')}", _KINDS[name], value)


def _study(value: object) -> tuple[str, ...]:
    wanted = kinds.listed(kinds.choice((*STUDIES, ALL)), "", once=True).read(value)
    return tuple(study for study in STUDIES if study in wanted or study != DATASET) if ALL in wanted else wanted


_NOT_OF = {  # what an engine would pass over
    "vllm": ("threads",),
    "llamacpp": ("gpu_memory_utilization", "enforce_eager"),
    "transformers": ("gpu_memory_utilization", "enforce_eager", "max_num_batched_tokens"),
}
_LENGTHS = {"input_len": "128", "output_len": "64"}  # where nothing is said
_COUNT = kinds.whole(1)
_COUNTS = kinds.listed(_COUNT, "whole numbers above 0, separated by commas", once=True)
_STDDEV = kinds.number(minimum=0)
_KINDS: dict[str, kinds.Kind[Any]] = {
    "study": kinds.Kind("str", f"names out of {', '.join(STUDIES)}, separated by commas, or {ALL}", _study, "LIST"),
    "tensor_parallel_size": _COUNT,
    "gpu_memory_utilization": kinds.share("a share above 0 and below 1, such as 90% or 0.9"),
    "max_num_batched_tokens": _COUNT,
    "max_num_seqs": _COUNT,
    "max_model_len": _COUNT,
    "threads": _COUNT,
    "batch_sizes": _COUNTS,
    "num_batches": _COUNT,
    "input_len": _COUNT,
    "output_len": _COUNT,
    "input_len_stddev": _STDDEV,
    "output_len_stddev": _STDDEV,
    "sequence_lengths": _COUNTS,
    "num_requests": _COUNT,
    "request_counts": _COUNTS,
    "input_lens": _COUNTS,
    "output_lens": _COUNTS,
    "dataset": kinds.path("a data set's file"),
    "num_prompts": _COUNT,
    "gpu_price": kinds.PRICE,
    "utilization": kinds.UTILIZATION,
    "seed": kinds.whole(0),
    "timeout": kinds.number(above=0),
}


def _parser() -> argparse.ArgumentParser:
    flags = command_flags.CommandFlags(_USAGE, _DESCRIPTION)
    what = flags.add_argument_group("what is run")
    what.add_argument(
        "--study", default=BATCH_SIZE, metavar="LIST", help=f"{', '.join(STUDIES)}, or all but the last: all"
    )
    what.add_argument("--batch-sizes", default="4,8,16,32,64,128", metavar="LIST", help="default: %(default)s")
    what.add_argument("--num-batches", metavar="N", help="timed runs of each batch (default: 20; 5; data set: 1)")
    what.add_argument("--input-len", metavar="N", help=f"tokens of a prompt (default: {_LENGTHS['input_len']})")
    what.add_argument("--output-len", metavar="N", help=f"tokens to generate (default: {_LENGTHS['output_len']})")
    what.add_argument(
        "--input-len-stddev", default="0", metavar="X", help="lengths are drawn from a normal distribution"
    )
    what.add_argument("--output-len-stddev", default="0", metavar="X", help="the same of the answers")
    what.add_argument("--sequence-lengths", default="32,64,128,256,512", metavar="LIST", help="default: %(default)s")
    what.add_argument("--num-requests", default="64", metavar="N", help="of sequence-length and shapes (%(default)s)")
    what.add_argument("--request-counts", default="10,50,100,200,500", metavar="LIST", help="default: %(default)s")
    what.add_argument("--input-lens", default="128,512", metavar="LIST", help="of the shapes (default: %(default)s)")
    what.add_argument("--output-lens", default="16,64", metavar="LIST", help="likewise (default: %(default)s)")
    what.add_argument(
        "--dataset",
        metavar="PATH",
        help="ShareGPT JSON, or JSON Lines of prompt and output_len; without it lengths are drawn",
    )
    what.add_argument("--num-prompts", default="1000", metavar="N", help="of the data set (default: %(default)s)")
    what.add_argument("--seed", default="0", metavar="N", help="of prompts, lengths, order and random weights")
    engine = flags.add_argument_group("the engine")
    engine.add_argument("--engine", choices=ENGINES, default=ENGINES[0], help="default: %(default)s")
    engine.add_argument("--engine-python", metavar="PATH", help="the Python that has it (default: this one)")
    engine.add_argument("--model", metavar="NAME", help="a folder, a name on the hub, a GGUF file (llamacpp)")
    engine.add_argument("--tokenizer", metavar="NAME", help="of the data set (default: the model's)")
    engine.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="default: %(default)s")
    engine.add_argument("--dtype", default="auto", metavar="NAME", help="such as bfloat16 (default: the model's)")
    engine.add_argument("--load-format", choices=("auto", "dummy"), default="auto", help="dummy: random weights")
    engine.add_argument("--tensor-parallel-size", default="1", metavar="N", help="GPUs of the model")
    engine.add_argument("--gpu-memory-utilization", metavar="X", help=f"share of it (default: {GPU_MEMORY}; vllm)")
    engine.add_argument("--max-num-batched-tokens", metavar="N", help="of a step (default: 2048 for batch-size; 4096)")
    engine.add_argument("--max-num-seqs", metavar="N", help="requests at once (default: vLLM's; the largest batch; 32)")
    engine.add_argument("--max-model-len", metavar="N", help="tokens of a request (default: the model's)")
    engine.add_argument("--threads", metavar="N", help="of the CPU (default: the engine's; not vllm)")
    engine.add_argument("--enforce-eager", action="store_true", help="no compilation, no CUDA graphs (vllm)")
    engine.add_argument("--timeout", default="1800", metavar="S", help="for loading, and for a batch (%(default)s)")
    rest = flags.add_argument_group("results")
    rest.add_argument(
        "--gpu-price",
        metavar="USD",
        help="of one GPU an hour; the machine cost is this times --tensor-parallel-size (none: no cost)",
    )
    rest.add_argument("--utilization", metavar="SHARE", help="of the paid time that is used: the cost with idle time")
    rest.add_argument("--output-dir", default="results", metavar="PLACE", help="folder or URL (default: %(default)s)")
    return flags
