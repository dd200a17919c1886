"""What can be seen of a profile at one moment. Immutable: whoever looks from another thread sees one whole view."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.live.histogram import Histogram
from latency_profile.records import Records, Status
from latency_profile.report.progress import Snapshot, clock_text
from latency_profile.results.errors import errors_by_kind
from latency_profile.statistics import NS_PER_MS, Sample
from latency_profile.verdict import Kind

# Lateness is a hundred times smaller than a latency: from an eighth of a millisecond to eight seconds.
LATENESS_BOUNDS_MS = tuple(2.0**power for power in range(-3, 14))
E2E_BOUNDS_MS = tuple(2.0**power for power in range(1, 21))  # whole answers take up to minutes
NO_FAILURES = (Status.OK, Status.CANCELLED, Status.NOT_SENT)  # the last two: the point was cut short
FAILURES = tuple(kind.name for kind in Status if kind not in NO_FAILURES)


class Phase(enum.Enum):
    STARTING = "STARTING"  # data set, tokenizer, prompts
    WAITING = "WAITING"  # for the model server
    CALIBRATING = "CALIBRATING"
    MEASURING = "MEASURING"  # between the first point's start and the last one's results
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class Requests:
    """Of all points so far."""

    sent: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Histograms:
    """Over the requests of all finished points; lengths in tokens. Latencies are of succeeded requests, from sent."""

    prompt_length: Histogram = field(default_factory=Histogram.empty)
    response_length: Histogram = field(default_factory=Histogram.empty)
    normalized_time_per_output_token_ms: Histogram = field(default_factory=Histogram.empty)
    time_per_output_token_ms: Histogram = field(default_factory=Histogram.empty)
    time_to_first_token_ms: Histogram = field(default_factory=Histogram.empty)
    request_latency_ms: Histogram = field(default_factory=lambda: Histogram.empty(E2E_BOUNDS_MS))
    lateness_ms: Histogram = field(default_factory=lambda: Histogram.empty(LATENESS_BOUNDS_MS))

    def of_point(self, records: Records) -> "Histograms":
        """With the requests of one more point."""
        rows = measures.all_rows(records)
        good = measures.succeeded(records, rows)
        outputs = records["output_tokens"][good]
        return Histograms(
            prompt_length=self.prompt_length.observed(records["input_tokens"][good]),
            response_length=self.response_length.observed(outputs[outputs >= 0]),
            normalized_time_per_output_token_ms=self.normalized_time_per_output_token_ms.observed(
                _finished_ms(measures.normalized_time_per_output_token(records, good))
            ),
            time_per_output_token_ms=self.time_per_output_token_ms.observed(
                _finished_ms(measures.time_per_output_token(records, good))
            ),
            time_to_first_token_ms=self.time_to_first_token_ms.observed(
                _finished_ms(measures.time_to_first_token(records, good, "sent_ns"))
            ),
            request_latency_ms=self.request_latency_ms.observed(
                _finished_ms(measures.end_to_end(records, good, "sent_ns"))
            ),
            lateness_ms=self.lateness_ms.observed(measures.lateness_ns(records, rows) / NS_PER_MS),
        )


def _finished_ms(sample: Sample) -> NDArray[np.float64]:
    values = np.asarray(sample.values, dtype=np.float64) / NS_PER_MS
    return values if sample.unfinished is None else values[~sample.unfinished]


@dataclass(frozen=True, slots=True)
class View:
    phase: Phase = Phase.STARTING
    ready: bool = False  # the model server has been found ready
    waits_for: str = ""  # what the profile said last while it was not
    points: int = 0  # planned
    points_done: int = 0
    label: str = ""  # of the last point that began: "4 req/s", "32 in flight", "unlimited"
    load: tuple[str, float] | None = None  # its unit and its figure; an unlimited rate is infinite
    running: Snapshot | None = None  # the last look at it, until it is over
    lateness_p99_ms: float | None = None  # of the last seconds, or of the last point
    past: Requests = Requests()  # of the points that are over
    failures: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(FAILURES, 0))  # likewise, by kind
    histograms: Histograms = field(default_factory=Histograms)
    verdict: Kind | None = None  # of the last point that has one
    verdicts: Mapping[Kind, int] = field(default_factory=dict)
    last_point_unix_s: float | None = None  # when it had its results
    exit_code: int | None = None  # once all is done
    closing: str = ""  # the profile in one line

    @property
    def requests(self) -> Requests:
        """Of all points, with the one that runs."""
        now = self.running
        if now is None:
            return self.past
        return Requests(self.past.sent + now.sent, self.past.completed + now.completed, self.past.failed + now.failed)

    @property
    def in_flight(self) -> int:
        return self.running.in_flight if self.running else 0

    @property
    def tokens_per_s(self) -> float:
        """Output tokens that come in now, as the progress shows them."""
        return self.running.tokens_per_s if self.running else 0.0

    @property
    def line(self) -> str:
        """The progress, for people."""
        if self.phase is Phase.DONE:
            return f"done: {self.closing}" if self.closing else f"done. Exit code {self.exit_code}."
        if self.phase is not Phase.MEASURING:
            return f"{self.phase.value.lower()}{f': {self.waits_for}' if self.waits_for else ''}"
        place = f"point {min(self.points_done + 1, self.points)} of {self.points}, {self.label}"
        now = self.running
        if now is None:
            return f"measuring: {place}"
        planned = f"/{clock_text(now.planned_s)}" if now.planned_s else ""
        return (
            f"measuring: {place}: {clock_text(now.elapsed_s)}{planned}, sent {now.sent}, in flight {now.in_flight}, "
            f"failed {now.failed}"
        )


def with_point(view: View, records: Records) -> View:
    """With the requests of one more point. What its last look had counted stays counted, where the records have less: a
    counter that falls is a restart to Prometheus."""
    counts = measures.counts(records, measures.all_rows(records))
    seen, before = view.requests, view.past
    lateness = measures.lateness_ns(records, measures.all_rows(records))
    errors = errors_by_kind(records["status"])
    return replace(
        view,
        running=None,
        lateness_p99_ms=float(np.percentile(lateness, 99)) / NS_PER_MS if len(lateness) else None,
        past=Requests(
            max(seen.sent, before.sent + counts.sent),
            max(seen.completed, before.completed + counts.succeeded),
            max(seen.failed, before.failed + counts.failed),
        ),
        failures={kind: count + errors[kind] for kind, count in view.failures.items()},
        histograms=view.histograms.of_point(records),
    )


def with_verdict(view: View, verdict: Kind | None) -> View:
    """With one more point that is done; None: its verdict is given elsewhere."""
    view = replace(view, points_done=view.points_done + 1)
    if verdict is None:
        return view
    verdicts = {**view.verdicts, verdict: view.verdicts.get(verdict, 0) + 1}
    return replace(view, verdict=verdict, verdicts=verdicts)
