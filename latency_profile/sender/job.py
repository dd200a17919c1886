"""What goes over the pipe between the parent and a sender process: one JSON object a line, each with its `type`."""

import msgspec


class Tls(msgspec.Struct, frozen=True):
    """How to speak to an https server."""

    server_name: str
    ca_file: str | None = None
    verify: bool = True


class Target(msgspec.Struct, frozen=True):
    """Where requests go: an address that the parent has resolved and tried, and the head that all requests share."""

    address: tuple[str, int]
    family: int
    head: bytes  # request line and headers, without length, id and blank line; may hold a secret: never on disk
    tls: Tls | None = None


class Point(msgspec.Struct, frozen=True, kw_only=True, tag="point"):
    """One point for one sender process: shard `shard` of `shards`."""

    target: Target
    bodies: str  # file of request bodies, one behind the other
    bounds: str  # file of int64: where each body begins, and where the last one ends
    plan: str | None  # file of int64: due time of each request, ns from the start; None: closed loop
    spool: str
    request_id: str  # prefix of each x-request-id; the request's index follows
    shard: int
    shards: int
    concurrency: int = 0  # closed loop: requests in flight, of this shard
    duration_ns: int | None = None  # closed loop: nothing is sent after this
    timeout_ns: int
    ahead: int  # connections opened before the start
    connection_limit: int = 0  # of this shard; 0: none


class Start(msgspec.Struct, frozen=True, tag="start"):
    at_ns: int  # monotonic


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Cut the point short."""


class Collect(msgspec.Struct, frozen=True, kw_only=True, tag="collect"):
    """Turn the spool into columns."""

    spool: str
    columns: str  # prefix of the files to write
    start_ns: int
    backend: str
    endpoint: str
    streaming: bool
    secrets: list[str]  # never to be repeated in an error message


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    connections: int
    error: str | None = None  # why not one connection could be opened
    connect_ns: int = 0  # median time of opening one


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """A look at a running point; counts since its start, lateness of the requests sent since the last beat."""

    sent: int
    completed: int
    failed: int
    reads: int
    lateness_ns: list[int]


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """The point is over for this process: what it counted of itself."""

    ended_ns: int
    reads: int
    connections_opened: int
    connections_failed: int
    connections_closed_by_server: int
    reused: int
    resent: int
    cpu_ns: int
    slowest_flush_ns: int
    longest_turn_ns: int
    most_waiting_for_connection: int


class Collected(msgspec.Struct, frozen=True, kw_only=True, tag="collected"):
    rows: int
    events: int
    texts: int  # answers whose tokens nobody counted: their texts lie beside the columns
    errors: dict[str, list[str]]  # a few messages of each status


Command = Point | Start | Stop | Collect
Report = Ready | Beat | Finished | Collected
