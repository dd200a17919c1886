"""Server metrics over a point's own window, from a Prometheus that scrapes the server: a plain one or Google's.

What is asked, for a point [start, end], by whole names:

* gauges and counters: all samples from before the point to after it, by an instant query of a range selector. Counters
  are then folded as the server's own are (`fold`): from the last sample before the point to the first one after it,
  over restarts too. PromQL's `increase` sums up the same samples, but only those inside its window, and multiplies the
  sum so that it covers the window: each edge's distance to the nearest sample is added where it is less than 1.1
  intervals of scraping, else half an interval (promql/functions.go, extrapolatedRate). Of n scrapes that is up to
  2.2 / (n - 1) too much or too little; here nothing is extrapolated. `query_range` would not do: it repeats a sample
  for as long as it is the last one, and prometheus_api_client rounds its times to whole seconds.
* histograms, which have many series: at the same two edges, by instant vectors, and `resets` in between; all of their
  samples only where a series was reset, came or went. They are summed by bucket over all replicas (`deltas`, `common`).

The end of a point waits until every replica that was there before it has a sample from after it, bounded by `settle_s`;
without that, the last sample serves, and it is said. What the server did between its last scrape before the point and
the point's start counts as the point's; `earlier_s` tells of this client's own share in that. Between two points it
does nothing if the end of the first has waited long enough.

What is not there is absent, never 0. The clocks of this machine and of Prometheus are taken to agree.
"""

import math
import time
from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from latency_profile.errors import ServerUnavailable
from latency_profile.hardware.exported import Exported, Whose, exported
from latency_profile.telemetry.common import counter_samples, readings
from latency_profile.telemetry.deltas import summaries
from latency_profile.telemetry.doors import NoMetrics
from latency_profile.telemetry.fold import PROCESS_START
from latency_profile.telemetry.prometheus_api import Api, Refused
from latency_profile.telemetry.promql import (
    PARTS,
    RESETS,
    Series,
    histogram,
    histogram_and_resets,
    of_models,
    samples,
    selector,
)
from latency_profile.telemetry.rounds import LOOKBACK_S, Asked, Rounds, appeared, called, folded, rounds, stragglers
from latency_profile.telemetry.told import Told
from latency_profile.telemetry.vocabulary import PROCESS, Metric, MetricKind, spelled

__all__ = ["Api", "PrometheusSource"]

ANY_PROCESS = frozenset(name for metric in PROCESS for name in metric.names)  # no proof that a model server is there
BEFORE_S = 120.0  # before a point: where an accelerator stood then, at one sample a minute
POLL_S = 0.5
LONGEST_POLL_S = 5.0
FEW_SCRAPES = 5  # fewer inside a point make its gauges' percentiles doubtful
MOST_FAILURES = 5  # of queries in a row, after which no more are sent for this point
KINDS: tuple[MetricKind, ...] = ("gauge", "counter", "histogram")  # in the order in which they are asked for


