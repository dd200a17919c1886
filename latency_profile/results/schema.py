"""The JSON Schemas of the results' files, made from their structure.

`python -m latency_profile.results.schema` writes them into the package anew.
"""

from pathlib import Path
from typing import Any

import msgspec

from latency_profile.compare.structure import Comparison
from latency_profile.cost.structure import CostReport
from latency_profile.datasets.structure import Estimate
from latency_profile.launch.structure import EngineRun
from latency_profile.offline.structure import OfflineResult
from latency_profile.replicas.structure import ReplicaPlan
from latency_profile.results.structure import STREAMED_KEYS, PointResult, Profile

Kind = (
    type[PointResult]
    | type[Profile]
    | type[Comparison]
    | type[CostReport]
    | type[Estimate]
    | type[OfflineResult]
    | type[EngineRun]
    | type[ReplicaPlan]
)

SCHEMA_FILES: dict[str, Kind] = {
    "point.schema.json": PointResult,
    "profile.schema.json": Profile,
    "comparison.schema.json": Comparison,
    "cost.schema.json": CostReport,
    "estimate.schema.json": Estimate,
    "offline.schema.json": OfflineResult,
    "engine_run.schema.json": EngineRun,
    "replicas.schema.json": ReplicaPlan,
}

# What a structure cannot say: the keys of streamed answers are all there, or none is.
_STREAMING_RULE = {
    "if": {"properties": {"load": {"properties": {"streaming": {"const": True}}}}},
    "then": {"properties": {"metrics": {"required": STREAMED_KEYS}}},
    "else": {"properties": {"metrics": {"properties": dict.fromkeys(STREAMED_KEYS, False)}}},
}


def json_schema(kind: Kind) -> bytes:
    """The JSON Schema (2020-12) of a file, as it stands in the package."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **msgspec.json.schema(kind),
    }
    point = schema["$defs"].get(PointResult.__name__)
    if point is not None:
        point.update(_STREAMING_RULE)
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


def main() -> None:
    """Writes the schema files into the package."""
    package = Path(__file__).parent.parent
    for name, kind in SCHEMA_FILES.items():
        (package / name).write_bytes(json_schema(kind))


if __name__ == "__main__":
    main()
