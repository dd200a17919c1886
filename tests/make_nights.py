"""Synthetic nights: profiles' files, made from a real profile's structure, with the numbers that a test gives."""

import copy
import json
from pathlib import Path
from typing import Any

from latency_profile import results
from latency_profile.compare.nights import Night, read
from latency_profile.results import Outcome, point_result
from tests.make_records import uniform_records

LATENCIES = ("ttft", "tpot", "e2e")


def _template() -> dict[str, Any]:
    records = uniform_records(300, settings={"file_prefix": "nightly"}, provenance={"workload": {}})
    _, data = results.profile_file([Outcome(records.context, point_result(records), ["point.json"])])
    loaded: dict[str, Any] = json.loads(data)
    loaded["points"][0]["verdict"] = {"verdict": "VALID", "reasons": [], "remarks": []}
    return loaded


TEMPLATE = _template()


def make_point(rate: float | None = 10.0, tokens: float = 1000.0, e2e: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A point with `tokens` output tokens/s and completed requests in proportion, and all latencies `e2e` s."""
    point = copy.deepcopy(TEMPLATE["points"][0])
    point |= {"request_rate": rate, "completed_requests_per_s": tokens / 100, "output_tokens_per_s": tokens}
    for name in LATENCIES:
        for level in ("p50", "p99"):
            point[name][level] |= {"value_s": e2e, "resolved": True}
    if "verdict" in changes:
        changes["verdict"] = {"verdict": changes["verdict"], "reasons": [], "remarks": []}
    return point | changes


def make_date(night: int) -> str:
    """Of night 0 and so on, four weeks a month."""
    return f"2026{1 + night // 28:02d}{1 + night % 28:02d}-013000"


def make_profile(night: int, *points: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Of night 0 and so on. changes: to the profile; `of`: to what its fingerprint is made of."""
    profile = copy.deepcopy(TEMPLATE)
    of = changes.pop("of", {})
    if of:
        profile["fingerprint"] = {"sha256": "0123456789abcdef", "of": profile["fingerprint"]["of"] | of}
    return profile | {"date": make_date(night), "points": list(points)} | changes


def make_night(night: int, *points: dict[str, Any], **changes: Any) -> Night:
    profile = make_profile(night, *points, **changes)
    return read(json.dumps(profile).encode(), profile_name(profile))


def profile_name(profile: dict[str, Any]) -> str:
    return f"nightly-vllm-profile-{profile['date']}.json"


def write_profile(folder: Path, profile: dict[str, Any]) -> Path:
    path = folder / profile_name(profile)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(profile))
    return path
