"""Prompts made of random words, or of one word, with exact token lengths.

A text of n words is tokenized together with a sample head; where it is not n tokens long, words are added or left out
until it is exactly as long as wanted. Nothing here depends on the run's nonce.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from latency_profile.errors import UsageError
from latency_profile.workload import Lengths, draws
from latency_profile.workload.heads import Heads, NoHeads
from latency_profile.workload.tokenizer import Tokenizer
from latency_profile.workload.words import Words

DUMMY_WORD = "hi"

_ROUNDS = 32
_ROUNDS_A_DRAW = 4  # then other words are tried

# (place in the batch, words, number of the draw) -> text
Spell = Callable[[int, int, int], str]


def exact(tokenizer: Tokenizer, heads: Heads | NoHeads, spell: Spell, wanted: NDArray[np.int64]) -> list[str]:
    """A text for each wanted prompt length in tokens, heads and special tokens counted in. Raises UsageError."""
    texts = [""] * len(wanted)
    sizes = wanted - heads.overhead
    rest = list(range(len(wanted)))
    head = heads.sample_ids
    for number in range(_ROUNDS):
        for place in rest:
            texts[place] = spell(place, int(sizes[place]), number // _ROUNDS_A_DRAW)
        unfit = []
        tokenized = tokenizer.ids([heads.sample + texts[place] for place in rest], special=True)
        for place, ids in zip(rest, tokenized, strict=True):
            if len(ids) != wanted[place] or tuple(ids[: len(head)]) != head:
                sizes[place] = max(1, sizes[place] + wanted[place] - len(ids))
                unfit.append(place)
        if not unfit:
            return texts
        rest = unfit
    raise UsageError(
        f"--tokenizer {tokenizer.name}: found no words that make a prompt of exactly {wanted[rest[0]]} tokens; "
        f"take another length or a data set"
    )


class Synthetic:
    """Random words; input and output lengths are drawn for each index."""

    kind = "synthetic"

    def __init__(
        self,
        tokenizer: Tokenizer,
        words: Words,
        heads: Heads | NoHeads,
        seed: int,
        inputs: Lengths,
        outputs: Lengths,
    ) -> None:
        _check("--input-len", inputs, heads.overhead + 1, bool(heads.sample))
        _check("--output-len", outputs, 1, False)
        self._tokenizer = tokenizer
        self._words = words
        self._heads = heads
        self._seed = seed
        self._inputs = inputs
        self._outputs = outputs

    def items(self, index: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
        """Text, input length and output length for each index."""
        wanted = self.input_lengths(index)

        def spell(place: int, size: int, draw: int) -> str:
            start = draws.bits(draws.key(self._seed, f"words {draw}"), index[place : place + 1])
            numbers = draws.bits(start, np.arange(size)) % np.uint64(len(self._words.words))
            return self._words.text(numbers.tolist())

        texts = exact(self._tokenizer, self._heads, spell, wanted)
        return texts, wanted, draws.token_lengths(self._outputs, self._seed, "output length", index)

    def input_lengths(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The input length for each index."""
        return draws.token_lengths(self._inputs, self._seed, "input length", index)


class Dummy:
    """The same word again and again, as long as the limits allow."""

    kind = "dummy"

    def __init__(
        self, tokenizer: Tokenizer, words: Words, heads: Heads | NoHeads, max_input: int, max_output: int
    ) -> None:
        least = heads.overhead + 1
        if max_input < least:
            raise UsageError(f"--max-input-length {max_input}: {_too_short(least, bool(heads.sample))}")
        word = DUMMY_WORD if DUMMY_WORD in words.words else words.words[0]
        self._lengths = (max_input, max_output)
        (self._text,) = exact(
            tokenizer, heads, lambda _place, size, _draw: words.joiner.join([word] * size), np.asarray([max_input])
        )

    def items(self, index: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
        """The one text, for each index, and its lengths."""
        max_input, max_output = self._lengths
        return [self._text] * len(index), np.full(len(index), max_input), np.full(len(index), max_output)

    def input_lengths(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The input length for each index."""
        return np.full(len(index), self._lengths[0])


def _too_short(least: int, unique: bool) -> str:
    if not unique:
        return f"it takes {least} tokens or more"
    return (
        f"the words that make a prompt unique and one more, with those of --shared-prefix, take {least} tokens; "
        f"--no-unique-prompts leaves them out"
    )


def _check(flag: str, lengths: Lengths, least: int, unique: bool) -> None:
    """Raises UsageError where the lengths cannot be drawn, or some would be under `least`."""
    got = f"{flag} {lengths.mean:g}" + (f" (sd {lengths.stddev:g})" if lengths.stddev else "")
    if not (lengths.stddev >= 0 and lengths.low <= lengths.high and np.isfinite([lengths.mean, lengths.stddev]).all()):
        raise UsageError(
            f"{got}, {lengths.low} to {lengths.high}: it takes ordered bounds and a deviation of 0 or more"
        )
    if lengths.stddev == 0:
        if not lengths.low <= lengths.mean <= lengths.high:
            raise UsageError(f"{got}: outside its own bounds {lengths.low} to {lengths.high}")
        if round(lengths.mean) < least:
            raise UsageError(f"{got}: {_too_short(least, unique)}")
        return
    inside = draws.share(lengths, lengths.low, lengths.high)
    if inside < 1e-3:
        raise UsageError(f"{got}: under 0.1 % of such lengths are in its bounds {lengths.low} to {lengths.high}")
    under = draws.share(lengths, lengths.low, least - 1) / inside if lengths.low < least else 0.0
    if under > 1e-6:
        raise UsageError(
            f"{got}: {under:.2g} of such lengths are under {least} tokens; {flag}-min={least} excludes them; "
            f"{_too_short(least, unique)}"
        )
