"""What one should know of a point although it does not change its verdict."""

from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.kinds import Remark


def remarks(known: Evidence) -> list[Remark]:
    """In the order in which they matter."""
    del known
    return []
