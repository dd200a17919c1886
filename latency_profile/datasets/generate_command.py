"""`latency-profile dataset generate`: what is to be written, by whom, at which cost; then it is written."""

import argparse
import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from latency_profile.command_flags import CommandFlags, read
from latency_profile.cost import MILLION
from latency_profile.datasets import generate as generating
from latency_profile.datasets.categories import CATEGORIES, COUNT, expected_tokens, orders
from latency_profile.datasets.endpoint import OPENROUTER, Endpoint, Price, key_variable
from latency_profile.errors import Exit, ServerUnavailable, UsageError
from latency_profile.local_path import local_path
from latency_profile.settings import kinds
from latency_profile.storage.folder import Folder

MODEL = "anthropic/claude-opus-4.5"  # at OpenRouter
OUTPUT = "benchmark_dataset.json"
_AGAIN = 3
_MAX_TOKENS = 2048

_USAGE = "latency-profile dataset generate [-o FILE] [FLAG …]"
_DESCRIPTION = f"""\
Has a model write prompts of several categories, through any OpenAI-compatible API. Says first what it is expected to
cost. What FILE already has counts: a run that was broken off goes on. --dataset reads FILE.

The key comes from the environment: OPENROUTER_API_KEY for {OPENROUTER} (the default),
OPENAI_API_KEY for any other --url; a server of one's own may do without. Each prompt is kept with its category and the
tokens that its answer may have. Exit code 4 where a place stayed empty."""


class _Tariff(NamedTuple):
    """A price, or why it is unknown."""

    price: Price | None
    why: str = ""


