"""The structure of `latency-profile cost`'s file. Its JSON Schema in the package is made from it (`results.schema`)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from latency_profile.cost.per_token import Cost, Utilization
from latency_profile.cost.split import Estimate
from latency_profile.cost.work import Work

REPORT_VERSION = "1.0"

Spread = Annotated[float, Meta(ge=0)]
Condition = Annotated[float, Meta(ge=1)]


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class LeftOut(_Whole, frozen=True, kw_only=True):
    """A point that is not in the regression."""

    file: str
    reason: str


class Regression(_Whole, frozen=True, kw_only=True):
    """Machine time regressed on prefill tokens, prompts, decode and context over the points (see `cost.regression`)."""

    refused: Annotated[str | None, Meta(description="why there is none; null: there is one")]
    points: Annotated[list[str], Meta(description="files of the points that it has, or would have had")]
    left_out: list[LeftOut]
    condition_number: Annotated[Condition | None, Meta(description="of the scaled design; above 30 it is refused")]
    decode: Annotated[
        Literal["decode_tokens", "decode_steps"] | None,
        Meta(description="what decode is counted in: steps where the points' batches differ"),
    ]
    prefill_s_per_million_tokens: Estimate | None
    prefill_s_per_million_prompts: Annotated[Estimate | None, Meta(description="beside its tokens, for each prompt")]
    decode_s_per_million: Annotated[Estimate | None, Meta(description="tokens or steps, as `decode` says")]
    context_s_per_million_tokens: Annotated[Estimate | None, Meta(description="for each token of context read")]
    residual_sd: Annotated[Spread | None, Meta(description="relative, of a point's busy time")]


class PointCost(_Whole, frozen=True, kw_only=True):
    """One point."""

    file: str
    load: str
    input_tokens_mean: Annotated[float | None, Meta(description="a request; null where none succeeded")]
    output_tokens_mean: float | None
    verdict: str
    barred: Annotated[str | None, Meta(description="why its numbers must not be used; null: they may")]
    total_tokens_per_s: float | None
    cost: Cost
    work: Work | None


class AtCapacity(_Whole, frozen=True, kw_only=True):
    """The point with most tokens/s of its workload, of those that may be used, do not saturate, and are no burst at an
    unlimited rate."""

    file: str
    reached: Annotated[
        bool,
        Meta(description="whether another load of the workload saturates; false: the server may carry more, for less"),
    ]


class Disagreement(_Whole, frozen=True, kw_only=True):
    """Methods whose costs of one kind of token, at one point, are further apart than their intervals reach."""

    file: str
    tokens: Literal["input", "output"]
    text: Annotated[str, Meta(description="one sentence, with the figures")]


class CostReport(_Whole, frozen=True, kw_only=True):
    """What tokens cost over some points of one server."""

    schema_version: Annotated[str, Meta(pattern=r"^1\.\d+$")]
    utilization: Annotated[
        Utilization | None, Meta(description="as asked for; null: each point's own, in its `cost.with_idle`")
    ]
    points: list[PointCost]
    at_capacity: Annotated[
        list[AtCapacity], Meta(description="one of each workload (points that differ in their load only) that has one")
    ]
    regression: Regression
    disagreements: list[Disagreement]
