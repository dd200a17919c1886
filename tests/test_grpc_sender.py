"""gRPC through the whole sender, against h2 and against Google's own gRPC server."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
import trustme

from backends.base import Options, Request
from backends.jetstream_grpc import DecodeDoor
from latency_profile.errors import ServerUnavailable
from latency_profile.records import Flag, Status, TokenSource
from latency_profile.sender.fleet import Fleet
from latency_profile.sender.job import Target
from tests.driving import MS, Driven, Load, drive, target_of
from tests.jetstream_messages import DecodeRequest, DecodeResponse, answer, response
from tests.servers.grpc_server import Call, GrpcServer, goaway

DOOR = DecodeDoor(Options(stream=True))


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(1) as fleet:
        yield fleet


def target_at(port: int, scheme: str = "grpc", **server: Any) -> Target:
    return target_of("", 0, url=f"{scheme}://127.0.0.1:{port}", **server)


def send(fleet: Fleet, target: Target, folder: Path, load: Load, tokens: int = 3, prompt: str = "hello") -> Driven:
    bodies = [DOOR.body(Request(number, "m", f"{prompt} {number}", 2, tokens)) for number in range(len(load))]
    load = replace(load, bodies=bodies, backend="jetstream", endpoint="decode", paths=[DOOR.path])
    return drive(fleet, target, folder, load)


def three(call: Call) -> None:
    call.send(*call.answer(*answer(3)), gap_s=0.004)


# -- h2 ---------------------------------------------------------------------------------------------------------------


def test_tokens_and_times(fleet: Fleet, tmp_path: Path) -> None:
    sent: dict[str, list[float]] = {}

    def slowly(call: Call) -> None:
        times = []
        for part in call.answer(*answer(3)):
            time.sleep(0.02)
            times.append(time.monotonic())
            call.send(part)
        sent[dict(call.headers)["x-request-id"]] = times

    with GrpcServer(slowly) as server:
        driven = send(fleet, target_at(server.port), tmp_path, Load(due_ms=[0, 500, 1000]))
    records = driven.records
    assert driven.statuses == [Status.OK] * 3
    assert list(records["output_tokens"]) == [3] * 3
    assert set(records["token_source"]) == {TokenSource.TOKEN_IDS}
    assert driven.finished.reused >= 1
    assert all(flags & Flag.KERNEL_STAMPS for flags in records["flags"])
    start = driven.ran.start_ns
    for column, part in (("first_token_ns", 1), ("last_token_ns", 3), ("end_ns", 5)):
        late = [(records[column][number] + start) / 1e9 - sent[f"test-0-{number}"][part] for number in range(3)]
        # The server's thread may lose the CPU between its look at the clock and its sending, but hardly thrice.
        assert -0.0002 < min(late) < 0.01, (column, late)
    assert not server.failures
    told = {dict(call.headers)["x-request-id"]: DecodeRequest.FromString(call.payload) for call in server.calls}
    assert {name: request.text_content.text for name, request in told.items()} == {
        f"test-0-{number}": f"hello {number}" for number in range(3)
    }


def test_a_closed_loop_over_few_connections(fleet: Fleet, tmp_path: Path) -> None:
    with GrpcServer(three) as server:
        driven = send(fleet, target_at(server.port), tmp_path, Load(count=40, concurrency=4, ahead=4))
    assert driven.statuses == [Status.OK] * 40
    assert driven.finished.connections_opened == 4
    assert driven.finished.reused == 36


def test_prompts_larger_than_the_windows(fleet: Fleet, tmp_path: Path) -> None:
    """Of the protocol's first windows, 64 kB, with nobody turning in circles while they are closed."""
    with GrpcServer(three) as server:
        driven = send(
            fleet, target_at(server.port), tmp_path, Load(count=20, concurrency=4, ahead=4), prompt="long " * 40_000
        )
    assert driven.statuses == [Status.OK] * 20
    assert {len(call.payload) > 200_000 for call in server.calls} == {True}
    assert driven.finished.cpu_ns < 1_000_000_000


