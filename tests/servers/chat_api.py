"""A chat API that says what it is told to say, one scripted reply after the other, and keeps what it was asked."""

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer, whole. body None: the connection is closed without any."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def written(text: str | None, finish: str = "stop", usage: dict[str, int] | None = None) -> Reply:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    counted = {"prompt_tokens": 100, "completion_tokens": 20} if usage is None else usage
    return Reply({"object": "chat.completion", "choices": [choice], "usage": counted})


def refused(status: int, message: str = "no", **headers: str) -> Reply:
    return Reply({"error": {"message": message, "code": status}}, status, headers)


@dataclass
class Asked:
    """What came: the posts' bodies, and every request's headers."""

    url: str
    questions: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def chat_api(replies: Iterable[Reply], models: Reply | None = None) -> Iterator[Asked]:
    """Serves the replies in turn to posts of /v1/chat/completions, and `models` at /v1/models."""
    rest = iter(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.headers.append(dict(self.headers))
            self._answer(models or refused(404))

        def do_POST(self) -> None:
            asked.headers.append(dict(self.headers))
            asked.questions.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(next(rest, refused(400, "the script is at its end")))

        def _answer(self, reply: Reply) -> None:
            if reply.body is None:
                return
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    asked = Asked(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
