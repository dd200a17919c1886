"""The results: what a point's records say, as JSON files with a schema."""

from latency_profile.results.files import (
    Outcome,
    exit_code,
    free_path,
    point_files,
    profile_file,
    records_name,
    slo_of,
    write,
    write_by,
    writing,
)
from latency_profile.results.point import point_result
from latency_profile.results.structure import PointResult, Profile

__all__ = [
    "Outcome",
    "PointResult",
    "Profile",
    "exit_code",
    "free_path",
    "point_files",
    "point_result",
    "profile_file",
    "records_name",
    "slo_of",
    "write",
    "write_by",
    "writing",
]
