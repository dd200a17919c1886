"""One HTTP/1.1 connection to the server: non-blocking, with the kernel's receive times, in the clear or through TLS.

It finds out where an answer ends, so that the connection can carry the next request; it does not look at what is in it.
"""

import errno
import os
import select
import socket
import ssl
from typing import Any, cast

import httptools

from latency_profile.sender.clock import now_ns
from latency_profile.sender.job import MOST_ANSWER_BYTES, Target, Tls
from latency_profile.sender.refusal import MOST_HEAD, Refusal, may_be_refusal, read_refusal
from latency_profile.sender.spool import LARGEST_READ, End, Spool
from latency_profile.sender.stamps import CONTROL_ROOM, ask_for_stamps, kernel_ns

IN = select.EPOLLIN | select.EPOLLRDHUP
OUT = IN | select.EPOLLOUT
IDLE = -1  # carries no request

_INFORMATIONAL = range(100, 200)
_IN_WORDS = {
    End.CLOSED: "the server closed the connection",
    End.BROKEN: "the connection broke",
    End.NOT_HTTP: "what came is not HTTP",
    End.CONNECT_FAILED: "no connection",
    End.CONNECT_TIMEOUT: "no answer in time",
    End.TLS_FAILED: "TLS failed",
    End.TOO_LONG: "the answer was too long",
}


class Lost(Exception):
    """The connection can carry nothing any more. `end` is what that means for the request that it carried; `reason`
    is it in words, for one who could not connect at all."""

    def __init__(self, end: End, number: int = 0, reason: str | None = None) -> None:
        super().__init__(end, number)
        self.end = end
        self.errno = number
        self.reason = reason or (os.strerror(number) if number else _IN_WORDS[end])


def message(target: Target, path: str, request_id: str, body: bytes) -> bytes:
    """The bytes of one request, `path` with the target's prefix."""
    begin = f"POST {path} HTTP/1.1\r\n".encode("latin-1")
    end = f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\n\r\n".encode("ascii")
    return b"".join((begin, target.head, end, body))


