"""The server's own /metrics, read at the edges of each point."""

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests

from latency_profile.errors import ServerUnavailable
from latency_profile.telemetry.deltas import Metrics, deltas
from latency_profile.telemetry.exposition import Scrape, parse

TIMEOUT_S = 5.0
SETTLE_S = 0.3  # a server counts a request a moment after its last byte
ACCEPT = "text/plain;version=0.0.4"


class NoMetrics(Exception):
    """There are no metrics now; `str(error)` says why, in words and without secrets."""


def scrape(url: str, headers: Mapping[str, str], timeout: float = TIMEOUT_S, verify: bool | str = True) -> Scrape:
    """What `url` says now, stamped with the monotonic clock. Raises NoMetrics."""
    place = printable(url)
    try:
        answer = requests.get(url, headers={"Accept": ACCEPT, **headers}, timeout=timeout, verify=verify)
        now = time.monotonic()
    except requests.RequestException as error:
        raise NoMetrics(f"{place}: {reason(error)}") from error
    if answer.status_code != 200:
        raise NoMetrics(f"{place}: HTTP status {answer.status_code}")
    try:
        families = parse(answer.content.decode())
    except ValueError as error:
        raise NoMetrics(f"{place}: not Prometheus' text format") from error
    if not families:
        raise NoMetrics(f"{place}: no metrics")
    return Scrape(now, families)


def printable(url: str) -> str:
    """The URL without a user name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def reason(error: requests.RequestException) -> str:
    """Why a request failed, in a few words: the library's own text holds whole URLs."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its TLS certificate is not accepted"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return "no usable answer"


class DirectSource:
    """Deltas of the server's own metrics. It sees one process: behind an address with several replicas it says so."""

    def __init__(self, base_url: str, headers: Mapping[str, str], verify: bool | str) -> None:
        self._url = base_url.rstrip("/") + "/metrics"
        self._headers = headers
        self._verify = verify
        self._before: Scrape | NoMetrics = NoMetrics("no point has begun")

    def check(self) -> None:
        try:
            self._scrape()
        except NoMetrics as error:
            raise ServerUnavailable(f"no server metrics from {error}") from error

    def point_started(self) -> None:
        try:
            self._before = self._scrape()
        except NoMetrics as error:
            self._before = error

    def point_finished(self, start_unix_s: float, end_unix_s: float) -> tuple[Metrics, list[str]]:
        """The edges are the two scrapes; the times are not needed."""
        if isinstance(self._before, NoMetrics):
            return {}, [f"server metrics of this point are missing: {self._before}"]
        time.sleep(SETTLE_S)
        try:
            return deltas(self._before, self._scrape())
        except NoMetrics as error:
            return {}, [f"server metrics of this point are missing: {error}"]

    def _scrape(self) -> Scrape:
        return scrape(self._url, self._headers, verify=self._verify)
