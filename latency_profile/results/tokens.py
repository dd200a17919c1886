"""The block `tokens` of a point's results: by whom tokens were counted, and every disagreement. Pure."""

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from latency_profile import measures, token_counts
from latency_profile.measures import Rows
from latency_profile.records import EventSource, Records, TokenSource
from latency_profile.token_counts import Differences

Count = Annotated[int, Meta(ge=0)]
Middle = Annotated[float | None, Meta(description="of the first count - the second; null where nothing was compared")]


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class Disagreement(_Whole, frozen=True, kw_only=True):
    """Two counts of the same tokens."""

    compared: Annotated[int, Meta(ge=0, description="succeeded requests that have both counts")]
    differing: Count
    largest_tokens: Annotated[int, Meta(ge=0, description="the largest difference, either way")]
    p5_tokens: Middle
    median_tokens: Middle
    p95_tokens: Middle


class Disagreements(_Whole, frozen=True, kw_only=True):
    output_usage_token_ids: Annotated[Disagreement, Meta(description="the server's usage and the ids in its events")]
    output_usage_events: Annotated[
        Disagreement,
        Meta(description="output tokens as reported and as its events carried; of event source TEXT one an event"),
    ]
    output_usage_wanted: Annotated[
        Disagreement | None,
        Meta(description="output tokens by usage or ids and as asked for; null unless --ignore-eos made that exact"),
    ]
    output_usage_text: Annotated[
        Disagreement,
        Meta(
            description="output tokens by usage or ids and the tokenizer's count of the text, of a sample; a token "
            "without text that ends the answer is allowed for. Tokenizing again is not exact: single answers may differ"
        ),
    ]
    input_usage_tokenizer: Annotated[
        Disagreement, Meta(description="the server's usage and the profile's tokenizer; a chat template adds tokens")
    ]


class TokensPerEvent(_Whole, frozen=True, kw_only=True):
    mean: float
    max: Annotated[int | None, Meta(description="null where nobody told what single events carried")]


class Tokens(_Whole, frozen=True, kw_only=True):
    """How the tokens of succeeded requests were counted."""

    sources: Annotated[dict[str, Count], Meta(description="requests by where their output tokens were counted")]
    event_sources: Annotated[
        dict[str, Count],
        Meta(
            description="requests by where the tokens of single events were counted: TOKEN_IDS in them, USAGE that "
            "comes with each, TEXT: nobody told, and each with new text counts as one; NONE: not streamed"
        ),
    ]
    disagreements: Disagreements
    tokens_per_event: Annotated[
        TokensPerEvent | None,
        Meta(description="output tokens by events that carried any; null unless streamed"),
    ]
    hidden_only: Annotated[
        Count | None,
        Meta(description="answers of hidden tokens only: reasoning, tool calls; null unless streamed"),
    ]


def tokens(records: Records, rows: Rows) -> Tokens:
    """Of the succeeded requests among `rows`, whenever they were due."""
    good = measures.succeeded(records, rows)
    streaming = records.context.streaming
    events = token_counts.per_event(records, rows) if streaming else None
    return Tokens(
        sources={source.name: int((records["token_source"][good] == source).sum()) for source in TokenSource},
        event_sources={source.name: int((records["event_source"][good] == source).sum()) for source in EventSource},
        disagreements=Disagreements(
            output_usage_token_ids=_disagreement(token_counts.usage_and_ids(records, rows)),
            output_usage_events=_disagreement(token_counts.reported_and_events(records, rows)),
            output_usage_wanted=_disagreement(token_counts.reported_and_wanted(records, rows))
            if token_counts.exact_length(records)
            else None,
            output_usage_text=_disagreement(token_counts.reported_and_text(records, rows)),
            input_usage_tokenizer=_disagreement(token_counts.prompt_and_tokenizer(records, rows)),
        ),
        tokens_per_event=None if events is None else TokensPerEvent(mean=events.mean, max=events.largest),
        hidden_only=int(measures.hidden_only(records, good).sum()) if streaming else None,
    )


def _disagreement(differences: Differences) -> Disagreement:
    known = len(differences) > 0
    low, middle, high = (
        (float(value) for value in np.quantile(differences, (0.05, 0.5, 0.95))) if known else (None,) * 3
    )
    return Disagreement(
        compared=len(differences),
        differing=int((differences != 0).sum()),
        largest_tokens=int(np.abs(differences).max(initial=0)),
        p5_tokens=low,
        median_tokens=middle,
        p95_tokens=high,
    )
