"""What the Hugging Face hub says where it does not give a file."""

import os

from latency_profile.errors import ServerUnavailable, UsageError

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses that another try may not meet


def refusal(said_first: str, error: Exception, takes: str) -> UsageError | ServerUnavailable:
    """What to raise: ServerUnavailable where there was no answer, or one that passes, so that a Job may try again."""
    said = f"{said_first}: the hub did not give it: {one_line(error)}; {takes}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    # The hub's library raises OSErrors and ValueErrors of its own, and lets those of httpx (httpx2) below it through.
    network = isinstance(error, OSError) or type(error).__module__.startswith("httpx")
    return ServerUnavailable(said) if network and (status is None or status in _PASSING) else UsageError(said)


def one_line(error: Exception) -> str:
    """The beginning of a library's message, without the token that the hub was asked with."""
    line = " ".join(str(error).split()) or type(error).__name__
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        secret = os.environ.get(variable)
        if secret:
            line = line.replace(secret, "***")
    return line[:160].rstrip(".:; ")
