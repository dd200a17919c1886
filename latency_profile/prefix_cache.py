"""How much of its prompts the server had in its prefix cache, and how much it was meant to have. Pure."""

from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from latency_profile import measures, token_counts
from latency_profile.measures import Rows
from latency_profile.records import NONE, PointContext, Records
from latency_profile.workload.sharing import BLOCK, intended_hits

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class PrefixCache(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prompt tokens out of the server's prefix cache, over the whole point, its warm-up included."""

    source: Annotated[
        Literal["answers", "counters"] | None,
        Meta(
            description="answers: each answer's own count, of succeeded requests. counters: of the server's /metrics, "
            "read before and after the point, over all models and whoever else asked. null: the server does not say"
        ),
    ]
    queries_tokens: Annotated[Count | None, Meta(description="prompt tokens that were looked up")]
    hits_tokens: Annotated[Count | None, Meta(description="of them, found")]
    hit_rate: Annotated[Share | None, Meta(description="hits_tokens / queries_tokens; null without queries")]
    intended_hit_rate: Annotated[
        Share, Meta(description="of a --shared-prefix workload: whole blocks of it, less each first touch; else 0")
    ]
    unavoidable_hit_rate: Annotated[
        Share,
        Meta(
            description="what prompts share at most although nothing was meant to be shared: a chat template, in whole "
            "blocks, and where a server keeps single tokens the beginning of the unique words"
        ),
    ]


def shared_prefix(context: PointContext) -> tuple[int, int]:
    """Tokens of the prefix that prompts were meant to share, 0 for none, and the number of groups."""
    settings = context.settings
    return settings.get("shared_prefix") or 0, settings.get("shared_prefix_groups") or 1


def prefix_cache(records: Records, rows: Rows) -> PrefixCache | None:
    """What the server's prefix cache did for these requests; None where it says nothing and nothing was to be shared.

    Answers tell best: they are of these requests alone. Where some do not tell, the server's counters are taken; where
    there are none of those, an answer that does not tell had nothing out of the cache.
    """
    shared, _ = shared_prefix(records.context)
    good = measures.succeeded(records, rows)
    cached = records["cached_tokens"]
    told = good & (cached != NONE)
    counted = records.context.prefix_cache
    source: Literal["answers", "counters"] | None
    queries = hits = None
    if told.any() and (counted is None or (told == good).all()):
        source = "answers"
        queries, hits = int(_prompt_tokens(records)[good].sum()), int(cached[told].sum())
    elif counted is not None:
        source, queries, hits = "counters", round(counted["queries_tokens"]), round(counted["hits_tokens"])
    else:
        source = None
        if not shared:
            return None
    return PrefixCache(
        source=source,
        queries_tokens=queries,
        hits_tokens=hits,
        hit_rate=None if not queries or hits is None else min(hits / queries, 1.0),
        intended_hit_rate=_intended(records, rows),
        unavoidable_hit_rate=_unavoidable(records, rows),
    )


def _prompt_tokens(records: Records) -> NDArray[np.int64]:
    """Of each request, by the server where it says."""
    theirs = records["server_input_tokens"].astype(np.int64)
    return np.where(theirs == NONE, records["input_tokens"], theirs)


def _intended(records: Records, rows: Rows) -> float:
    context = records.context
    shared, groups = shared_prefix(context)
    sent = records["sent_ns"] != NONE
    tokens = int(_prompt_tokens(records)[sent & rows].sum())
    if not shared or not tokens:
        return 0.0
    prompts = context.first_prompt + records["index"].astype(np.int64)
    hits = np.zeros(len(records), dtype=np.int64)
    hits[sent] = intended_hits(
        prompts[sent],
        records["input_tokens"][sent],
        shared=shared,
        groups=groups,
        urls=records["url"][sent].astype(np.int64),
        untouched=context.first_sent,
        touched=0 if context.settings.get("reset_cache") else context.first_prompt,
    )
    return int(hits[rows].sum()) / tokens


def _unavoidable(records: Records, rows: Rows) -> float:
    """What a chat template adds, rounded up to whole blocks; and single tokens: those of the prefix that fill no block,
    and the first of the unique words, each of which is one of a few thousand.

    A template is the same for every prompt of a model: it is the least that the server counts beyond ours. What grows
    with a prompt is another tokenizer's doing.
    """
    good = measures.succeeded(records, rows)
    prompts = _prompt_tokens(records)[good]
    total = int(prompts.sum())
    if not total:
        return 0.0
    template = np.full(len(records.context.models), total)
    told, model = good & (records["server_input_tokens"] != NONE), records["model"]
    beyond = token_counts.prompt_and_tokenizer(records, told)
    np.minimum.at(template, model[told], np.maximum(beyond, 0))
    whole = np.where(template < total, -(-template // BLOCK) * BLOCK, 0)[model[good]]  # total: none of it tells
    shared, _ = shared_prefix(records.context)
    workload = records.context.provenance.get("workload") or {}
    single = shared % BLOCK + max((workload.get("prefix_tokens") or 0) - shared, 0)
    return min(int(np.minimum(whole + single, prompts).sum()) / total, 1.0)
