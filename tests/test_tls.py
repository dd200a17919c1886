"""The sender through TLS: what it trusts, and that it measures and ends answers as it does in the clear."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trustme

from latency_profile.errors import ServerUnavailable
from latency_profile.records import Flag, Status
from latency_profile.sender.fleet import Fleet
from latency_profile.server import server_at
from tests.driving import MS, After, Driven, Load, drive, target_of
from tests.servers import odd
from tests.servers.odd import Call, Odd


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(1) as fleet:
        yield fleet


def context_of(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
    return context


def greets_once(tls: ssl.SSLContext, over: threading.Event) -> Odd:
    """A server that closes after each answer, and says no word on any connection but the first until it is `over`."""
    greeted = iter([True, True])  # a look whether the server is there, and the sender's first connection
    close = odd.whole(3, "connection: close")
    return Odd(lambda call: call.send(close), tls=tls, greet=lambda _: next(greeted, False) or over.wait(60))


def send(fleet: Fleet, server: Odd, folder: Path, load: Load, ca_file: str | None, verify: bool = True) -> Driven:
    target = target_of("", 0, url=f"https://127.0.0.1:{server.port}", ca_file=ca_file, verify=verify)
    return drive(fleet, target, folder, load)


def answer(call: Call) -> None:
    call.send(odd.whole(3))


def test_a_verified_connection_is_reused_and_stamped(
    fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    """TLS 1.3's session tickets come on an idle connection: they are no answer, and do no harm."""
    with Odd(answer, tls=context_of(authority)) as server:
        driven = send(fleet, server, tmp_path, Load(count=4, concurrency=1), ca_file)
    assert driven.statuses == [Status.OK] * 4
    assert driven.finished.reused >= 2
    assert driven.finished.connections_closed_by_server == 0
    assert all(flags & Flag.KERNEL_STAMPS for flags in driven.records["flags"])
    assert list(driven.records["output_tokens"]) == [3] * 4
    assert list(driven.records["answer_bytes"]) == [len(odd.whole(3))] * 4, "of the answer, not of TLS"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions(
    fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    context = context_of(authority)
    context.minimum_version = context.maximum_version = version
    with Odd(answer, tls=context) as server:
        assert send(fleet, server, tmp_path, Load(due_ms=[0]), ca_file).statuses == [Status.OK]


def test_a_burst_of_handshakes(fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    """All handshakes are over before the first request is due."""
    with Odd(answer, tls=context_of(authority)) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0] * 30, ahead=30), ca_file)
    assert driven.statuses == [Status.OK] * 30
    assert driven.finished.connections_opened == 30
    assert driven.finished.most_waiting_for_connection == 0


def test_an_unknown_authority_is_refused_with_its_reason(fleet: Fleet, authority: trustme.CA, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with Odd(answer, tls=context_of(authority)) as server:
        for file in (None, str(other)):
            with pytest.raises(ServerUnavailable, match=r"TLS failed: .*(self-signed|local issuer|signature)"):
                send(fleet, server, tmp_path, Load(due_ms=[0]), file)
    assert server.calls == []


def test_a_certificate_for_another_host_is_refused(
    fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    refused = pytest.raises(ServerUnavailable, match=r"TLS failed: IP address mismatch")
    with Odd(answer, tls=context_of(authority, "example.com")) as server, refused:
        send(fleet, server, tmp_path, Load(due_ms=[0]), ca_file)
    assert server.calls == []


def test_insecure_takes_any_certificate(fleet: Fleet, authority: trustme.CA, tmp_path: Path) -> None:
    with Odd(answer, tls=context_of(authority, "example.com")) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0]), None, verify=False)
    assert driven.statuses == [Status.OK]


def test_a_server_without_tls(fleet: Fleet, tmp_path: Path, ca_file: str) -> None:
    refused = pytest.raises(ServerUnavailable, match=r"TLS failed: \w+")
    with Odd(answer, greet=lambda peer: bool(peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))) as server, refused:
        send(fleet, server, tmp_path, Load(due_ms=[0]), ca_file)


