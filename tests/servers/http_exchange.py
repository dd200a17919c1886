"""One HTTP exchange seen raw: what tests of a server's wire form look at. Not the client under test."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec


@dataclass(frozen=True)
class Answer:
    """A whole answer, its body without the transfer coding; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    @property
    def data(self) -> list[bytes]:
        """The data of each server-sent event. ValueError unless each is one `data: …` line and an empty one."""
        *events, rest = self.body.split(b"\n\n")
        if rest or not all(event.startswith(b"data: ") and b"\n" not in event for event in events):
            raise ValueError(f"not a stream of single-line events: {self.body[:300]!r}")
        return [event.removeprefix(b"data: ") for event in events]

    @property
    def events(self) -> list[Any]:
        """The data of each event but a `[DONE]`, decoded."""
        return [msgspec.json.decode(data) for data in self.data if data != b"[DONE]"]


class Connection:
    """A single connection, never opened again by itself; closed at the end of a `with`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._http = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._http.connect()
        self._http.auto_open = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def exchange(self, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """GET `path`, or POST `body` to it as JSON, and read the answer to its end."""
        data = None if body is None else msgspec.json.encode(body)
        method, headers = ("GET", {}) if data is None else ("POST", {"Content-Type": "application/json"})
        self._http.request(method, path, data, headers)
        response = self._http.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def closed_by_server(self, within_s: float = 10.0) -> bool:
        """Whether the server closes the idle connection within that time."""
        sock = self._http.sock
        if sock is None:  # it had announced that with `Connection: close`
            return True
        sock.settimeout(within_s)
        try:
            return sock.recv(1) == b""
        except TimeoutError:
            return False
        finally:
            sock.settimeout(60)


def exchange(url: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
    """One exchange on a connection of its own."""
    with Connection(url) as connection:
        return connection.exchange(path, body)
