"""Where a server's metrics are read: each of its processes, by the address at which it answers."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import urlsplit

from latency_profile.server import NoAnswer, Server, server_at
from latency_profile.telemetry.exposition import Scrape, parse

PATH = "/metrics"
ACCEPT = "text/plain;version=0.0.4"


class NoMetrics(Exception):
    """There are no metrics now; `str(error)` says why, in words and without secrets."""


@dataclass(frozen=True, slots=True)
class Door:
    """One URL of metrics. `everyone`: each address that its host name has is a replica of its own."""

    server: Server
    path: str = PATH
    everyone: bool = False

    @property
    def url(self) -> str:
        return f"{self.server.url}{self.path}"

    def addresses(self) -> list[str | None]:
        """Where to ask: [None] for the host as it is. Raises NoMetrics where its name is not found."""
        if not self.everyone:
            return [None]
        try:
            found = socket.getaddrinfo(self.server.host, self.server.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NoMetrics(f"{self.url}: host not found") from error
        # A host may have the same processes under addresses of both families: only those of the first one count.
        return [*sorted({str(address[0]) for family, *_, address in found if family == found[0][0]})]

    def look(self, at_s: float, timeout_s: float, address: str | None = None) -> Scrape:
        """What it says now, stamped `at_s`. Raises NoMetrics."""
        try:
            status, body = self.server.ask(self.path, timeout_s, accept=ACCEPT, address=address)
        except NoAnswer as error:
            raise NoMetrics(f"{self.url}: {error}") from error
        if status != HTTPStatus.OK:
            raise NoMetrics(f"{self.url}: HTTP status {status}")
        try:
            families = parse(body.decode())
        except ValueError as error:
            raise NoMetrics(f"{self.url}: not Prometheus' text format") from error
        if not families:
            raise NoMetrics(f"{self.url}: no metrics")
        return Scrape(at_s, families)


def own_doors(servers: Sequence[Server], port: int | None) -> list[Door]:
    """/metrics of each server, at another port where its metrics have one. A gRPC server has no such door."""
    asked = [server if port is None else replace(server, port=port, prefix="") for server in servers]
    beside = [replace(server, prefix=urlsplit(server.root_url).path.rstrip("/")) for server in asked]
    return [Door(server) for server in beside if not server.grpc]


def doors_at(urls: Sequence[str], servers: Sequence[Server]) -> list[Door]:
    """The doors that --metrics-urls names, each for every address of its host. Only one at a server's own host and port
    gets the headers that requests carry: they may hold a key."""
    doors = []
    first = servers[0]
    for url in urls:
        parts = urlsplit(url)
        found = server_at("", 0, f"{parts.scheme}://{parts.netloc}", (), first.ca_file, first.verify)
        own = next((server for server in servers if (server.host, server.port) == (found.host, found.port)), None)
        path = (parts.path if parts.path not in ("", "/") else PATH) + (f"?{parts.query}" if parts.query else "")
        doors.append(Door(replace(found, headers=own.headers) if own else found, path, everyone=True))
    return doors