def test_a_dead_pooled_connection_costs_one_more_sending(fleet: Fleet, tmp_path: Path) -> None:
    def once_only(call: Call) -> None:
        if call.turn:
            call.hang_up()
        else:
            three(call)

    with GrpcServer(once_only) as server:
        driven = send(fleet, target_at(server.port), tmp_path, Load(count=2, concurrency=1))
    assert driven.statuses == [Status.OK] * 2
    assert driven.finished.resent == 1
    assert [(call.connection == server.calls[0].connection, call.turn) for call in server.calls] == [
        (True, 0),
        (True, 1),
        (False, 0),
    ]


def test_a_goaway_that_leaves_the_request_out_costs_one_more_sending(fleet: Fleet, tmp_path: Path) -> None:
    def once_only(call: Call) -> None:
        if call.turn:
            call.send(goaway(call.stream - 2))
        else:
            three(call)

    with GrpcServer(once_only) as server:
        driven = send(fleet, target_at(server.port), tmp_path, Load(count=2, concurrency=1))
    assert driven.statuses == [Status.OK] * 2
    assert driven.finished.resent == 1


def test_a_goaway_between_requests_is_noticed(fleet: Fleet, tmp_path: Path) -> None:
    with GrpcServer(lambda call: call.send(b"".join(call.answer(*answer(2))), goaway(1), gap_s=0.02)) as server:
        driven = send(fleet, target_at(server.port), tmp_path, Load(due_ms=[0, 1000, 2000]))
    assert driven.statuses == [Status.OK] * 3
    assert driven.finished.connections_closed_by_server >= 2
    assert driven.finished.resent == 0


def cut_short(call: Call) -> None:
    call.send(call.head() + call.message(answer(1)[0]))
    time.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        (lambda call: call.send(call.refused(8, "queue full")), Status.HTTP_TOO_MANY_REQUESTS, "queue full"),
        (lambda call: call.send(call.refused(14, "no")), Status.HTTP_UNAVAILABLE, "grpc-status 14 UNAVAILABLE: no"),
        (lambda call: call.send(call.refused(2, "TypeError")), Status.ERROR_EVENT, "grpc-status 2 UNKNOWN: TypeError"),
        (lambda call: (cut_short(call), call.send(call.end(13, "died"))), Status.ERROR_EVENT, "INTERNAL: died"),
        (lambda call: (cut_short(call), call.send(call.reset_stream(2))), Status.RESET, "2 INTERNAL_ERROR"),
        (lambda call: (cut_short(call), call.hang_up()), Status.TRUNCATED, ""),
        (lambda call: (cut_short(call), call.reset()), Status.RESET, "ECONNRESET"),
        (lambda call: call.hang_up(), Status.DISCONNECTED, ""),
        (lambda call: call.send(call.head(status="502", kind="text/html"), call.data(b"<p>", end_stream=True)),
         Status.HTTP_GATEWAY, "HTTP 502: <p>"),
        (lambda call: call.send(call.head(kind="text/html"), call.data(b"<p>", end_stream=True)),
         Status.CONTENT_TYPE, "content type 'text/html' is not gRPC's"),
        (lambda call: call.send(*call.answer(b"\x1a\x05"),), Status.MALFORMED, "not a protobuf message"),
        (lambda call: call.send(*call.answer(response(("", [])))), Status.EMPTY, ""),
        (lambda call: call.send(call.head(), call.end()), Status.EMPTY, ""),
        (lambda call: call.send(call.head(), call.message(answer(1)[0]), call.data(b"\0\0\0\0\x09abc"), call.end()),
         Status.TRUNCATED, ""),
        (lambda call: time.sleep(3), Status.TIMEOUT, ""),
        (lambda call: (cut_short(call), time.sleep(3)), Status.STALLED, ""),
    ],
)  # fmt: skip
def test_each_failure_has_its_kind(
    fleet: Fleet, tmp_path: Path, script: Callable[[Call], object], status: Status, message: str
) -> None:
    """And the next request does not feel it."""

    def serve(call: Call) -> None:
        if dict(call.headers)["x-request-id"].endswith("-0"):
            script(call)
        else:
            three(call)

    timeout_s = 2.0 if status in (Status.TIMEOUT, Status.STALLED) else 10.0
    with GrpcServer(serve) as server:
        driven = send(fleet, target_at(server.port), tmp_path, Load(due_ms=[0, 500], timeout_s=timeout_s))
    assert driven.statuses == [status, Status.OK]
    told = driven.collected[0].errors[status.name]
    assert message in told[0]


