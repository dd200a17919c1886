"""Where results go: a local folder, a bucket of Google Cloud Storage, or what another URL names; one interface.

Nothing is ever overwritten: a name that is taken by other bytes gets "-2", "-3" and so on before its suffix.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from latency_profile.errors import UsageError
from latency_profile.local_path import local_path
from latency_profile.storage.folder import Folder
from latency_profile.storage.names import names
from latency_profile.storage.store import NotAllowed, Readable, Store

__all__ = [
    "PATIENCE_S",
    "NotAllowed",
    "Readable",
    "Store",
    "names",
    "open_bucket",
    "open_folder",
    "open_place",
    "open_url",
]

PATIENCE_S = 300.0  # how long one upload is tried again; one more attempt may be under way at its end
# https://cloud.google.com/storage/docs/buckets#naming
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def open_folder(path: Path) -> Store:
    """A local folder; made by `check` or by the first file."""
    return Folder(path)


def open_place(place: str) -> Store:
    """A folder, or what a URL names."""
    return open_url(place) if "://" in place else open_folder(local_path(place))


def open_bucket(bucket: str, prefix: str | None = None, *, patience_s: float = PATIENCE_S) -> Store:
    """A bucket, given as NAME or gs://NAME, and the folder in it (None: its root).

    Uses the application default credentials, or none at all where STORAGE_EMULATOR_HOST names an emulator. Raises
    UsageError for what is no bucket's name, and where there are no credentials.
    """
    from latency_profile.storage.bucket import Bucket

    name, _, folder = bucket.removeprefix("gs://").partition("/")
    if not BUCKET_NAME.fullmatch(name):
        raise UsageError(f"--output-bucket: {bucket!r} is no bucket; it takes NAME or gs://NAME")
    parts = [part for part in f"{folder}/{prefix or ''}".split("/") if part]
    return Bucket(name, "".join(f"{part}/" for part in parts), patience_s)


def open_url(url: str, *, patience_s: float = PATIENCE_S) -> Store:
    """What a URL names: gs:// and file:// as above, all others through fsspec (s3://bucket/folder, az://, hdfs://, …).

    Raises UsageError where fsspec, or its part for that scheme, is not installed.
    """
    scheme = urlsplit(url).scheme
    if scheme == "gs":
        return open_bucket(url, patience_s=patience_s)
    if scheme == "file":
        return Folder(Path(unquote(urlsplit(url).path)), "--output-url")
    from latency_profile.storage.remote import Remote

    return Remote(url, patience_s)
