"""A scripted server on raw sockets, for what a well-behaved server cannot be made to do. One thread a connection."""

import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import msgspec

_LENGTH = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"x-request-id: (\S+)\r\n", re.IGNORECASE)
_RESET_ON_CLOSE = struct.pack("@ii", 1, 0)  # SO_LINGER on, no time: close() sends a RST


class Line:
    """The server's end of a connection: what one can do to it in the midst of an answer."""

    _socket: socket.socket
    gone: bool

    def send(self, *parts: bytes, gap_s: float = 0.0) -> None:
        """Sends the parts, each in a segment of its own where there is a gap between them."""
        for number, part in enumerate(parts):
            if number:
                time.sleep(gap_s)
            self._socket.sendall(part)

    def hang_up(self) -> None:
        """Closes the connection in an orderly way."""
        self.gone = True
        if isinstance(self._socket, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                self._socket.unwrap()  # says close_notify
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def reset(self) -> None:
        """Breaks the connection: the client reads ECONNRESET."""
        self.gone = True
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._socket.close()


@dataclass(eq=False)
class Call(Line):
    """One request, and the means to answer it in any way at all."""

    connection: int  # number of its connection among those that carried a request, from 0
    turn: int  # how many requests came before it on that connection
    head: bytes
    body: bytes
    at_s: float  # time.monotonic() when it was whole
    _socket: socket.socket
    gone: bool = False

    @property
    def request_id(self) -> str:
        found = _REQUEST_ID.search(self.head)
        return found[1].decode() if found else ""

    @property
    def index(self) -> int:
        """The number at the end of its x-request-id."""
        return int(self.request_id.rpartition("-")[2])


class Odd:
    """`with Odd(script) as server:` the script is called for each request, in its connection's thread."""

    def __init__(
        self,
        script: Callable[[Call], None],
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        greet: Callable[[socket.socket], bool] = lambda _: True,
    ) -> None:
        """greet: called with each new connection; False closes it at once."""
        self._script, self._tls, self._greet = script, tls, greet
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._busy = 0
        self.calls: list[Call] = []
        self.accepted = 0
        self.most_at_once = 0  # requests that were being answered
        self._numbers = iter(range(1 << 30))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=1024)
        self.host = host
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        with self._lock:
            left = list(self._connections)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        """Accepts nobody any more: new connections are refused, old ones go on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            if not self._greet(connection):
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                stack.callback(connection.close)
            with self._lock:
                self._connections.add(connection)
            stack.callback(self._connections.discard, connection)
            self._exchange(connection)

    def _exchange(self, connection: socket.socket) -> None:
        number: int | None = None
        for turn, (head, body) in enumerate(_requests(connection)):
            with self._lock:
                number = next(self._numbers) if number is None else number
                call = Call(number, turn, head, body, time.monotonic(), connection)
                self.calls.append(call)
                self._busy += 1
                self.most_at_once = max(self.most_at_once, self._busy)
            try:
                self._script(call)
            finally:
                with self._lock:
                    self._busy -= 1
            if call.gone:
                return


def _requests(connection: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    data = bytearray()
    while True:
        while (end := data.find(b"\r\n\r\n")) < 0:
            if not _more(connection, data):
                return
        head = bytes(data[: end + 4])
        found = _LENGTH.search(head)
        whole = end + 4 + (int(found[1]) if found else 0)
        while len(data) < whole:
            if not _more(connection, data):
                return
        yield head, bytes(data[end + 4 : whole])
        del data[:whole]


def _more(connection: socket.socket, data: bytearray) -> bool:
    part = connection.recv(1 << 20)
    data.extend(part)
    return bool(part)


# -- answers as well-behaved servers spell them -----------------------------------------------------------------------


def head(status: str = "200 OK", content_type: str = "text/event-stream", *headers: str) -> bytes:
    """Status line and headers, with the blank line."""
    lines = [f"HTTP/1.1 {status}", *([f"content-type: {content_type}"] if content_type else []), *headers, "", ""]
    return "\r\n".join(lines).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; of nothing, the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(text: str, total: int | None = None, finish: str | None = None) -> bytes:
    """One event of a completions stream; `total` is a usage that goes with it."""
    said: dict[str, object] = {"object": "text_completion", "choices": [{"text": text, "finish_reason": finish}]}
    if total is not None:
        said["usage"] = {"prompt_tokens": 7, "completion_tokens": total}
    return b"data: " + msgspec.json.encode(said) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def stream(tokens: int) -> list[bytes]:
    """The events of an answer of that many tokens, in vLLM's form with continuous usage, and the end mark."""
    finish = ["length" if number == tokens else None for number in range(1, tokens + 1)]
    return [*(event(f" w{number}", number, end) for number, end in enumerate(finish, 1)), DONE]


def whole(tokens: int, *headers: str) -> bytes:
    """A chunked answer of that many tokens, in one piece."""
    return b"".join(
        [
            head("200 OK", "text/event-stream", "transfer-encoding: chunked", *headers),
            *map(chunk, stream(tokens)),
            chunk(b""),
        ]
    )


def plain(body: bytes, content_type: str = "application/json", status: str = "200 OK", *headers: str) -> bytes:
    """An answer with a content-length."""
    return head(status, content_type, f"content-length: {len(body)}", *headers) + body
