"""The structure of an offline benchmark's file. Its JSON Schema in the package is made from it (`results.schema`)."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(ge=0)]


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class Estimate(_Whole, frozen=True, kw_only=True):
    """A figure from the runs of a cell, with its 95 % interval; without one where there are fewer than three runs."""

    value: float
    low: float | None
    high: float | None


class Spread(_Whole, frozen=True, kw_only=True):
    """Times of single runs or requests, s. Requests of one run are not independent: their intervals come from how much
    the runs differ."""

    n: Count
    p50_s: Positive
    p50_low_s: Annotated[float | None, Meta(description="95 % interval by order statistics; null: too few values")]
    p50_high_s: float | None
    p95_s: Positive
    p95_low_s: float | None
    p95_high_s: float | None
    max_s: Positive


class Phase(_Whole, frozen=True, kw_only=True):
    """A part of the machine's time for one batch."""

    seconds: Estimate
    tokens: Annotated[Count, Meta(description="of the prompts; or of the answers, after each one's first")]
    tokens_per_s: Estimate


class TokenCost(_Whole, frozen=True, kw_only=True):
    """USD per million tokens."""

    input: Annotated[
        float | None,
        Meta(
            description="price of the prefill's time over the prompts' tokens; null: not measured, or longer than all"
        ),
    ]
    output: Annotated[
        float | None, Meta(description="price of the rest of the time over the answers' tokens; likewise")
    ]
    total: Annotated[float, Meta(description="price of all of the batch's time over all tokens")]


class CellResult(_Whole, frozen=True, kw_only=True):
    """One cell: a batch of requests that the engine was given at once."""

    label: str
    size: Annotated[float | None, Meta(description="batch size, length or count; null: it is none of them")]
    requests: Count
    input_tokens: Annotated[Count, Meta(description="of all prompts of the batch")]
    output_tokens: Count
    runs: Annotated[Count, Meta(description="that were timed, without warm-ups")]
    trouble: Annotated[str | None, Meta(description="why the figures must not be used, or are of fewer runs")]
    full_runs_s: Annotated[list[Positive], Meta(description="batch generation time of each, in the order of the runs")]
    prefill_runs_s: Annotated[list[Positive], Meta(description="of those with one output token a request")]
    batch_generation_time_s: Annotated[
        Estimate | None,
        Meta(description="from the moment the batch is given until the last token of its last request; mean over runs"),
    ]
    batch_latency: Annotated[Spread | None, Meta(description="the same, run by run")]
    request_latency: Annotated[Spread | None, Meta(description="until each request's own last token; all runs")]
    ttft: Annotated[Spread | None, Meta(description="until each request's first token; null: the engine does not tell")]
    requests_per_s: Estimate | None
    output_tokens_per_s: Estimate | None
    total_tokens_per_s: Estimate | None
    prefill: Annotated[Phase | None, Meta(description="runs of the same prompts with one output token")]
    generation: Annotated[Phase | None, Meta(description="full runs less prefill runs")]
    usd_per_million_tokens: TokenCost | None
    usd_per_million_tokens_with_idle: Annotated[
        TokenCost | None, Meta(description="the same, each / utilization; null without --utilization")
    ]


class Study(_Whole, frozen=True, kw_only=True):
    """One study: cells that differ in one thing."""

    name: Literal["batch-size", "sequence-length", "request-count", "shapes", "dataset"]
    max_num_batched_tokens: Count
    cells: list[CellResult]
    best: Annotated[str | None, Meta(description="label of the cell with the highest output throughput")]
    knee: Annotated[
        str | None,
        Meta(description="label of the first cell from which throughput grows slower than the square root of the size"),
    ]
    finding: Annotated[list[str], Meta(description="sentences, each carried by the figures")]


class EngineSaid(_Whole, frozen=True, kw_only=True):
    """The engine, in its own words."""

    engine: str
    version: str
    model: str
    device: str
    dtype: str | None
    vocabulary: Count
    max_model_len: Count
    requests_at_once: Count | None
    continuous_batching: bool
    load_s: Annotated[Positive, Meta(description="loading the model, in no other figure")]


class OfflineResult(_Whole, frozen=True, kw_only=True):
    """The whole file."""

    schema_version: Literal[1] = 1
    date: str
    engines: Annotated[list[EngineSaid], Meta(description="one for each time that it was started for other settings")]
    settings: Annotated[dict[str, Any], Meta(description="every flag, as it was used")]
    machine_cost_per_hour_usd: Annotated[
        Positive | None,
        Meta(description="price of all machines: --gpu-price times --tensor-parallel-size; null: not told"),
    ]
    studies: list[Study]
    cut_short: Annotated[str | None, Meta(description="SIGINT or SIGTERM; null: it ran to its end")]
    provenance: dict[str, Any]
