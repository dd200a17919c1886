"""The structure of a comparison's file. Its JSON Schema in the package is made from it (`results.schema`)."""

import enum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Spread = Annotated[float, Meta(ge=0)]
Nights = Annotated[int, Meta(ge=1)]
Better = Literal["higher", "lower"]


class Word(enum.Enum):
    """What may be said of a measure."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class Shift(_Whole, frozen=True, kw_only=True):
    """The geometric mean of the last nights over that of the base, minus 1: 0.08 is 8 % more. The interval is Student's
    t on logarithms, from how the base's nights differ."""

    nights: Annotated[int, Meta(ge=1, description="how many of the last nights, tonight's included")]
    shift: float
    low: float
    high: float
    confidence: Annotated[Share, Meta(description="of this interval; those of all windows hold together in 93 of 100")]
    p: Annotated[Share, Meta(description="two-sided, of this window alone")]


class MeasureResult(_Whole, frozen=True, kw_only=True):
    """One measure, at one load or over the whole profile."""

    name: str
    load: Annotated[str | None, Meta(description="null: of the whole profile")]
    unit: str
    better: Better
    word: Word
    reason: Annotated[str, Meta(description="one sentence, with the figures")]
    more_nights: Annotated[
        Nights | None,
        Meta(
            description="how many more nights would settle it, should they go on as these; null where it is settled, "
            "and where no number of nights would",
        ),
    ]
    tonight: float | None
    base_nights: Annotated[int, Meta(ge=0)]
    base_mean: Annotated[float | None, Meta(description="geometric")]
    base_spread: Annotated[
        Spread | None,
        Meta(description="standard deviation of the base's logarithms: about the relative noise of a night"),
    ]
    shifts: Annotated[list[Shift], Meta(description="over the last nights, fewest first; empty without enough nights")]
    decided_by: Annotated[Nights | None, Meta(description="the shift over so many nights gave the word")]
    p_adjusted: Annotated[
        Share | None,
        Meta(description="over the windows, and for all but the primary measure over all of these (Holm)"),
    ]


class NightNamed(_Whole, frozen=True, kw_only=True):
    """A night, by its profile."""

    date: Annotated[str, Meta(description="YYYYmmdd-HHMMSS, UTC")]
    file: str


class LeftOut(_Whole, frozen=True, kw_only=True):
    """An earlier profile that is not used."""

    date: str
    file: str
    reason: str


class Comparison(_Whole, frozen=True, kw_only=True):
    """Tonight's profile against earlier nights."""

    schema_version: Annotated[str, Meta(pattern=r"^1\.\d+$")]
    date: Annotated[str, Meta(description="of tonight's profile, YYYYmmdd-HHMMSS, UTC")]
    file: Annotated[str, Meta(description="tonight's profile")]
    fingerprint: Annotated[str, Meta(description="that of all nights used")]
    word: Annotated[Word, Meta(description="of the primary measure, which alone decides the exit code")]
    reason: str
    more_nights: Nights | None
    exit_code: Annotated[int, Meta(ge=0, description="5 for regressed, else 0")]
    margin: Annotated[Share, Meta(description="smaller shifts than this are equivalence")]
    base: Annotated[list[NightNamed], Meta(description="the nights that stand for how it was")]
    recent: Annotated[list[NightNamed], Meta(description="the nights since, tonight's last")]
    left_out: list[LeftOut]
    primary: MeasureResult | None
    others: Annotated[list[MeasureResult], Meta(description="reported, and without a say in the exit code")]