def test_a_server_that_hangs_up_in_the_handshake(fleet: Fleet, tmp_path: Path, ca_file: str) -> None:
    refused = pytest.raises(ServerUnavailable, match=r"the server closed the connection|Connection reset")
    with Odd(answer, greet=lambda peer: peer.recv(1) == b"") as server, refused:
        send(fleet, server, tmp_path, Load(due_ms=[0]), ca_file)


@pytest.mark.parametrize("length", ["chunked", "content-length", "none"])
def test_an_answer_and_the_goodbye_in_one_read(
    fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path, length: str
) -> None:
    """The answer, close_notify and the end of the connection arrive together: the answer is whole all the same."""
    held = threading.Lock()

    def last(call: Call) -> None:
        if length == "chunked":
            call.send(odd.whole(3, "connection: close"))
        elif length == "content-length":
            call.send(odd.plain(b"".join(odd.stream(3)), "text/event-stream", "200 OK", "connection: close"))
        else:
            call.send(odd.head("200 OK", "text/event-stream", "connection: close") + b"".join(odd.stream(3)))
        with held:
            call.hang_up()

    with Odd(last, tls=context_of(authority)) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0] * 10 + [100] * 10, ahead=10), ca_file)
    assert driven.statuses == [Status.OK] * 20
    assert list(driven.records["output_tokens"]) == [3] * 20


def test_a_stream_in_small_and_in_large_records(
    fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    """Many records in one read, and one record over many reads. An event has the time of the read that completed it."""
    events = odd.stream(2000)
    body = b"".join([odd.head(), *events])
    began: list[int] = []

    def stream(call: Call) -> None:
        began.append(time.monotonic_ns())
        if call.index:
            call.send(*(body[at : at + 3000] for at in range(0, len(body), 3000)))
        else:
            call.send(body)
        call.hang_up()

    with Odd(stream, tls=context_of(authority)) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 300]), ca_file)
    assert driven.statuses == [Status.OK] * 2
    assert list(driven.records["output_tokens"]) == [2000, 2000]
    assert list(np.diff(driven.records.event_start)) == [2000, 2000]
    assert driven.records["first_token_ns"][0] >= began[0] - driven.ran.start_ns


