"""Server metrics over a point's interval, from a Prometheus that scrapes the server: a plain one or Google's.

What is read when, for a point [start, end]:

* gauges: the samples that were scraped in (start, end]; statistics over them are PromQL's `*_over_time`.
* counters and histograms: the last sample before the point against one from after it, series by series, through the
  same arithmetic as the server's own /metrics. PromQL's `increase` is not used: it takes only the samples inside the
  window and extrapolates to its edges, a guess where a point holds few scrapes. The end of a point therefore waits
  until a scrape from after it is in (a scrape interval, bounded by `settle_s`); without one, the last sample inside
  the point serves, and a notice says so. What the server did between its last scrape before the point and the point's
  start counts as the point's; between two points nothing does, since the end of the first has waited.

The clocks of this machine and of Prometheus are taken to agree.
"""

import json
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util import Retry

from latency_profile.errors import ServerUnavailable
from latency_profile.telemetry.deltas import Metrics, deltas
from latency_profile.telemetry.direct import NoMetrics, printable, reason
from latency_profile.telemetry.exposition import Family, Scrape
from latency_profile.telemetry.names import Metric

TIMEOUT_S = (3.0, 15.0)  # to connect, and to answer
POLL_S = 0.5
FEW_SCRAPES = 5  # fewer inside a point make its gauges' percentiles doubtful

GAUGE_STATISTICS = {  # over time, over the series
    "Mean": ("avg", "avg_over_time({})"),
    "Median": ("avg", "quantile_over_time(0.5, {})"),
    "Sd": ("avg", "stddev_over_time({})"),
    "Min": ("min", "min_over_time({})"),
    "Max": ("max", "max_over_time({})"),
    "P90": ("avg", "quantile_over_time(0.9, {})"),
    "P95": ("avg", "quantile_over_time(0.95, {})"),
    "P99": ("avg", "quantile_over_time(0.99, {})"),
    "Samples": ("sum", "count_over_time({})"),
    "Series": ("count", "count_over_time({})"),
}


class Sample(NamedTuple):
    """One element of an instant vector."""

    labels: dict[str, str]
    value: float


class Api:
    """The query API of one Prometheus."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self._url = url.rstrip("/")
        retry = Retry(total=2, backoff_factor=0.5, status_forcelist=[429, 502, 503, 504])
        self._client = PrometheusConnect(self._url, session=session, retry=retry, timeout=TIMEOUT_S)

    def __str__(self) -> str:
        return printable(self._url)

    def query(self, promql: str, at_unix_s: float | None = None) -> list[Sample]:
        """The instant vector of a query, now by the server's clock or at a time. Raises NoMetrics."""
        params = {} if at_unix_s is None else {"time": f"{at_unix_s:.3f}"}
        try:
            rows: list[dict[str, Any]] = self._client.custom_query(promql, params)
            return [Sample(dict(row["metric"]), float(row["value"][1])) for row in rows]
        except requests.exceptions.JSONDecodeError as error:
            raise NoMetrics(f"{self} does not answer like a Prometheus") from error
        except requests.RequestException as error:
            raise NoMetrics(f"{self}: {reason(error)}") from error
        except PrometheusApiClientException as error:
            raise NoMetrics(f"{self}: {status_of(error)}") from error
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise NoMetrics(f"{self} does not answer like a Prometheus") from error


def status_of(error: PrometheusApiClientException) -> str:
    """The client's text is "HTTP Status Code 403 (b'…')"; the status says enough, the body may say too much."""
    number = str(error).partition("Code ")[2].partition(" ")[0]
    return f"HTTP status {number}"


def selector(namespace: str | None, job: str | None) -> str:
    """The label matchers that pick the server's series, with their braces."""
    wanted = {"namespace": namespace, "job": job}
    quoted = [f"{label}={json.dumps(value, ensure_ascii=False)}" for label, value in wanted.items() if value]
    return "{" + ",".join(quoted) + "}"


def marked(promql: str, label: str, value: str) -> str:
    """The query with a label that tells its results from those of others in one `or`."""
    return f'label_replace({promql}, "{label}", "{value}", "", "")'


