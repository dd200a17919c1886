"""The servers under test before anything is timed: where they are, whether they answer, which models they serve."""

import http.client
import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from backends.base import Backend, BadAnswer
from latency_profile import __version__
from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.sender.connection import tls_context
from latency_profile.sender.job import Target, Tls, joined

if TYPE_CHECKING:
    from latency_profile.settings import Settings

CONNECT_TIMEOUT_S = 10.0
LISTING_TIMEOUT_S = 30.0
LONGEST_BODY = 64 << 20  # bytes: some hundred times what any server lists or tells
_PIECE = 1 << 16

_DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 80, "grpcs": 443}
_VERSION = re.compile(r"v[0-9]+")
_AGENT = ("user-agent", f"latency-profile/{__version__}")
_IDENTITY = ("accept-encoding", "identity")  # what is decompressed before it is read has lost its times


class NoAnswer(Exception):
    """The server could not be asked. `str(error)` says why, and does not name the server."""


@dataclass(frozen=True, slots=True)
class Server:
    """A base URL taken apart, with the headers that every request carries (they may hold a secret)."""

    scheme: str  # http, https, grpc or grpcs
    host: str  # of IPv6 without brackets, perhaps with a scope ("fe80::1%eth0")
    port: int
    prefix: str  # of every path, "" or "/team"
    headers: Sequence[tuple[str, str]]
    ca_file: str | None = None
    verify: bool = True

    @property
    def authority(self) -> str:
        """Host and port as requests name them: a scope means nothing to the other side (RFC 6874, section 4)."""
        name = self._name
        return self._with_port(f"[{name}]" if ":" in name else name)

    @property
    def url(self) -> str:
        """The base URL, as --url takes it."""
        host = self.host.replace("%", "%25")
        return f"{self.scheme}://{self._with_port(f'[{host}]' if ':' in host else host)}{self.prefix}"

    @property
    def root_url(self) -> str:
        """The base URL without the API's version at its end: what is not of the API (/metrics) lies beside that."""
        beside, _, last = self.url.rpartition("/")
        return beside if self.prefix and _VERSION.fullmatch(last) else self.url

    @property
    def grpc(self) -> bool:
        return self.scheme.startswith("grpc")

    @property
    def tls(self) -> Tls | None:
        return Tls(self._name, self.ca_file, self.verify) if self.scheme in ("https", "grpcs") else None

    @property
    def _name(self) -> str:
        return self.host.partition("%")[0]

    def _with_port(self, host: str) -> str:
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def target(self) -> Target:
        """Where the sender connects to, tried once. Raises ServerUnavailable."""
        try:
            family, address = self.connect(CONNECT_TIMEOUT_S)
        except NoAnswer as error:
            raise ServerUnavailable(f"cannot connect to {self.authority}: {error}") from None
        if self.grpc:
            return Target(address, family, self._grpc_head(), self.tls, self.prefix, "grpc")
        headers = self._with_own(
            ("host", self.authority), _AGENT, ("content-type", "application/json"), ("accept", "*/*"), _IDENTITY
        )
        head = "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")
        return Target(address, family, head, self.tls, self.prefix)

    def _grpc_head(self) -> bytes:
        """Source: gRPC over HTTP2, "Requests". A user's Host is the :authority."""
        from latency_profile.sender.http2 import header_block

        headers = self._with_own(
            ("host", self.authority), ("content-type", "application/grpc"), ("te", "trailers"), _AGENT
        )
        authority = next(value for name, value in headers if name.lower() == "host")
        pseudo = [(":method", "POST"), (":scheme", "https" if self.tls else "http"), (":authority", authority)]
        return header_block([*pseudo, *(header for header in headers if header[0].lower() != "host")])

    def _with_own(self, *common: tuple[str, str]) -> list[tuple[str, str]]:
        """The headers that all requests have, but for those that the user gives, and the user's."""
        given = {name.lower() for name, _ in self.headers}
        return [*(header for header in common if header[0] not in given), *self.headers]

    def connect(self, timeout_s: float) -> tuple[int, tuple[str | int, ...]]:
        """Opens a connection and closes it: (family, address) of the first address that took it. Raises NoAnswer."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NoAnswer(f"host not found ({_reason(error)})") from None
        reason = "no address"
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.settimeout(timeout_s)
                try:
                    probe.connect(address)
                except OSError as error:
                    reason = _reason(error)
                else:
                    return int(family), cast("tuple[str | int, ...]", address)
        raise NoAnswer(reason)

    def get(self, path: str) -> bytes:
        """GET; the body of a 200. Raises ServerUnavailable."""
        what = f"GET {self.url.removesuffix(self.prefix)}{joined(self.prefix, path)}"
        try:
            status, body = self.ask(path, LISTING_TIMEOUT_S)
        except NoAnswer as error:
            raise ServerUnavailable(f"{what} failed: {error}") from None
        if status != http.HTTPStatus.OK:
            raise ServerUnavailable(f"{what} answered {status}")
        return body

    def ask(
        self, path: str, timeout_s: float, method: str = "GET", accept: str = "*/*", address: str | None = None
    ) -> tuple[int, bytes]:
        """One request without a body, with the trust and by the way of the sender (no proxy, no redirect): status and
        body. Raises NoAnswer. address: of several of the host's, the one to ask.

        A base URL may end with the API's version ("/team/v1"), and what is not of the API ("/health") lies beside it.
        """
        status, body = self._ask(joined(self.prefix, path), timeout_s, method, accept, address)
        beside, _, last = self.prefix.rpartition("/")
        if status == http.HTTPStatus.NOT_FOUND and _VERSION.fullmatch(last) and not path.startswith(f"/{last}/"):
            return self._ask(beside + path, timeout_s, method, accept, address)
        return status, body

    def _ask(self, path: str, timeout_s: float, method: str, accept: str, address: str | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._name, self.port)
        deadline = time.monotonic() + timeout_s
        try:
            connection.sock = socket.create_connection((address or self.host, self.port), timeout_s)
            if self.tls:
                connection.sock = tls_context(self.tls).wrap_socket(connection.sock, server_hostname=self._name)
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self._with_own(("host", self.authority), _AGENT, ("accept", accept), _IDENTITY):
                connection.putheader(name, value)
            if method == "POST":
                connection.putheader("content-length", "0")
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, _body(answer, deadline)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise NoAnswer(_reason(error)) from None
        finally:
            connection.close()


def _body(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    """Piece by piece: a socket's timeout is of each read, and a body that trickles in would never end. Raises OSError
    where it is not over by the deadline, in time.monotonic() seconds, or is longer than any that is waited for."""
    length = answer.length  # None where the answer does not say
    pieces = bytearray()
    while len(pieces) != length and (piece := answer.read1(_PIECE)):
        pieces += piece
        if len(pieces) > LONGEST_BODY:
            raise OSError("the answer is too long")
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")
    if length is not None and len(pieces) < length:
        raise http.client.IncompleteRead(b"", length - len(pieces))
    return bytes(pieces)


def _reason(error: Exception) -> str:
    """In few words why there was no answer. The text of an HTTPException would repeat what the server sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{type(error).__name__}: {error.verify_message}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__