def test_large_bodies(fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    big = b'{"prompt":"' + b"x" * 3_000_000 + b'"}'
    said = b'{"choices":[{"text":"' + b"y" * 3_000_000 + b'","finish_reason":"stop"}],"usage":{"completion_tokens":9}}'
    with Odd(lambda call: call.send(odd.plain(said)), tls=context_of(authority)) as server:
        load = Load(due_ms=[0], bodies=[big], streaming=False, timeout_s=30)
        driven = send(fleet, server, tmp_path, load, ca_file)
    assert driven.statuses == [Status.OK]
    assert server.calls[0].body == big
    assert driven.records["answer_bytes"][0] > 3_000_000


def test_a_dead_pooled_connection(fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    def once_only(call: Call) -> None:
        if call.turn:
            call.hang_up()
        else:
            call.send(odd.whole(3))

    with Odd(once_only, tls=context_of(authority)) as server:
        driven = send(fleet, server, tmp_path, Load(count=2, concurrency=1), ca_file)
    assert driven.statuses == [Status.OK] * 2
    assert driven.finished.resent == 1


@pytest.mark.parametrize("behind", [odd.whole(9), odd.whole(9)[:30], b"\0\xff"], ids=["answer", "half", "garbage"])
def test_bytes_behind_an_answer_are_no_answer_to_the_next_request(
    fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path, behind: bytes
) -> None:
    """In a TLS record of their own, which comes with that of the answer: the connection is not used again."""

    def two_records(call: Call) -> None:
        call._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        call.send(odd.whole(3), behind)
        call._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    with Odd(two_records, tls=context_of(authority)) as server:
        driven = send(fleet, server, tmp_path, Load(count=6, concurrency=1), ca_file)
    assert driven.statuses == [Status.OK] * 6
    assert list(driven.records["output_tokens"]) == [3] * 6
    assert [call.turn for call in server.calls] == [0] * 6


def test_a_handshake_that_breaks_on_our_last_word_holds_nobody_up(
    fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    """The server says its part and resets: there is nobody to say ours to. Another connection is opened."""
    context = context_of(authority)
    whole = iter([True] * 2)  # a look whether the server is there, and the sender's first connection
    broken = iter([True] * 3)

    def greet(peer: socket.socket) -> bool:
        if next(whole, False) or not next(broken, False):
            return True
        said, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
        said.write(peer.recv(1 << 16))
        with pytest.raises(ssl.SSLWantReadError):
            context.wrap_bio(said, answer, server_side=True).do_handshake()
        peer.sendall(answer.read())
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        return False

    def last(call: Call) -> None:
        call.send(odd.whole(3, "connection: close"))
        call.hang_up()

    with Odd(last, tls=context, greet=greet) as server:
        load = Load(due_ms=range(0, 1500, 50), timeout_s=2, stopped=After(8), retries=5)
        driven = send(fleet, server, tmp_path, load, ca_file)
    assert next(broken, None) is None
    assert driven.statuses == [Status.OK] * 30
    assert driven.finished.connections_failed >= 1


def test_a_handshake_takes_no_longer_than_a_request_may(
    fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    """The server never says a word on any connection but the first."""
    over = threading.Event()
    with greets_once(context_of(authority), over) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 300], timeout_s=2, stopped=After(30)), ca_file)
        over.set()
    assert driven.statuses == [Status.OK, Status.CONNECT_TIMEOUT]
    assert driven.ran.ended_ns - driven.ran.start_ns < 15_000 * MS


def test_an_answer_that_stops_short(fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    def break_off(call: Call) -> None:
        call.send(odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked"), odd.chunk(odd.stream(3)[0]))
        time.sleep(0.05)
        if call.index:
            call.reset()
        else:
            call.hang_up()

    with Odd(break_off, tls=context_of(authority)) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 200]), ca_file)
    assert driven.statuses == [Status.TRUNCATED, Status.RESET]


def test_a_tls_stall_is_given_up(fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    over = threading.Event()

    def stall(call: Call) -> None:
        if call.index == 0:
            over.wait(30)
        call.send(odd.whole(3))

    with Odd(stall, tls=context_of(authority)) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 50, 100], timeout_s=2), ca_file)
        over.set()
    assert driven.statuses == [Status.TIMEOUT, Status.OK, Status.OK]
    assert driven.records["end_ns"][0] < 15_000 * MS


def test_a_closed_loop_ends_though_a_handshake_goes_on(
    fleet: Fleet, authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    """The server greets only the first connection: what waits for another when the time is over is not sent."""
    over = threading.Event()
    with greets_once(context_of(authority), over) as server:
        driven = send(fleet, server, tmp_path, Load(count=50, concurrency=2, duration_s=1.5, timeout_s=40), ca_file)
        over.set()
    assert driven.statuses == [Status.OK]
    assert 1500 * MS <= driven.ran.ended_ns - driven.ran.start_ns < 15_000 * MS


def test_the_listing_trusts_the_same(authority: trustme.CA, ca_file: str) -> None:
    with Odd(lambda call: call.send(odd.plain(b"{}")), tls=context_of(authority)) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert server_at("", 0, url, [], ca_file, True).get("/v1/models") == b"{}"
        assert server_at("", 0, url, [], None, False).get("/v1/models") == b"{}"
        with pytest.raises(ServerUnavailable, match="SSLCertVerificationError"):
            server_at("", 0, url, [], None, True).get("/v1/models")
