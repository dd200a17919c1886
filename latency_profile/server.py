"""The server under test before anything is timed: where it is, whether it answers, which models it serves."""

import http.client
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from backends.base import Backend, BadAnswer
from latency_profile import __version__
from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.sender.connection import tls_context
from latency_profile.sender.job import Target, Tls

CONNECT_TIMEOUT_S = 10.0
LISTING_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A base URL taken apart, with the headers that every request carries (they may hold a secret)."""

    scheme: str
    host: str
    port: int
    prefix: str  # of every path, "" or "/team"
    headers: Sequence[tuple[str, str]]
    ca_file: str | None = None
    verify: bool = True

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"

    @property
    def tls(self) -> Tls | None:
        return Tls(self.host, self.ca_file, self.verify) if self.scheme == "https" else None

    def target(self, path: str) -> Target:
        """Where the sender connects to, tried once. Raises ServerUnavailable."""
        family, address = self._reachable()
        lines = [
            f"POST {self.prefix}{path} HTTP/1.1",
            f"host: {self.authority}",
            f"user-agent: latency-profile/{__version__}",
            "content-type: application/json",
            "accept: */*",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return Target(address, family, "".join(f"{line}\r\n" for line in lines).encode("latin-1"), self.tls)

    def _reachable(self) -> tuple[int, tuple[str, int]]:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise ServerUnavailable(f"cannot find host {self.host!r}: {error}") from None
        reason = "no address"
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.settimeout(CONNECT_TIMEOUT_S)
                try:
                    probe.connect(address)
                except OSError as error:
                    reason = error.strerror or str(error)
                else:
                    return int(family), (str(address[0]), int(address[1]))
        raise ServerUnavailable(f"cannot connect to {self.authority}: {reason}")

    def get(self, path: str) -> bytes:
        """GET, with the trust and by the way of the sender (no proxy); the body of a 200. Raises ServerUnavailable."""
        if self.tls:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self.host, self.port, timeout=LISTING_TIMEOUT_S, context=tls_context(self.tls)
            )
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=LISTING_TIMEOUT_S)
        try:
            connection.request("GET", self.prefix + path, headers=dict(self.headers))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnavailable(f"GET {self.url}{path} failed: {type(error).__name__}") from None
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise ServerUnavailable(f"GET {self.url}{path} answered {answer.status}")
        return body


def server_at(
    host: str, port: int, url: str | None, headers: Sequence[tuple[str, str]], ca_file: str | None, verify: bool
) -> Server:
    """The server that --url names, or else --host and --port; the settings have checked all three."""
    if url is None:
        return Server("http", host.strip("[]"), port, "", headers, ca_file, verify)
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}[parts.scheme]
    prefix = parts.path.rstrip("/")
    return Server(parts.scheme, parts.hostname or "", parts.port or default, prefix, headers, ca_file, verify)


def server_version(server: Server, backend: Backend) -> str | None:
    """What the server says its version is; None where it does not say."""
    if not backend.version_path:
        return None
    try:
        return str(msgspec.json.decode(server.get(backend.version_path))["version"])
    except (ServerUnavailable, msgspec.DecodeError, KeyError, TypeError):
        return None


def models_to_ask(server: Server, backend: Backend, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The models of the profile, held against what the server lists. Raises UsageError, ServerUnavailable.

    A server that lists nothing (an OpenAI-compatible proxy may not) is believed to serve what was asked for.
    """
    listed: list[str] | None = None
    if backend.models_path and backend.read_models:
        try:
            listed = backend.read_models(server.get(backend.models_path))
        except BadAnswer:
            listed = None
        except ServerUnavailable:
            if not wanted:
                raise
    if not wanted:
        if listed and len(listed) == 1:
            return (listed[0],)
        served = f"the server lists {', '.join(listed)}" if listed else "the server lists none"
        raise UsageError(f"--models is needed: {served}")
    for model in wanted:
        if listed is not None and model not in listed:
            raise UsageError(
                f"--models got {model!r}, which the server does not serve; it lists {', '.join(listed) or 'none'}"
            )
    return wanted
