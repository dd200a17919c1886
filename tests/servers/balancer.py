"""What stands before several replicas: each connection goes to the next of them that takes one, and ends when it has
been idle for a while."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence

IDLE_S = 0.3


class Balancer:
    """Copies bytes both ways; a replica that refuses is passed over, one that dies takes its connections with it."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._next = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = self._upstream()
            if upstream is None:
                client.close()
                continue
            _Pair(client, upstream)

    def _upstream(self) -> socket.socket | None:
        for _ in self._ports:
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", port), timeout=2)
        return None


class _Pair:
    """Two connections as one."""

    def __init__(self, client: socket.socket, upstream: socket.socket) -> None:
        self._last_s = time.monotonic()
        for source, sink in ((client, upstream), (upstream, client)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            source.settimeout(IDLE_S)
            threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while True:
                try:
                    piece = source.recv(65536)
                except TimeoutError:
                    if time.monotonic() - self._last_s < IDLE_S:
                        continue
                    break
                if not piece:
                    break
                self._last_s = time.monotonic()
                sink.sendall(piece)
        except OSError:
            pass  # reset by one of the two: the other one is told below
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def balancer(ports: Sequence[int]) -> Iterator[str]:
    """Its URL."""
    running = Balancer(ports)
    try:
        yield f"http://127.0.0.1:{running.port}"
    finally:
        running.stop()
