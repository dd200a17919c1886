"""The server under test before anything is timed: where it is, whether it answers, which models it serves."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
import requests

from backends.base import Backend, BadAnswer
from latency_profile import __version__
from latency_profile.errors import ServerUnavailable, UsageError
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
        tls = Tls(self.host, self.ca_file, self.verify) if self.scheme == "https" else None
        return Target(address, family, "".join(f"{line}\r\n" for line in lines).encode("latin-1"), tls)

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
        """GET; the body of a 200. Raises ServerUnavailable."""
        verify = self.ca_file if self.ca_file and self.verify else self.verify
        try:
            answer = requests.get(self.url + path, headers=dict(self.headers), timeout=LISTING_TIMEOUT_S, verify=verify)
        except requests.RequestException as error:
            raise ServerUnavailable(f"GET {self.url}{path} failed: {type(error).__name__}") from None
        if answer.status_code != requests.codes.ok:
            raise ServerUnavailable(f"GET {self.url}{path} answered {answer.status_code}")
        return answer.content


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
            raise UsageError(f"--models got {model!r}, which the server does not serve; it lists {', '.join(listed)}")
    return wanted
