"""What is known of the shards of a point: in each shard's own records, and in those that are merged from them."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Bounds = tuple[float, float]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One shard of one point, as its own records tell of it. Request k of the plan belongs to shard k mod `shards`."""

    index: int
    shards: int
    whole: int  # requests of the whole plan; of a closed loop: its concurrency
    workers: int  # sender processes of this shard
    host: str
    attempt: int = 1  # 2: its pod had been restarted once when it measured this point
    late_s: float = 0.0  # how long after the point's start it was able to begin
    clock_s: Bounds | None = None  # shard 0's clock minus this one's, less what was corrected; None: not known
    left_out: int = 0  # of `whole`: what had been due before it began
    cut_short: str | None = None  # SIGINT, SIGTERM
    client: dict[str, Any] = {}  # in merged records: the shard's own counts, as PointContext.client has them

    @property
    def share(self) -> int:
        """Of `whole`: what is this shard's."""
        return share(self.whole, self.index, self.shards)


def share(number: int, shard: int, shards: int) -> int:
    """The part of `number` things that one of `shards` equal shards has."""
    return len(range(shard, number, shards))


def step(parts: Sequence[Part], worker: int) -> int | None:
    """Into how many equal parts the whole is cut of which sender process `worker` has one; None without shards. In
    records, worker = index of a request mod (shards × sender processes of its shard)."""
    return next((part.shards * part.workers for part in parts if worker % part.shards == part.index), None)


class Shards(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shards of one plan, over pods. Keys of dictionaries are the shards' indices."""

    planned: Annotated[int, Meta(ge=1, description="shards that the plan was cut into")]
    present: Annotated[list[int], Meta(description="those whose records are here")]
    missing: Annotated[list[int], Meta(description="those whose records are not: late, lost, or never there")]
    missing_share: Annotated[
        float, Meta(ge=0, le=1, description="of the plan's requests, or of a closed loop's clients: of missing shards")
    ]
    late: Annotated[dict[int, float], Meta(description="s after the point's start at which these shards began")]
    restarted: Annotated[dict[int, int], Meta(description="the attempt, from 2 on, that these shards' records are of")]
    cut_short: Annotated[dict[int, str], Meta(description="the signal that ended these shards before the others")]
    not_sent: Annotated[
        dict[int, int],
        Meta(description="requests of the plan (closed loop: clients) that these shards had and did not send"),
    ]
    not_sent_share: Annotated[float, Meta(ge=0, le=1, description="of the plan: all not_sent together")]
    clock_error_s: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description="by how much a shard's start may differ from shard 0's, as clocks are known: from documents "
            "that both wrote and read. It moves no latency. null: not known of every shard",
        ),
    ]
    hosts: Annotated[list[str], Meta(description="where the present shards ran")]
