"""Prompts and answers of a data set's file, and what its rows lack. No row is left out unsaid."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from latency_profile.datasets.forms import FORMS, Form, Pair, form_of, pair_of
from latency_profile.datasets.rows import Row, rows_of
from latency_profile.errors import UsageError
from latency_profile.workload import draws

_MOST_TOLD = 200  # characters of the columns' names in an error


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the flags name; nothing: a known form is looked for."""

    prompt: tuple[str, ...] = ()
    answer: str | None = None
    output_length: str | None = None


@dataclass(kw_only=True)
class Tally:
    """Rows counted while they are gone through."""

    rows: int = 0
    usable: int = 0
    not_unicode: int = 0
    no_prompt: int = 0
    no_answer: int = 0
    duplicate_prompts: int = 0  # usable rows whose prompt came before
    _seen: set[bytes] = field(default_factory=set, repr=False)

    def count(self, form: Form, pair: Pair | None) -> bool:
        """Counts one row; whether it can be used."""
        self.rows += 1
        if pair is None:
            self.not_unicode += 1
        elif pair.prompt is None:
            self.no_prompt += 1
        elif form.answered and pair.answer is None:
            self.no_answer += 1
        else:
            self.usable += 1
            # A digest stands for the text: a set of millions of prompts has to fit.
            digest = hashlib.blake2b(pair.prompt.encode(), digest_size=8).digest()
            self.duplicate_prompts += digest in self._seen
            self._seen.add(digest)
            return True
        return False

    def left_out(self) -> list[str]:
        """In words, what the rows lack that are not used."""
        lacks = {"a prompt": self.no_prompt, "an answer": self.no_answer, "valid Unicode": self.not_unicode}
        return [f"{number} without {what}" for what, number in lacks.items() if number]


class Source:
    """A file and its form. Gone through once; then `tally` is whole. Raises UsageError."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path = path
        self.tally = Tally()
        rows = rows_of(path)
        before: list[Row | None] = []
        first: Row | None = None
        for first in rows:
            before.append(first)
            if first is not None:
                break
        if not before:
            raise UsageError(f"{path}: it has no rows")
        self._columns = tuple(first or ())
        self._rows = chain(before, rows)
        self._named = bool(columns.prompt)
        self.form = self._form(columns)

    def _form(self, columns: Columns) -> Form:
        if columns.answer and columns.output_length:
            raise UsageError("--answer-column and --output-len-column: takes one of the two, the answer or its length")
        if columns.prompt:
            return Form(
                name="columns",
                prompt=columns.prompt,
                answer=columns.answer,
                output_lengths=(columns.output_length,) if columns.output_length else (),
            )
        if columns.answer or columns.output_length:
            raise UsageError("--answer-column and --output-len-column: each takes --prompt-column beside it")
        form = form_of(self._columns)
        if form is None:
            known = "; ".join(f"{form.name}: {', '.join(sorted(form.needs))}" for form in FORMS)
            raise UsageError(
                f"{self.path}: its columns ({self._there()}) are of no known form ({known}); "
                f"--prompt-column and --answer-column name them"
            )
        return form

    def _there(self) -> str:
        """The file's columns, on one line: the first line of a CSV without a heading may be whole texts."""
        told = " ".join(", ".join(self._columns).split())
        return told if len(told) <= _MOST_TOLD else told[: _MOST_TOLD - 1] + "…"

    def pairs(self) -> Iterator[Pair]:
        """The usable rows, in order."""
        absent = set(self.form.columns) if self._named else set()
        for row in self._rows:
            if row is not None and absent:
                absent -= row.keys()
            pair = None if row is None else pair_of(self.form, row)
            if self.tally.count(self.form, pair) and pair is not None:
                yield pair
        if absent:
            raise UsageError(f"{self.path}: no row has a column {', '.join(sorted(absent))}; there are {self._there()}")
        if not self.tally.usable:
            raise UsageError(
                f"{self.path}: none of its {self.tally.rows} rows can be used: {', '.join(self.tally.left_out())}"
            )


def sample(pairs: Iterable[Pair], count: int | None, seed: int) -> Iterator[Pair]:
    """`count` pairs at random, in their order, or all of them where there are no more; None: all. The same seed takes
    the same places. Memory grows with `count` alone."""
    if count is None:
        yield from pairs
        return
    kept: list[tuple[int, int, Pair]] = []  # a heap: the least of the numbers on top, with the pair's place
    start = draws.key(seed, "data set sample")
    for place, pair in enumerate(pairs):
        drawn = int(draws.bits(start, np.asarray([place]))[0])
        if len(kept) < count:
            heapq.heappush(kept, (drawn, place, pair))
        elif drawn > kept[0][0]:
            heapq.heapreplace(kept, (drawn, place, pair))
    for _, _, pair in sorted(kept, key=lambda entry: entry[1]):
        yield pair
