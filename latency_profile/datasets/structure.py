"""The structure of an estimate's file. Lengths are in tokens."""

from typing import Annotated

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Coefficient = Annotated[float, Meta(ge=-1, le=1)]
Tokens = Annotated[float, Meta(ge=0)]


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class Rows(_Whole, frozen=True, kw_only=True):
    """What became of the file's rows."""

    rows: Count
    not_unicode: Count
    no_prompt: Count
    no_answer: Annotated[Count, Meta(description="in a set of answers; a missing output length leaves no row out")]
    duplicate_prompts: Annotated[Count, Meta(description="rows whose prompt came before; used like the others")]
    used: Annotated[Count, Meta(description="rows whose lengths were counted")]
    too_short: Annotated[
        Count, Meta(description="of those used: prompt or answer so short that a profile leaves the conversation out")
    ]
    sample: Annotated[int | None, Meta(description="so many were asked for, at random; null: all")]
    seed: Annotated[int | None, Meta(description="of the sample")]


class Normal(_Whole, frozen=True, kw_only=True):
    """A normal distribution of the same mean and standard deviation, rounded to whole tokens, beside the data."""

    share_below_1: Annotated[Share, Meta(description="of its draws below one token: lengths that no request can have")]
    ks_distance: Annotated[
        Share, Meta(description="Kolmogorov-Smirnov: the largest difference of the two distribution functions")
    ]
    p99: Annotated[float, Meta(description="its 99th percentile, to be held against that of the data")]


class LengthsFound(_Whole, frozen=True, kw_only=True):
    """Token lengths of the rows used."""

    n: Annotated[int, Meta(ge=1)]
    mean: Tokens
    mean_low: Annotated[
        Tokens | None, Meta(description="95 % interval, the rows taken as independent draws; null under 3 rows")
    ]
    mean_high: Tokens | None
    sd: Annotated[Tokens | None, Meta(description="of a sample (n - 1); null for one row")]
    min: Tokens
    p50: Tokens
    p90: Tokens
    p99: Tokens
    max: Tokens
    normal: Annotated[Normal | None, Meta(description="null where the lengths do not differ")]
    histogram: Annotated[list[tuple[int, int]], Meta(description="(length, rows of it) by length, the whole of it")]


class Correlation(_Whole, frozen=True, kw_only=True):
    """Of input and output length, over the rows that have both. null where one of them does not differ."""

    n: Count
    pearson: Coefficient | None
    spearman: Annotated[Coefficient | None, Meta(description="of the ranks, which long tails do not bend")]


class Law(_Whole, frozen=True, kw_only=True):
    """Flags of synthetic lengths: a normal distribution cut off at least and greatest length (drawn again beyond)."""

    flags: list[str]
    mean: Annotated[Tokens, Meta(description="of the cut-off distribution")]
    sd: Tokens


class Estimate(_Whole, frozen=True, kw_only=True):
    """Lengths of a data set, by one tokenizer."""

    schema_version: Annotated[str, Meta(pattern=r"^1\.\d+$")]
    dataset: Annotated[str, Meta(description="the file's name")]
    dataset_sha256: str
    form: str
    prompt_columns: list[str]
    answer_column: str | None
    tokenizer: str
    tokenizer_sha256: str
    rows: Rows
    input: Annotated[LengthsFound, Meta(description="with the special tokens around a prompt, as in a profile")]
    output: Annotated[LengthsFound | None, Meta(description="null where the set has neither answers nor lengths")]
    correlation: Correlation | None
    synthetic_input: Annotated[Law | None, Meta(description="null where no such law has the mean of the data")]
    synthetic_output: Law | None
    dataset_flags: Annotated[
        list[str], Meta(description="limits of a profile for which none of these rows is too long")
    ]
