"""What goes into the statistics and what comes out: structures and constants."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

CONFIDENCE = 0.95
NS_PER_S = 1e9
NS_PER_MS = 1e6
CHUNK = 1 << 20  # values at a time, where a pass over a large array needs room


class Summary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seven numbers about a sample, in the unit of the field that holds them; all null where the sample is empty."""

    mean: float | None
    median: float | None
    sd: Annotated[float | None, Meta(description="of the population")]
    min: float | None
    max: float | None
    p90: Annotated[float | None, Meta(description="interpolated linearly between order statistics")]
    p99: Annotated[float | None, Meta(description="interpolated linearly between order statistics")]


NOTHING = Summary(mean=None, median=None, sd=None, min=None, max=None, p90=None, p99=None)


class Percentile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A percentile and how far it can be trusted."""

    value_s: Annotated[
        float | None,
        Meta(
            description="the sample's percentile, unfinished requests taken to end as others did that had waited as "
            "long (Kaplan-Meier); only a lower bound where it falls beyond all finished ones"
        ),
    ]
    low_s: Annotated[float | None, Meta(description="lower end of the 95 % interval; null: the sample gives none")]
    high_s: Annotated[float | None, Meta(description="upper end of the 95 % interval; null: the sample gives none")]
    resolved: Annotated[bool, Meta(description="whether the sample bounds this percentile from both sides")]
    effective_n: Annotated[
        float, Meta(ge=0, description="how many independent values tell as much about it as these did")
    ]


class Distribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a latency: mean, sd, min, max of the finished values; percentiles over unfinished ones too."""

    n: Annotated[int, Meta(ge=0, description="finished values")]
    unfinished: Annotated[
        int,
        Meta(
            ge=0,
            description="requests still waiting at the stop. They widen the intervals: they may take any time more",
        ),
    ]
    mean_s: float | None
    mean_low_s: Annotated[
        float | None,
        Meta(
            description="lower end of the mean's 95 % interval; null below three requests. Of all requests: unfinished "
            "ones count with what they had waited, so that it may lie above mean_s, which leaves them out"
        ),
    ]
    mean_high_s: Annotated[
        float | None, Meta(description="upper end; null too where there are unfinished ones, which bound no mean above")
    ]
    mean_effective_n: Annotated[
        float, Meta(ge=0, description="how many independent values tell as much about the mean as these did")
    ]
    sd_s: float | None
    min_s: float | None
    max_s: float | None
    p50: Percentile
    p90: Percentile
    p95: Percentile
    p99: Percentile


@dataclass(frozen=True, slots=True)
class Sample:
    """Values in ns, request after request, shape (values,); requests in order of arrival unless `order` is given."""

    values: NDArray[Any]
    unfinished: NDArray[np.bool_] | None = None  # (values,): this value is only what had passed at the stop
    per_request: NDArray[np.int64] | None = None  # (requests,): how many values each gave; None: one each
    order: NDArray[np.intp] | None = None  # (requests,): puts them in order of arrival

    def arrived(self, per_request: NDArray[np.float64]) -> NDArray[np.float64]:
        """One number a request, shape (requests,), put in order of arrival."""
        return per_request if self.order is None else per_request[self.order]
