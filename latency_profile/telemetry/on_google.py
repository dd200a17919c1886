"""Whether this machine may have Google Cloud's credentials. Asked of every profile: it imports nothing large."""

import os
import socket
from pathlib import Path


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