class Connection:
    """In the clear. `opening` until the handshake is over; `request` is the index that it carries, or IDLE."""

    most_answer_bytes = MOST_ANSWER_BYTES
    tells_refusals = False  # whether somebody wants to know

    def __init__(self, target: Target) -> None:
        self.opening = True
        self.opened_at = now_ns()
        self.request = IDLE
        self.sent_at = 0
        self.used = False  # has carried a request before the present one
        self.answered = False  # a byte of the present answer has come
        self.complete = False
        self._keep = False
        self._parser = httptools.HttpResponseParser(self)
        self._rest: memoryview | None = None
        self._room = 0  # bytes that the answer may still have
        self._said: bytes | None = None  # the answer's first bytes, as long as it may be a refusal
        self.socket = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.fd = self.socket.fileno()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ask_for_stamps(self.socket)
        number = self.socket.connect_ex(target.address)
        if number not in (0, errno.EINPROGRESS):
            self.close()
            raise Lost(End.CONNECT_FAILED, number)

    def open(self, mask: int) -> bool:
        """Goes on with the handshake. True when it is over. Raises Lost."""
        del mask
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise Lost(End.CONNECT_FAILED, number)
        try:
            self.socket.getpeername()
        except OSError:
            return False
        self.opening = False
        return True

    @property
    def opening_mask(self) -> int:
        """What epoll should wait for while the handshake goes on."""
        return OUT

    def send(self, request: int, message: bytes) -> None:
        """Begins to carry a request. `sent_at` is the time just before its first byte goes. Raises Lost."""
        self.request = request
        self.answered = self.complete = False
        self._room = self.most_answer_bytes
        self._said = b"" if self.tells_refusals else None
        self.sent_at = now_ns()
        self._rest = memoryview(message)
        self.flush()

    def flush(self) -> bool:
        """Sends what is left. True when nothing is. Raises Lost."""
        try:
            while self._rest:
                self._rest = self._rest[self.socket.send(self._rest) :]
        except BlockingIOError:
            return False
        except OSError as error:
            raise Lost(End.BROKEN, error.errno or 0) from error
        self._rest = None
        return True

    @property
    def unsent(self) -> bool:
        return self._rest is not None

    def receive(self, spool: Spool) -> int:
        """One read into the spool. Gives the time just after it. Raises Lost at the end of the connection."""
        room = spool.room()
        try:
            length, control, _, _ = self.socket.recvmsg_into([room], CONTROL_ROOM)
        except BlockingIOError:
            return now_ns()
        except OSError as error:
            raise Lost(End.BROKEN, error.errno or 0) from error
        now = now_ns()
        if not length:
            raise Lost(End.CLOSED)
        if self.request == IDLE:
            raise Lost(End.NOT_HTTP)  # bytes that nobody asked for
        spool.read(self.request, kernel_ns(control), now, length)
        self._feed(room[:length])
        return now

    def _feed(self, data: memoryview) -> None:
        self.answered = True
        self._room -= len(data)
        if self._room < 0:
            raise Lost(End.TOO_LONG)
        if self._said is not None:
            self._keep_head(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise Lost(End.NOT_HTTP) from error
            self._keep = False  # what follows an answer must not make it a broken one

    def _keep_head(self, data: memoryview) -> None:
        assert self._said is not None
        self._said += data[: MOST_HEAD - len(self._said)]
        if not may_be_refusal(self._said):
            self._said = None

    @property
    def refusal(self) -> Refusal | None:
        """What the present answer refuses, as far as it has come; None where it is an answer."""
        return read_refusal(self._said) if self._said else None

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self.complete:
            self._keep = False  # the next request would be answered with this

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if not self.complete and self._parser.get_status_code() not in _INFORMATIONAL:
            self.complete = True
            self._keep = self._parser.should_keep_alive()  # known only here; the parser starts over afterwards

    def release(self) -> bool:
        """The answer is complete. True when the connection can carry another request."""
        self.request = IDLE
        self.complete = False
        self.used = True
        return self._keep and self._rest is None

    def close(self) -> None:
        self.socket.close()
        del self._parser  # it calls back into this object: a cycle, and nothing collects those while a point runs


class TlsConnection(Connection):
    """Through TLS. An event takes the stamp of the read that completed its TLS record."""

    def __init__(self, target: Target, context: ssl.SSLContext, tls: Tls) -> None:
        super().__init__(target)
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=tls.server_name)
        self._tcp_open = False

    def open(self, mask: int) -> bool:
        if not self._tcp_open:
            if not super().open(mask):
                return False
            self._tcp_open = self.opening = True
        elif mask & select.EPOLLIN:
            self._take()
        agreed = False
        try:
            self._tls.do_handshake()
            agreed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            raise Lost(End.TLS_FAILED, reason=f"TLS failed: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise Lost(End.TLS_FAILED, reason=f"TLS failed: {error.reason}") from error
        self._give()
        self.opening = not agreed or self.unsent
        return not self.opening

    @property
    def opening_mask(self) -> int:
        return OUT if self.unsent or not self._tcp_open else IN

    def send(self, request: int, message: bytes) -> None:
        try:
            self._tls.write(message)
        except ssl.SSLError as error:
            self.request, self.sent_at, self.answered = request, now_ns(), False
            raise Lost(End.BROKEN) from error
        super().send(request, self._out.read())

    def receive(self, spool: Spool) -> int:
        control, now = self._take()
        kernel = kernel_ns(control)
        try:
            while room := self._decrypted(spool.room()):
                if self.complete or self.request == IDLE:
                    raise Lost(End.NOT_HTTP)  # bytes that nobody asked for
                spool.read(self.request, kernel, now, len(room))
                self._feed(room)
            self._give()
        except Lost:
            if not self.complete:
                raise
            self._keep = False  # what follows an answer, such as the goodbye of TLS, must not make it a broken one
        return now

    def _decrypted(self, room: memoryview) -> memoryview | None:
        """The next bytes, at the front of the room; None where there are no more yet."""
        try:
            length = cast("int", self._tls.read(len(room), cast("bytearray", room)))
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            raise Lost(End.CLOSED if error.errno == ssl.SSL_ERROR_ZERO_RETURN else End.BROKEN) from error
        if not length:
            raise Lost(End.CLOSED)
        return room[:length]

    def _take(self) -> tuple[list[Any], int]:
        """What the socket has, into the TLS machine."""
        try:
            data, control, _, _ = self.socket.recvmsg(LARGEST_READ, CONTROL_ROOM)
        except BlockingIOError:
            return [], now_ns()
        except OSError as error:
            raise Lost(End.BROKEN, error.errno or 0) from error
        now = now_ns()
        if not data:
            raise Lost(End.CLOSED)
        self._in.write(data)
        return control, now

    def _give(self) -> None:
        """What the TLS machine has to say (handshake, key updates), to the socket."""
        if self._out.pending:
            self._rest = memoryview(bytes(self._rest or b"") + self._out.read())
        if self.unsent:
            self.flush()


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Certificates are checked against the system's, or those of `ca_file`, unless `verify` is off."""
    context = ssl.create_default_context(cafile=tls.ca_file)
    context.set_alpn_protocols(["http/1.1"])
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
