"""Remarks on tokens and failures: what each says, where it is silent, and by whom a wrong count is noticed."""

import numpy as np
import pytest

from latency_profile import token_counts
from latency_profile.measures import all_rows
from latency_profile.records import NONE, EventSource, Status, TokenSource
from latency_profile.verdict import Name, judge
from tests.make_records import make_records

N = 600
TOKENS = 100


def answers(carried=1, n=N, settings=None, streaming=True, **columns):
    """`n` steady answers of a hundred tokens, `carried` in each event; `columns` in place of what follows from that."""
    rng = np.random.default_rng(3)
    events = TOKENS // carried if streaming else 0
    due = np.arange(n) / 20
    times = due[:, None] + 0.1 + np.cumsum(rng.uniform(0.008, 0.012, (n, events)), axis=1)
    known = {"output_tokens": TOKENS, "wanted_tokens": TOKENS, "text_tokens": NONE, "event_source": EventSource.USAGE}
    return make_records(
        due,
        token_times_s=list(times),
        end_s=None if streaming else due + rng.uniform(0.5, 0.7, n),
        event_tokens=[[carried] * events] * n,
        columns={name: np.broadcast_to(value, n) for name, value in (known | columns).items()},
        settings={"ignore_eos": True} if settings is None else settings,
        duration_s=n / 20,
        request_rate=20.0,
        streaming=streaming,
    )


def said(records, name=Name.TOKENS_DISAGREE):
    return [remark.text for remark in judge(records).remarks if remark.name is name]


def some(share, value, otherwise, n=N):
    """`value` in the given share of the answers."""
    return np.where(np.arange(n) < share * n, value, otherwise)


FREE = {"ignore_eos": False}


def test_counts_that_agree_are_not_remarked_on():
    records = answers(text_tokens=TOKENS, event_output_tokens=TOKENS, server_input_tokens=10)
    assert judge(records).remarks == []


def test_usage_off_by_one_against_the_ids_of_the_events():
    """One sentence, with what else it contradicts."""
    records = answers(output_tokens=TOKENS + 1, event_output_tokens=TOKENS, event_source=EventSource.TOKEN_IDS)
    assert said(records) == [
        "Usage says one token more than the events carried in 100% of 600 answers (than was asked for, too): tokens "
        "per second and TPOT are off by up to 1.0%."
    ]


def test_a_usage_that_does_not_grow_to_its_total():
    assert said(answers(output_tokens=TOKENS - 2, settings=FREE)) == [
        "Usage says 2 tokens fewer than the events carried in 100% of 600 answers: tokens per second and TPOT are off "
        "by up to 2.0%."
    ]


