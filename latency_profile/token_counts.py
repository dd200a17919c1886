"""The tokens of a point by everybody's count, and where the counts differ. Pure functions of Records.

Up to six counts stand beside each other: the server's usage, the token ids in its events, what its events carried, the
number that was asked for, the answer's text in the profile's tokenizer (of a sample), and of prompts the tokenizer's.
Differences are signed: the first count minus the second, one for each succeeded request that has both.

`rows` is always a boolean mask over requests, shape (requests,).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.measures import Rows
from latency_profile.records import NONE, EventSource, Records, TokenSource

Differences = NDArray[np.int64]

# Tokenizing again is off by chance in some answers, by this and by that. A count that is wrong by construction is off
# by the same number in most of them.
SAME_SHARE_LIMIT = 0.5


def usage_and_ids(records: Records, rows: Rows) -> Differences:
    """The server's usage - the ids that its events listed."""
    listed = records["event_output_tokens"]
    both = measures.succeeded(records, rows) & (records["token_source"] == TokenSource.USAGE) & (listed != NONE)
    return _differences(records["output_tokens"], listed, both)


def reported_and_events(records: Records, rows: Rows) -> Differences:
    """Output tokens as reported, by whomever - those that the events carried."""
    carried = measures.tokens_in_events(records)
    both = measures.succeeded(records, rows) & (records["output_tokens"] != NONE) & (carried > 0)
    return _differences(records["output_tokens"], carried, both)


def exact_length(records: Records) -> bool:
    """Whether the server was made to give exactly the wanted number of tokens."""
    return bool(records.context.settings.get("ignore_eos"))


def reported_and_wanted(records: Records, rows: Rows) -> Differences:
    """Output tokens as reported by usage or ids - those that were asked for. Tells something of `exact_length` only."""
    sure = np.isin(records["token_source"], (TokenSource.USAGE, TokenSource.TOKEN_IDS))
    return _differences(
        records["output_tokens"], records["wanted_tokens"], np.asarray(measures.succeeded(records, rows) & sure)
    )


def reported_and_text(records: Records, rows: Rows) -> Differences:
    """Output tokens as reported by usage or ids - the tokenizer's count of the text, of the sample.

    An answer that is shorter than wanted ended by itself, and the token that ends it has no text: one token more than
    the text has is then no difference. Tokenizing again is not exact: a text that stops in the middle of a word or of a
    character, and tokens that the model put together otherwise than the tokenizer would, count a little more or less.
    """
    text = records["text_tokens"]
    both = measures.succeeded(records, rows) & (text != NONE) & (records["output_tokens"] != NONE)
    found = _differences(records["output_tokens"], text, both)
    ended_itself = (records["output_tokens"] < records["wanted_tokens"])[both]
    found[ended_itself & (found > 0)] -= 1
    return found


def prompt_and_tokenizer(records: Records, rows: Rows) -> Differences:
    """Prompt tokens by the server's usage - by the profile's tokenizer. A chat template adds a constant number."""
    both = measures.succeeded(records, rows) & (records["server_input_tokens"] != NONE)
    return _differences(records["server_input_tokens"], records["input_tokens"], both)


def _differences(ones: NDArray[np.generic], others: NDArray[np.generic], both: Rows) -> Differences:
    return ones[both].astype(np.int64) - others[both].astype(np.int64)


@dataclass(frozen=True, slots=True)
class PerEvent:
    """Tokens of token-carrying events."""

    mean: float
    largest: int | None  # None where nobody told what single events carried


def per_event(records: Records, rows: Rows) -> PerEvent | None:
    """Of succeeded streamed answers; None where no event carried a token.

    Ids in the events are the count. Else usage is: over the events where it came with each, over the answer where it
    came once (or nobody but the tokenizer counted). Usage may be wrong, so that the sample's texts bound the mean from
    above where most have the same number of tokens fewer. Where they differ by this and by that, it is the tokenizer.
    """
    counts = np.diff(records.event_start)
    good = measures.succeeded(records, rows) & (counts > 0)
    if not good.any():
        return None
    source = records["event_source"]
    told = good & (source != EventSource.TEXT)
    once = good & (source == EventSource.TEXT) & (records["output_tokens"] != NONE)
    tokens = np.where(once, records["output_tokens"], measures.tokens_in_events(records))
    mean = int(tokens[good].sum()) / int(counts[good].sum())
    sampled = good & (source != EventSource.TOKEN_IDS) & (records["text_tokens"] > 0)
    _, alike = np.unique(reported_and_text(records, sampled), return_counts=True)
    if alike.max(initial=0) > SAME_SHARE_LIMIT * alike.sum():
        in_text = int(records["text_tokens"][sampled].sum()) / int(counts[sampled].sum())
        mean = min(mean, max(1.0, in_text))
    largest = None
    if told.any():
        filled = counts > 0
        most = np.maximum.reduceat(records.event_tokens, records.event_start[:-1][filled])
        largest = int(most[told[filled]].max())
    return PerEvent(mean, largest)
