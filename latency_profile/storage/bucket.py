"""Results in a bucket of Google Cloud Storage, with no more than the right to create objects in it.

What an account of roles/storage.objectCreator may do is to create objects: not to read, list, replace or delete them,
nor to look at the bucket. All that a profile needs to leave its results works with that; `get` and `list` (to resume),
`replace` and `delete` raise NotAllowed or say False.
"""

import base64
import enum
import io
import logging
import mimetypes
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from latency_profile.errors import ServerUnavailable, StorageError, UsageError
from latency_profile.storage.failures import failures, hopeless, reason, refuses_to_replace, status_of, transient
from latency_profile.storage.names import MOST_NAMES, hidden, names
from latency_profile.storage.store import HURRIED_S, Names, NotAllowed

ATTEMPT_TIMEOUT_S = (5.0, 30.0)  # to connect, and between two reads
CHECK_PATIENCE_S = 60.0  # a pod's network policy and identity may take some seconds to be there
CHUNK_BYTES = 8 << 20  # of a large file, in memory at a time and sent again if its request fails
NEW_SESSIONS = 3  # of a large file whose upload the server has forgotten
CREATE = "storage.objects.create"
MARK = ".latency-profile-was-here"
WRITER = "latency-profile-writer"  # metadata of an object: which call has made it


class _Found(enum.Enum):
    """What became of an upload under a name."""

    STORED = enum.auto()
    TAKEN = enum.auto()  # by something else
    SAME = enum.auto()  # by the same bytes
    UNKNOWN = enum.auto()  # taken, after a try whose answer got lost, and this account may not look by what


@dataclass(frozen=True, slots=True)
class _Content:
    """Bytes to upload, from memory or from a file."""

    open: Callable[[], BinaryIO]
    size: int

    def crc32c(self) -> str:
        """As Google writes it: base64 of the big-endian CRC32C (RFC 9260, appendix A)."""
        import google_crc32c

        checksum: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
        with self.open() as stream:
            while block := stream.read(1 << 20):
                checksum.update(block)
        return base64.b64encode(checksum.digest()).decode()


