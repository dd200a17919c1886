"""From what points say to what one replica carries: measured on both sides, and never extrapolated. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from latency_profile.replicas.structure import Carried, Evidence
from latency_profile.slo.structure import Outcome


@dataclass(frozen=True, slots=True)
class _Level:
    """All points of one load."""

    load: float
    points: tuple[Evidence, ...]

    @property
    def broken(self) -> bool:
        """A backlog that grows is evidence too: no replica carries such a load for long."""
        return any(each.saturated or each.outcome is Outcome.BROKEN for each in self.points)

    @property
    def kept(self) -> bool:
        return not self.broken and any(each.outcome is Outcome.KEPT for each in self.points)

    @property
    def offered(self) -> float:
        """What is known to be kept: a plan that is drawn may have had less in its window than was asked for."""
        kept = (each for each in self.points if each.outcome is Outcome.KEPT)
        return min(self.load, max(each.offered for each in kept))

    @property
    def too_much(self) -> float:
        """What is known not to be carried: here a plan may have had more."""
        return max(self.load, min(each.offered for each in self.points))


def carried(points: Sequence[Evidence], replicas: int) -> Carried | None:
    """What one of the `replicas` carries that served together; None where no load is known to keep the objectives."""
    levels = _levels(points)
    broken = next((level for level in levels if level.broken), None)
    below = [level for level in levels if broken is None or level.load < broken.load]
    highest = next((level for level in reversed(below) if level.kept and level.offered), None)
    if highest is None:
        return None
    told = {level.load for level in levels if level.kept or level.broken}

    def loads(chosen: Sequence[_Level]) -> list[float]:
        return [level.load / replicas for level in chosen]

    return Carried(
        kept=highest.offered / replicas,
        kept_of=highest.load,
        broken=None if broken is None else broken.too_much / replicas,
        unresolved=loads([level for level in below if level.load > highest.load and level.load not in told]),
        skipped=loads([level for level in below if level.load < highest.load and level.load not in told]),
        not_monotone=loads([level for level in levels if broken and level.load > broken.load and level.kept]),
        broken_below=[],
    )


def _levels(points: Sequence[Evidence]) -> list[_Level]:
    told = [each for each in points if each.asked is not None and (each.outcome or each.saturated)]

    def load(each: Evidence) -> float:
        assert each.asked is not None
        return each.asked

    return [_Level(at, tuple(group)) for at, group in groupby(sorted(told, key=load), key=load)]
