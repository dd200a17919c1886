"""Which columns of a data set are the prompt and the answer. Pure.

Known forms are told by their columns; of any other the columns are named.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

CONVERSATIONS = "conversations"
PROMPT, OUTPUT_LENGTH = "prompt", "output_len"  # the tool's own form, as workload/dataset.py reads it


@dataclass(frozen=True, kw_only=True)
class Form:
    """prompt: columns whose texts are joined by an empty line, empty ones left out. output_length: tokens."""

    name: str
    prompt: tuple[str, ...]
    answer: str | None = None
    output_length: str | None = None

    @property
    def answered(self) -> bool:
        """Whether its rows have answers as text."""
        return self.answer is not None or self.prompt == (CONVERSATIONS,)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are looked at."""
        return tuple(column for column in (*self.prompt, self.answer, self.output_length) if column)

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
    Form(name="prompts", prompt=(PROMPT,), output_length=OUTPUT_LENGTH),
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
        turns = row.get(CONVERSATIONS)
        first, second = (_turn(turns, number) for number in (0, 1))
        return Pair(first, second)
    parts = [part for part in (_text(row.get(column)) for column in form.prompt) if part]
    # The last column is the question itself: a system prompt alone asks nothing.
    asked = _text(row.get(form.prompt[-1])) is not None
    return Pair(
        "\n\n".join(parts) if asked else None,
        _text(row.get(form.answer)) if form.answer else None,
        _length(row.get(form.output_length)) if form.output_length else None,
    )


def _turn(turns: object, number: int) -> str | None:
    turn = turns[number] if isinstance(turns, list) and number < len(turns) else None
    return _text(turn.get("value")) if isinstance(turn, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _length(value: object) -> int | None:
    """A whole number of 1 or more; CSV has it as text."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None
