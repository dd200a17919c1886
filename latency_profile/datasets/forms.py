"""Which columns of a data set are the prompt and the answer. Pure.

Known forms are told by their columns; of any other the columns are named.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from latency_profile.workload.dataset import LONGEST, SYSTEM, joined

CONVERSATIONS = "conversations"
# The tool's own form, as workload/dataset.py reads it: the second name counts where a row has not the first.
PROMPT, OUTPUT_LENGTH, MAX_TOKENS = "prompt", "output_len", "max_tokens"

_NUMBER = re.compile(r"[0-9]{1,18}(\.0*)?")


@dataclass(frozen=True, kw_only=True)
class Form:
    """prompt: columns whose texts are joined by an empty line, empty ones left out. output_lengths:
    columns of tokens; the first of them that a row has counts."""

    name: str
    prompt: tuple[str, ...]
    answer: str | None = None
    output_lengths: tuple[str, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether its rows have answers as text."""
        return self.answer is not None or self.prompt == (CONVERSATIONS,)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are looked at."""
        return tuple(column for column in (*self.prompt, self.answer, *self.output_lengths) if column)

    @property
    def needs(self) -> set[str]:
        """The columns by which the form is known."""
        return {*self.prompt, *((self.answer,) if self.answer else ())}


# Looked at in this order: the first whose columns are all there.
FORMS = (
    Form(name="sharegpt", prompt=(CONVERSATIONS,)),
    Form(name="orca", prompt=("system_prompt", "question"), answer="response"),
    Form(name="math-500", prompt=("problem",), answer="solution"),
    Form(name="mbpp", prompt=("text",), answer="code"),
    Form(name="mbpp-sanitized", prompt=("prompt",), answer="code"),
    Form(name="prompts", prompt=(PROMPT,), output_lengths=(OUTPUT_LENGTH, MAX_TOKENS)),
)


def form_of(columns: Collection[str]) -> Form | None:
    """The known form of a row with these columns."""
    return next((form for form in FORMS if form.needs <= set(columns)), None)


class Pair(NamedTuple):
    """What a row has. None: it lacks that."""

    prompt: str | None
    answer: str | None = None
    output_length: int | None = None


def pair_of(form: Form, row: Mapping[str, Any]) -> Pair:
    """The prompt and the answer of a row. Text of nothing but white space is none."""
    if form.prompt == (CONVERSATIONS,):
        return _exchange(row.get(CONVERSATIONS))
    parts = [_text(row.get(column)) or "" for column in form.prompt]
    # The last column is the question itself: a system prompt alone asks nothing.
    asked = _text(row.get(form.prompt[-1])) is not None
    return Pair(
        joined(parts) if asked else None,
        _text(row.get(form.answer)) if form.answer else None,
        next((length for length in (_length(row.get(column)) for column in form.output_lengths) if length), None),
    )


def _exchange(turns: object) -> Pair:
    """A conversation's first prompt and answer, as workload/dataset.py takes them."""
    before = []
    place = 0
    while _said(turns, place, "from") == SYSTEM:
        before.append(_said(turns, place, "value") or "")
        place += 1
    asked = _said(turns, place, "value")
    return Pair(joined([*before, asked]) if asked else None, _said(turns, place + 1, "value"))


def _said(turns: object, place: int, key: str) -> str | None:
    turn = turns[place] if isinstance(turns, list) and place < len(turns) else None
    return _text(turn.get(key)) if isinstance(turn, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _length(value: object) -> int | None:
    """A whole number from 1 to the longest that a profile takes. CSV has it as text; 12.0, where a table with gaps has
    made floating-point numbers of whole ones."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LONGEST else None
