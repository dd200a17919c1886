"""The words at the head of every prompt, which no other prompt of any run begins with.

They are the digits of E(index), where E is a permutation of at least 2^48 numbers keyed by the run's nonce: a Feistel
network (Luby and Rackoff, 1988) with SplitMix64's mixer as round function. So prompts of a run differ by construction,
in their first token already as far as the vocabulary reaches; runs with different nonces differ; and every prompt has
the same number of digits, hence the same length under every nonce. Words, specials and separator fit into the first
cache block of 16 tokens.
"""

import numpy as np
from numpy.typing import NDArray

from latency_profile.workload import draws
from latency_profile.workload.words import MOST, Words

SEPARATOR = "\n"  # in no tokenizer's pattern does it join the letters before it, and chat templates leave it alone
ATTEMPTS = 16  # spellings that one index has, should one not fit its text

_LEAST_BITS = 48
_INDEX_BITS = 44
_ROUNDS = 8


class Nonce:
    """Heads of prompts: `digits`, and the text that they spell."""

    def __init__(self, words: Words, nonce: str) -> None:
        self.words = words
        self.digit_bits = min(len(words.words), MOST).bit_length() - 1
        self.digit_count = -(-_LEAST_BITS // self.digit_bits)
        bits = self.digit_bits * self.digit_count
        self._low_bits = np.uint64(bits // 2)
        self._low_mask = np.uint64((1 << (bits // 2)) - 1)
        self._high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
        self._keys = [np.uint64(draws.key(nonce, f"nonce {number}")) for number in range(_ROUNDS)]

    def digits(self, index: NDArray[np.integer], attempt: int = 0) -> list[list[int]]:
        """The digits for each index below 2^44, most significant first. Shape (len(index), digit_count)."""
        numbers = self._permute(index.astype(np.uint64) | np.uint64(attempt << _INDEX_BITS))
        shifts = np.arange(self.digit_count - 1, -1, -1, dtype=np.uint64) * np.uint64(self.digit_bits)
        return ((numbers[:, None] >> shifts) & np.uint64((1 << self.digit_bits) - 1)).tolist()  # type: ignore[no-any-return]

    def sample(self) -> list[int]:
        """Digits that depend on no nonce, to measure texts with."""
        return [digit % (1 << self.digit_bits) for digit in range(self.digit_count)]

    def head(self, digits: list[int]) -> str:
        """What stands before the text of a prompt."""
        return self.words.text(digits) + SEPARATOR

    def _permute(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        low, high = numbers & self._low_mask, numbers >> self._low_bits
        for number, key in enumerate(self._keys):
            if number % 2 == 0:
                high = high ^ (draws.mix(low ^ key) & self._high_mask)
            else:
                low = low ^ (draws.mix(high ^ key) & self._low_mask)
        return (high << self._low_bits) | low