class PrometheusSource:
    """Metrics of one server from one Prometheus.

    metrics: those of its backend. cluster, namespace, job: labels that its series carry; None: any. models: of series
    that name a model only these count; none given: all do. settle_s: the longest wait for samples from after a point;
    ready_s: of `check` for the first ones.
    """

    def __init__(
        self,
        api: Api,
        metrics: Sequence[Metric],
        *,
        source: Literal["prometheus", "google"] = "prometheus",
        cluster: str | None = None,
        namespace: str | None = None,
        job: str | None = None,
        models: Collection[str] = (),
        settle_s: float,
        ready_s: float,
    ) -> None:
        self._api, self._metrics, self._models = api, metrics, models
        self._source: Literal["prometheus", "google"] = source
        self._called = "Google Managed Prometheus" if source == "google" else "Prometheus"
        self._where = selector(cluster=cluster, namespace=namespace, job=job)
        self._cluster, self._namespace = cluster, namespace
        self._settle_s, self._ready_s = settle_s, ready_s
        self._names: dict[str, MetricKind] = {
            name: kind for kind in KINDS for metric in metrics if metric.kind == kind for name in metric.names
        }
        self._pulse: str | None = None  # a metric that the server has
        self._said: set[str] = set()  # what has been said once for the whole profile
        self._seen: set[str] = set()  # what the server calls its models
        self._pods: set[str] = set()  # that serve, where the series say so
        self._used_s: float | None = None  # Unix s, of this client's last answer before the point
        self._running = False  # whether a point is

    def check(self) -> None:
        """Waits up to `ready_s` for the first scrape. Raises ServerUnavailable for a Prometheus that cannot be reached
        or does not know the server."""
        deadline = time.monotonic() + self._ready_s
        self._api.fresh()
        try:
            while not self._scrapes(LOOKBACK_S):
                if time.monotonic() > deadline:
                    raise ServerUnavailable(
                        f"{self._api} has no metrics of the server with {self._where}; see --pm-namespace and --pm-job"
                    )
                time.sleep(POLL_S)
        except NoMetrics as error:
            raise ServerUnavailable(f"no server metrics: {error}") from error

    def point_started(self) -> None:
        """Prometheus keeps the past: nothing needs to be asked."""
        self._running = True

    def used(self) -> None:
        self._used_s = time.time()

    def point_abandoned(self) -> None:
        if self._running:
            self._running = False
            self.used()

    def point_finished(self, start_unix_s: float, end_unix_s: float) -> Told:
        """What there is, and why something is not there; where nothing is, no readings. Does not raise."""
        self._api.fresh()
        self._seen = set()
        try:
            over = self._wait(start_unix_s, end_unix_s)
            if over is None:
                raise NoMetrics(f"{self._called} has no sample of the server with {self._where}")
            return self._told(over)
        except NoMetrics as error:
            return Told({}, None, [f"server metrics of this point are missing: {error}"])
        finally:
            self._used_s, self._running = end_unix_s, False

    def accelerators(self, start_unix_s: float) -> Exported:
        """What the exporters of the cluster say of the server's accelerators, from before the point until now; to be
        asked after `point_finished`, which finds out whose they are. Does not raise."""

        def ask(name: str) -> list[Series]:
            label = "cluster_name" if name.startswith("kubernetes_io:") else "cluster"
            where = selector(**{label: self._cluster})
            return self._api.query(samples(name, where, time.time() - start_unix_s + BEFORE_S))

        whose = Whose(frozenset(self._pods), self._namespace)
        return exported(ask, whose, start_unix_s, tpus=self._source == "google")

    def _wait(self, start_s: float, end_s: float) -> Rounds | None:
        """Until every replica has a sample from after the point, or for `settle_s`; None where there is no sample."""
        deadline = time.monotonic() + self._settle_s
        pause_s = POLL_S
        while True:
            seen = self._scrapes(time.time() - start_s + LOOKBACK_S)
            over = rounds(seen, start_s, end_s) if seen else None
            if (over and not over.late) or time.monotonic() > deadline:
                return over
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, LONGEST_POLL_S)

    def _scrapes(self, seconds: float) -> list[Series]:
        """The samples of a metric that the server has, or none. Raises NoMetrics where queries are refused."""
        names = [name for name, kind in self._names.items() if kind != "histogram" and name not in ANY_PROCESS]
        names.sort(key=lambda name: name != self._pulse)
        best: list[Series] = []
        refused: list[Refused] = []
        for name in names:
            try:
                found = self._own(self._api.query(samples(name, self._where, seconds)))
            except Refused as error:
                refused.append(error)
                if len(refused) >= min(MOST_FAILURES, len(names)):
                    raise NoMetrics(f"{error}: {name}") from error
                continue
            if _newest_s(found) > _newest_s(best):  # what an older version of the server had has ended
                best = found
                if name == self._pulse:
                    break
        if best:
            self._pulse = best[0].name
        return best

    def _own(self, series: Sequence[Series], over: Rounds | None = None) -> list[Series]:
        """Without other models' and, once it is known who they are, what is of no replica."""
        there = [one for one in series if over is None or one.instance in over.scrapes]
        self._seen.update(*(one.models for one in there))
        kept = of_models(there, self._models)
        self._pods |= {text for one in kept for label, text in one.labels if label == "pod"}
        return kept

    def _told(self, over: Rounds) -> Told:
        """Everything about the point. Raises NoMetrics where Prometheus fails on the way."""
        families, reasons = self._asked(over)
        replicas, lacks = folded(over, families, counter_samples(self._metrics), self._models)
        if not replicas:
            raise NoMetrics("; ".join(lacks))
        if over.late:
            lacks.insert(
                0,
                f"{self._called} has no sample of {', '.join(called(name) for name in over.late)} "
                f"from after the point, {self._settle_s:.0f} s later",
            )
        if names := stragglers(over, families):
            lacks.append(f"the last samples are missing of {', '.join(names)}")
        if self._source == "google" and (names := appeared(over, families)):
            lacks.append(f"the first sample of a new series is not kept by Google's collectors: {', '.join(names)}")
        metrics, notices = summaries(replicas, over.start_s, over.end_s)
        metrics.pop(PROCESS_START, None)
        lacking = "; ".join(lacks) or None
        notices = [
            *self._notices(over, families, reasons),
            *([f"increases may lack something: {lacking}"] if lacking else []),
            *notices,
        ]
        found = readings(self._source, self._metrics, replicas, over.start_s, lacking=lacking)
        if found is not None and self._used_s is not None:
            found = msgspec.structs.replace(found, earlier_s=self._used_s - over.start_s)
        return Told(metrics, found, notices)

    def _asked(self, over: Rounds) -> tuple[dict[str, Asked], dict[str, str]]:
        """The answer about each name, and why there is none. Raises NoMetrics where nothing at all is answered."""
        families: dict[str, Asked] = {}
        reasons: dict[str, str] = {}
        in_a_row = 0
        why = ""
        restarted = False
        names: list[tuple[str, MetricKind]] = [(PROCESS_START, "gauge"), *self._names.items()]
        for name, kind in names:
            if in_a_row >= MOST_FAILURES:
                reasons[name] = why
                continue
            try:
                asked = (
                    self._histogram(name, over, restarted) if kind == "histogram" else self._samples(name, kind, over)
                )
            except Refused as error:
                in_a_row, why = in_a_row + 1, str(error)
                reasons[name] = why
                continue
            in_a_row = 0
            finite = [one for series in asked.series if (one := series.finite()).at_s]
            if finite:
                families[name] = Asked(asked.kind, asked.series if kind == "gauge" else finite, asked.edges)
            elif asked.series:
                reasons[name] = f"{self._called} has only values that are no numbers"
            if name == PROCESS_START:
                restarted = any(len(set(series.values)) > 1 for series in finite)
        if not self._names.keys() - reasons.keys():
            raise NoMetrics("; ".join(dict.fromkeys(reasons.values())))
        return families, reasons

    def _samples(self, name: str, kind: MetricKind, over: Rounds) -> Asked:
        found = self._api.query(samples(name, self._where, over.last_s - over.start_s + LOOKBACK_S), over.last_s)
        return Asked(kind, [one for one in self._own(found, over) if over.there(one)])

    def _histogram(self, name: str, over: Rounds, restarted: bool) -> Asked:
        """Its edges where they are enough, else all of its samples."""
        first_s, last_s = over.first_s, over.last_s
        if first_s is not None and over.steady and not restarted:
            before = self._own(self._api.query(histogram(name, self._where), first_s), over)
            asked = histogram_and_resets(name, self._where, last_s - first_s)
            after = self._own(self._api.query(asked, last_s), over)
            fell = any(series.name == RESETS and series.values[0] > 0 for series in after)
            ends = {(series.name, series.labels): series for series in after if series.name != RESETS}
            whole = all(math.isfinite(series.values[0]) for series in (*before, *ends.values()))
            if whole and not fell and ends.keys() == {(series.name, series.labels) for series in before}:
                pairs = [(series, ends[series.name, series.labels]) for series in before]
                both = [Series(a.name, a.labels, [first_s, last_s], [a.values[0], b.values[0]]) for a, b in pairs]
                return Asked("histogram", both, edges=True)
        parts = [self._samples(f"{name}{part}", "histogram", over) for part in PARTS]
        return Asked("histogram", [series for part in parts for series in part.series])

    def _notices(self, over: Rounds, families: dict[str, Asked], reasons: dict[str, str]) -> list[str]:
        notices = [
            f"{reason}: {', '.join(name for name, why in reasons.items() if why == reason)}"
            for reason in dict.fromkeys(reasons.values())
        ]
        if over.inside() == 0:
            notices.append(f"{self._called} has no scrape of the server inside the point: its gauges are left out")
        elif over.inside() < FEW_SCRAPES:
            notices.append(f"fewer than {FEW_SCRAPES} scrapes inside the point: gauges are rough")
        lacking = [
            metric.names[0]
            for metric in self._metrics
            if not metric.optional
            and families.keys().isdisjoint(metric.names)
            and reasons.keys().isdisjoint(metric.names)
        ]
        if fresh := [name for name in dict.fromkeys(lacking) if name not in self._said]:
            notices.append(f"{self._called} does not have {', '.join(fresh)}")
        strange = f"the server calls its model {', '.join(sorted(self._seen))}, not {', '.join(self._models)}"
        unknown = bool(self._models and self._seen) and self._seen.isdisjoint(spelled(self._models))
        if unknown and strange not in self._said:
            notices.append(f"{strange}: its metrics are taken")
            fresh.append(strange)
        self._said.update(fresh)
        return notices


def _newest_s(series: Sequence[Series]) -> float:
    return max((one.at_s[-1] for one in series if one.at_s), default=-math.inf)