def server_at(
    host: str,
    port: int,
    url: str | None,
    headers: Sequence[tuple[str, str]],
    ca_file: str | None,
    verify: bool,
    *,
    grpc: bool = False,
) -> Server:
    """The server that a URL names, or else host and port (`grpc`: in that protocol); the settings have checked them."""
    if url is None:
        return Server("grpc" if grpc else "http", host.strip("[]"), port, "", headers, ca_file, verify)
    parts = urlsplit(url)
    name = (parts.hostname or "").replace("%25", "%")  # RFC 6874: the scope of an IPv6 address
    prefix = parts.path.rstrip("/")
    return Server(parts.scheme, name, parts.port or _DEFAULT_PORTS[parts.scheme], prefix, headers, ca_file, verify)


def servers_at(
    settings: "Settings", headers: Sequence[tuple[str, str]], ca_file: str | None, grpc: bool
) -> list[Server]:
    """The servers that --url names, in its order, or the one of --host and --port, spoken to in gRPC if `grpc`."""
    urls: tuple[str | None, ...] = settings.url or (None,)
    verify = not settings.insecure
    return [server_at(settings.host, settings.port, url, headers, ca_file, verify, grpc=grpc) for url in urls]


def server_version(server: Server, backend: Backend) -> str | None:
    """What the server says its version is; None where it does not say."""
    if server.grpc or not backend.version_path or not backend.read_version:
        return None
    try:
        return backend.read_version(server.get(backend.version_path))
    except ServerUnavailable:
        return None


def models_to_ask(
    servers: Sequence[Server], backend: Backend, wanted: tuple[str, ...], default: str | None
) -> tuple[str, ...]:
    """The models of the profile, held against what the servers list. Raises UsageError, ServerUnavailable.

    A server that lists nothing (an OpenAI-compatible proxy may not, and some serve what they do not list) is believed
    to serve what was asked for. Servers that list different models cannot be measured as one. default: the model where
    none is wanted, and the server does not list just one.
    """
    needed = not wanted and default is None
    listings = [_listed(server, backend, needed) for server in servers]
    first = listings[0]
    for server, listing in zip(servers[1:], listings[1:], strict=True):
        told = not wanted or (first and listing)
        if told and sorted(listing) != sorted(first):
            raise UsageError(
                f"--url takes servers of the same models: {servers[0].url} lists {_names(first)}, and {server.url} "
                f"lists {_names(listing)}"
            )
    listed = next(filter(None, listings), [])
    for model in wanted:
        if listed and model not in listed:
            raise UsageError(f"--models got {model!r}, which the server does not serve; it lists {_names(listed)}")
    if wanted:
        return wanted
    if len(listed) == 1:
        return (listed[0],)
    if default is not None and (not listed or default in listed):
        return (default,)
    raise UsageError(f"--models is needed: the server lists {_names(listed)}")


def _names(models: Sequence[str]) -> str:
    return ", ".join(models) or "none"


def _listed(server: Server, backend: Backend, needed: bool) -> list[str]:
    """The models that the server lists; none where it has no list to read. Raises ServerUnavailable where it has to."""
    if server.grpc or not backend.models_path or not backend.read_models:
        return []
    try:
        return backend.read_models(server.get(backend.models_path))
    except BadAnswer:
        return []
    except ServerUnavailable:
        if needed:
            raise
        return []
