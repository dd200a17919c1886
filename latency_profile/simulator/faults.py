"""Faults on demand: `KIND:SHARE[:LENGTH],…`, drawn for each request from the seed and its prompt."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from latency_profile.simulator.connection import Reply

_SECOND = 1_000_000_000
_UNITS = {"ms": 1_000_000, "s": _SECOND}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s)?")

# Before anything of the answer: the request is not admitted.
REFUSALS = ("401", "429", "500", "502", "503", "redirect", "disconnect")
# kind: what it is, for the help
KINDS = {
    "401": "unauthorized",
    "429": "too many requests, Retry-After: 1",
    "500": "an error of the server",
    "502": "a gateway's HTML page",
    "503": "not available, Retry-After: 1",
    "redirect": "307 to another path",
    "disconnect": "closed before any byte of the answer",
    "reset": "a TCP reset in the answer's middle",
    "truncate": "an orderly close in the answer's middle",
    "stall": "the answer stops in its middle; for LENGTH, or for ever",
    "slow_header": "the head comes LENGTH late (default: 2s)",
    "error_event": "the server's own error in the middle of a stream of status 200; 200 with an error body",
    "malformed": "broken JSON in the middle",
    "not_utf8": "bytes that are no UTF-8 in the middle",
    "empty": "status 200 and no token",
    "no_end": "the finish and the end mark are missing, though the message is complete",
    "half_first": "the first event carries half of the answer (streams only)",
    "usage_off": "the server's count of output tokens is one too many",
}
_LENGTHS = {"slow_header": 2 * _SECOND, "stall": None}
_MESSAGES = {401: "Unauthorized", 429: "Too many requests", 500: "Internal server error", 503: "Service unavailable"}
_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
FAILURE = "Engine failed in the middle of the answer (a fault that was asked for)"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault and how often it comes."""

    kind: str
    share: float
    length_ns: int | None = None  # of a pause; None: for ever

    @property
    def refuses(self) -> bool:
        """Whether the request is not even admitted."""
        return self.kind in REFUSALS


def parse(text: str) -> tuple[Fault, ...]:
    """A `--fault` flag. Raises ValueError with the reason."""
    faults: list[Fault] = []
    for part in text.split(","):
        kind, *values = part.strip().split(":")
        if kind not in KINDS:
            raise ValueError(f"{part!r} is no fault; there are {', '.join(KINDS)}")
        if any(fault.kind == kind for fault in faults):
            raise ValueError(f"{kind} is given twice")
        if not 1 <= len(values) <= (2 if kind in _LENGTHS else 1):
            form = f"{kind}:SHARE or {kind}:SHARE:LENGTH" if kind in _LENGTHS else f"{kind}:SHARE"
            raise ValueError(f"{part!r} is not {form}")
        try:
            share = float(values[0])
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise ValueError(f"{values[0]!r} of {kind} is not a share from 0 to 1")
        length = _LENGTHS.get(kind)
        if len(values) == 2:
            match = _LENGTH.fullmatch(values[1])
            if match is None:
                raise ValueError(f"{values[1]!r} of {kind} is not a length such as 2s or 300ms")
            length = round(float(match[1]) * _UNITS[match[2] or "s"])
        faults.append(Fault(kind, share, length))
    total = sum(fault.share for fault in faults)
    if total > 1 + 1e-9:
        raise ValueError(f"the shares add up to {total:g}: a request has at most one fault")
    return tuple(faults)


class FaultPlan:
    """Which requests go wrong. The same seed, prompt and repetition of the prompt: the same fault."""

    def __init__(self, faults: Sequence[Fault], seed: int) -> None:
        self.faults = tuple(faults)
        self._seed = seed

    def draw(self, key: int, repeat: int) -> Fault | None:
        """The fault of one request. `repeat`: how often its prompt has come before."""
        if not self.faults:
            return None
        left = random.Random(f"fault {self._seed} {key} {repeat}").random()
        for fault in self.faults:
            left -= fault.share
            if left < 0:
                return fault
        return None


def message(status: int) -> str:
    """What a refusal of this status says."""
    return _MESSAGES[status]


def gateway() -> Reply:
    """What a gateway says whose server is gone."""
    return Reply(502, _GATEWAY, b"text/html")


def redirect(path: str) -> Reply:
    """To a path that nobody serves."""
    return Reply(307, b"", fields=b"location: /moved%b\r\n" % path.encode("latin-1"))


def broken_json(payload: bytes) -> bytes:
    """An event or body whose JSON stops in its middle; what frames an event stays."""
    end = b"\n\n" if payload.endswith(b"\n\n") else b""
    return payload[: max(1, (len(payload) - len(end)) // 2)] + end


def not_utf8(payload: bytes, text: bytes) -> bytes:
    """An event or body with bytes behind its text that are no UTF-8."""
    place = payload.rfind(text) + len(text) if text and text in payload else len(payload) // 2
    return payload[:place] + b"\xff\xfe" + payload[place:]
