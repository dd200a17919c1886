"""The door at which a board can be read: /metrics, /ready, /healthz. In threads of the parent, away from the senders.

It sleeps until somebody asks; what it answers is made then, from one view of the board.
"""

import errno
import http
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Self

from latency_profile import __version__
from latency_profile.errors import UsageError
from latency_profile.live.board import Board
from latency_profile.live.exposition import CONTENT_TYPE, exposition

# A machine may know IPv6 and have it turned off.
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
PLAIN = "text/plain; charset=utf-8"
PATIENCE_S = 10.0  # with a client that sends or reads nothing
_Answer = tuple[http.HTTPStatus, str, bytes]


class LiveServer:
    """`with LiveServer(board, port):` listens on every address of the pod, IPv6 and IPv4. Port 0 takes a free one.

    Raises UsageError where the port cannot be had.
    """

    def __init__(self, board: Board, port: int) -> None:
        doors = {"/metrics": metrics, "/ready": ready, "/healthz": healthy}

        class Handler(_Handler):
            def answer(self, path: str) -> _Answer:
                door: Callable[[Board], _Answer] = doors.get(path, _nothing)
                return door(board)

        try:
            self._server = _Server(_listener(port), Handler)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise UsageError(f"--metrics-port: got {port}, takes a free port ({why})") from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(3600.0,), name="metrics", daemon=True
        )  # it is woken by connections; the hour is for nothing

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._server.shutdown()
        self._server.server_close()


def metrics(board: Board) -> _Answer:
    return http.HTTPStatus.OK, CONTENT_TYPE, exposition(board.view)


def ready(board: Board) -> _Answer:
    """200 once the model server has been found ready, and from then on: the pod measures, or has results to fetch."""
    view = board.view
    status = http.HTTPStatus.OK if view.ready else http.HTTPStatus.SERVICE_UNAVAILABLE
    return status, PLAIN, f"{view.line}\n".encode()


def healthy(board: Board) -> _Answer:
    """503 where a point is being sent and the main thread has not looked at it for a minute."""
    if board.turns:
        return http.HTTPStatus.OK, PLAIN, b"ok\n"
    return http.HTTPStatus.SERVICE_UNAVAILABLE, PLAIN, b"the main thread hangs\n"


def _nothing(_: Board) -> _Answer:
    return http.HTTPStatus.NOT_FOUND, PLAIN, b"/metrics, /ready, /healthz\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"latency-profile/{__version__}"
    sys_version = ""
    timeout = PATIENCE_S

    def answer(self, path: str) -> _Answer:
        raise NotImplementedError

    def do_GET(self) -> None:
        status, content_type, body = self.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """A probe each few seconds is no news."""


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """On a socket that is there already: http.server's own would ask the DNS for the name of this host."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, handler: type[_Handler]) -> None:
        super().__init__(listener.getsockname()[:2], handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_address = listener.getsockname()[:2]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in mid-answer is its own affair; the log is the profile's."""


def _listener(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    return socket.create_server(("", port))