class PrometheusSource:
    """Metrics of one server from one Prometheus; `metrics` are those of its backend."""

    def __init__(
        self,
        api: Api,
        metrics: Sequence[Metric],
        *,
        namespace: str | None,
        job: str | None,
        settle_s: float,
        ready_s: float,
    ) -> None:
        self._api = api
        self._metrics = metrics
        self._where = selector(namespace, job)
        self._settle_s = settle_s
        self._ready_s = ready_s

    def check(self) -> None:
        """Waits up to `ready_s` for the first scrape. Raises ServerUnavailable for a Prometheus that cannot be reached
        or does not know the server."""
        deadline = time.monotonic() + self._ready_s
        try:
            while not self._gauge_there():
                if time.monotonic() > deadline:
                    raise ServerUnavailable(
                        f"{self._api} has no metrics of the server with {self._where}; see --pm-namespace and --pm-job"
                    )
                time.sleep(POLL_S)
        except NoMetrics as error:
            raise ServerUnavailable(f"no server metrics from Prometheus at {error}") from error

    def point_started(self) -> None:
        """Nothing: Prometheus keeps the past."""

    def point_finished(self, start_unix_s: float, end_unix_s: float) -> tuple[Metrics, list[str]]:
        notices: list[str] = []
        try:
            after = self._wait_for_scrape(end_unix_s)
            if after is None:
                notices.append(
                    f"Prometheus has no scrape of the server from the {self._settle_s:.0f} s after the point: "
                    "its counters lack the point's end"
                )
            metrics, more = self._read(start_unix_s, end_unix_s, after or end_unix_s)
        except NoMetrics as error:
            return {}, [f"server metrics of this point are missing: {error}"]
        return metrics, notices + more

    def _gauge_there(self) -> str | None:
        """A query for a gauge that Prometheus has of the server now; None where it has none."""
        names = (name for metric in self._metrics if metric.kind == "gauge" for name in metric.names)
        queries = (f"{name}{self._where}" for name in names)
        return next((query for query in queries if self._api.query(query)), None)

    def _wait_for_scrape(self, end_unix_s: float) -> float | None:
        """The time by which every series has a sample from after the point; None if that does not come in time."""
        deadline = time.monotonic() + self._settle_s
        while True:
            gauge = self._gauge_there()
            times = [sample.value for sample in self._api.query(f"timestamp({gauge})")] if gauge else []
            if times and min(times) >= end_unix_s:
                return max(times)
            if time.monotonic() > deadline:
                return None
            time.sleep(POLL_S)

    def _read(self, start: float, end: float, after: float) -> tuple[Metrics, list[str]]:
        """All metrics; raises NoMetrics where Prometheus fails on the way."""
        window = f"{self._where}[{max(1, round((end - start) * 1000))}ms]"
        gauges: Metrics = {}
        sums: Metrics = {}
        before_families: dict[str, Family] = {}
        after_families: dict[str, Family] = {}
        for metric in self._metrics:
            for name in metric.names:
                if metric.kind == "gauge":
                    gauges[name] = self._gauge(name, window, end)
                    continue
                after_families[name] = self._family(name, metric, after)
                before_families[name] = self._family(name, metric, start)
                if metric.kind == "counter":
                    sums[name] = self._sums(name, window, end)
        there = {name for name, row in gauges.items() if row}
        there |= {name for name, family in after_families.items() if family.samples}
        notices = gauge_notices(gauges)
        if not any(family.samples for family in before_families.values()):
            after_families.clear()
            notices.append("Prometheus has no sample from before the point: counters and histograms are left out")
        metrics, more = deltas(Scrape(start, before_families), Scrape(end, after_families))
        restarts = [name for name, row in sums.items() if row.pop("Resets", 0.0) > 0]
        if restarts and not any("restarted" in notice for notice in more):
            more.append(f"the server restarted during the point; increases are lower bounds: {', '.join(restarts)}")
        expected = [m for m in self._metrics if not m.optional and (m.kind != "gauge" or any(gauges.values()))]
        missing = [metric.names[0] for metric in expected if there.isdisjoint(metric.names)]
        if missing:
            more.append(f"Prometheus does not have {', '.join(missing)}")
        rows = {name: {**sums.get(name, {}), **row} for name, row in metrics.items() if name in there}
        return {name: row for name, row in gauges.items() if row} | rows, notices + more

    def _gauge(self, name: str, window: str, at: float) -> dict[str, float]:
        """Statistics over the samples of the window; of several series the means (Min and Max: over all)."""
        queries = [
            marked(f"{over_series}({over_time.format(name + window)})", "statistic", statistic)
            for statistic, (over_series, over_time) in GAUGE_STATISTICS.items()
        ]
        rows = {sample.labels["statistic"]: sample.value for sample in self._api.query(" or ".join(queries), at)}
        return {key: rows[key] for key in GAUGE_STATISTICS if math.isfinite(rows.get(key, math.nan))}

    def _sums(self, name: str, window: str, at: float) -> dict[str, float]:
        """Of a counter: the sum of its samples, `sum_over_time` (the name and meaning that the key Sum has always
        had), and how often it was reset."""
        functions = {"Sum": "sum_over_time", "Resets": "resets"}
        queries = [marked(f"sum({what}({name}{window}))", "statistic", key) for key, what in functions.items()]
        return {row.labels["statistic"]: row.value for row in self._api.query(" or ".join(queries), at)}

    def _family(self, name: str, metric: Metric, at: float) -> Family:
        """The series of a counter or histogram at a time, as an exposition would have them."""
        parts = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        query = " or ".join(marked(f"{name}{part}{self._where}", "part", f"part{part}") for part in parts)
        family = Family(metric.kind)
        for labels, value in self._api.query(query, at):
            part = labels.pop("part").removeprefix("part")
            labels.pop("__name__", None)
            family.samples[name + part, tuple(sorted(labels.items()))] = value
        return family


def gauge_notices(gauges: Metrics) -> list[str]:
    """Takes the two counts out of the rows and says what they mean for the reader."""
    notices = []
    counts = {name: (row.pop("Samples"), row.pop("Series")) for name, row in gauges.items() if row}
    if not counts:
        notices.append("Prometheus did not scrape the server inside the point: gauges are left out")
    elif min(samples / series for samples, series in counts.values()) < FEW_SCRAPES:
        notices.append(f"fewer than {FEW_SCRAPES} scrapes inside the point: gauges are rough")
    several = [name for name, (_, series) in counts.items() if series > 1]
    if several:
        notices.append(f"means over several series (Min and Max over all): {', '.join(several)}")
    return notices
