"""A connection of HTTP/1.1 or, where the client begins so, of HTTP/2 in the clear: gRPC's way to the same server.

h2 does the protocol. It costs about as much as everything else that a token costs here: the simulator carries fewer
tokens a second over gRPC.
"""

import socket
from dataclasses import dataclass, field
from typing import Any, cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import httptools

from latency_profile.simulator.connection import Connection, HttpRequest, Reply

TRAILERS = 0x80  # begins a part of a stream that is no message but its trailers, as in gRPC-Web
_UNIMPLEMENTED = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")]
_PREFACE = b"PRI"


class EitherConnection(Connection):
    """Decides by the first bytes: no HTTP/1.1 request begins with PRI."""

    _decided = False
    _frames: "_Frames | None" = None

    def _readable(self) -> None:
        if not self._decided:
            try:
                begin = self._socket.recv(len(_PREFACE), socket.MSG_PEEK)
            except OSError:
                begin = b""  # nothing, or gone: the reading itself will tell
            if begin and begin != _PREFACE and _PREFACE.startswith(begin):
                return
            self._decided = bool(begin)
            if begin == _PREFACE:
                self._frames = _Frames(self)
                self._parser = cast("httptools.HttpRequestParser", self._frames)  # it is only fed
        super()._readable()

    def handle(self, stream: "Stream", request: HttpRequest) -> None:
        """A request has come, as a whole."""
        request.arrival_ns = self._arrival_ns
        self._application.handle(stream, request)

    def gone(self, stream: "Stream") -> None:
        """Nobody waits for this answer any more."""
        self._application.lost(stream)

    def _lost(self) -> None:
        frames, self._frames = self._frames, None
        super()._lost()
        if frames is not None:
            frames.lost()


class Stream:
    """One request and its answer. Implements `Exchange`."""

    def __init__(self, frames: "_Frames", number: int) -> None:
        self._frames = frames
        self.number = number
        self.pending = bytearray()  # what the client's windows have not let through
        self.ended = False
        self.trailers: list[tuple[str, str]] = []

    def reply(self, reply: Reply) -> None:
        if reply.status in (404, 405):
            self._frames.headers(self, [*_UNIMPLEMENTED, ("grpc-message", "Method not found!")], ends=True)
            return
        typed = [("content-type", reply.content_type.decode())] if reply.content_type else []
        headers = [(":status", str(reply.status)), *typed, *_fields(reply.fields)]
        self._frames.headers(self, headers, ends=not reply.body)
        if reply.body:
            self.pending += reply.body
            self.ended = True
            self.trailers = [("grpc-status", "0")] if reply.content_type == b"application/grpc" else []
            self._frames.pump(self)

    def message(self, reply: Reply) -> bytes:
        return reply.body

    def begin_stream(self, head: bytes) -> None:
        self._frames.headers(self, [(":status", "200"), *_fields(head)], ends=False)

    def write(self, data: bytes) -> None:
        if data and data[0] == TRAILERS:
            self.trailers = _fields(data[5:])
        else:
            self.pending += data
            self._frames.pump(self)

    def end(self, close: bool = False) -> None:
        """The answer is complete; the connection stays."""
        del close
        self.ended = True
        self.trailers = self.trailers or [("grpc-status", "0")]
        self._frames.pump(self)

    def close(self) -> None:
        self._frames.connection.close()

    def reset(self) -> None:
        self._frames.connection.reset()


@dataclass
class _Asked:
    headers: dict[str, str]
    parts: list[bytes] = field(default_factory=list)


class _Frames:
    """Stands in the place of the connection's parser, and writes its frames."""

    def __init__(self, connection: EitherConnection) -> None:
        self.connection = connection
        self._http2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        )
        self._asked: dict[int, _Asked] = {}
        self._streams: dict[int, Stream] = {}
        self._http2.initiate_connection()
        self._send()

    def feed_data(self, data: bytes) -> None:
        try:
            events = self._http2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._send()
            self.connection.close()
            return
        for event in events:
            self._take(event)
        self._send()

    def _take(self, event: Any) -> None:
        match event:
            case h2.events.RequestReceived():
                self._asked[event.stream_id] = _Asked({str(name): str(value) for name, value in event.headers})
            case h2.events.DataReceived():
                self._asked[event.stream_id].parts.append(event.data)
                if event.flow_controlled_length:
                    self._http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                asked = self._asked.pop(event.stream_id)
                stream = self._streams[event.stream_id] = Stream(self, event.stream_id)
                request = HttpRequest(
                    method=asked.headers.get(":method", ""),
                    path=asked.headers.get(":path", "").partition("?")[0],
                    body=b"".join(asked.parts),
                    request_id=asked.headers.get("x-request-id"),
                )
                self.connection.handle(stream, request)
            case h2.events.StreamReset():
                self._asked.pop(event.stream_id, None)
                reset = self._streams.pop(event.stream_id, None)
                if reset is not None:
                    self.connection.gone(reset)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for stream in list(self._streams.values()):
                    self.pump(stream)

    def headers(self, stream: Stream, headers: list[tuple[str, str]], ends: bool) -> None:
        """Sends a stream's headers or trailers."""
        if stream.number not in self._streams:
            return
        self._http2.send_headers(stream.number, headers, end_stream=ends)
        if ends:
            del self._streams[stream.number]
        self._send()

    def pump(self, stream: Stream) -> None:
        """Sends of a stream what its windows let through, and its end behind that."""
        if stream.number not in self._streams:
            return
        while stream.pending:
            window = self._http2.local_flow_control_window(stream.number)
            size = min(len(stream.pending), window, self._http2.max_outbound_frame_size)
            if size <= 0:
                break
            self._http2.send_data(stream.number, bytes(stream.pending[:size]))
            del stream.pending[:size]
        if stream.pending or not stream.ended:
            self._send()
        elif stream.trailers:
            self.headers(stream, stream.trailers, ends=True)
        else:
            self._http2.end_stream(stream.number)
            del self._streams[stream.number]
            self._send()

    def lost(self) -> None:
        """The connection is no more."""
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            self.connection.gone(stream)

    def _send(self) -> None:
        if data := self._http2.data_to_send():
            self.connection.write(data)


def _fields(lines: bytes) -> list[tuple[str, str]]:
    """Header lines, each with its end, as HTTP/2 has them."""
    pairs = (line.partition(":") for line in lines.decode("latin-1").split("\r\n") if line)
    return [(name.strip().lower(), value.strip()) for name, _, value in pairs]
