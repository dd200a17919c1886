"""A scripted gRPC server on the library h2: independent of the client that it tests. One thread a connection."""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import hyperframe.frame

from tests.servers.odd import Line

_RESET_ON_CLOSE = struct.pack("@ii", 1, 0)  # SO_LINGER on, no time: close() sends a RST


def prefixed(payload: bytes, compressed: int = 0) -> bytes:
    """One gRPC message as it goes over the wire."""
    return struct.pack(">BI", compressed, len(payload)) + payload


def goaway(last: int, code: int = 0) -> bytes:
    """A GOAWAY: no stream after `last` will be looked at."""
    return bytes(hyperframe.frame.GoAwayFrame(0, last_stream_id=last, error_code=code).serialize())


@dataclass(eq=False)
class Call(Line):
    """One request, and the means to answer it in any way at all. What `head`, `message` and the others give is to be
    sent in just that order, cut as one likes."""

    stream: int
    connection: int  # number of its connection, from 0
    turn: int  # how many requests came before it on that connection
    headers: list[tuple[str, str]]
    body: bytes
    at_s: float  # time.monotonic() when it was whole
    http2: h2.connection.H2Connection
    _socket: socket.socket
    data_frames: int = 0
    gone: bool = False

    @property
    def payload(self) -> bytes:
        """The request's message, whose prefix must be right."""
        assert self.body[:5] == struct.pack(">BI", 0, len(self.body) - 5)
        return self.body[5:]

    def head(self, *more: tuple[str, str], status: str = "200", kind: str = "application/grpc") -> bytes:
        self.http2.send_headers(self.stream, [(":status", status), ("content-type", kind), *more])
        return self.http2.data_to_send()

    def message(self, payload: bytes, **more: Any) -> bytes:
        """A DATA frame; `more` as h2's send_data takes it."""
        self.http2.send_data(self.stream, prefixed(payload), **more)
        return self.http2.data_to_send()

    def data(self, data: bytes, **more: Any) -> bytes:
        """A DATA frame of any bytes."""
        self.http2.send_data(self.stream, data, **more)
        return self.http2.data_to_send()

    def end(self, status: int | str | None = 0, message: str | None = None) -> bytes:
        """The trailers; message as it goes over the wire. Status None: neither."""
        told = [("grpc-status", str(status))] if status is not None else [("x-nothing", "said")]
        told += [("grpc-message", message)] if message is not None else []
        self.http2.send_headers(self.stream, told, end_stream=True)
        return self.http2.data_to_send()

    def refused(self, status: int, message: str, *more: tuple[str, str]) -> bytes:
        """An error without anything before it ("Trailers-Only")."""
        told = [("grpc-status", str(status)), ("grpc-message", message), *more]
        self.http2.send_headers(
            self.stream, [(":status", "200"), ("content-type", "application/grpc"), *told], end_stream=True
        )
        return self.http2.data_to_send()

    def reset_stream(self, code: int) -> bytes:
        self.http2.reset_stream(self.stream, code)
        return self.http2.data_to_send()

    def ping(self) -> bytes:
        self.http2.ping(b"\x00ping\xff\x01\x02")
        return self.http2.data_to_send()

    def settings(self, settings: Mapping[int, int]) -> bytes:
        self.http2.update_settings(dict(settings))
        return self.http2.data_to_send()

    def answer(self, *payloads: bytes) -> list[bytes]:
        """What a healthy server says, frame by frame."""
        return [self.head(), *map(self.message, payloads), self.end()]


@dataclass
class _Stream:
    headers: list[tuple[str, str]]
    body: bytearray = field(default_factory=bytearray)
    data_frames: int = 0


class GrpcServer:
    """`with GrpcServer(script) as server:` the script is called for each request, in its connection's thread.

    `failures` has what the client did wrong by h2's judgement; `pongs` and `acknowledged`: how many PINGs and SETTINGS
    it answered.
    """

    def __init__(
        self,
        script: Callable[[Call], None],
        *,
        settings: Mapping[int, int] | None = None,
        tls: ssl.SSLContext | None = None,
        silent: bool = False,
        on_data: Callable[[h2.connection.H2Connection, h2.events.DataReceived], None] | None = None,
    ) -> None:
        """settings: what it announces. silent: it never says them. on_data: is called for DATA, in place of opening the
        windows again by what came."""
        self._script, self._settings, self._tls, self._silent = script, dict(settings or {}), tls, silent
        self._on_data = on_data or _open_again
        self._connections: list[socket.socket] = []
        self.calls: list[Call] = []
        self.failures: list[str] = []
        self.accepted = self.pongs = self.acknowledged = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for open_one in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                open_one.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            number, self.accepted = self.accepted, self.accepted + 1
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            try:
                self._talk(connection, number)
            except h2.exceptions.ProtocolError as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def _talk(self, connection: socket.socket, number: int) -> None:
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        if not self._silent:
            http2.initiate_connection()
            http2.update_settings(self._settings)  # in a second frame, as h2 heeds them only so
            connection.sendall(http2.data_to_send())
        streams: dict[int, _Stream] = {}
        turn = 0
        while data := connection.recv(1 << 16):
            if self._silent:
                continue
            for event in http2.receive_data(data):
                match event:
                    case h2.events.RequestReceived():
                        streams[event.stream_id] = _Stream([(str(name), str(value)) for name, value in event.headers])
                    case h2.events.DataReceived():
                        streams[event.stream_id].body += event.data
                        streams[event.stream_id].data_frames += 1
                        self._on_data(http2, event)
                    case h2.events.PingAckReceived():
                        self.pongs += 1
                    case h2.events.SettingsAcknowledged():
                        self.acknowledged += 1
                    case h2.events.StreamEnded():
                        connection.sendall(http2.data_to_send())
                        said = streams.pop(event.stream_id)
                        call = Call(
                            event.stream_id,
                            number,
                            turn,
                            said.headers,
                            bytes(said.body),
                            time.monotonic(),
                            http2,
                            connection,
                            said.data_frames,
                        )
                        turn += 1
                        self.calls.append(call)
                        self._script(call)
                        if call.gone:
                            return
            connection.sendall(http2.data_to_send())


def _open_again(http2: h2.connection.H2Connection, event: h2.events.DataReceived) -> None:
    if event.flow_controlled_length:
        http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
