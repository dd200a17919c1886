"""The points of `--find-capacity`, one at a time, and what they come to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from latency_profile.capacity.answers import answers_of
from latency_profile.capacity.asked import search_of
from latency_profile.capacity.probe import Probe
from latency_profile.capacity.search import Search
from latency_profile.capacity.structure import Capacity, Ended
from latency_profile.capacity.users import UsersSearch
from latency_profile.points import PlannedPoint, plan_probe
from latency_profile.records import Records
from latency_profile.results import PointResult
from latency_profile.settings import Settings
from latency_profile.verdict import Kind

MOST_TRIES = 3  # of a probe: a machine has bad moments


@dataclass
class CapacitySearch:
    """Implements `sweep.Further`. A probe that must not be used is sent again."""

    settings: Settings
    most: None = None
    _search: Search | UsersSearch = field(init=False)
    _asked: Probe | Capacity = field(init=False)
    _tries: int = 0  # of the last probe, of which none could be used

    def __post_init__(self) -> None:
        self._search = search_of(self.settings)
        self._asked = self._search.next()  # the first probe, which is among the points that are planned before

    def after(
        self, points: Sequence[PlannedPoint], results: Sequence[PointResult], last: Records | None
    ) -> PlannedPoint | None:
        assert last is not None, "an earlier attempt's probes come with their records"
        point, verdict = points[-1], results[-1].verdict
        number, first_prompt = len(points), point.first_prompt + point.prompts
        assert isinstance(self._asked, Probe)
        if verdict.usable or verdict.verdict is Kind.FAILED:  # failures are the server's answer to a rate
            self._search.told(answers_of(last))
            self._asked, self._tries = self._search.next(), 0
        elif (tries := self._tries + 1) < MOST_TRIES:
            self._asked, self._tries = self._search.again(answers_of(last).now_s), tries
        else:
            self._asked = self._search.gave_up(f"{point.label} was {verdict.verdict.value} {tries} times")
        if isinstance(self._asked, Capacity):
            return None
        planned = plan_probe(self.settings, self._asked, self._search.running(), number, first_prompt)
        if planned.prompts:
            return planned
        self._asked = self._search.gave_up(ended=Ended.MAX_DURATION)  # what is left of it is too short for a request
        return None

    @property
    def capacity(self) -> Capacity:
        """What the search came to, or had come to when a signal or an error ended it."""
        return self._asked if isinstance(self._asked, Capacity) else self._search.gave_up("it was cut short")
