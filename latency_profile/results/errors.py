"""What became of requests that did not succeed, by kind and by the names that results always had. Pure."""

from typing import Any

from numpy.typing import NDArray

from latency_profile.records import Status

UNKNOWN_ERROR = "unknown_error"

# The names that pipelines read; every other status that is not OK counts as unknown_error.
SEED_ERRORS = {
    Status.CONNECT_REFUSED: "ClientConnectorError",
    Status.CONNECT_TIMEOUT: "ClientConnectorError",
    Status.TLS_FAILED: "ClientConnectorError",
    Status.TIMEOUT: "TimeoutError",
    Status.STALLED: "TimeoutError",
    Status.NOT_HTTP: "ContentTypeError",
    Status.CONTENT_TYPE: "ContentTypeError",
    Status.MALFORMED: "ContentTypeError",
    Status.NOT_UTF8: "ContentTypeError",
    Status.TOO_LONG: "ContentTypeError",
    Status.RESET: "ClientOSError",
    Status.DISCONNECTED: "ServerDisconnectedError",
    Status.TRUNCATED: "ServerDisconnectedError",
}


def seed_errors(statuses: NDArray[Any]) -> dict[str, int]:
    """Counts by the six names that results always had; they sum up to attempted - succeeded."""
    totals = dict.fromkeys((*SEED_ERRORS.values(), UNKNOWN_ERROR), 0)
    for kind in Status:
        if kind not in (Status.OK, Status.NOT_SENT):
            totals[SEED_ERRORS.get(kind, UNKNOWN_ERROR)] += int((statuses == kind).sum())
    return totals


def errors_by_kind(statuses: NDArray[Any]) -> dict[str, int]:
    """Requests of every status but OK, by its name, also where there are none; they sum up to planned - succeeded."""
    return {kind.name: int((statuses == kind).sum()) for kind in Status if kind is not Status.OK}
