"""Prompts that a model writes, one after the other, each kept on disk before the next is asked for."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from latency_profile.datasets.categories import CATEGORIES, Order, question
from latency_profile.datasets.duplicates import SIMILAR, Seen
from latency_profile.datasets.endpoint import Endpoint
from latency_profile.errors import UsageError

_QUOTES = (("'", "'"), ('"', '"'), ("“", "”"), ("«", "»"))
# Of models whose server leaves them in the answer. Some templates have begun them already; some models do not end them.
_THOUGHTS = re.compile(r"\A(.*?</think>|\s*<think>.*)", re.DOTALL)


class Prompt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record of the file, of the form that --dataset reads. output_len: tokens that its answer may have."""

    prompt: str
    category: str
    output_len: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


@dataclass(kw_only=True)
class Outcome:
    """What came of it. Tokens are None where the server did not always tell them."""

    answers: int = 0
    made: int = 0
    asked_again: Counter[str] = field(default_factory=Counter)  # by reason
    unfilled: list[tuple[Order, str]] = field(default_factory=list)  # with the last reason
    input_tokens: int | None = 0
    output_tokens: int | None = 0


def read(path: Path) -> list[Prompt]:
    """The prompts that are there from an earlier run. Raises UsageError where the file is something else: it would be
    overwritten."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Prompt])
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"--output: {path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--output: {path} is there and holds no prompts of this command; name another file"
        ) from error


def encoded(prompts: Sequence[Prompt]) -> bytes:
    """The whole file."""
    return msgspec.json.format(msgspec.json.encode(prompts), indent=2) + b"\n"


def generate(
    endpoint: Endpoint,
    model: str,
    left: Sequence[Order],
    there: Sequence[Prompt],
    outcome: Outcome,
    *,
    again: int,
    max_tokens: int,
    keep: Callable[[Sequence[Prompt]], None],
    say: Callable[[str], None],
) -> None:
    """Has the model write what is left. `keep` gets all prompts after each new one, `say` a line for each; `outcome` is
    told what came.

    again: how often a prompt is asked for once more that came before, was refused, is not whole or is empty; then its
    place stays empty. Raises what the endpoint raises; what `keep` got stays.
    """
    prompts, seen = list(there), Seen()
    for prompt in prompts:
        seen.add(prompt.prompt)
    for number, order in enumerate(left, 1):
        earlier = [prompt.prompt for prompt in prompts if prompt.category == order.category]
        fault = ""
        for attempt in range(1 + again):
            if attempt:
                outcome.asked_again[fault] += 1
            answer = endpoint.write(model, question(order.otherwise(attempt), earlier), max_tokens)
            outcome.answers += 1
            outcome.input_tokens = _sum(outcome.input_tokens, answer.input_tokens)
            outcome.output_tokens = _sum(outcome.output_tokens, answer.output_tokens)
            text = plain(answer.text)
            fault = answer.fault or _fault(text, seen)
            if not fault:
                break
            earlier += [text] if text and not answer.fault else []  # shown next time, so that it writes another one
        if fault:
            outcome.unfilled.append((order, fault))
            say(f"{number}/{len(left)} {order.category}: none of {1 + again} answers, the last {fault}")
            continue
        limit = CATEGORIES[order.category].max_output
        prompts.append(Prompt(prompt=text, category=order.category, output_len=limit))
        keep(prompts)
        seen.add(text)
        outcome.made += 1
        say(f"{number}/{len(left)} {order.category}: {len(text.split())} words")


def plain(answer: str) -> str:
    """The prompt in an answer: without thoughts before it, and without quotes around it."""
    text = _THOUGHTS.sub("", answer).strip()
    for opening, closing in _QUOTES:
        inside = text[1:-1]
        if len(text) > 1 and text[0] == opening and text[-1] == closing and opening not in inside:
            return inside.strip()
    return text


def _fault(text: str, seen: Seen) -> str:
    """Why a prompt is not kept; nothing where it is."""
    if not text:
        return "empty"
    similar = seen.nearest(text)
    if similar >= SIMILAR:
        return "a duplicate" if similar == 1 else "a near-duplicate"
    return ""


def _sum(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more
