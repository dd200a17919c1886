"""A data set in the tool's own form: JSON Lines that `--dataset` reads.

Answers stay text, as conversations, so that their lengths are those of whatever tokenizer a profile has; a set without
answers becomes prompts, with output lengths where it has them.
"""

from collections.abc import Iterable, Iterator

import msgspec

from latency_profile.datasets.forms import CONVERSATIONS, OUTPUT_LENGTH, PROMPT, Form, Pair


def lines(form: Form, pairs: Iterable[Pair]) -> Iterator[bytes]:
    """A line for each pair."""
    for pair in pairs:
        yield msgspec.json.encode(_conversation(pair) if form.answered else _prompt(pair)) + b"\n"


def _conversation(pair: Pair) -> dict[str, object]:
    return {CONVERSATIONS: [{"from": "human", "value": pair.prompt}, {"from": "gpt", "value": pair.answer}]}


def _prompt(pair: Pair) -> dict[str, object]:
    length = {} if pair.output_length is None else {OUTPUT_LENGTH: pair.output_length}
    return {PROMPT: pair.prompt, **length}
