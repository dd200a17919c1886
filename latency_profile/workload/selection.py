"""Which items of a data set are sent, in which order.

The order is a permutation by the seed; items are measured in that order, in batches, until enough have passed the
filter. The lengths are kept in the cache for every item ever measured, whatever the seed and the limits were, so the
next run measures only what no run has seen yet.
"""

import hashlib
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from latency_profile.errors import UsageError
from latency_profile.workload import dataset as items
from latency_profile.workload import draws
from latency_profile.workload.cache import Cache
from latency_profile.workload.dataset import Dataset, Item
from latency_profile.workload.heads import Heads, NoHeads
from latency_profile.workload.tokenizer import Tokenizer

FEWEST_TOKENS = 4  # of a conversation's prompt and of its answer, as the benchmarks have it since vLLM's first

_UNKNOWN = -1
_UNFIT = -2  # no head can stand before this text
_MOST = 1024  # items measured at once

# Why an item is left out, in the order in which the reasons are looked at.
REASONS = (
    "",
    "fewer than two turns",
    "text is not valid Unicode",
    "prompt does not take a unique head",
    "prompt is empty",
    f"prompt under {FEWEST_TOKENS} tokens",
    f"answer under {FEWEST_TOKENS} tokens",
    "prompt over --max-input-length",
    "answer over --max-output-length",
)


class Selection:
    """The items that pass the filter, found as far as they were asked for."""

    def __init__(
        self,
        data: Dataset,
        tokenizer: Tokenizer,
        heads: Heads | NoHeads,
        cache: Cache,
        *,
        seed: int,
        max_input: int,
        max_output: int,
    ) -> None:
        self.data = data
        self._tokenizer = tokenizer
        self._heads = heads
        self._cache = cache
        self._max_input = max_input
        self._max_output = max_output
        self._order = draws.order(seed, len(data))
        # The lengths hold behind every head of this form (heads.py), so the sample stands for all of them.
        made_from = f"{data.sha256}/{tokenizer.sha256}/{heads.sample}"
        self._name = f"lengths-2-{hashlib.sha256(made_from.encode()).hexdigest()}"
        self._inputs = np.full(len(data), _UNKNOWN, dtype=np.int32)
        self._outputs = np.zeros(len(data), dtype=np.int32)  # 0: the data set says none
        self._merge_cached()
        self.examined = 0
        self.dropped: Counter[str] = Counter()
        self._chosen: list[int] = []

    @property
    def available(self) -> int:
        """How many items are known to pass."""
        return len(self._chosen)

    @property
    def exhausted(self) -> bool:
        """Whether the whole data set was looked at."""
        return self.examined == len(self.data)

    def ensure(self, count: int) -> None:
        """Finds `count` items that pass, or all that there are. Raises UsageError where none does."""
        measured = False
        while self.available < count and not self.exhausted:
            lacking = count - self.available
            block = self._order[self.examined : self.examined + min(_MOST, lacking + lacking // 2 + 16)]
            unknown = block[(self._inputs[block] == _UNKNOWN) & (self.data.states[block] == items.USABLE)]
            if len(unknown):
                self._measure(unknown)
                measured = True
            reasons = self._reasons(block)
            passing = np.flatnonzero(reasons == 0)
            if len(passing) >= lacking:  # stop just behind the last one that is needed
                reasons = reasons[: passing[lacking - 1] + 1]
                passing = passing[:lacking]
            self._chosen += block[passing].tolist()
            self.examined += len(reasons)
            self.dropped.update(REASONS[reason] for reason in reasons if reason)
        if measured:
            self._merge_cached()
            self._cache.store(self._name, inputs=self._inputs, outputs=self._outputs)
        if not self._chosen and count:
            why = ", ".join(f"{number} {reason}" for reason, number in self.dropped.most_common())
            raise UsageError(
                f"--dataset {self.data.path}: none of its {len(self.data)} items passes the filter "
                f"(--max-input-length {self._max_input}, --max-output-length {self._max_output}): {why}"
            )

    def items(self, index: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
        """Text, input length and output length for each index; beyond the last one it begins again."""
        places = self._places(index)
        texts = [self.data.read(place).prompt for place in places.tolist()]
        return texts, self._inputs[places].astype(np.int64), self._wanted(places).astype(np.int64)

    def input_lengths(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The input length for each index."""
        return self._inputs[self._places(index)].astype(np.int64)

    def _places(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray([self._chosen[i % len(self._chosen)] for i in index.tolist()], dtype=np.int64)

    def _wanted(self, places: NDArray[np.int64]) -> NDArray[np.int32]:
        return np.where(self._outputs[places] > 0, self._outputs[places], np.int32(self._max_output))

    def _measure(self, places: NDArray[np.int64]) -> None:
        read = [self.data.read(place) for place in places.tolist()]
        self._inputs[places] = self._input_lengths(read)
        if self.data.kind == "sharegpt":
            self._outputs[places] = self._tokenizer.counts([item.completion or "" for item in read], special=False)
        else:
            self._outputs[places] = [item.output_length or 0 for item in read]

    def _input_lengths(self, read: list[Item]) -> list[int]:
        prompts = [self._heads.sample + item.prompt for item in read]
        head = self._heads.sample_ids
        tokenized = self._tokenizer.ids(prompts, special=True)
        return [len(ids) if tuple(ids[: len(head)]) == head else _UNFIT for ids in tokenized]

    def _reasons(self, block: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each item of the block the place of the first reason against it in REASONS; 0 where it passes."""
        states, inputs = self.data.states[block], self._inputs[block]
        outputs = self._wanted(block)
        text = inputs - self._heads.overhead
        fewest = FEWEST_TOKENS if self.data.kind == "sharegpt" else 1
        return np.select(
            [
                states == items.SHORT,
                states == items.NOT_UNICODE,
                inputs == _UNFIT,
                text <= 0,
                text < fewest,
                self._outputs[block] < fewest if self.data.kind == "sharegpt" else np.zeros(len(block), dtype=bool),
                inputs > self._max_input,
                outputs > self._max_output,
            ],
            list(range(1, len(REASONS))),
            default=0,
        )

    def _merge_cached(self) -> None:
        """Takes over what other runs have measured."""
        cached = self._cache.load(self._name)
        if cached is None or set(cached) != {"inputs", "outputs"}:
            return
        inputs, outputs = cached["inputs"], cached["outputs"]
        if inputs.shape != self._inputs.shape or outputs.shape != self._inputs.shape:
            return
        news = (self._inputs == _UNKNOWN) & (inputs != _UNKNOWN)
        self._inputs[news] = inputs[news]
        self._outputs[news] = outputs[news]
