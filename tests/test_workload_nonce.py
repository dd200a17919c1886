"""Unique heads: words of one token, the permutation that they spell, and lengths that no nonce changes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from latency_profile.errors import UsageError
from latency_profile.workload import tokenizer as tokenizers
from latency_profile.workload import words
from latency_profile.workload.heads import Heads
from latency_profile.workload.nonce import SEPARATOR, Nonce
from latency_profile.workload.sharing import BLOCK
from latency_profile.workload.words import Words
from tests.workload_tokenizers import FAMILIES, TEXTS, content

AWKWARD = [
    "",
    " leading space",
    "\n\nleading breaks",
    "\r\n windows",
    "\ttab",
    "'s and 'll",
    "#!/bin/sh",
    "123 456",
    "日本語のテキスト",
    "🙂🙂",
    "\u0301combining",
    "▁mark",
    "<s>special</s> <|endoftext|>",
    "a",
    "....",
    "ünïcödé",
    "  \n  mixed \n\n white",
]


def made_up(count: int) -> Words:
    numbers = tuple(range(count))
    return Words(tuple(f"w{number}" for number in numbers), " ", numbers, numbers, (), 0)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[tokenizers.Tokenizer, Backend]:
    file = tmp_path / "tokenizer.json"
    file.write_text(content(request.param))
    return tokenizers.load(str(file)), Backend.from_file(str(file))


@given(
    size=st.integers(16, 5000), nonce=st.text(max_size=32), starts=st.lists(st.integers(0, 2**44 - 3000), max_size=3)
)
@settings(max_examples=40)
def test_no_two_indexes_share_their_digits(size: int, nonce: str, starts: list[int]) -> None:
    spelled = Nonce(made_up(size), nonce)
    indexes = np.unique(np.concatenate([np.arange(start, start + 2000) for start in [0, *starts]]))
    digits = [tuple(row) for row in spelled.digits(indexes)]
    assert len(set(digits)) == len(indexes)
    assert all(0 <= digit < size for row in digits for digit in row)
    assert {len(row) for row in digits} == {spelled.digit_count}
    assert spelled.digit_count * spelled.digit_bits >= 48
    assert spelled.digit_count <= 12


@given(nonce=st.text(max_size=8), attempts=st.sets(st.integers(0, 15), min_size=2))
@settings(max_examples=20)
def test_attempts_of_one_index_are_spelled_apart_from_every_other(nonce: str, attempts: set[int]) -> None:
    spelled = Nonce(made_up(64), nonce)
    digits = [tuple(row) for attempt in attempts for row in spelled.digits(np.arange(500), attempt)]
    assert len(set(digits)) == 500 * len(attempts)


def test_the_permutation_is_one_on_a_domain_that_can_be_listed() -> None:
    spelled = Nonce(made_up(16), "any")
    # The same network on 12 bits instead of 48, so that every number can be tried.
    spelled._low_bits, spelled._low_mask, spelled._high_mask = np.uint64(6), np.uint64(63), np.uint64(63)
    assert sorted(spelled._permute(np.arange(4096, dtype=np.uint64)).tolist()) == list(range(4096))


def test_other_nonces_share_no_more_heads_than_chance_allows() -> None:
    index = np.arange(20_000)
    one = {tuple(row) for row in Nonce(made_up(1024), "01").digits(index)}
    other = {tuple(row) for row in Nonce(made_up(1024), "02").digits(index)}
    assert len(one) == len(other) == 20_000
    assert not one & other


@pytest.mark.parametrize("place", [0, 1, -1])
def test_every_digit_is_spread_evenly(place: int) -> None:
    spelled = Nonce(made_up(64), "ab")
    seen = np.bincount([row[place] for row in spelled.digits(np.arange(64_000))], minlength=64)
    # chi-square with 63 degrees of freedom: 99.99 % quantile 113
    assert ((seen - 1000.0) ** 2 / 1000).sum() < 113


def test_words_are_one_token_in_every_place(family: tuple[tokenizers.Tokenizer, Backend]) -> None:
    tokenizer, backend = family
    found = words.find(tokenizer)
    assert len(found.words) >= words.LEAST
    assert len(set(found.first)) == len(set(found.later)) == len(found.words)
    rng = np.random.default_rng(5)
    for _ in range(200):
        digits = rng.integers(0, len(found.words), size=12).tolist()
        ids = backend.encode(found.text(digits)).ids
        assert ids[: len(found.ids(digits))] == found.ids(digits)
        assert len(ids) == 12 + found.special


def test_lengths_are_the_same_behind_every_head_and_heads_fit_a_block(
    family: tuple[tokenizers.Tokenizer, Backend],
) -> None:
    tokenizer, backend = family
    found = words.find(tokenizer)
    texts = AWKWARD + [text[start : start + 300] for text in TEXTS for start in (0, 1, 2)]
    index = np.arange(len(texts))
    runs = [Heads(tokenizer, found, nonce).put(index, texts) for nonce in ("01", "02", "03")]
    measured = Heads(tokenizer, found, "01")
    wanted = [len(backend.encode(measured.sample + text).ids) for text in texts]
    blocks: set[tuple[int, ...]] = set()
    for prompts in runs:
        encoded = [backend.encode(prompt).ids for prompt in prompts]
        assert [len(ids) for ids in encoded] == wanted
        assert all(prompt.endswith(SEPARATOR + text) for prompt, text in zip(prompts, texts, strict=True))
        blocks |= {tuple(ids[:BLOCK]) for ids in encoded}
    assert len(blocks) == 3 * len(texts)
    assert measured.overhead <= BLOCK
    assert measured.overhead == measured.tokens + found.special


def test_a_head_that_does_not_fit_is_spelled_anew(tmp_path: Path) -> None:
    tokenizer = tokenizers.load("bundled")
    found = words.find(tokenizer)
    heads = Heads(tokenizer, found, "ab")
    index, texts = np.arange(50), [f"text {number}" for number in range(50)]
    before = heads.put(index, texts)
    refused = {prompt.split(SEPARATOR)[0] for prompt in before[::7]}
    honest = tokenizer._encode

    def joining(batch: list[str], special: bool) -> list[list[int]]:
        """As if the tokenizer ran these heads together with what follows."""
        joined = [text.split(SEPARATOR)[0] in refused for text in batch]
        return [ids[1:] if bad else ids for ids, bad in zip(honest(batch, special), joined, strict=True)]

    tokenizer._encode = joining
    after = heads.put(index, texts)
    assert Counter(a == b for a, b in zip(before, after, strict=True)) == {True: 42, False: 8}
    assert len({prompt.split(SEPARATOR)[0] for prompt in after} | refused) == 58
    assert heads.put(index, texts) == after


def test_a_text_that_takes_no_head_is_an_error_not_a_wrong_length() -> None:
    tokenizer = tokenizers.load("bundled")
    heads = Heads(tokenizer, words.find(tokenizer), "ab")
    tokenizer._encode = lambda batch, special: [[0] for _ in batch]
    with pytest.raises(UsageError, match="--no-unique-prompts"):
        heads.put(np.arange(2), ["one", "two"])
