"""What shards write into the store for one another, beside their records: JSON, each document written once."""

import re

import msgspec

SHARD_RECORDS = re.compile(r"shard-(\d+)\.records\.npz")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """`shards/run.json`, by shard 0, before anything else."""

    shards: int
    nonce: str  # prompts and request ids of all shards have it


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """`shards/K.json`, of its second attempt `shards/K.2.json`: a pod is there."""

    shard: int
    host: str
    attempt: int
    unix_ns: int
    monotonic_ns: int


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


def ready_name(point: int, shard: int) -> str:
    return f"{point_folder(point)}ready-{shard}.json"


def start_name(point: int) -> str:
    return f"{point_folder(point)}start.json"


def records_name(point: int, shard: int) -> str:
    return f"{point_folder(point)}shard-{shard}.records.npz"


def merged_name(point: int) -> str:
    """Written when the point's results are judged and under way."""
    return f"{point_folder(point)}merged.json"


def point_folder(point: int) -> str:
    return f"point-{point}/"
