"""The studies: which batches each one gives to the engine. Pure.

Batch size, sequence length and request count are those of the notebook that asked for them: 128 tokens in and 64 out;
as many in as out, 64 requests; 128 in and 64 out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_profile.workload import Lengths, draws

BATCH_SIZE, SEQUENCE_LENGTH, REQUEST_COUNT, SHAPES, DATASET = STUDIES = (
    "batch-size",
    "sequence-length",
    "request-count",
    "shapes",
    "dataset",
)
# Tokens of one step of the engine, by study, where nothing is said.
STEP_TOKENS = {BATCH_SIZE: 2048, SEQUENCE_LENGTH: 4096, REQUEST_COUNT: 4096, SHAPES: 4096, DATASET: 4096}

# Special tokens stand at either end of a vocabulary; what is drawn lies between these parts of it.
FIRST_TOKEN, LAST_TOKEN = 1 / 8, 1 / 2


@dataclass(frozen=True)
class Cell:
    """One batch of a study, given to the engine at once, as often as it is repeated. Lists have a value a request."""

    study: str
    label: str  # "8", "512 x 64"
    size: float | None  # where it stands in a picture; None: nowhere
    inputs: tuple[int, ...]  # tokens
    outputs: tuple[int, ...]
    prompts: tuple[tuple[int, ...], ...] | None = None  # None: tokens are drawn anew for each run

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def longest(self) -> int:
        """Tokens of its longest request, prompt and answer together."""
        return max(map(sum, zip(self.inputs, self.outputs, strict=True)))


def batch_size(sizes: Sequence[int], inputs: Lengths, outputs: Lengths, seed: int) -> list[Cell]:
    return [_drawn(BATCH_SIZE, str(size), size, size, inputs, outputs, seed) for size in sizes]


def sequence_length(lengths: Sequence[int], requests: int, seed: int) -> list[Cell]:
    return [
        _drawn(SEQUENCE_LENGTH, str(length), length, requests, Lengths.fixed(length), Lengths.fixed(length), seed)
        for length in lengths
    ]


def request_count(counts: Sequence[int], inputs: Lengths, outputs: Lengths, seed: int) -> list[Cell]:
    return [_drawn(REQUEST_COUNT, str(count), count, count, inputs, outputs, seed) for count in counts]


def shapes(inputs: Sequence[int], outputs: Sequence[int], requests: int, seed: int) -> list[Cell]:
    """The grid of both."""
    return [
        _drawn(SHAPES, f"{long} x {wide}", None, requests, Lengths.fixed(long), Lengths.fixed(wide), seed)
        for long in inputs
        for wide in outputs
    ]


def dataset(prompts: Sequence[Sequence[int]], outputs: Sequence[int]) -> Cell:
    """All of it at once: the throughput run. prompts: token ids."""
    inputs = tuple(map(len, prompts))
    return Cell(DATASET, str(len(prompts)), None, inputs, tuple(outputs), tuple(map(tuple, prompts)))


def drawn(requests: int, inputs: Lengths, outputs: Lengths, seed: int) -> Cell:
    """In place of a data set: as many requests, with its lengths' distributions."""
    return _drawn(DATASET, str(requests), None, requests, inputs, outputs, seed)


def prompts_of(cell: Cell, vocabulary: int, key: Sequence[int]) -> list[list[int]]:
    """Token ids for each request of one run. key: whole numbers that no other run of the command has; the same key
    gives the same prompts."""
    if cell.prompts is not None:
        return [list(prompt) for prompt in cell.prompts]
    random = np.random.default_rng(key)
    first, last = int(vocabulary * FIRST_TOKEN), int(vocabulary * LAST_TOKEN)
    drawn: NDArray[np.int64] = random.integers(first, last, sum(cell.inputs))
    ends = np.cumsum(cell.inputs)
    return [part.tolist() for part in np.split(drawn, ends[:-1])]


def _drawn(
    study: str, label: str, size: float | None, requests: int, inputs: Lengths, outputs: Lengths, seed: int
) -> Cell:
    index = np.arange(requests)
    taken, made = (
        tuple(draws.token_lengths(of, seed, f"{study} {what}", index).tolist())
        for of, what in ((inputs, "in"), (outputs, "out"))
    )
    return Cell(study, label, size, taken, made)
