"""What the points of a profile say of the objectives together: up to which of the measured loads they are kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from latency_profile.slo import words
from latency_profile.slo.structure import JudgedLoad, Outcome, ProfileSlo, Slo

MOST_NAMED = 2  # objectives of a point, in the sentence


@dataclass(frozen=True, slots=True)
class PointSlo:
    """A point's load and what it says of the objectives."""

    request_rate: float | None
    concurrency: int | None
    slo: Slo

    @property
    def load(self) -> float | None:
        """Higher for a higher load; None for a burst, which is none."""
        return self.request_rate if self.concurrency is None else float(self.concurrency)

    @property
    def kept(self) -> bool:
        return self.slo.outcome is Outcome.KEPT

    @property
    def told(self) -> JudgedLoad:
        return JudgedLoad(request_rate=self.request_rate, concurrency=self.concurrency, outcome=self.slo.outcome)

    @property
    def why(self) -> str:
        """What keeps it from keeping them all."""
        if self.slo.outcome is None:
            return self.slo.reason
        wrong = [each for each in self.slo.objectives if each.outcome is self.slo.outcome]
        told = " and ".join(words.short_text(each) for each in wrong[:MOST_NAMED])
        return told if len(wrong) <= MOST_NAMED else f"{told}, and {len(wrong) - MOST_NAMED} more"


def profile_slo(points: Sequence[PointSlo]) -> ProfileSlo | None:
    """None without objectives."""
    if not points:
        return None
    levels = sorted((point for point in points if point.load is not None), key=_load)
    kept = [point for point in levels if point.kept]
    highest = kept[-1] if kept else None
    above = [point for point in levels if highest is None or _load(point) > _load(highest)]
    following = above[0] if above else None
    return ProfileSlo(
        objectives=[objective.name for objective in points[0].slo.objectives],
        highest_kept=None if highest is None else highest.told,
        next_load=None if following is None else following.told,
        text=_sentence(levels, highest, following) if levels else f"Objectives {points[0].slo.reason}.",
    )


def _sentence(levels: Sequence[PointSlo], highest: PointSlo | None, following: PointSlo | None) -> str:
    after = "" if following is None else f"at {_number(following)} {following.why}"
    if highest is None:
        assert following is not None
        whose = (
            f"At {_named(following)}"
            if len(levels) == 1
            else f"No measured load keeps all objectives; at {_named(following)}"
        )
        return f"{whose} {following.why}."
    missed = [point for point in levels if not point.kept and _load(point) <= _load(highest)]
    if missed:
        others = ", ".join(f"{_number(point)} ({_word(point)})" for point in missed)
        told = f"All objectives are kept at {_named(highest)}, but not at {others}"
    else:
        told = f"All objectives are kept {'at' if len(levels) == 1 else 'up to'} {_named(highest)}"
    if following is None:
        return f"{told}{'' if len(levels) == 1 else ', the highest measured load'}."
    return f"{told}; {after}."


def _word(point: PointSlo) -> str:
    return "not judged" if point.slo.outcome is None else point.slo.outcome.value


def _load(point: PointSlo) -> float:
    return point.load or 0.0


def _number(point: PointSlo) -> str:
    return f"{point.load:.12g}"


def _named(point: PointSlo) -> str:
    return f"{_number(point)} {'req/s' if point.concurrency is None else 'in flight'}"
