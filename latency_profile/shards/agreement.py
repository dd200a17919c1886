"""What all shards of one run must have in common, or they would slice different plans. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from latency_profile import __version__
from latency_profile.errors import UsageError
from latency_profile.fingerprint import COMPARED
from latency_profile.points import PlannedPoint
from latency_profile.settings import Settings

_ALSO = ("backend", "endpoint", "seed", "num_prompts", "concurrencies", "sleep_seconds", "shards")
_WORKLOAD = ("kind", "dataset_sha256", "tokenizer_sha256")
_DIGEST_BYTES = 16
_ABSENT = "nothing"


def plan_hash(points: Sequence[PlannedPoint]) -> str:
    """BLAKE2b of all due times, point by point; of a closed loop its numbers of clients and prompts."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for point in points:
        digest.update(msgspec.json.encode([point.number, point.concurrency, point.first_prompt, point.prompts]))
        if point.due_ns is not None:
            digest.update(point.due_ns.tobytes())
    return digest.hexdigest()


def agreement(
    settings: Settings,
    points: Sequence[PlannedPoint],
    models: Sequence[str],
    urls: Sequence[str],
    workload: Mapping[str, Any],
) -> dict[str, Any]:
    """By name, as plain JSON. `workload` is Workload.description."""
    of = settings.as_dict()
    found = {
        "version": __version__,
        "plan": plan_hash(points),
        "rates": [point.label for point in points],
        "models": list(models),
        "urls": list(urls),
        **{name: of[name] for name in (*_ALSO, *COMPARED)},
        **{name: workload.get(name) for name in _WORKLOAD},
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    return plain


def check_same(shard: int, this: Mapping[str, Any], other: int, that: Mapping[str, Any]) -> None:
    """Raises UsageError, one line that names what differs."""
    names = [name for name in dict.fromkeys([*this, *that]) if this.get(name) != that.get(name)]
    if names:
        differences = "; ".join(f"{name}: {_shown(this, name)} and {_shown(that, name)}" for name in names)
        raise UsageError(f"--shards: shards {shard} and {other} are not of one plan: {differences}")


def check_points(settings: Settings, points: Sequence[PlannedPoint]) -> None:
    """Raises UsageError where a point has too few requests for every shard to have one."""
    fewest = min(point.prompts for point in points)
    if settings.shards > max(fewest, 1):
        raise UsageError(
            f"{settings.spelled('shards')}: got {settings.shards}, takes at most the {fewest} requests of the point "
            f"that has the fewest"
        )


def _shown(of: Mapping[str, Any], name: str) -> str:
    return msgspec.json.encode(of[name]).decode() if name in of else _ABSENT
