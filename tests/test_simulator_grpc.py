"""The simulator's gRPC door: against Google's own client, and measured by the sender."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from backends.base import Options, Request
from backends.jetstream_grpc import DecodeDoor
from latency_profile.records import Status
from latency_profile.sender.fleet import Fleet
from tests.driving import MS, Driven, Load, drive, target_of
from tests.jetstream_messages import DecodeRequest, DecodeResponse
from tests.servers.simulator import Simulator, post, raw_exchange, simulator

DOOR = DecodeDoor(Options(stream=True))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    flags = ("--backend", "jetstream", "--fixed-timing", "10,2")
    with simulator(tmp_path_factory.mktemp("simulator"), *flags) as running:
        yield running


def at(server: Simulator) -> str:
    return server.url.removeprefix("http://").rstrip("/")


def decode(server: Simulator, method: str = DOOR.path, **request: Any) -> list[Any]:
    with grpc.insecure_channel(at(server)) as channel:
        call = channel.unary_stream(method, DecodeRequest.SerializeToString, DecodeResponse.FromString)
        return list(call(DecodeRequest(**request), timeout=30))


def test_an_answer_as_googles_client_reads_it(server: Simulator) -> None:
    *tokens, end = decode(server, text_content={"text": "hello there"}, max_tokens=5)
    samples = [response.stream_content.samples[0] for response in tokens]
    assert [len(sample.token_ids) for sample in samples] == [1] * 5
    assert all(sample.text.startswith(" ") for sample in samples)
    assert end.SerializeToString() == bytes.fromhex("1a020a00")


def test_a_request_with_token_ids_is_answered_with_token_ids(server: Simulator) -> None:
    *tokens, end = decode(server, token_content={"token_ids": [1, 300, 70_000]}, max_tokens=2)
    assert [(sample.text, len(sample.token_ids)) for token in tokens for sample in token.stream_content.samples] == [
        ("", 1),
        ("", 1),
    ]
    assert end.SerializeToString() == bytes.fromhex("1a020a00")


def test_no_tokens(server: Simulator) -> None:
    (end,) = decode(server, text_content={"text": "x"}, max_tokens=0)
    assert end.SerializeToString() == bytes.fromhex("1a020a00")


def test_errors_as_googles_client_reads_them(server: Simulator) -> None:
    with pytest.raises(grpc.RpcError) as nothing:
        decode(server, max_tokens=3)
    told = "Unexpected <class 'TypeError'>: attribute name must be string, not 'NoneType'"
    assert (nothing.value.code(), nothing.value.details()) == (grpc.StatusCode.UNKNOWN, told)
    with pytest.raises(grpc.RpcError) as unknown:
        decode(server, "/jetstream_proto.Orchestrator/Nope")
    assert (unknown.value.code(), unknown.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def test_many_streams_over_one_connection_with_long_prompts(server: Simulator) -> None:
    """Prompts larger than the first windows, answered at the same time."""
    answers: list[int] = []
    with grpc.insecure_channel(at(server)) as channel:
        call = channel.unary_stream(DOOR.path, DecodeRequest.SerializeToString, DecodeResponse.FromString)

        def ask(number: int) -> None:
            request = DecodeRequest(text_content={"text": f"{number} " + "word " * 30_000}, max_tokens=20)
            answers.append(len(list(call(request, timeout=20))))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [21] * 4


def test_a_client_that_gives_up(server: Simulator) -> None:
    """The stream ends, and the connection serves the next."""
    with grpc.insecure_channel(at(server)) as channel:
        call = channel.unary_stream(DOOR.path, DecodeRequest.SerializeToString, DecodeResponse.FromString)
        first = call(DecodeRequest(text_content={"text": "x"}, max_tokens=5000), timeout=20)
        next(first)
        first.cancel()
        second = call(DecodeRequest(text_content={"text": "y"}, max_tokens=3), timeout=20)
        assert len(list(second)) == 4


def test_http_at_the_same_port(server: Simulator) -> None:
    answer = raw_exchange(server.url, post("/generate", {"prompt": "hello", "max_tokens": 2}, "Connection: close\r\n"))
    assert answer.startswith(b"HTTP/1.1 200")


def send(fleet: Fleet, server: Simulator, folder: Path, load: Load, tokens: int) -> Driven:
    load.bodies = [DOOR.body(Request(number, "m", f"prompt {number}", 2, tokens)) for number in range(len(load))]
    load.backend, load.endpoint, load.paths = "jetstream", "decode", [DOOR.path]
    return drive(fleet, target_of("", 0, url=f"grpc://{at(server)}"), folder, load)


def test_what_the_sender_measures_is_what_the_server_did(tmp_path: Path) -> None:
    flags = ("--backend", "jetstream", "--fixed-timing", "20,5")
    with simulator(tmp_path, *flags) as server, Fleet(1) as fleet:
        driven = send(fleet, server, tmp_path, Load(due_ms=[40 * number for number in range(30)]), tokens=6)
        truth = server.truth()
    records = driven.records
    assert driven.statuses == [Status.OK] * 30
    assert list(records["output_tokens"]) == [6] * 30
    place = {str(name): row for row, name in enumerate(truth.request_id)}
    order = [place[f"test-0-{number}"] for number in range(30)]
    error = records.event_ns.reshape(30, 6) + driven.ran.start_ns - truth.written_ns.reshape(30, 6)[order]
    assert np.min(error) / MS > -0.05
    assert np.median(error) / MS < 0.5
    assert 0 <= np.median(truth.arrival_ns[order] - records["sent_ns"] - driven.ran.start_ns) / MS < 0.5


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("401", Status.HTTP_UNAUTHORIZED),
        ("429", Status.HTTP_TOO_MANY_REQUESTS),
        ("500", Status.ERROR_EVENT),
        ("502", Status.HTTP_GATEWAY),
        ("503", Status.HTTP_UNAVAILABLE),
        ("redirect", Status.HTTP_REDIRECT),
        ("disconnect", Status.DISCONNECTED),
        ("reset", Status.RESET),
        ("truncate", Status.TRUNCATED),
        ("stall", Status.STALLED),
        ("error_event", Status.ERROR_EVENT),
        ("malformed", Status.MALFORMED),
        ("empty", Status.EMPTY),
        ("half_first", Status.OK),
    ],
)
def test_faults(tmp_path: Path, fault: str, status: Status) -> None:
    flags = ("--backend", "jetstream", "--fixed-timing", "10,2", "--fault", f"{fault}:1")
    with simulator(tmp_path, *flags) as server, Fleet(1) as fleet:
        load = Load(due_ms=[0, 20], timeout_s=1 if fault == "stall" else 15)
        driven = send(fleet, server, tmp_path, load, tokens=6)
    assert driven.statuses == [status] * 2
    if fault == "half_first":
        assert list(driven.records.event_tokens[:4]) == [3, 1, 1, 1]


def test_an_idle_client_of_http2_is_closed_with_the_server(tmp_path: Path) -> None:
    with simulator(tmp_path, "--backend", "jetstream", "--fixed-timing", "10,2") as server:
        channel = grpc.insecure_channel(at(server))
        grpc.channel_ready_future(channel).result(timeout=20)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 15
        channel.close()
