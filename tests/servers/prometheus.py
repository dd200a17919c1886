"""A real Prometheus, and an exporter whose text a test moves."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.servers.need import need_binary
from tests.servers.process import answers, free_port, running

CONFIG = """\
global:
  scrape_interval: {interval}
  scrape_timeout: {interval}
scrape_configs:
- job_name: {job}
  static_configs:
  - targets: {targets}
    labels: {{namespace: {namespace}}}
"""


class Exporter:
    """An HTTP server whose /metrics is `text`, as long as `status` is 200."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.status = 200
        self.headers: list[Mapping[str, str]] = []  # of every request that came
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter.headers.append(dict(self.headers.items()))
                body = exporter.text.encode()
                self.send_response(exporter.status if self.path.partition("?")[0] == "/metrics" else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def exporter(text: str) -> Iterator[Exporter]:
    """An exporter until the end of the block."""
    server = Exporter(text)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def prometheus(
    folder: Path,
    ports: list[int],
    *,
    namespace: str = "default",
    job: str = "vllm-podmonitoring",
    interval: str = "500ms",
    route_prefix: str = "",
    web_config: str | None = None,
) -> Iterator[str]:
    """The URL of a Prometheus (its root, without the route prefix) that scrapes these ports of 127.0.0.1.

    `web_config` is the text of its web configuration file (users, TLS).
    """
    program = need_binary("prometheus", "prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    targets = [f"127.0.0.1:{port}" for port in ports]
    config = CONFIG.format(interval=interval, job=job, targets=targets, namespace=namespace)
    (folder / "prometheus.yml").write_text(config)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.route-prefix={route_prefix or '/'}",
        # It looks for its targets 5 s after its start, and else at this interval whether it has found any.
        "--scrape.discovery-reload-interval=100ms",
    ]
    ready = f"{url}{route_prefix}/-/ready"
    if web_config is not None:
        (folder / "web.yml").write_text(web_config)
        command.append(f"--web.config.file={folder / 'web.yml'}")

    def is_ready() -> bool:
        log = folder / "prometheus.log"
        return answers(ready) if web_config is None else "ready to receive web requests" in log.read_text()

    with running(command, ready=is_ready, within_s=60, log=folder / "prometheus.log"):
        yield url
