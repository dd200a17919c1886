"""A bounded, even sample of texts, and the way of its counts into the records."""

from itertools import pairwise
from pathlib import Path

import pytest

from latency_profile.records import NONE, EventSource, TokenSource
from latency_profile.sender.collect import collect
from latency_profile.sender.job import Collect
from latency_profile.sender.text_sample import CHARACTERS_A_TEXT, Text, TextSample
from tests.test_merge import START, Shard, join


def offered(most: int, answers: int, length: int = 10) -> TextSample:
    sample = TextSample(most)
    for index in range(answers):
        sample.offer(Text(index, "x" * length) if sample.wants_next else None)
    return sample


@pytest.mark.parametrize("answers", [0, 1, 7, 8, 9, 100, 5000])
def test_a_sample_is_even_and_holds_no_more_than_it_may(answers: int) -> None:
    kept = [text.index for text in offered(8, answers).texts]
    assert len(kept) <= 8
    assert len(kept) >= min(answers, 4)
    assert len({after - before for before, after in pairwise(kept)}) <= 1, "equal steps"
    assert not kept or kept[-1] + 2 * (kept[-1] // max(1, len(kept) - 1)) >= answers - 1, "up to the end"


def test_long_texts_take_the_room_of_several() -> None:
    """Never more characters than ten thousand for each text that it may hold; a longer one has no place at all."""
    sample = offered(8, 100, length=CHARACTERS_A_TEXT * 3)
    assert 1 <= len(sample.texts) <= 2
    assert offered(8, 100, length=CHARACTERS_A_TEXT * 8 + 1).texts == []


def test_no_sample() -> None:
    sample = TextSample(0)
    assert not sample.wants_next
    sample.offer(Text(0, "x"))
    assert sample.texts == []


def sampled(part: Shard, texts: int) -> None:
    part._spool.close()
    collect(
        Collect(
            spool=part.spool_path,
            columns=part.columns,
            start_ns=START,
            backend="vllm",
            endpoint="completions",
            streaming=True,
            bodies="",
            bounds="",
            secrets=[],
            sampled_texts=texts,
        )
    )


def test_texts_of_counted_answers_come_into_a_column_of_their_own(tmp_path: Path) -> None:
    """The tokenizer of these tests counts letters. What nobody else counted is in the tokens themselves."""
    part = Shard(tmp_path, 0)
    part.answer(1, 0, [5, 6, 7], word="ab")
    part.answer(0, 0, [5, 6], usage=False, word="abc")
    part.answer(2, 0, [5], word="abcd")
    sampled(part, 10)
    records = join([part], [0, 0, 0])
    assert list(records["output_tokens"]) == [6, 3, 1]
    assert list(records["text_tokens"]) == [NONE, 6, 4]
    assert list(records["token_source"]) == [TokenSource.TOKENIZER, TokenSource.USAGE, TokenSource.USAGE]
    assert list(records["event_source"]) == [EventSource.TEXT, EventSource.USAGE, EventSource.USAGE]


def test_without_a_sample_no_text_is_counted_twice(tmp_path: Path) -> None:
    part = Shard(tmp_path, 0)
    part.answer(0, 0, [5, 6])
    sampled(part, 0)
    records = join([part], [0, 1])
    assert list(records["text_tokens"]) == [NONE, NONE]
    assert list(records["event_source"]) == [EventSource.USAGE, EventSource.NONE]
