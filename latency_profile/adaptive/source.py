"""The points of `--adaptive-rates` behind the first three, one at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from latency_profile.adaptive.chooser import APART, next_rate
from latency_profile.adaptive.measured import measured
from latency_profile.points import PlannedPoint, plan_point
from latency_profile.records import Records
from latency_profile.results import PointResult
from latency_profile.settings import Settings


@dataclass(frozen=True)
class AdaptiveRates:
    """Implements `sweep.Further`. most: points of the profile."""

    settings: Settings
    most: int
    say: Callable[[str], None]

    @property
    def capacity(self) -> None:
        """It searches for none."""

    def after(
        self, points: Sequence[PlannedPoint], results: Sequence[PointResult], last: Records | None
    ) -> PlannedPoint | None:
        """A point's requests are drawn by its number, as of any list of points: a run that goes on chooses the same."""
        if len(points) >= self.most:
            return None
        low, high = self.settings.request_rates
        rate = next_rate(low, high, [measured(result) for result in results])
        if rate is None:
            self.say(
                f"{len(points)} of {self.most} points: no rate is left that is {APART:g} times away from all that were "
                "measured and below those at which the server failed"
            )
            return None
        before = points[-1]
        point = plan_point(self.settings, len(points), rate, None, before.first_prompt + before.prompts)
        if not point.prompts:
            self.say(
                f"{len(points)} of {self.most} points: none of {point.label}, as no request would be due in its time"
            )
            return None
        return point
