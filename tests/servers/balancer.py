"""What stands before several replicas: each connection goes to the next of them that takes one."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence


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
            for one, other in ((client, upstream), (upstream, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_copy, args=(one, other), daemon=True).start()

    def _upstream(self) -> socket.socket | None:
        for _ in self._ports:
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", port), timeout=2)
        return None


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        source.settimeout(None)
        while piece := source.recv(65536):
            sink.sendall(piece)
    except OSError:
        pass  # the other direction ends it, too
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
