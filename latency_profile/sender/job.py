"""What goes over the pipe between the parent and a sender process: one JSON object a line, each with its `type`."""

import msgspec

MOST_ANSWER_BYTES = (
    1 << 28
)  # protects memory and disk of the client: an answer lies on the one and is parsed in the other


class Tls(msgspec.Struct, frozen=True):
    """How to speak to an https server."""

    server_name: str
    ca_file: str | None = None
    verify: bool = True


class Target(msgspec.Struct, frozen=True):
    """Where requests go: an address that the parent has resolved and tried, and the headers that all requests share."""

    address: tuple[str | int, ...]  # (host, port) or, of IPv6, (host, port, flow, scope): as socket.connect takes it
    family: int
    head: bytes  # without request line, length, id and blank line; of "grpc" an HPACK header block without :path;
    # may hold a secret: never on disk
    tls: Tls | None = None
    prefix: str = ""  # of every path, "" or "/team"
    protocol: str = "http/1.1"  # or "grpc"

    @property
    def host_and_port(self) -> str:
        """For people."""
        return f"{self.address[0]} port {self.address[1]}"


def joined(prefix: str, path: str) -> str:
    """The path under a prefix. Segments that end the prefix and begin the path are not repeated: users give a base URL
    with or without the API's own "/v1"."""
    before, after = prefix.strip("/").split("/"), path.lstrip("/").split("/")
    for shared in range(min(len(before), len(after)), 0, -1):
        if before[-shared:] == after[:shared]:
            return "/" + "/".join(before + after[shared:])
    return prefix.rstrip("/") + path


class Point(msgspec.Struct, frozen=True, kw_only=True, tag="point"):
    """One point for one sender process: shard `shard` of `shards`."""

    targets: list[Target]  # request k of the whole point goes to target k mod len(targets)
    paths: list[str]
    path_of: str | None = None  # file of uint16: which path each request of the point has; None: all have the first
    bodies: str  # file of request bodies, one behind the other
    bounds: str  # file of int64: where each body begins, and where the last one ends
    plan: str | None  # file of int64: due time of each request, ns from the start; None: closed loop
    spool: str
    request_id: str  # prefix of each x-request-id; the request's index follows
    shard: int
    shards: int
    first: int = 0  # requests of a lower index are left out: what was due before a pod came, late or again
    concurrency: int = 0  # closed loop: requests in flight, of this shard
    duration_ns: int | None = None  # closed loop: no request is begun after this
    timeout_ns: int  # of one attempt
    ahead: int  # connections opened before the start, over all targets
    connection_limit: int = 0  # of this shard, over all targets (and at least one for each); 0: none
    retries: int = 0  # most further attempts of a request that was refused or found no connection
    most_answer_bytes: int = MOST_ANSWER_BYTES  # an answer that grows beyond is cut


class Start(msgspec.Struct, frozen=True, tag="start"):
    at_ns: int  # monotonic


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Cut the point short."""


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Begin no request that is not due yet; finish those that are."""


class Collect(msgspec.Struct, frozen=True, kw_only=True, tag="collect"):
    """Turn the spool into columns."""

    spool: str
    columns: str  # prefix of the files to write
    start_ns: int
    backend: str
    endpoint: str  # name of the door
    streaming: bool
    bodies: str  # as in Point
    bounds: str
    secrets: list[str]  # never to be repeated in an error message
    sampled_texts: int = 0  # of so many answers that somebody counted, at most, the text is kept too


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    connections: dict[int, int]  # by target: how many are open
    errors: dict[int, str]  # by target: why not one could be opened


BEAT_NS = 200_000_000  # so often


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
    retried: int  # requests
    retries: int  # further attempts of theirs
    cpu_ns: int
    slowest_flush_ns: int
    longest_turn_ns: int
    stalls: int  # turns of the loop that took long (turns.STALL_NS)
    stalled_ns: int  # these together
    most_waiting_for_connection: int


class Collected(msgspec.Struct, frozen=True, kw_only=True, tag="collected"):
    rows: int
    events: int
    texts: int  # answers whose tokens nobody counted: their texts lie beside the columns, before those of the sample
    errors: dict[str, list[str]]  # a few messages of each status


Command = Point | Start | Stop | Drain | Collect
Report = Ready | Beat | Finished | Collected
