"""What went wrong with a request to Google Cloud Storage, in a few words of ours: Google's own text can hold the URL of
an upload, which is a key."""

import itertools
from collections.abc import Iterator

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


def failures() -> tuple[type[Exception], ...]:
    """What google-cloud-storage raises where a request came to nothing."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    return (GoogleAPIError, GoogleAuthError, InvalidResponse, DataCorruption, OSError)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the server gave; None where there was no answer."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.storage.exceptions import InvalidResponse

    for step in itertools.islice(_causes(error), 10):
        if isinstance(step, GoogleAPICallError):
            return int(step.code or 0) or None
        if isinstance(step, InvalidResponse):
            return int(step.response.status_code)
    return None


def hopeless(error: BaseException) -> bool:
    """Whether the credentials are wrong, so that trying again later is of no use either."""
    from google.auth.exceptions import GoogleAuthError, TransportError

    for step in itertools.islice(_causes(error), 10):
        if isinstance(step, GoogleAuthError):
            return not isinstance(step, TransportError) and not getattr(step, "retryable", False)
    return status_of(error) == 401


def transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: https://cloud.google.com/storage/docs/retry-strategy."""
    status = status_of(error)
    return (
        not hopeless(error)
        and (status is None or status in TRANSIENT)
        and not isinstance(error, FileNotFoundError | PermissionError)
    )


def refuses_to_replace(error: BaseException) -> bool:
    """Whether a 403 says that the name is taken: who may only create an object lacks the right to delete the one that
    is there, and Google names that right."""
    return status_of(error) == 403 and "storage.objects.delete" in str(error)


def reason(error: BaseException) -> str:
    """Why a request failed."""
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud.storage.exceptions import DataCorruption

    if isinstance(error, DataCorruption):
        return "it was stored with other bytes than were sent"
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"the file itself: {error.strerror}"
    status = status_of(error)
    if status is not None:
        return {401: "not authorized (401)", 403: "no permission (403)"}.get(status, f"HTTP status {status}")
    for step in itertools.islice(_causes(error), 10):
        if isinstance(step, GoogleAuthError) and not isinstance(step, TransportError):
            return "Google did not accept the credentials"
        if "timeout" in type(step).__name__.lower():
            return "no answer in time"
    return "no connection"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it."""
    step: BaseException | None = error
    while step is not None:
        yield step
        step = step.__cause__ or step.__context__
