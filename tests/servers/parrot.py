"""A server that fails in every way and repeats the request's headers whenever it does: in a status line, a header, a
body, an event."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAILURES = (
    "401",
    "500",
    "503",
    "redirect",
    "reason",
    "event",
    "body",
    "malformed",
    "page",
    "cut",
    "hang",
    "close",
    "halves",
)
HANG_S = 5.0
BETWEEN_HALVES_S = 0.1
FIRST_HALF = 7  # characters of the key that come in the first half


@contextlib.contextmanager
def parrot() -> Iterator[str]:
    """Its URL. The k-th request for a completion fails in the k-th way, then from the beginning; GET is answered with
    200 where the tool must get by (/v1/models, /health, /metrics) and with 403
    elsewhere, headers in its body both times."""
    lock, counted = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.endswith("/models"):
                self._answer(200, b'{"object":"list","data":[{"id":"m","object":"model"}],"said":"%s"}' % self._heard())
            elif self.path.endswith("/metrics"):
                self._answer(200, b"# %s\nvllm:x_total 1\n" % self._heard(), content_type="text/plain; version=0.0.4")
            else:
                self._answer(200 if self.path.endswith("/health") else 403, self._heard())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                way = FAILURES[counted[0] % len(FAILURES)]
                counted[0] += 1
            heard, stream = self._heard(), "text/event-stream"
            if way in {"401", "500", "503"}:
                self._answer(int(way), b'{"error":{"message":"%s"}}' % heard)
            elif way == "redirect":
                self._answer(307, b"", Location=f"/elsewhere?{heard.decode()}")
            elif way == "reason":
                self.wfile.write(b"HTTP/1.1 500 %s\r\ncontent-length: 0\r\n\r\n" % heard)
            elif way == "event":
                self._answer(200, b'data: {"error":{"message":"%s"}}\n\ndata: [DONE]\n\n' % heard, content_type=stream)
            elif way == "body":
                self._answer(200, b'{"error":"%s"}' % heard)
            elif way == "malformed":
                self._answer(200, b"data: {%s\n\n" % heard, content_type=stream)
            elif way == "page":
                self._answer(200, b"<html>%s</html>" % heard, content_type="text/html")
            elif way == "halves":
                body = b'{"error":"%s"}' % heard
                self._answer(500, body, in_two=body.index(b"Bearer ") + len("Bearer ") + FIRST_HALF)
            else:
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
                self.wfile.write(head + b'data: {"choices":[{"index":0,"text":"%s"}]}\n\n' % heard)
                self.wfile.flush()
                if way == "hang":
                    time.sleep(HANG_S)
                self.close_connection = True

        def _heard(self) -> bytes:
            return "; ".join(f"{name}={value}" for name, value in self.headers.items()).replace('"', "'").encode()

        def _answer(
            self, status: int, body: bytes, content_type: str = "application/json", in_two: int = 0, **headers: str
        ) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if in_two:
                self.wfile.write(body[:in_two])
                time.sleep(BETWEEN_HALVES_S)
            self.wfile.write(body[in_two:])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
