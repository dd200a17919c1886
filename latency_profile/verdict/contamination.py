"""CONTAMINATED: the server had less to do than it was meant to have."""

from latency_profile.verdict.evidence import Evidence


def contaminated(known: Evidence) -> list[str]:
    del known
    return []
