"""The lean server: what it says, when, and that its log is what happened."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import requests

from latency_profile.calibration.encoded import TOKEN
from latency_profile.simulator.log import Finish, TruthLog, read_log
from latency_profile.workload.tokenizer import load
from tests.tool import environment

PROMPT = {"model": "calibration", "prompt": 'say "stream": true and "max_tokens": 7'}
MESSAGES = {"model": "calibration", "messages": [{"role": "user", "content": "hello"}]}


class Served:
    """A running server; its log once it has ended."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, log: Path) -> None:
        self.process, self.port, self.path = process, port, log
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str = "/v1/completions", request_id: str = "r-0", **body: Any) -> requests.Response:
        return requests.post(self.url + path, data=json.dumps(body), headers={"x-request-id": request_id}, timeout=10)

    def end(self) -> TruthLog:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0
        return read_log(self.path)


@contextmanager
def server(folder: Path, *flags: str) -> Iterator[Served]:
    log = folder / "log.npz"
    command = [sys.executable, "-m", "latency_profile.calibration.server", "--log", str(log), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout
        found = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", process.stdout.readline())
        assert found
        try:
            yield Served(process, int(found[1]), log)
        finally:
            process.kill()


def events_of(answer: requests.Response) -> list[Any]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    parts = answer.text.split("\n\n")
    assert parts.pop() == "" and all(part.startswith("data: ") for part in parts)
    assert parts.pop() == "data: [DONE]"
    return [json.loads(part.removeprefix("data: ")) for part in parts]


FAST = ("--ttft-ms", "5", "--itl-ms", "1")


def test_a_stream_of_completions(tmp_path: Path) -> None:
    with server(tmp_path, *FAST) as served:
        events = events_of(served.ask(**PROMPT, stream=True, max_tokens=12))
        log = served.end()
    assert [event["choices"][0]["text"] for event in events] == [" the"] * 12
    assert [event["choices"][0]["finish_reason"] for event in events] == [None] * 11 + ["length"]
    assert all("usage" not in event for event in events)
    assert log.output_tokens.tolist() == [12] and log.finish.tolist() == [Finish.LENGTH]
    assert log.event_tokens.tolist() == [1] * 12


def test_usage_comes_last_or_with_every_event(tmp_path: Path) -> None:
    with server(tmp_path, *FAST) as served:
        once = events_of(served.ask(**PROMPT, stream=True, max_tokens=3, stream_options={"include_usage": True}))
        options = {"include_usage": True, "continuous_usage_stats": True}
        always = events_of(served.ask(**PROMPT, stream=True, max_tokens=3, stream_options=options))
    assert [event.get("usage", {}).get("completion_tokens") for event in once] == [None, None, None, 3]
    assert once[-1]["choices"] == []
    assert [event["usage"]["completion_tokens"] for event in always] == [1, 2, 3, 3]


def test_chat_and_whole_answers(tmp_path: Path) -> None:
    with server(tmp_path, *FAST) as served:
        chat = events_of(served.ask("/v1/chat/completions", **MESSAGES, stream=True, max_completion_tokens=2))
        whole = served.ask("/v1/chat/completions", **MESSAGES, max_tokens=4).json()
        text = served.ask(**PROMPT, max_tokens=4).json()
        default = served.ask(prompt="hello").json()
        models = requests.get(served.url + "/v1/models", timeout=5).json()
        assert requests.get(served.url + "/nothing", timeout=5).status_code == 404
        log = served.end()
    assert [event["choices"][0]["delta"]["content"] for event in chat] == [" the"] * 2
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": " the" * 4}
    assert text["choices"][0]["text"] == " the" * 4 and text["usage"]["completion_tokens"] == 4
    assert default["usage"]["completion_tokens"] == 100
    assert [model["id"] for model in models["data"]] == ["calibration"]
    assert log.event_tokens.tolist() == [1, 1, 4, 4, 100]


def test_its_times_are_those_that_it_was_told(tmp_path: Path) -> None:
    with server(tmp_path, "--ttft-ms", "30", "--itl-ms", "4", "--jitter", "0.2") as served:
        for number in range(4):
            served.ask(request_id=f"r-{number}", **PROMPT, stream=True, max_tokens=20)
        log = served.end()
    planned = log.scheduled_ns.reshape(4, 20) - log.arrival_ns[:, None]
    first, gaps = planned[:, 0] / 1e6, np.diff(planned, axis=1) / 1e6
    assert ((first >= 24) & (first <= 36)).all() and ((gaps >= 3.2) & (gaps <= 4.8)).all()
    assert len(np.unique(first)) == 4
    assert (log.written_ns >= log.scheduled_ns - 30_000).all()  # never before its time
    assert (log.wrote_ns > log.written_ns).all()
    assert log.request_id.tolist() == ["r-0", "r-1", "r-2", "r-3"]


def test_a_schedule_is_kept_request_by_request(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "schedule.npz",
        event_start=[0, 2, 5],
        offset_ns=np.array([1, 3, 2, 4, 9]) * 1_000_000,
        event_tokens=[1, 4, 2, 2, 2],
    )
    options = {"include_usage": True, "continuous_usage_stats": True}
    with server(tmp_path, "--schedule", str(tmp_path / "schedule.npz")) as served:
        second = events_of(served.ask(request_id="nonce-0-1", **PROMPT, stream=True, stream_options=options))
        events_of(served.ask(request_id="nonce-0-2", **PROMPT, stream=True))
        log = served.end()
    assert [event["usage"]["completion_tokens"] for event in second] == [2, 4, 6, 6]
    assert log.event_tokens.tolist() == [2, 2, 2, 1, 4]
    assert (log.scheduled_ns - np.repeat(log.arrival_ns, np.diff(log.event_start))).tolist() == [
        ms * 1_000_000 for ms in (2, 4, 9, 1, 3)
    ]


def test_a_file_that_is_no_schedule_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", event_start=[0, 3], offset_ns=[1], event_tokens=[1])
    command = [sys.executable, "-m", "latency_profile.calibration.server", "--schedule", str(tmp_path / "wrong.npz")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=20)
    assert done.returncode == 2 and "--schedule: a schedule needs" in done.stderr


def test_requests_that_come_in_pieces_and_together(tmp_path: Path) -> None:
    body = json.dumps({**PROMPT, "max_tokens": 2}).encode()
    request = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with server(tmp_path, *FAST) as served, socket.create_connection(("127.0.0.1", served.port)) as client:
        for byte in request[:-1]:
            client.send(bytes([byte]))
        client.send(request[-1:] + request)
        received = b""
        client.settimeout(5)
        while received.count(b"finish_reason") < 2:
            received += client.recv(65536)
        log = served.end()
    assert len(log) == 2


def test_a_client_that_goes_away_leaves_the_others_alone(tmp_path: Path) -> None:
    body = json.dumps({**PROMPT, "max_tokens": 5000, "stream": True}).encode()
    with server(tmp_path, *FAST) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.send(b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            client.recv(1000)
        events = events_of(served.ask(**PROMPT, stream=True, max_tokens=20))
        log = served.end()
    assert len(events) == 20
    assert log.finish.tolist() == [Finish.ABORT, Finish.LENGTH]


def test_a_client_that_does_not_read_gets_everything_in_the_end(tmp_path: Path) -> None:
    tokens = 30_000
    body = json.dumps({**PROMPT, "max_tokens": tokens, "stream": True}).encode()
    with (
        server(tmp_path, "--ttft-ms", "1", "--itl-ms", "0.01") as served,
        socket.socket() as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.settimeout(20)
        client.send(b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        time.sleep(1.5)
        received = bytearray()
        while not received.endswith(b"0\r\n\r\n"):
            received += client.recv(1 << 20)
    assert received.count(b'"text":" the"') == tokens


def test_a_token_is_one_token() -> None:
    assert load("bundled").counts([TOKEN * 50], special=False) == [50]
