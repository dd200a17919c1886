"""Google Managed Prometheus: the same PromQL behind Google's door.

What differs: https://cloud.google.com/stackdriver/docs/managed-prometheus/promql-differences. Metric names are matched
whole or not at all, and samples arrive late. The collectors drop the first sample of every counter that does not tell
when it was created, and store the others as growth since then: differences hold, but what a series had counted when it
first showed is lost.
"""

import logging
import os
from typing import Any
from urllib.parse import quote

from latency_profile.errors import ServerUnavailable
from latency_profile.telemetry.doors import NoMetrics
from latency_profile.telemetry.prometheus_api import Api

ROOT = "https://monitoring.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/monitoring.read"
ROLE = "roles/monitoring.viewer"


class GoogleApi(Api):
    """Of one project, with google.auth credentials: tokens are had and refreshed as they are needed."""

    def __init__(self, credentials: Any, project: str, root: str = ROOT) -> None:
        from google.auth.transport.requests import AuthorizedSession

        session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        super().__init__(f"{root}/v1/projects/{quote(project, safe=':')}/location/global/prometheus", session)
        self._project = project

    def __str__(self) -> str:
        return f"Google Managed Prometheus of project {self._project}"

    def said(self, status: int) -> str:
        if status in {401, 403}:
            return f"{super().said(status)}, the credentials need {ROLE} there"
        return super().said(status)

    def _ask(self, promql: str, params: dict[str, str]) -> list[dict[str, object]]:
        from google.auth.exceptions import GoogleAuthError

        try:
            return super()._ask(promql, params)
        except GoogleAuthError as error:
            raise NoMetrics(f"{self}: no access token for the credentials ({type(error).__name__})") from error


def open_google(project: str | None = None, root: str = ROOT) -> Api:
    """With the application default credentials. The project: as given, else GOOGLE_CLOUD_PROJECT, else that of the
    credentials. Raises ServerUnavailable without either."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    logging.getLogger("google").setLevel(logging.ERROR)  # it warns of every failed ping of the metadata server
    try:
        credentials, own_project = google.auth.default(scopes=[SCOPE])
    except (GoogleAuthError, ValueError, OSError) as error:
        raise ServerUnavailable(
            "no Google Cloud credentials for Google Managed Prometheus; --prometheus-url names another Prometheus"
        ) from error
    chosen = project or os.environ.get("GOOGLE_CLOUD_PROJECT") or own_project
    if not chosen:
        raise ServerUnavailable("Google's credentials name no project: --pm-project or GOOGLE_CLOUD_PROJECT does")
    return GoogleApi(credentials, chosen, root)
