"""Whether a text has come before, or nearly. Pure.

Nearly: the Jaccard similarity of the sets of three successive words is 0.8 or more (Broder, On the resemblance and
containment of documents, SEQUENCES 1997). Letters' case, accents' spelling, punctuation and white space do not count.
Texts without spaces between words are one word each: of these only equal ones are found.
"""

import re
import unicodedata

SIMILAR = 0.8
_SHINGLE = 3  # words
_WORD = re.compile(r"[^\W_]+")

Shingles = frozenset[tuple[str, ...]]


def shingles(text: str) -> Shingles:
    """Successive words in threes; all of a shorter text as one."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return frozenset(tuple(words[start : start + _SHINGLE]) for start in range(max(1, len(words) - _SHINGLE + 1)))


def similarity(one: Shingles, other: Shingles) -> float:
    """The Jaccard index: 1 for the same words in the same order, 0 where no three in a row are shared."""
    return len(one & other) / len(one | other)


class Seen:
    """Texts that there are already."""

    def __init__(self) -> None:
        self._texts: list[Shingles] = []

    def add(self, text: str) -> None:
        self._texts.append(shingles(text))

    def nearest(self, text: str) -> float:
        """The similarity to the text most like it; 0 where there is none."""
        new = shingles(text)
        return max((similarity(new, old) for old in self._texts), default=0.0)
