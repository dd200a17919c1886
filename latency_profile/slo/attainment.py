"""Which requests kept one objective's limit, in the form in which a share and its memory are read."""

from dataclasses import dataclass, replace

import numpy as np

from latency_profile import measures
from latency_profile.goodput import judged
from latency_profile.measures import Rows
from latency_profile.records import Records
from latency_profile.slo.grammar import ERRORS, Objective
from latency_profile.statistics import NS_PER_MS, Sample

KEPT = 0  # in `misses`; 1 is a miss


@dataclass(frozen=True, slots=True)
class Counted:
    """The values that an objective is about: requests, or gaps."""

    misses: Sample  # of what is decided: KEPT or 1 each, request after request
    open: int  # values of which one cannot know
    failed: int  # requests

    @property
    def kept(self) -> int:
        return int(np.count_nonzero(self.misses.values == KEPT))

    @property
    def decided(self) -> int:
        return len(self.misses.values)


def counted(records: Records, rows: Rows, objective: Objective, gaps: Sample | None) -> Counted:
    """Of the requests `rows`. gaps: theirs (`measures.gaps`), None unless streamed."""
    lost = rows & ~measures.succeeded(records, rows) & ~measures.waiting(records)
    failed = int(lost.sum())
    if objective.metric == ERRORS:
        return _of_requests(records, rows & ~lost & ~measures.waiting(records), lost, rows)
    assert objective.limit_ms is not None
    if objective.metric == "itl":
        assert gaps is not None
        return replace(_of_gaps(records, rows & ~lost, lost, gaps, objective.limit_ms), failed=failed)
    kept, broken = judged(records, {objective.metric: objective.limit_ms})
    return replace(_of_requests(records, rows & kept, rows & broken, rows), failed=failed)


def _of_requests(records: Records, kept: Rows, broken: Rows, rows: Rows) -> Counted:
    decided = measures.in_order(records, kept | broken)
    misses = Sample(broken[decided].astype(np.int8))
    return Counted(misses, open=int(rows.sum()) - len(decided), failed=int(broken.sum()))


def _of_gaps(records: Records, seen: Rows, lost: Rows, gaps: Sample, limit_ms: float) -> Counted:
    """Gaps that an unfinished request would have had are in neither number, as in the results.

    A failed request counts as as many gaps as the others have on average, all of them misses: so the share of failures
    counts here as it does in all other objectives.
    """
    assert gaps.per_request is not None
    misses = (gaps.values > limit_ms * NS_PER_MS).astype(np.int8)
    failed = int(lost.sum())
    if not failed:
        return Counted(replace(gaps, values=misses), open=0, failed=0)
    each = max(1, round(float(gaps.per_request.mean()))) if len(gaps.per_request) else 1
    arrivals = measures.arrival_ns(records)
    return Counted(
        Sample(
            np.concatenate((misses, np.ones(failed * each, dtype=np.int8))),
            per_request=np.concatenate((gaps.per_request, np.full(failed, each, dtype=np.int64))),
            order=np.argsort(np.concatenate((arrivals[seen], arrivals[lost])), kind="stable"),
        ),
        open=0,
        failed=failed,
    )
