"""What a source of metrics tells of a point."""

from typing import NamedTuple

from latency_profile.telemetry.deltas import Metrics
from latency_profile.telemetry.readings import Readings


class Told(NamedTuple):
    metrics: Metrics  # under the server's own names
    readings: Readings | None  # in the common vocabulary; None: nothing was read
    notices: list[str]  # what one should know of them, for the log