class Bucket:
    """A folder of a Google Cloud Storage bucket."""

    def __init__(self, name: str, folder: str, patience_s: float) -> None:
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import storage

        # Newer versions of the library look at the bucket in a thread of their own, for traces that nobody collects.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        logging.getLogger("google").setLevel(logging.ERROR)  # its warnings about retries would tear the progress
        self._name = name
        self._folder = folder
        self._patience_s = patience_s
        self.hurried: Callable[[], bool] = lambda: False
        try:
            self._client = storage.Client()
        except (GoogleAuthError, OSError) as error:
            raise UsageError(
                f"--output-bucket: no Google Cloud credentials for gs://{name} (a service account of the pod, "
                "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login)"
            ) from error
        self._bucket = self._client.bucket(name)

    def check(self) -> None:
        """As Store.check, by what an object writer may ask: which of its permissions the bucket grants.

        That question needs no permission itself and leaves nothing behind. Where it is not answered with yes, that may
        be an emulator that does not know it, or a right that holds for a folder only; then an object of a fixed name is
        created, once for all runs: where it is there already the answer is 412, to those only who may create it.
        """
        try:
            granted = self._bucket.test_iam_permissions([CREATE], **self._options(CHECK_PATIENCE_S))
        except failures() as error:
            self._raise_unless_told(error)
            granted = []
        if CREATE in granted:
            return
        content = _of_bytes(b"latency-profile writes its results into this folder.\n")
        try:
            self._upload(self._folder + MARK, content, patience_s=CHECK_PATIENCE_S)
        except failures() as error:
            self._raise_unless_told(error)
            if status_of(error) == 404:
                raise UsageError(f"--output-bucket: there is no bucket gs://{self._name}") from error
            raise UsageError(
                f"--output-bucket: no object can be created in {self.place('')}: {reason(error)}; it takes an account "
                f"with {CREATE} there, as roles/storage.objectCreator has"
            ) from error

    def _raise_unless_told(self, error: BaseException) -> None:
        """Raises where the error tells nothing of this bucket: no connection, no credentials, a server that is ill."""
        if hopeless(error):
            raise UsageError(f"--output-bucket: cannot use gs://{self._name}: {reason(error)}") from error
        status = status_of(error)
        if status is None or status == 429 or (status >= 500 and status != 501):  # 501: it does not know the question
            raise ServerUnavailable(f"cannot reach the bucket gs://{self._name}: {reason(error)}") from error

    def place(self, name: str) -> str:
        return f"gs://{self._name}/{self._folder}{name}"

    def put(self, name: str, data: bytes, *, own: bool = False) -> str:
        return self._put(name, _of_bytes(data), own)

    def put_file(self, name: str, path: Path) -> str:
        return self._put(name, _Content(lambda: path.open("rb"), path.stat().st_size), own=False)

    def get(self, name: str) -> bytes | None:
        from google.api_core.exceptions import NotFound

        try:
            data: bytes = self._bucket.blob(self._folder + name).download_as_bytes(**self._options())
        except NotFound:
            return None
        except failures() as error:
            raise self._failed("read", name, error) from error
        return data

    def list(self, prefix: str = "") -> Names:
        try:
            blobs = self._client.list_blobs(self._bucket, prefix=self._folder + prefix, **self._options())
            found = [blob.name.removeprefix(self._folder) for blob in blobs]
        except failures() as error:
            raise self._failed("list", prefix, error) from error
        return sorted(name for name in found if not hidden(name) and not name.endswith("/"))

    def create(self, name: str, data: bytes) -> bool:
        try:
            found = self._upload(self._folder + name, _of_bytes(data))
        except failures() as error:
            raise self._failed("store", name, error) from error
        if found == _Found.UNKNOWN:
            raise NotAllowed(f"cannot tell who created {self.place(name)}: this account may not look at it")
        return found == _Found.STORED

    def replace(self, name: str, data: bytes) -> None:
        try:
            self._send(self._bucket.blob(self._folder + name), _of_bytes(data), None, self._options())
        except failures() as error:
            raise self._failed("store", name, error) from error

    def delete(self, name: str) -> bool:
        try:
            self._bucket.blob(self._folder + name).delete(**self._options(CHECK_PATIENCE_S))
        except failures():
            return False
        return True

    def _put(self, name: str, content: _Content, own: bool) -> str:
        from google.cloud.storage.exceptions import DataCorruption

        for candidate in names(name):
            try:
                found = self._upload(self._folder + candidate, content)
            except DataCorruption:  # stored with other bytes than were sent: that name is spent
                continue
            except failures() as error:
                raise self._failed("store", candidate, error, "; the file stays on disk") from error
            # A second copy is what one gets who may not look, where an answer got lost: no file is ever taken for ours
            # that may be another's.
            if own or found in {_Found.STORED, _Found.SAME}:
                return self.place(candidate)
        raise StorageError(f"cannot store {name}: {MOST_NAMES} objects of this name are in gs://{self._name} already")

    def _upload(self, key: str, content: _Content, patience_s: float | None = None) -> _Found:
        """Creates an object, or finds out by what its name is taken. Raises what `failures` has."""
        from google.api_core.exceptions import Forbidden, PreconditionFailed

        blob = self._bucket.blob(key)
        blob.metadata = {WRITER: uuid.uuid4().hex}
        lost: list[Exception] = []  # failed tries, any of which may have been stored
        options = self._options(patience_s, lost.append)
        try:
            self._send(blob, content, 0, options)
        except PreconditionFailed:
            return self._look(key, content, blob.metadata[WRITER], bool(lost), options)
        except Forbidden as error:
            if refuses_to_replace(error):
                return self._look(key, content, blob.metadata[WRITER], bool(lost), options)
            raise
        return _Found.STORED

    def _send(self, blob: Any, content: _Content, generation: int | None, options: dict[str, Any]) -> None:
        """Uploads, and compares the CRC32C that the server gives with the file's. The library sends its own along, and
        compares that of a large file; an endpoint that looks at neither is found out here.

        A large file goes in chunks, each of which is tried again by itself; where the server has forgotten the upload
        that they belong to, it begins again.
        """
        from google.api_core.exceptions import GoogleAPICallError
        from google.cloud.storage.exceptions import DataCorruption

        content_type = mimetypes.guess_type(blob.name)[0] or "application/octet-stream"
        if content.size > CHUNK_BYTES:
            blob.chunk_size = CHUNK_BYTES
        for session in range(NEW_SESSIONS):
            try:
                with content.open() as stream:
                    blob.upload_from_file(
                        stream,
                        size=content.size,
                        content_type=content_type,
                        if_generation_match=generation,
                        checksum="crc32c",
                        **options,
                    )
                if blob.crc32c not in {None, content.crc32c()}:
                    raise DataCorruption(None, "other bytes were stored than were sent")
                return
            except GoogleAPICallError as error:
                last = session == NEW_SESSIONS - 1
                if last or content.size <= CHUNK_BYTES or status_of(error) not in {404, 410}:
                    raise
                time.sleep(1.0)

    def _look(self, key: str, content: _Content, writer: str, doubtful: bool, options: dict[str, Any]) -> _Found:
        """By what a name is taken. Where one may create objects but not look at them, it is another's, unless a try of
        ours may have been stored."""
        from google.api_core.exceptions import Forbidden

        try:
            there = self._bucket.get_blob(key, **options)
        except Forbidden:
            return _Found.UNKNOWN if doubtful else _Found.TAKEN
        if there is None or there.size != content.size or there.crc32c != content.crc32c():
            return _Found.TAKEN
        return _Found.STORED if (there.metadata or {}).get(WRITER) == writer else _Found.SAME

    def _options(
        self, patience_s: float | None = None, on_error: Callable[[Exception], object] | None = None
    ) -> dict[str, Any]:
        """How requests that belong together are tried again: a large file's chunks share one patience, which counts
        from the first of their failures, as a file that only takes long has failed nowhere."""
        from google.cloud.storage.retry import DEFAULT_RETRY

        patience_s = min(self._patience_s, patience_s or self._patience_s)
        began = time.monotonic()
        first_failure: float | None = None

        def again(error: Exception) -> bool:
            nonlocal first_failure
            if not transient(error):
                return False
            if on_error is not None:
                on_error(error)
            now = time.monotonic()
            first_failure = first_failure or now
            return now <= first_failure + patience_s and not (self.hurried() and now > began + HURRIED_S)

        retry = DEFAULT_RETRY.with_timeout(patience_s).with_delay(initial=0.5, maximum=8.0, multiplier=2.0)
        return {"timeout": ATTEMPT_TIMEOUT_S, "retry": retry.with_predicate(again)}

    def _failed(self, doing: str, name: str, error: BaseException, rest: str = "") -> StorageError:
        kind = NotAllowed if status_of(error) == 403 else StorageError
        return kind(f"cannot {doing} {self.place(name)}: {reason(error)}{rest}")


def _of_bytes(data: bytes) -> _Content:
    return _Content(lambda: io.BytesIO(data), len(data))
