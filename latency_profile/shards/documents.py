"""What shards write into the store for one another, beside their records: JSON, each document written once."""

import re
from collections.abc import Iterable

import msgspec

SHARD_RECORDS = re.compile(r"shard-(\d+)\.records\.npz")
_SPLIT = re.compile(r"(.*?)(?:round-(\d+)/)?([^/]*)")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """`shards/run.json`, by shard 0, before anything else."""

    shards: int
    nonce: str  # prompts and request ids of all shards have it, in the first round of each point


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """`shards/K.json`, of its second attempt `shards/K.2.json`: a pod is there."""

    shard: int
    host: str
    attempt: int
    unix_ns: int
    monotonic_ns: int


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """`point-N/round-R/round.json`, by shard 0 that came back too late to go on: all send the point again."""

    nonce: str  # a server may have the prompts of the round before in its cache


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """`point-N/cut-K.json`: a signal ended this shard, and its records are a part of what it had to send."""

    reason: str


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """`point-N/ready-K.json`: a shard has spelled its requests, and waits for the start."""

    card: Card
    unix_ns: int  # by its own clock, just before this was written
    agreement: dict[str, object]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """`point-N/start.json`, by shard 0. `refused`: nothing starts, and why."""

    start_unix_ns: int  # by shard 0's clock
    unix_ns: int  # the same clock, just before this was written
    seen_ns: dict[int, int]  # shards that were ready, and when that was seen
    agreement: dict[str, object]
    refused: str | None = None


def run_name() -> str:
    return "shards/run.json"


def card_name(shard: int, attempt: int) -> str:
    return f"shards/{shard}.json" if attempt == 1 else f"shards/{shard}.{attempt}.json"


def point_folder(point: int, number: int = 1) -> str:
    """Of a point's first round; of its second `point-N/round-2/`, and so on."""
    return f"point-{point}/" if number == 1 else f"{rounds_prefix(point)}{number}/"


def rounds_prefix(point: int) -> str:
    return f"point-{point}/round-"


def round_name(point: int, number: int) -> str:
    """Of a round from the second on."""
    return f"{point_folder(point, number)}round.json"


def ready_name(point: int, shard: int, number: int = 1) -> str:
    return f"{point_folder(point, number)}ready-{shard}.json"


def start_name(point: int, number: int = 1) -> str:
    return f"{point_folder(point, number)}start.json"


def cut_name(point: int, shard: int, number: int = 1) -> str:
    """Written before a shard's records where a signal ended it."""
    return f"{point_folder(point, number)}cut-{shard}.json"


def records_name(point: int, shard: int, number: int = 1) -> str:
    return f"{point_folder(point, number)}shard-{shard}.records.npz"


def merged_name(point: int) -> str:
    """Written when the point's results are judged and under way, of whichever round."""
    return f"{point_folder(point)}merged.json"


def latest_rounds(names: Iterable[str]) -> list[str]:
    """Without the records of rounds after which another one has records: these replace them."""
    split = [(name, *_SPLIT.fullmatch(name).groups()) for name in names]  # type: ignore[union-attr]
    last: dict[str, int] = {}
    for _, point, number, _ in split:
        last[point] = max(last.get(point, 1), int(number or 1))
    return [name for name, point, number, _ in split if int(number or 1) == last[point]]
