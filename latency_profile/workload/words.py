"""Words of which each is exactly one token, wherever it stands: the letters in which nonces and synthetic prompts are
written.

They are found by trying the vocabulary's own entries in the tokenizer, so it does not matter how it marks spaces
(byte-level BPE, SentencePiece's Metaspace, WordPiece) or whether it splits at them at all.
"""

from dataclasses import dataclass

import numpy as np

from latency_profile.errors import UsageError
from latency_profile.workload import draws
from latency_profile.workload.tokenizer import Tokenizer

MOST = 4096
LEAST = 16  # with fewer, a nonce would not fit into a cache block of 16 tokens
_LINE = 16  # words in a line of the last check
_MARKS = "\u0120\u2581 "  # how byte-level BPE and SentencePiece spell a word's leading space, and the space itself


@dataclass(frozen=True)
class Words:
    """`words[i]` is token `first[i]` at the start of a text and `later[i]` after another word and the joiner."""

    words: tuple[str, ...]
    joiner: str
    first: tuple[int, ...]
    later: tuple[int, ...]
    lead: tuple[int, ...]  # special tokens before a prompt
    special: int  # special tokens around a prompt, the lead counted in

    def ids(self, digits: list[int]) -> list[int]:
        """The tokens at the head of a prompt that begins with these words."""
        return [*self.lead, self.first[digits[0]], *(self.later[digit] for digit in digits[1:])]

    def text(self, digits: list[int]) -> str:
        """The words, joined."""
        return self.joiner.join([self.words[digit] for digit in digits])


def find(tokenizer: Tokenizer) -> Words:
    """Up to 4096 words, the vocabulary's first. Raises UsageError where there are fewer than 16."""
    candidates = _candidates(tokenizer)
    # Without a joiner: tokenizers that take a text letter by letter.
    for joiner in (" ", ""):
        found = _one_token_each(tokenizer, candidates, joiner)
        if len(found) >= LEAST:
            words, first, later = zip(*found, strict=True)
            lead, special = _around(tokenizer, joiner.join(words[:2]))
            return Words(words, joiner, first, later, lead, special)
    raise UsageError(
        f"--tokenizer {tokenizer.name}: fewer than {LEAST} words of its vocabulary stay one token, too few to make "
        f"prompts from; a data set with --no-unique-prompts needs none"
    )


def _candidates(tokenizer: Tokenizer) -> list[str]:
    """Lower-case words of letters, English ones first, otherwise as the vocabulary has them."""
    words = dict.fromkeys(token.lstrip(_MARKS) for token in tokenizer.vocabulary())
    plain = [word for word in words if len(word) <= 16 and word.isalpha() and word == word.lower()]
    return sorted(plain, key=lambda word: not word.isascii())


def _one_token_each(tokenizer: Tokenizer, candidates: list[str], joiner: str) -> list[tuple[str, int, int]]:
    """(word, its token at the start, its token later) of words that stay one token beside themselves and others."""
    found: list[tuple[str, int, int]] = []
    seen_first: set[int] = set()
    seen_later: set[int] = set()
    for start in range(0, len(candidates), MOST):
        block = candidates[start : start + MOST]
        tripled = tokenizer.ids([joiner.join([word] * 3) for word in block], special=False)
        for word, ids in zip(block, tripled, strict=True):
            # Two words with one token (both unknown, or folded by a normalizer) would spell the same nonce.
            if len(ids) == 3 and ids[1] == ids[2] and ids[0] not in seen_first and ids[1] not in seen_later:
                found.append((word, ids[0], ids[1]))
                seen_first.add(ids[0])
                seen_later.add(ids[1])
        if len(found) >= MOST:
            break
    return _stable(tokenizer, found[:MOST], joiner)


def _stable(tokenizer: Tokenizer, found: list[tuple[str, int, int]], joiner: str) -> list[tuple[str, int, int]]:
    """Those whose lines of shuffled words come out word by word."""
    shuffled = draws.order(0, len(found))
    lines = [shuffled[start : start + _LINE] for start in range(0, len(found), _LINE)]
    texts = [joiner.join([found[place][0] for place in line]) for line in lines]
    good = np.zeros(len(found), dtype=bool)
    for line, ids in zip(lines, tokenizer.ids(texts, special=False), strict=True):
        good[line] = ids == [found[line[0]][1], *(found[place][2] for place in line[1:])]
    return [entry for entry, kept in zip(found, good, strict=True) if kept]


def _around(tokenizer: Tokenizer, text: str) -> tuple[tuple[int, ...], int]:
    """The special tokens before a text, and how many there are around it."""
    (plain,) = tokenizer.ids([text], special=False)
    (full,) = tokenizer.ids([text], special=True)
    for lead in range(len(full) - len(plain) + 1):
        if full[lead : lead + len(plain)] == plain:
            return tuple(full[:lead]), len(full) - len(plain)
    raise UsageError(f"--tokenizer {tokenizer.name}: it spells a text in another way when it adds special tokens")
