"""Google Managed Prometheus: the same PromQL behind Google's door."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

from latency_profile.errors import ServerUnavailable
from latency_profile.telemetry.prometheus import Api

ROOT = "https://monitoring.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/monitoring.read"


def google_api(credentials: Any, project: str, root: str = ROOT) -> Api:
    """The query API of a project, with google.auth credentials."""
    from google.auth.transport.requests import AuthorizedSession

    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    return Api(f"{root}/v1/projects/{project}/location/global/prometheus", session)


def open_google() -> Api:
    """With the application default credentials and their project. Raises ServerUnavailable without either."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    logging.getLogger("google").setLevel(logging.ERROR)  # it warns of every failed ping of the metadata server
    try:
        credentials, project = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as error:
        raise ServerUnavailable(
            "no Google Cloud credentials for Google Managed Prometheus; --prometheus-url names another Prometheus"
        ) from error
    if not project:
        raise ServerUnavailable("Google's credentials name no project: set GOOGLE_CLOUD_PROJECT")
    return google_api(credentials, project)


def likely_on_google() -> bool:
    """Whether credentials may be had: a key file, gcloud's own, or a metadata server that takes a connection.

    google.auth itself would search for seconds on a machine that has none of them.
    """
    config = os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config/gcloud"
    if (
        os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        or (Path(config) / "application_default_credentials.json").exists()
    ):
        return True
    if os.environ.get("NO_GCE_CHECK", "").lower() == "true":
        return False
    host, _, port = os.environ.get("GCE_METADATA_HOST", "169.254.169.254").partition(":")
    try:
        with socket.create_connection((host, int(port or 80)), timeout=0.5):
            return True
    except OSError:
        return False