def command(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Says what is to be done, and does it. Raises ProfileError. Exit code 4 where a place stayed empty."""
    given = _parser().parse_args(arguments)
    count = read("--count", kinds.COUNT, given.count)
    again = read("--ask-again", kinds.whole(0), given.ask_again)
    max_tokens = read("--max-tokens", kinds.COUNT, given.max_tokens)
    url = read("--url", kinds.url("an http or https URL such as http://host:8000/v1"), given.url)
    names = kinds.choice(tuple(CATEGORIES))
    listed = kinds.listed(names, f"names out of {', '.join(CATEGORIES)}, separated by commas", once=True)
    categories = read("--categories", listed, given.categories)
    own_price = _own_price(given)
    path = local_path(given.output, "--output: ")
    if path.is_dir() or not path.name:
        raise UsageError(f"--output: got {given.output!r}, takes a file's name")
    there = generating.read(path)
    by_category = Counter(prompt.category for prompt in there)
    left = orders(categories, count, by_category)
    if not left:
        print(f"{path}: {_counted(len(there), 'prompt')} there already, none is lacking")
        return Exit.DONE
    variable = key_variable(url)
    key = _key(variable, environ)
    if key is None and url == OPENROUTER and not given.dry_run:
        raise UsageError(f"{variable}: not set; {OPENROUTER} takes a key")
    endpoint = Endpoint(url, key)
    model, tariff = _model(endpoint, url, given.model, own_price)
    source = f"key from {variable}" if key else f"no key: {variable} is not set"
    expected = expected_tokens(left, by_category)
    _say(f"{_cost_line(len(left), expected, model, url, tariff, again, max_tokens)} ({source})")
    if given.dry_run:
        wanted = Counter(order.category for order in left)
        print("Dry run: " + ", ".join(f"{number} {category}" for category, number in wanted.items()))
        return Exit.DONE
    folder = Folder(path.parent, "--output")
    folder.check()

    def keep(prompts: Sequence[generating.Prompt]) -> None:
        if generating.read(path) != prompts[:-1]:
            raise UsageError(
                f"--output: {path} was changed meanwhile, by another run or a person; nothing is overwritten"
            )
        folder.replace(path.name, generating.encoded(prompts))

    outcome = generating.Outcome()
    try:
        generating.generate(
            endpoint,
            model,
            left,
            there,
            outcome,
            again=again,
            max_tokens=max_tokens,
            keep=keep,
            say=_say,
        )
    finally:  # what was paid for is said, whatever ended it
        if outcome.answers:
            _say(_summary(outcome, tariff))
            _say(f"{_counted(len(there) + outcome.made, 'prompt')} in {path} ({outcome.made} new)")
    return Exit.UNUSABLE if outcome.unfilled else Exit.DONE


def _parser() -> argparse.ArgumentParser:
    flags = CommandFlags(_USAGE, _DESCRIPTION, said_first="dataset generate: ")
    add = flags.add_argument
    add("-o", "--output", default=OUTPUT, metavar="FILE", help="where they are kept (default: %(default)s)")
    add("--count", default=str(COUNT), metavar="N", help="prompts in all (default: %(default)s)")
    add("--categories", default=",".join(CATEGORIES), metavar="LIST", help="in turn (default: %(default)s)")
    add("--url", default=OPENROUTER, metavar="URL", help="what goes before /chat/completions (default: %(default)s)")
    add("--model", metavar="NAME", help=f"who writes (default: {MODEL} at OpenRouter, else the only one served)")
    add("--max-tokens", default=str(_MAX_TOKENS), metavar="N", help="of a written prompt (default: %(default)s)")
    add(
        "--ask-again",
        default=str(_AGAIN),
        metavar="N",
        help="how often for a prompt that came before, nearly or quite, or was cut off (default: %(default)s)",
    )
    add("--price-in", metavar="USD", help="of a million input tokens, where the server tells no price")
    add("--price-out", metavar="USD", help="of a million output tokens")
    add("--dry-run", action="store_true", help="say what it would do and cost; only the list of models is asked for")
    return flags


def _own_price(given: argparse.Namespace) -> Price | None:
    if given.price_in is None and given.price_out is None:
        return None
    if given.price_in is None or given.price_out is None:
        raise UsageError("--price-in and --price-out: each takes the other beside it")
    return Price(
        read("--price-in", kinds.SECONDS, given.price_in) / MILLION,
        read("--price-out", kinds.SECONDS, given.price_out) / MILLION,
    )


def _key(variable: str, environ: Mapping[str, str]) -> str | None:
    key = environ.get(variable, "").strip()
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UsageError(f"{variable}: got a key that is not shown, takes a key of printable ASCII characters")
    return key or None


def _model(endpoint: Endpoint, url: str, named: str | None, own_price: Price | None) -> tuple[str, _Tariff]:
    """Who writes, and at which price. The list of models is asked for only where it is needed. Raises ServerUnavailable
    where a model is to be found in it and there is none, UsageError where there are several."""
    named = named or (MODEL if url == OPENROUTER else None)
    if named is not None and own_price is not None:
        return named, _Tariff(own_price)
    try:
        served = endpoint.models()
    except ServerUnavailable as error:
        if named is None:
            raise
        return named, _Tariff(None, str(error))
    if named is None:
        if len(served) != 1:
            shown = ", ".join(list(served)[:8]) or "none"
            raise UsageError(f"--model: not given, and {url} has {len(served)} models: {shown}")
        (named,) = served
    price = own_price or served.get(named)
    return named, _Tariff(price, "" if price else f"{url}/models tells no price for it; --price-in and --price-out do")


def _say(line: str) -> None:
    """Whoever read our output may have gone: the prompts are written all the same."""
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)


def _cost_line(
    prompts: int, expected: tuple[int, int], model: str, url: str, tariff: _Tariff, again: int, max_tokens: int
) -> str:
    """What is to be asked for, and what it is expected to cost; never a price that nobody told. expected: tokens in and
    out."""
    tokens_in, tokens_out = expected
    price = tariff.price
    cost = f"cost unknown: {tariff.why}"
    if price is not None:
        most = (1 + again) * price.of(prompts, tokens_in, prompts * max_tokens)
        cost = f"about {dollars(price.of(prompts, tokens_in, tokens_out))}, at most about {dollars(most)}"
    tokens = f"about {tokens_in:,} tokens in and {tokens_out:,} out"
    return f"{_counted(prompts, 'prompt')} by {model} at {url}: expected {tokens}, {cost}"


def _summary(outcome: generating.Outcome, tariff: _Tariff) -> str:
    parts = []
    if outcome.input_tokens is None or outcome.output_tokens is None:
        parts.append("tokens and cost unknown: not every answer told its usage")
    else:
        parts.append(f"{outcome.input_tokens:,} tokens in, {outcome.output_tokens:,} out")
        price = tariff.price
        if price is None:
            parts.append("cost unknown")
        else:
            parts.append(dollars(price.of(outcome.answers, outcome.input_tokens, outcome.output_tokens)))
    again = [f"{number} for {fault}" for fault, number in outcome.asked_again.most_common()]
    parts += [f"asked again: {', '.join(again)}"] if again else []
    if outcome.unfilled:
        parts.append(f"{_counted(len(outcome.unfilled), 'place')} stayed empty; the same command tries again")
    return "; ".join(parts)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def dollars(usd: float) -> str:
    """Two digits, and more for less than a cent."""
    return f"${usd:.2f}" if usd >= 0.01 or usd == 0 else f"${usd:.2g}"
