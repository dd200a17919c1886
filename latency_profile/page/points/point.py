"""A point as its part of the page is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latency_profile.page.detail import WHOLE, Detail
from latency_profile.results.point import ALL_MODELS
from latency_profile.results.tree import at
from latency_profile.statistics import NS_PER_S
from latency_profile.verdict.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Point:
    """One point, or what one of several models has of it."""

    name: str  # unique in the page; the names of its figures begin with it
    tree: Mapping[str, Any]  # its JSON
    known: Evidence | None  # its records, and which of their requests the JSON is of; None: there are none
    detail: Detail = WHOLE  # how finely it is drawn

    def at(self, *path: str) -> Any:
        """What stands at a place in the JSON; None where there is none."""
        return at(self.tree, *path)

    @property
    def streaming(self) -> bool:
        return bool(self.at("load", "streaming"))

    @property
    def closed(self) -> bool:
        """Whether it is a closed loop, which has no due times."""
        return self.at("load", "concurrency") is not None

    @property
    def burst(self) -> bool:
        return not self.closed and self.at("load", "request_rate") is None

    @property
    def origin(self) -> str:
        """The column from which latencies count that a user waits: from due, or in a closed loop from sent."""
        return "sent_ns" if self.closed else "due_ns"

    @property
    def last_sent_s(self) -> float | None:
        """When sending ended, s since the point's start; None where nothing was sent, or there are no records."""
        if self.known is None:
            return None
        last = int(self.known.records["sent_ns"][self.known.rows].max(initial=-1))
        return None if last < 0 else last / NS_PER_S


def model_of(tree: Mapping[str, Any]) -> str | None:
    """Which of several models the JSON is of; None: all that there are."""
    model = at(tree, "config", "model")
    return None if at(tree, "config", "num_models") == 1 or model == ALL_MODELS else str(model)