def test_a_refusal_is_tried_again(fleet: Fleet, tmp_path: Path) -> None:
    """A grpc-status of UNAVAILABLE or RESOURCE_EXHAUSTED, without a message before it, or REFUSED_STREAM."""
    refusals: Iterator[Callable[[Call], bytes]] = iter(
        [
            lambda call: call.head() + call.end(8, "later"),
            lambda call: call.head() + call.end(14, "later"),
            lambda call: call.reset_stream(7),
        ]
    )

    def serve(call: Call) -> None:
        refuse = next(refusals, None)
        call.send(*([refuse(call)] if refuse else call.answer(*answer(2))))

    with GrpcServer(serve) as server:
        driven = send(fleet, target_at(server.port), tmp_path, Load(due_ms=[0], retries=3))
    assert driven.statuses == [Status.OK]
    assert driven.finished.retries == 3
    assert len(server.calls) == 4
    assert server.accepted <= 2, "the connections are still good"


def test_an_error_behind_a_message_is_not_tried_again(fleet: Fleet, tmp_path: Path) -> None:
    def serve(call: Call) -> None:
        call.send(call.head(), call.message(answer(1)[0]), call.end(14, "later"))

    with GrpcServer(serve) as server:
        driven = send(fleet, target_at(server.port), tmp_path, Load(due_ms=[0], retries=3))
    assert driven.statuses == [Status.ERROR_EVENT]
    assert len(server.calls) == 1


# -- TLS --------------------------------------------------------------------------------------------------------------


