"""Which place tells the server's metrics, and one interface for all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.telemetry.deltas import Metrics
from latency_profile.telemetry.direct import DirectSource
from latency_profile.telemetry.names import METRICS


@dataclass(frozen=True, slots=True)
class MetricsSpec:
    """Where to read server metrics.

    kind: "direct" (the server's own /metrics), "prometheus", "google" (Google Managed Prometheus), or "auto": the
    Prometheus of `prometheus_url`, else Google's where credentials can be had, else direct. Beside a Prometheus the
    server's own metrics are read too; they fill in what it lacks.
    """

    kind: Literal["auto", "direct", "prometheus", "google"]
    base_url: str | None  # of the only server; None where /metrics of one would not tell of all
    backend: str
    prometheus_url: str | None = None
    namespace: str | None = None
    job: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # for the model server; Prometheus never gets them
    verify: bool | str = True  # TLS: check certificates, or the file of an authority
    required: bool = True  # False: a source that is not there is a notice, no error
    settle_s: float = 45.0  # longest wait for a scrape from after the point
    ready_s: float = 30.0  # longest wait of `check` for Prometheus' first scrape of the server


class MetricsSource(Protocol):
    """What the server says about itself, point by point."""

    def check(self) -> None:
        """Opens the source, once, before the profile. Raises ServerUnavailable where it is asked for and not there."""

    def point_started(self) -> None:
        """Just before the point's first request is due; never raises for a server that is not there."""

    def point_finished(self, start_unix_s: float, end_unix_s: float) -> tuple[Metrics, list[str]]:
        """After the point's last answer: {metric: {statistic: value}} and notices. It may wait for a scrape. Where
        metrics cannot be had it returns what there is and says why; it does not raise for that."""


def open_source(spec: MetricsSpec) -> MetricsSource:
    """The source that `spec` describes; opens no connection to the server yet."""
    kind = resolve(spec)
    direct = []
    if (base_url := spec.base_url) is not None:
        direct = [Part("the server's own /metrics", lambda: DirectSource(base_url, spec.headers, spec.verify))]
    if kind == "direct":
        if not direct:
            raise UsageError("--scrape-server-metrics takes one http URL, or --prometheus-url of one that sees all")
        return Sources(direct, first_needed=spec.required, any_needed=spec.required)
    asked_for = spec.required and (spec.kind != "auto" or kind == "prometheus")
    first = Part("Prometheus", lambda: _prometheus(spec, google=kind == "google"))
    return Sources([first, *direct], first_needed=asked_for, any_needed=spec.required)


def resolve(spec: MetricsSpec) -> Literal["direct", "prometheus", "google"]:
    """What "auto" means here and now."""
    if spec.kind != "auto":
        return spec.kind
    if spec.prometheus_url:
        return "prometheus"
    from latency_profile.telemetry.google import likely_on_google

    return "google" if likely_on_google() else "direct"


def _prometheus(spec: MetricsSpec, google: bool) -> MetricsSource:
    import requests

    from latency_profile.telemetry.google import open_google
    from latency_profile.telemetry.prometheus import Api, PrometheusSource

    metrics = METRICS.get(spec.backend)
    if not metrics:
        raise ServerUnavailable(f"the metrics that Prometheus has of a {spec.backend} server are not known")
    if google:
        api = open_google()
    else:
        session = requests.Session()
        session.verify = spec.verify
        api = Api(spec.prometheus_url or "", session)
    return PrometheusSource(
        api, metrics, namespace=spec.namespace, job=spec.job, settle_s=spec.settle_s, ready_s=spec.ready_s
    )


@dataclass(frozen=True, slots=True)
class Part:
    """One of several sources: what it is called, and how it is opened."""

    name: str
    open: Callable[[], MetricsSource]


class Sources:
    """Several sources as one: the first that has a metric tells it."""

    def __init__(self, parts: Sequence[Part], *, first_needed: bool, any_needed: bool) -> None:
        self._parts = parts
        self._first_needed = first_needed
        self._any_needed = any_needed
        self._sources: list[MetricsSource] = []
        self._notices: list[str] = []

    def check(self) -> None:
        self._sources = []
        failures: list[str] = []
        for part in self._parts:
            try:
                source = part.open()
                source.check()
            except ServerUnavailable as error:
                if part is self._parts[0] and self._first_needed:
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

    def point_finished(self, start_unix_s: float, end_unix_s: float) -> tuple[Metrics, list[str]]:
        metrics: Metrics = {}
        notices = list(self._notices)
        for source in reversed(self._sources):  # the server's own look is taken first: Prometheus waits
            found, more = source.point_finished(start_unix_s, end_unix_s)
            metrics |= found
            notices += more
        return metrics, notices
