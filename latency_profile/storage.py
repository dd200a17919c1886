"""Where results go: a local folder or a bucket of Google Cloud Storage, behind one interface.

Nothing is ever overwritten: a name that is taken by other bytes gets "-2", "-3" and so on before its suffix.
"""

import base64
import contextlib
import hashlib
import itertools
import logging
import mimetypes
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from latency_profile.errors import ServerUnavailable, StorageError, UsageError

PATIENCE_S = 60.0  # how long one upload is tried again; one more attempt may be under way at its end
ATTEMPT_TIMEOUT_S = (5.0, 30.0)  # to connect, and between two reads
MOST_NAMES = 1000
# https://cloud.google.com/storage/docs/buckets#naming
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


class Store(Protocol):
    """A place for results."""

    def check(self) -> None:
        """Told before anything is measured: raises UsageError for a place that is not there or takes no files, and
        ServerUnavailable for one that cannot be reached now."""

    def put(self, name: str, data: bytes) -> str:
        """Stores `data` whole under `name` and returns where it is (a path, gs://bucket/object).

        The same bytes under the same name are stored already; other bytes are left alone and a free name is taken.
        Raises StorageError where nothing could be stored.
        """


def open_folder(path: Path) -> Store:
    """A local folder; made by `check` or by the first file."""
    return Folder(path)


def open_bucket(bucket: str, prefix: str | None = None, *, patience_s: float = PATIENCE_S) -> Store:
    """A bucket, given as NAME or gs://NAME, and the folder in it (None: its root).

    Uses the application default credentials, or none at all where STORAGE_EMULATOR_HOST names an emulator. Raises
    UsageError for what is no bucket's name, and where there are no credentials.
    """
    name, _, folder = bucket.removeprefix("gs://").partition("/")
    if not BUCKET_NAME.fullmatch(name):
        raise UsageError(f"--output-bucket: {bucket!r} is no bucket; it takes NAME or gs://NAME")
    parts = [part for part in f"{folder}/{prefix or ''}".split("/") if part]
    return Bucket(name, "".join(f"{part}/" for part in parts), patience_s)


def names(name: str) -> Iterator[str]:
    """`name` and what is tried after it: a.json, a-2.json, a-3.json, ..."""
    yield name
    path = PurePosixPath(name)
    for number in range(2, MOST_NAMES + 1):
        yield str(path.with_name(f"{path.stem}-{number}{path.suffix}"))


class Folder:
    """A local folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        probe = self._path / f".latency-profile-{os.getpid()}"
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(f"--output-dir: cannot write to {self._path}: {error.strerror}") from error

    def put(self, name: str, data: bytes) -> str:
        temporary = self._path / f"{name}.{os.getpid()}.part"
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            for candidate in names(name):
                path = self._path / candidate
                if move_new(temporary, path) or path.read_bytes() == data:
                    return str(path)
        except OSError as error:
            raise StorageError(f"cannot write {self._path / name}: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):  # the reason above is the one that counts
                temporary.unlink(missing_ok=True)
        raise StorageError(f"cannot write {self._path / name}: {MOST_NAMES} files of this name are there already")


def move_new(source: Path, target: Path) -> bool:
    """Gives `source` the name `target` unless that is taken; False then."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without links (some FUSE mounts): the check and the rename are two steps there
        if target.exists():
            return False
        source.replace(target)
    return True


class Bucket:
    """A folder of a Google Cloud Storage bucket."""

    def __init__(self, name: str, folder: str, patience_s: float) -> None:
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import storage
        from google.cloud.storage.retry import DEFAULT_RETRY

        # Newer versions of the library look at the bucket in a thread of their own, for traces that nobody collects.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        logging.getLogger("google").setLevel(logging.ERROR)  # its warnings about retries would tear the progress
        self._name = name
        self._folder = folder
        self._options: dict[str, Any] = {
            "timeout": ATTEMPT_TIMEOUT_S,
            "retry": DEFAULT_RETRY.with_timeout(patience_s).with_delay(initial=0.5, maximum=8.0, multiplier=2.0),
        }
        try:
            self._bucket = storage.Client().bucket(name)
        except (GoogleAuthError, OSError) as error:
            raise UsageError(
                f"--output-bucket: no Google Cloud credentials for gs://{name} (a service account of the pod, "
                "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login)"
            ) from error

    def check(self) -> None:
        """As Store.check. A 403 passes: who may create objects need not be allowed to look at the bucket."""
        from google.api_core.exceptions import Forbidden, NotFound

        try:
            self._bucket.reload(**self._options)
        except Forbidden:
            return
        except NotFound as error:
            raise UsageError(f"--output-bucket: there is no bucket gs://{self._name}") from error
        except failures() as error:
            raise ServerUnavailable(f"cannot reach the bucket gs://{self._name}: {reason(error)}") from error

    def put(self, name: str, data: bytes) -> str:
        from google.api_core.exceptions import PreconditionFailed

        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        for candidate in names(name):
            key = self._folder + candidate
            place = f"gs://{self._name}/{key}"
            blob = self._bucket.blob(key)
            try:
                try:
                    blob.upload_from_string(data, content_type, if_generation_match=0, **self._options)
                    return place
                except PreconditionFailed:
                    if self._holds(key, data):
                        return place
            except failures() as error:
                raise StorageError(f"cannot store {place}: {reason(error)}; the file stays on disk") from error
        raise StorageError(f"cannot store {name}: {MOST_NAMES} objects of this name are in gs://{self._name} already")

    def _holds(self, key: str, data: bytes) -> bool:
        """Whether the object has these bytes: a try that was stored although its answer got lost, or a job's second
        run. False where one may create objects but not look at them."""
        from google.api_core.exceptions import Forbidden

        try:
            blob = self._bucket.get_blob(key, **self._options)
        except Forbidden:
            return False
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        return blob is not None and blob.md5_hash == digest


def failures() -> tuple[type[Exception], ...]:
    """What google-cloud-storage raises where a request came to nothing."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    return (GoogleAPIError, GoogleAuthError, InvalidResponse, DataCorruption, OSError)


def reason(error: BaseException) -> str:
    """Why a request failed, in a few words of ours: Google's own text can hold the URL of an upload, which is a key."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import InvalidResponse

    for step in itertools.islice(causes(error), 10):
        if isinstance(step, GoogleAuthError):
            return "Google did not accept the credentials"
        if isinstance(step, GoogleAPICallError | InvalidResponse):
            status = int(step.code or 0 if isinstance(step, GoogleAPICallError) else step.response.status_code)
            return {401: "not authorized (401)", 403: "no permission (403)"}.get(status, f"HTTP status {status}")
        if "timeout" in type(step).__name__.lower():
            return "no answer in time"
    return "no connection"


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it."""
    step: BaseException | None = error
    while step is not None:
        yield step
        step = step.__cause__ or step.__context__