def context_of(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(protocols)
    return context


def test_through_tls(fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    with GrpcServer(three, tls=context_of(authority, "h2")) as server:
        target = target_at(server.port, "grpcs", ca_file=ca_file)
        driven = send(fleet, target, tmp_path, Load(count=4, concurrency=1), prompt="long " * 30_000)
    assert driven.statuses == [Status.OK] * 4
    assert list(driven.records["output_tokens"]) == [3] * 4
    assert driven.finished.reused >= 2
    assert all(flags & Flag.KERNEL_STAMPS for flags in driven.records["flags"])
    assert not server.failures


def test_a_server_whose_tls_offers_no_http2(fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    with (
        GrpcServer(three, tls=context_of(authority)) as server,
        pytest.raises(ServerUnavailable, match=r"the server offers no HTTP/2 \(by ALPN\)"),
    ):
        send(fleet, target_at(server.port, "grpcs", ca_file=ca_file), tmp_path, Load(due_ms=[0]))


# -- Google's server --------------------------------------------------------------------------------------------------


class Generic(grpc.GenericRpcHandler):
    """Orchestrator.Decode, spelled by Google's libraries."""

    def __init__(self, decode: Callable[[Any, grpc.ServicerContext], Iterator[Any]]) -> None:
        self._decode = decode
        self.seen: list[Any] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method != DOOR.path:
            return None
        return grpc.unary_stream_rpc_method_handler(
            self._answer,
            request_deserializer=DecodeRequest.FromString,
            response_serializer=DecodeResponse.SerializeToString,
        )

    def _answer(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.seen.append(request)
        yield from self._decode(request, context)


@contextmanager
def real(handler: Generic, *options: tuple[str, Any], tls: grpc.ServerCredentials | None = None) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(8), handlers=[handler], options=options)
    port = server.add_secure_port("127.0.0.1:0", tls) if tls else server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait(5)


def generate(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
    """A token every 5 ms, as many as are asked for."""
    for payload in answer(request.max_tokens):
        time.sleep(0.005)
        yield DecodeResponse.FromString(payload)


def test_a_real_server(fleet: Fleet, tmp_path: Path) -> None:
    handler = Generic(generate)
    with real(handler) as port:
        driven = send(fleet, target_at(port), tmp_path, Load(count=60, concurrency=6, ahead=6), tokens=7)
    records = driven.records
    assert driven.statuses == [Status.OK] * 60
    assert list(records["output_tokens"]) == [7] * 60
    assert driven.finished.connections_opened <= 7
    gaps = np.diff(records.event_ns.reshape(60, 7), axis=1) / MS
    assert 4.5 < np.median(gaps) < 8
    assert {request.text_content.text for request in handler.seen} == {f"hello {number}" for number in range(60)}


@pytest.mark.parametrize("window", [None, 20_000])
def test_long_prompts_to_a_real_server(fleet: Fleet, tmp_path: Path, window: int | None) -> None:
    handler = Generic(generate)
    options = () if window is None else (("grpc.http2.lookahead_bytes", window), ("grpc.http2.bdp_probe", 0))
    with real(handler, *options) as port:
        driven = send(
            fleet, target_at(port), tmp_path, Load(count=12, concurrency=3, ahead=3), prompt="long " * 100_000
        )
    assert driven.statuses == [Status.OK] * 12
    assert {len(request.text_content.text) > 500_000 for request in handler.seen} == {True}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Status.HTTP_TOO_MANY_REQUESTS),
        (grpc.StatusCode.UNAUTHENTICATED, Status.HTTP_UNAUTHORIZED),
        (grpc.StatusCode.INTERNAL, Status.ERROR_EVENT),
    ],
)
def test_errors_of_a_real_server(fleet: Fleet, tmp_path: Path, code: grpc.StatusCode, status: Status) -> None:
    def refuse(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.abort(code, "no, € 100%")
        yield request

    with real(Generic(refuse)) as port:
        driven = send(fleet, target_at(port), tmp_path, Load(due_ms=[0, 50]))
    assert driven.statuses == [status] * 2
    assert driven.collected[0].errors[status.name] == [f"2 × grpc-status {code.value[0]} {code.name}: no, € 100%"]
    assert driven.finished.connections_failed == 0


def test_a_method_that_a_real_server_has_not(fleet: Fleet, tmp_path: Path) -> None:
    with real(Generic(generate)) as port:
        target = msgspec.structs.replace(target_at(port), prefix="/other")
        driven = send(fleet, target, tmp_path, Load(due_ms=[0]))
    assert driven.statuses == [Status.ERROR_EVENT]
    assert "12 UNIMPLEMENTED" in driven.collected[0].errors["ERROR_EVENT"][0]


def test_a_real_server_that_ages_its_connections(fleet: Fleet, tmp_path: Path) -> None:
    """It says GOAWAY after 300 ms, between requests or amid them: none is lost."""
    options = (("grpc.max_connection_age_ms", 300), ("grpc.max_connection_age_grace_ms", 2000))
    with real(Generic(generate), *options) as port:
        driven = send(fleet, target_at(port), tmp_path, Load(due_ms=list(range(0, 1500, 25))), tokens=5)
    assert driven.statuses == [Status.OK] * 60
    assert driven.finished.connections_opened > 3


def test_a_real_server_that_is_killed_amid_answers(fleet: Fleet, tmp_path: Path) -> None:
    stopped, amid = threading.Event(), threading.Semaphore(0)

    def for_long(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for number, payload in enumerate(answer(200)):
            if number == 20:
                amid.release()
            if stopped.wait(0.01):
                return
            yield DecodeResponse.FromString(payload)

    def kill() -> None:
        for _ in range(2):
            amid.acquire(timeout=8)
        server.stop(0)

    server = grpc.server(ThreadPoolExecutor(4), handlers=[Generic(for_long)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    threading.Thread(target=kill, daemon=True).start()
    driven = send(fleet, target_at(port), tmp_path, Load(due_ms=[0, 10]))
    stopped.set()
    assert set(driven.statuses) <= {Status.TRUNCATED, Status.RESET, Status.HTTP_UNAVAILABLE, Status.ERROR_EVENT}


def test_a_real_server_through_tls(fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    own = authority.issue_cert("127.0.0.1")
    key, chain = own.private_key_pem.bytes(), b"".join(part.bytes() for part in own.cert_chain_pems)
    handler = Generic(generate)
    with real(handler, tls=grpc.ssl_server_credentials([(key, chain)])) as port:
        target = target_at(port, "grpcs", ca_file=ca_file)
        driven = send(fleet, target, tmp_path, Load(count=20, concurrency=4, ahead=4), prompt="long " * 30_000)
    assert driven.statuses == [Status.OK] * 20
    assert driven.finished.reused == 16
