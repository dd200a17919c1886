"""What stands before every prompt's text, and the proof that it changes no length.

Texts are measured once, behind a sample head that depends on no nonce; that length is cached and holds behind every
head, because a head that comes out as its own words ends at a token boundary, and what stands right of a boundary is
tokenized alike whatever stands left of it: BPE never undoes a merge, so none crossed the boundary, and the best path of
a unigram model is the best on both sides. So it is enough to tokenize each prompt's beginning and to compare the head.
"""

import numpy as np
from numpy.typing import NDArray

from latency_profile.errors import UsageError
from latency_profile.workload import draws
from latency_profile.workload.nonce import ATTEMPTS, Nonce
from latency_profile.workload.tokenizer import Tokenizer
from latency_profile.workload.words import Words

_BEGINNING = 64  # characters of a text: longer than a token that could reach back over the separator


class NoHeads:
    """Texts go as they are."""

    sample = ""
    sample_ids: tuple[int, ...] = ()
    tokens = 0

    def __init__(self, special: int) -> None:
        self.overhead = special  # tokens of a prompt that are not its text's

    def put(self, index: NDArray[np.int64], texts: list[str]) -> list[str]:
        """The texts."""
        return texts


class Heads:
    """Puts words that spell E(index) before each text; and before them, on the same line, `shared` words that are the
    same for all prompts of a group: prompt k is of group k mod `groups`. Raises UsageError."""

    def __init__(self, tokenizer: Tokenizer, words: Words, nonce: str, shared: int = 0, groups: int = 1) -> None:
        self._tokenizer = tokenizer
        self._words = words
        self._name = nonce
        self._nonce = Nonce(words, nonce)
        self._shared = shared
        self._groups = groups
        self._prefixes: dict[int, list[int]] = {}  # digits of the shared words, by group
        sample = [*self._shared_digits("sample", 0), *self._nonce.sample()]
        self.sample = self._nonce.head(sample)
        self.sample_ids = tuple(words.ids(sample))
        (alone,) = tokenizer.counts([self.sample], special=True)
        self.overhead = alone
        self.tokens = alone - words.special

    def put(self, index: NDArray[np.int64], texts: list[str]) -> list[str]:
        """A prompt for each text: the head of its index, then the text. Each is as long as behind the sample."""
        prompts = [""] * len(texts)
        rest = list(range(len(texts)))
        for attempt in range(ATTEMPTS):
            digits = [
                self._prefix(place % self._groups) + own
                for place, own in zip(index[rest].tolist(), self._nonce.digits(index[rest], attempt), strict=True)
            ]
            heads = [self._nonce.head(spelled) for spelled in digits]
            beginnings = [head + texts[place][:_BEGINNING] for head, place in zip(heads, rest, strict=True)]
            unfit = []
            tokenized = self._tokenizer.ids(beginnings, special=True)
            for place, head, spelled, ids in zip(rest, heads, digits, tokenized, strict=True):
                wanted = self._words.ids(spelled)
                if ids[: len(wanted)] == wanted:
                    prompts[place] = head + texts[place]
                else:
                    unfit.append(place)
            if not unfit:
                return prompts
            rest = unfit
        raise UsageError(
            f"--tokenizer {self._tokenizer.name}: it joins the unique words at the head of a prompt with the text "
            f"{texts[rest[0]][:20]!r}; take --no-unique-prompts"
        )

    def _prefix(self, group: int) -> list[int]:
        if group not in self._prefixes:
            self._prefixes[group] = self._shared_digits(self._name, group)
        return self._prefixes[group]

    def _shared_digits(self, nonce: str, group: int) -> list[int]:
        """Words that come out one by one, drawn by nonce and group."""
        for attempt in range(ATTEMPTS):
            start = draws.key(nonce, f"shared prefix {group} {attempt}")
            numbers = draws.bits(start, np.arange(self._shared)) % np.uint64(1 << self._nonce.digit_bits)
            digits: list[int] = numbers.tolist()
            (ids,) = self._tokenizer.ids([self._words.text(digits)], special=True) if digits else ([],)
            wanted = self._words.ids(digits) if digits else []
            if ids[: len(wanted)] == wanted:
                return digits
        raise UsageError(
            f"--shared-prefix {self._shared}: found no words of --tokenizer {self._tokenizer.name} that stay as many "
            f"tokens"
        )
