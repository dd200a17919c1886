"""Which places tell the server's metrics, and all of them as one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.server import Server
from latency_profile.telemetry.deltas import Metrics
from latency_profile.telemetry.direct import DirectSource
from latency_profile.telemetry.doors import doors_at, own_doors
from latency_profile.telemetry.readings import Readings
from latency_profile.telemetry.told import Told
from latency_profile.telemetry.vocabulary import PORTS, metrics_of

if TYPE_CHECKING:
    from latency_profile.hardware.exported import Exported

SETTLE_S = 45.0  # some scrape intervals: they are mostly 15 or 30 s
GOOGLE_SETTLE_S = 180.0  # and what its ingestion takes


@dataclass(frozen=True, slots=True)
class MetricsSpec:
    """Where to read server metrics.

    kind: "direct" (the server's own /metrics), "prometheus", "google" (Google Managed Prometheus), or "auto": the
    Prometheus of `prometheus_url`, else Google's where `project` names one or credentials can be had, else direct.
    Beside a Prometheus the server's own metrics are read too, where they can be.
    """

    kind: Literal["auto", "direct", "prometheus", "google"]
    servers: Sequence[Server]  # under test; Prometheus never gets their headers
    backend: str
    urls: Sequence[str] = ()  # of the server's metrics; none: its own /metrics
    models: Sequence[str] = ()
    prometheus_url: str | None = None
    project: str | None = None  # Google Cloud's; None: that of the credentials
    cluster: str | None = None
    namespace: str | None = None
    job: str | None = None
    required: bool = True  # False: a source that is not there is a notice, no error
    settle_s: float | None = None  # longest wait for a scrape from after the point; None: SETTLE_S, or GOOGLE_SETTLE_S
    ready_s: float = 30.0  # longest wait of `check` for Prometheus' first scrape of the server


class MetricsSource(Protocol):
    """What the server says about itself, point by point."""

    def check(self) -> None:
        """Opens the source, once, before the profile. Raises ServerUnavailable where it is asked for and not there."""

    def point_started(self) -> None:
        """Just before the point's first request is due; never raises for a server that is not there."""

    def used(self) -> None:
        """This client has just had an answer that is no point's."""

    def point_abandoned(self) -> None:
        """In place of `point_finished`, where nobody wants to know any more."""

    def point_finished(self, start_unix_s: float, end_unix_s: float) -> Told:
        """After the point's last answer. It may wait for a scrape. Where metrics cannot be had it returns what there is
        and says why; it does not raise for that."""


@runtime_checkable
class KnowsAccelerators(Protocol):
    """A source that also knows the cluster's accelerators."""

    def accelerators(self, start_unix_s: float) -> "Exported":
        """Those of the server, after `point_finished`."""


class Gathered(NamedTuple):
    """What all sources together tell of a point."""

    metrics: Metrics
    readings: list[Readings]  # those that are exact first
    notices: list[str]
    accelerators: "Exported | None"  # None: no source knows of any


def open_source(spec: MetricsSpec) -> "Sources":
    """The sources that `spec` describes; opens no connection to the server yet."""
    kind = resolve(spec)
    port = PORTS.get(spec.backend)
    doors = doors_at(spec.urls, spec.servers) if spec.urls else own_doors(spec.servers, port)
    direct: list[Opens] = []
    if doors and (spec.urls or len(doors) == len(spec.servers)):
        direct = [lambda: DirectSource(doors, spec.backend, spec.models)]
    if kind == "direct":
        if not direct:
            raise UsageError(
                "--scrape-server-metrics takes http URLs, or --metrics-urls, or --prometheus-url of one that sees all"
            )
        return Sources(direct, first_needed=spec.required, any_needed=spec.required)
    asked_for = spec.required and (spec.kind != "auto" or kind == "prometheus" or spec.project is not None)
    return Sources(
        [lambda: _prometheus(spec, google=kind == "google"), *direct], first_needed=asked_for, any_needed=spec.required
    )


def resolve(spec: MetricsSpec) -> Literal["direct", "prometheus", "google"]:
    """What "auto" means here and now."""
    if spec.kind != "auto":
        return spec.kind
    if spec.prometheus_url:
        return "prometheus"
    if spec.project:
        return "google"
    from latency_profile.telemetry.on_google import likely_on_google

    return "google" if likely_on_google() else "direct"


def _prometheus(spec: MetricsSpec, google: bool) -> MetricsSource:
    import requests

    from latency_profile.telemetry.google import open_google
    from latency_profile.telemetry.prometheus import Api, PrometheusSource

    known = metrics_of(spec.backend)
    if not known:
        raise ServerUnavailable(f"the metrics that Prometheus has of a {spec.backend} server are not known")
    api: Api
    if google:
        api = open_google(spec.project)
    else:
        session = requests.Session()
        session.verify = spec.servers[0].ca_file or spec.servers[0].verify
        api = Api(spec.prometheus_url or "", session)
    return PrometheusSource(
        api,
        known,
        source="google" if google else "prometheus",
        cluster=spec.cluster,
        namespace=spec.namespace,
        job=spec.job,
        models=spec.models,
        settle_s=spec.settle_s or (GOOGLE_SETTLE_S if google else SETTLE_S),
        ready_s=spec.ready_s,
    )


Opens = Callable[[], MetricsSource]


class Sources:
    """Several sources as one: of each metric the first that has it tells it."""

    def __init__(self, parts: Sequence[Opens], *, first_needed: bool, any_needed: bool) -> None:
        self._parts = parts
        self._first_needed = first_needed
        self._any_needed = any_needed
        self._sources: list[MetricsSource] = []
        self._notices: list[str] = []
        self._said: set[str] = set()

    def check(self) -> None:
        """Opens them. Raises ServerUnavailable where one that is asked for is not there, or none is."""
        self._sources = []
        failures: list[str] = []
        for opens in self._parts:
            try:
                source = opens()
                source.check()
            except ServerUnavailable as error:
                if opens is self._parts[0] and self._first_needed:
                    raise
                failures.append(str(error))
            else:
                self._sources.append(source)
        if not self._sources and self._any_needed:
            raise ServerUnavailable("; ".join(failures))
        self._notices = failures

    def point_started(self) -> None:
        for source in self._sources:
            source.point_started()

    def used(self) -> None:
        for source in self._sources:
            source.used()

    def point_abandoned(self) -> None:
        for source in self._sources:
            source.point_abandoned()

    def point_finished(self, start_unix_s: float, end_unix_s: float) -> Gathered:
        """As MetricsSource's. What was said of an earlier point in the same words is not said again."""
        metrics: Metrics = {}
        notices = list(self._notices)
        found: list[Readings] = []
        for source in reversed(self._sources):  # the server's own look is taken first: Prometheus waits
            told = source.point_finished(start_unix_s, end_unix_s)
            metrics |= told.metrics
            notices += told.notices
            found += [told.readings] if told.readings is not None else []
        fresh = [notice for notice in dict.fromkeys(notices) if notice not in self._said]
        self._said.update(fresh)
        knowing = next((source for source in self._sources if isinstance(source, KnowsAccelerators)), None)
        return Gathered(metrics, found, fresh, knowing.accelerators(start_unix_s) if knowing else None)
