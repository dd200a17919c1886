"""From the evidence to the verdict: asks each rule, in order of precedence."""

from collections.abc import Callable

from latency_profile.records import Records
from latency_profile.server_view.structure import Reconciliation
from latency_profile.verdict.calibrated import calibration_reasons
from latency_profile.verdict.client import client_limited
from latency_profile.verdict.contamination import contaminated
from latency_profile.verdict.evidence import Evidence, evidence
from latency_profile.verdict.failure import failed
from latency_profile.verdict.kinds import UNUSABLE, Kind, Verdict
from latency_profile.verdict.remarks import remarks
from latency_profile.verdict.samples import too_few
from latency_profile.verdict.saturation import saturated
from latency_profile.verdict.shards import shards_reasons
from latency_profile.verdict.traffic import other_traffic

RULES: tuple[tuple[Kind, Callable[[Evidence], list[str]]], ...] = (
    (Kind.FAILED, failed),
    (Kind.CLIENT_LIMITED, shards_reasons),
    (Kind.CLIENT_LIMITED, client_limited),
    (Kind.CLIENT_LIMITED, calibration_reasons),
    (Kind.CONTAMINATED, contaminated),
    (Kind.CONTAMINATED, other_traffic),
    (Kind.SATURATED, saturated),
    (Kind.TOO_FEW_SAMPLES, too_few),
)


def judge(records: Records, model: str | None = None, both: Reconciliation | None = None) -> Verdict:
    """The verdict on a point, or on its requests to one model. both: its `reconciled`, where the server was read."""
    known = evidence(records, model, both)
    found: list[tuple[Kind, str]] = []
    for kind, rule in RULES:
        if kind is Kind.TOO_FEW_SAMPLES and found and found[0][0] in UNUSABLE:
            break  # how wide the intervals of numbers are that must not be used is no reason
        found.extend((kind, reason) for reason in rule(known))
    verdict = found[0][0] if found else Kind.VALID
    return Verdict(
        verdict=verdict,
        reasons=[reason if kind is verdict else f"{kind.value}: {reason}" for kind, reason in found],
        remarks=remarks(known),
    )