@pytest.mark.parametrize("streaming", [True, False])
def test_usage_off_by_one_against_the_text_alone(streaming):
    """Its growth is as wrong as its total, and nobody asked for an exact length."""
    text = some(0.3, TOKENS, NONE)
    records = answers(TOKENS // 100, output_tokens=TOKENS + 1, text_tokens=text, settings=FREE, streaming=streaming)
    if streaming:
        records.event_tokens[records.event_start[:-1]] = 2
    assert said(records) == [
        "Usage says one token more than the text has in 100% of 180 answers: tokens per second and "
        f"{'TPOT' if streaming else 'NTPOT'} are off by up to 1.0%."
    ]


def test_the_text_has_a_tolerance():
    """Tokenized again, answers differ by this and by that; only what most of them show is said."""
    rng = np.random.default_rng(4)
    noise = rng.choice([-2, -1, 0, 1, 2, 3], N)
    assert said(answers(text_tokens=TOKENS + noise)) == []
    most = answers(text_tokens=TOKENS - np.where(np.arange(N) % 5 < 3, 1, noise))
    assert "mostly one token more than the text has" in said(most)[0]
    few = answers(n=9, text_tokens=TOKENS - 1)
    assert said(few) == [], "nine answers may differ alike by chance"


def test_a_token_that_ends_the_answer_has_no_text():
    """Shorter than wanted: it ended by itself, and usage counts the end. One more than that is one too many."""
    ended = {"wanted_tokens": 200, "settings": FREE, "event_source": EventSource.TEXT}
    assert said(answers(text_tokens=TOKENS - 1, **ended)) == []
    assert said(answers(text_tokens=TOKENS, **ended)) == []
    assert "one token more than the text has" in said(answers(text_tokens=TOKENS - 2, **ended))[0]
    assert "one token fewer than the text has" in said(answers(text_tokens=TOKENS + 1, **ended))[0]


def test_an_event_taken_for_one_token_is_no_witness_against_usage_that_the_text_bears_out():
    """Usage says 101 with 100 events: right where an event had two tokens, wrong where the text has 100."""
    told_once = {"output_tokens": TOKENS + 1, "settings": FREE, "event_source": EventSource.TEXT}
    assert said(answers(text_tokens=TOKENS + 1, **told_once)) == []
    both = said(answers(text_tokens=TOKENS, **told_once))
    assert "more than the events carried in 100% of 600 answers (than the text has, too)" in both[0]
    assert "more than the events carried" in said(answers(**told_once))[0], "where there is no text to ask"


def test_texts_that_differ_by_this_and_by_that_bear_nothing_out():
    """Usage says 101 with 100 events; the tokenizer, another than the model's, says anything from 95 to 107."""
    scattered = TOKENS - 5 + np.arange(N) % 13
    records = answers(output_tokens=TOKENS + 1, text_tokens=scattered, settings=FREE, event_source=EventSource.TEXT)
    assert "more than the events carried in 100% of 600 answers" in said(records)[0]


def test_a_server_that_gives_less_than_was_asked_for():
    short = {"output_tokens": TOKENS - 3, "event_source": EventSource.TEXT}
    assert said(answers(text_tokens=TOKENS - 3, **short)) == [
        "The server gave 3 tokens fewer than was asked for in 100% of 600 answers: the load is not the one that was "
        "planned."
    ]


def test_one_answer_in_a_hundred_is_counted_and_not_remarked_on():
    assert said(answers(output_tokens=some(0.01, TOKENS + 1, TOKENS))) == []
    assert "in 2.0% of 600 answers" in said(answers(output_tokens=some(0.02, TOKENS + 1, TOKENS)))[0]


def test_failed_answers_are_compared_with_nothing():
    status = np.where(np.arange(N) % 50 == 0, Status.TRUNCATED, Status.OK)
    assert said(answers(output_tokens=np.where(status == Status.OK, TOKENS, 7), status=status)) == []


def test_token_ids_that_are_not_as_many_as_wanted():
    records = answers(
        output_tokens=TOKENS - 1,
        event_output_tokens=TOKENS - 1,
        token_source=TokenSource.TOKEN_IDS,
        event_source=EventSource.TOKEN_IDS,
    )
    assert any(text.startswith("The token ids are one token fewer than was asked for") for text in said(records))


def test_a_chat_template_adds_a_constant_and_another_tokenizer_does_not():
    assert said(answers(input_tokens=500, server_input_tokens=526)) == []
    rng = np.random.default_rng(5)
    assert said(answers(input_tokens=500, server_input_tokens=526 + rng.integers(0, 3, N))) == []
    (text,) = said(answers(input_tokens=500, server_input_tokens=500 + rng.integers(-10, 31, N)))
    assert "--tokenizer is not the model's own" in text


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"event_source": EventSource.USAGE}, True),
        ({"event_source": EventSource.TOKEN_IDS, "event_output_tokens": TOKENS}, True),
        ({"event_source": EventSource.TEXT}, False),  # by the usage at the end, or by the tokenizer
        ({"event_source": EventSource.TEXT, "token_source": TokenSource.TOKENIZER}, False),
    ],
)
def test_several_tokens_an_event(columns, told):
    records = answers(carried=2, **columns)
    if not told:
        records.event_tokens[:] = 1
    assert said(records, Name.SEVERAL_TOKENS_AN_EVENT) == [
        "An event carries 2.00 tokens on average: ITL is a gap between events, not tokens."
    ]
    assert said(records) == []
    found = token_counts.per_event(records, all_rows(records))
    assert (found.mean, found.largest) == (2.0, 2 if told else None)


def test_a_wrong_usage_is_not_taken_for_several_tokens_an_event():
    """Ten too many over a hundred events: 1.1 by usage, 1.0 by the text."""
    records = answers(output_tokens=TOKENS + 10, text_tokens=TOKENS, event_source=EventSource.TEXT)
    assert said(records, Name.SEVERAL_TOKENS_AN_EVENT) == []
    assert "10 tokens more than the events carried" in said(records)[0]


def test_a_coarser_tokenizer_does_not_hide_several_tokens_an_event():
    """Usage says 130 over 100 events; by the tokenizer the texts have 76 to 92."""
    coarse = 76 + np.arange(N) % 17
    records = answers(output_tokens=130, text_tokens=coarse, settings=FREE, event_source=EventSource.TEXT)
    assert token_counts.per_event(records, all_rows(records)).mean == 1.3
    assert len(said(records, Name.SEVERAL_TOKENS_AN_EVENT)) == 1


def test_failures_by_name_and_number():
    status = np.full(N, Status.OK)
    status[5:600:100] = Status.EMPTY
    status[7:600:300] = Status.RESET
    assert said(answers(status=status), Name.FAILURES) == ["1.3% of the requests failed: 6 × EMPTY, 2 × RESET."]


def test_failures_that_are_the_verdict_are_no_remark_and_those_unfinished_none_at_all():
    assert said(answers(status=some(0.06, Status.EMPTY, Status.OK)), Name.FAILURES) == []
    assert said(answers(status=some(0.04, Status.CANCELLED, Status.OK)), Name.FAILURES) == []
