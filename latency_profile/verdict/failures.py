"""The remark on failures that are too few to fail the point."""

from collections.abc import Iterator

import numpy as np

from latency_profile import measures
from latency_profile.records import Status
from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.failure import failed
from latency_profile.verdict.kinds import Name, Remark

_NO_FAILURE = (Status.OK, Status.CANCELLED, Status.NOT_SENT)


def failures(known: Evidence) -> Iterator[Remark]:
    """By name and number, the commonest first; nothing where they are the verdict."""
    counts = measures.counts(known.records, known.measured)
    if not counts.failed or failed(known):
        return
    kinds, numbers = np.unique(known.records["status"][known.measured], return_counts=True)
    named = [
        (int(number), Status(kind).name)
        for kind, number in zip(kinds.tolist(), numbers.tolist(), strict=True)
        if kind not in _NO_FAILURE
    ]
    told = ", ".join(f"{number} × {name}" for number, name in sorted(named, key=lambda pair: -pair[0]))
    share = counts.failed / (counts.succeeded + counts.failed)
    yield Remark(name=Name.FAILURES, text=f"{share:.1%} of the requests failed: {told}.")
