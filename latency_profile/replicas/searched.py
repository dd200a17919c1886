"""What a search for the capacity (--find-capacity) says of what one replica carries. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from latency_profile.capacity.structure import Capacity, Of
from latency_profile.capacity.text import capacity_text
from latency_profile.replicas.structure import Carried, Evidence, Searched
from latency_profile.replicas.units import NOUNS, STEPS
from latency_profile.slo.grammar import Objective, parse
from latency_profile.slo.structure import Outcome

_Asked = frozenset[tuple[str, float | None, float | None]]


class _Slo(msgspec.Struct):
    objectives: list[str]


class _Profile(msgspec.Struct):
    slo: _Slo | None = None
    capacity: Capacity | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """What one profile's search came to. capacity: of all that was measured together."""

    file: str
    capacity: Capacity
    objectives: _Asked


def search_of(data: bytes, file: str, of: Of = Of.RATE) -> Search | None:
    """Of a profile's JSON; None where it has none, or one of another load than `of`, and where another version wrote
    it."""
    try:
        profile = msgspec.json.decode(data, type=_Profile)
        asked = _asked(map(parse, profile.slo.objectives)) if profile.slo else None
    except (msgspec.DecodeError, ValueError):
        return None
    found = profile.capacity
    if found is None or found.of is not of or asked is None:
        return None
    return Search(file, found, asked)


def of_objectives(searches: Iterable[Search], objectives: Sequence[Objective]) -> Searched | None:
    """What the searches for these objectives say together: the lowest load that all of them vouch for, and the highest
    that any leaves open. searches: of one kind of load. None where none is answered by a load that is kept."""
    asked = _asked(objectives)
    told = [
        (search, low)
        for search in searches
        if search.objectives == asked and search.capacity.answered and (low := _low(search.capacity)) is not None
    ]
    if not told:
        return None
    highs = [search.capacity.high for search, _ in told if search.capacity.high is not None]
    return Searched(
        files=[search.file for search, _ in told],
        low=min(low for _, low in told),
        high=max(highs) if len(highs) == len(told) else None,
        confidence=min(search.capacity.confidence for search, _ in told),
        text=[capacity_text(search.capacity) for search, _ in told],
    )


def unused(searches: Iterable[Search], objectives: Sequence[Objective]) -> list[str]:
    """Why the number does not rest on these, a sentence each."""
    asked, said = _asked(objectives), []
    for search in searches:
        of = search.capacity
        if search.objectives != asked:
            said.append(f"The search in {search.file} was for other objectives: the number rests on points")
        elif not of.answered or _low(of) is None:
            said.append(
                f"The search in {search.file} gives no {NOUNS[of.of]} that is kept, and the number rests on points. It "
                f"said: {capacity_text(of)}"
            )
    return said


def carried_by(found: Searched, told: Sequence[Evidence], of: Of, replicas: int) -> Carried:
    """By one of the `replicas` that served together. told: what the points say, the search's own among them."""
    broken = {each.asked for each in told if each.outcome is Outcome.BROKEN or each.saturated}
    return Carried(
        kept=found.low / replicas,
        kept_of=found.low,
        broken=None if found.high is None else (found.high + STEPS[of]) / replicas,
        unresolved=[],
        skipped=[],
        not_monotone=[],
        broken_below=sorted(load / replicas for load in broken if load is not None and load <= found.low),
    )


def _low(of: Capacity) -> float | None:
    """The load that it vouches for; where none broke anything, the highest that was kept."""
    return of.low if of.low is not None else of.highest_kept


def _asked(objectives: Iterable[Objective]) -> _Asked:
    """Equal where the same is asked for: 0.5s is 500ms."""
    return frozenset((each.figure, each.level, each.limit_ms) for each in objectives)
