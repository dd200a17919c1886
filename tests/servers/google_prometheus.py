"""Google Managed Prometheus as far as a client sees it, before a real Prometheus.

What it does as Google's does: the path of a project; tokens of OAuth's JWT flow for service accounts (RFC 7523), which
expire; HTTP status 401 and 403 in Google's form of errors, also for parameters that it doesn't know; 400 for a selector
without a whole metric name, in Prometheus' form and the words that users have reported (196, 1054 and 1601 in
GoogleCloudPlatform/prometheus-engine); samples that arrive late. What it does not: it keeps the first sample of a
counter.
"""

import contextlib
import json
import re
import secrets
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

PROJECT = "some-project"
ACCOUNT = "profiler@some-project.iam.gserviceaccount.com"
AUDIENCE = "https://oauth2.googleapis.com/token"  # of a claim, whatever the key file says is its address
PREFIX = f"/v1/projects/{PROJECT}/location/global/prometheus/api/v1/"
KNOWN = {"query": {"query", "time", "timeout"}, "query_range": {"query", "start", "end", "step", "timeout"}}
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
}
STRING = re.compile(r'"(?:\\.|[^"\\])*"')
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*$")


@dataclass
class Faults:
    """What it does to queries that ask for a metric; "" stands for every query."""

    status: dict[str, int] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)  # how often that status is answered; always where not given
    retry_after: str | None = None
    nan: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)

    def of(self, query: str) -> int | None:
        for name, status in self.status.items():
            if name in query:
                if self.times.get(name, 1) == 0:
                    continue
                if name in self.times:
                    self.times[name] -= 1
                return status
        return None


class GooglePrometheus:
    """`url` is what stands for https://monitoring.googleapis.com, `key_file` a service account's key."""

    def __init__(self, prometheus: str, folder: Path, *, late_s: float = 0.0) -> None:
        self.prometheus, self.late_s = prometheus, late_s
        self.faults = Faults()
        self.claimed_s = 3600  # how long tokens are said to last
        self.lasting_s = 3600.0  # how long they do
        self.tokens: dict[str, float] = {}  # and when they expire
        self.rejected = 0  # requests without a valid token
        self.queries: list[str] = []
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body, headers = outer._get(self.path, self.headers.get("Authorization", ""))
                self._send(status, body, headers)

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._send(*outer._token(self.path, dict(urllib.parse.parse_qsl(sent))))

            def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(body)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.key_file = folder / "account.json"
        self.key_file.write_text(json.dumps(self._account()))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _account(self) -> dict[str, str]:
        key = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": key.decode(),
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": f"{self.url}/token",
        }

    def _token(self, path: str, form: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """RFC 7523, section 2.1: a signed claim for an access token."""
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        try:
            claims = jwt.decode(form["assertion"], certs=public, audience=AUDIENCE)  # type: ignore[no-untyped-call]
        except (KeyError, ValueError):
            return 400, b'{"error": "invalid_grant"}', {}
        granted = form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer" and claims["iss"] == ACCOUNT
        if path != "/token" or not granted or "https://www.googleapis.com/auth/monitoring.read" not in claims["scope"]:
            return 400, b'{"error": "invalid_scope"}', {}
        token = f"ya29.{secrets.token_urlsafe(16)}"
        self.tokens[token] = time.time() + self.lasting_s
        answer = {"access_token": token, "expires_in": self.claimed_s, "token_type": "Bearer"}
        return 200, json.dumps(answer).encode(), {}

    def _get(self, path: str, authorization: str) -> tuple[int, bytes, dict[str, str]]:
        kind, token = authorization.partition(" ")[::2]
        if kind != "Bearer" or self.tokens.get(token, 0.0) < time.time():
            self.rejected += 1
            return _error(401, "Request had invalid authentication credentials.")
        parts = urllib.parse.urlsplit(path)
        what = parts.path.removeprefix(PREFIX)
        if what not in KNOWN or not parts.path.startswith(PREFIX):
            return _error(404, "The requested URL was not found on this server.")
        parameters = dict(urllib.parse.parse_qsl(parts.query))
        if unknown := parameters.keys() - KNOWN[what]:
            return _error(400, f"Invalid JSON payload received. Unknown name {min(unknown)!r}")
        query = parameters["query"]
        self.queries.append(query)
        status = self.faults.of(query)
        if status is not None:
            retry = {"Retry-After": self.faults.retry_after} if self.faults.retry_after else {}
            return _error(status, "told to", retry)
        if refusal := refused(query):
            text = f'invalid parameter "query": substitute queries failed: convert vector selector failed: {refusal}'
            return 400, json.dumps({"status": "error", "errorType": "bad_data", "error": text}).encode(), {}
        return self._answered(what, query, parameters)

    def _answered(self, what: str, query: str, parameters: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """The real answer, as of `late_s` ago at the latest."""
        newest = time.time() - self.late_s
        if what == "query":
            parameters["time"] = str(min(float(parameters.get("time", newest)), newest))
        else:
            parameters["end"] = str(min(float(parameters["end"]), newest))
        try:
            url = f"{self.prometheus}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), {}
        if any(name in query for name in self.faults.empty):
            found["data"]["result"] = []
        if any(name in query for name in self.faults.nan):
            for row in found["data"]["result"]:
                _make_nan(row)
        return 200, json.dumps(found).encode(), {}


def refused(query: str) -> str | None:
    """Why Google's does not take a query's selectors; None where it does."""
    if match := re.search(r"__name__\s*(=~|!~|!=)", query):
        return f"{match[1]} is an unsupported matchtype for the __name__ label: invalid argument"
    bare = STRING.sub('""', query)
    for place in (match.start() for match in re.finditer(r"\{", bare)):
        inside = bare[place : bare.index("}", place)]
        if not NAME.search(bare[:place].rstrip()) and not re.search(r"__name__\s*=", inside):
            return "series selector must specify an exact metric name"
    return None


def _make_nan(row: dict[str, Any]) -> None:
    if "values" in row:
        row["values"] = [[at, "NaN"] for at, _ in row["values"]]
    else:
        row["value"][1] = "NaN"


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, dict[str, str]]:
    """As https://cloud.google.com/apis/design/errors has it."""
    error = {"code": status, "message": message, "status": STATUS.get(status, "INTERNAL")}
    return status, json.dumps({"error": error}).encode(), headers or {}


@contextlib.contextmanager
def google_prometheus(prometheus: str, folder: Path, *, late_s: float = 0.0) -> Iterator[GooglePrometheus]:
    """One until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    server = GooglePrometheus(prometheus, folder, late_s=late_s)
    try:
        yield server
    finally:
        server.stop()
