"""The query API of one Prometheus, and in words why it does not answer.

An answer's body is never printed: it may hold what others sent there.
"""

import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util import Retry

from latency_profile.request_errors import reason
from latency_profile.telemetry.doors import NoMetrics
from latency_profile.telemetry.promql import Series, series_of

TIMEOUT_S = (3.0, 15.0)  # to connect, and to answer
AGAIN = {429, 502, 503, 504}  # statuses after which the same may be asked once more
ATTEMPTS = 4
FIRST_PAUSE_S = 0.5  # twice as long each time, where the answer does not say how long
LONGEST_PAUSE_S = 10.0
LONGEST_WAIT_S = 30.0  # all pauses of one point together


class Refused(NoMetrics):
    """This query has no result; others may have one."""


class Api:
    """Of the Prometheus at a URL; `session` knows TLS and credentials."""

    def __init__(self, url: str, session: requests.Session, sleep: Callable[[float], None] = time.sleep) -> None:
        self._url, self._sleep = url.rstrip("/"), sleep
        self._waited_s = 0.0
        self._retry_after = ""
        session.hooks["response"].append(self._note)
        logging.getLogger("urllib3.connectionpool").setLevel(
            logging.ERROR
        )  # it warns of every attempt, with whole URLs
        # Attempts after an answer are made here: urllib3 would sleep as long as Retry-After says, however long that is.
        retry = Retry(total=None, connect=2, read=1, redirect=0, status=0, other=0, backoff_factor=0.3)
        self._client = PrometheusConnect(self._url, session=session, retry=retry, timeout=TIMEOUT_S)

    def __str__(self) -> str:
        parts = urlsplit(self._url)
        return f"Prometheus at {parts._replace(netloc=parts.netloc.rpartition('@')[2], query='').geturl()}"

    def fresh(self) -> None:
        """A new point: there may be pauses again."""
        self._waited_s = 0.0

    def query(self, promql: str, at_unix_s: float | None = None) -> list[Series]:
        """What a query gives, now by the server's clock or at a time.

        Raises Refused where it answers with an error status (after some attempts where that helps), NoMetrics where it
        does not answer, or not as a Prometheus does.
        """
        params = {} if at_unix_s is None else {"time": f"{at_unix_s:.3f}"}
        for attempt in range(ATTEMPTS):
            try:
                return series_of(self._ask(promql, params))
            except PrometheusApiClientException as error:
                status = _status(error)
                pause_s = self._pause_s(attempt)
                if status in AGAIN and attempt + 1 < ATTEMPTS and self._waited_s + pause_s <= LONGEST_WAIT_S:
                    self._waited_s += pause_s
                    self._sleep(pause_s)
                    continue
                raise Refused(f"{self} {self.said(status)}") from error
            except requests.exceptions.JSONDecodeError as error:
                raise NoMetrics(f"{self} does not answer like a Prometheus") from error
            except requests.RequestException as error:
                raise NoMetrics(f"{self}: {reason(error)}") from error
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise NoMetrics(f"{self} does not answer like a Prometheus") from error
        raise AssertionError("the last attempt returns or raises")

    def said(self, status: int) -> str:
        """An error status in words."""
        what = {
            400: "refuses the query",
            401: "wants credentials",
            403: "denies access",
            404: "has no query API there",
            422: "cannot evaluate the query",
            429: "has had too many requests",
        }
        return f"{what.get(status, 'fails')} (HTTP status {status})"

    def _ask(self, promql: str, params: dict[str, str]) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = self._client.custom_query(promql, params)
        return rows

    def _note(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """The client's errors have no headers."""
        self._retry_after = response.headers.get("Retry-After", "")

    def _pause_s(self, attempt: int) -> float:
        asked_for = float(self._retry_after) if self._retry_after.isdecimal() else FIRST_PAUSE_S * 2.0**attempt
        return min(asked_for, LONGEST_PAUSE_S)


def _status(error: PrometheusApiClientException) -> int:
    """The client's text is "HTTP Status Code 403 (b'…')"."""
    digits = str(error).partition("Code ")[2].partition(" ")[0]
    return int(digits) if digits.isdecimal() else 0
