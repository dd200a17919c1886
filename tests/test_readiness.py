"""Waiting for servers that are still starting."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from latency_profile import readiness
from latency_profile.errors import Exit, ServerUnavailable
from latency_profile.readiness import wait_for
from latency_profile.server import Server, server_at
from tests.servers import odd
from tests.servers.odd import Call, Odd
from tests.servers.process import free_port

POLL_S = 0.05


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "POLL_S", POLL_S)


def at(port: int, scheme: str = "http", prefix: str = "") -> Server:
    return server_at("", 0, f"{scheme}://127.0.0.1:{port}{prefix}", [("x-key", "k")], None, True)


def never() -> bool:
    return False


def healthy_after(polls: int) -> Callable[[Call], None]:
    """503 to the first ones."""
    seen = iter(range(1 << 30))
    return lambda call: call.send(odd.plain(b"", status="200 OK" if next(seen) >= polls else "503 Loading"))


@pytest.fixture
def said() -> Iterator[list[str]]:
    yield []


def test_a_server_that_is_ready_is_asked_once_and_at_once(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "POLL_S", 60.0)
    with Odd(healthy_after(0)) as server:
        began = time.monotonic()
        wait_for([at(server.port, prefix="/team")], "/health", 30, never, said.append)
        assert time.monotonic() - began < 5
    assert [call.head.split(b"\r\n")[0] for call in server.calls] == [b"GET /team/health HTTP/1.1"]
    assert b"x-key: k" in server.calls[0].head
    assert said == []


def test_it_polls_until_the_server_is_healthy(said: list[str]) -> None:
    with Odd(healthy_after(20)) as server:
        wait_for([at(server.port)], "/health", 60, never, said.append)
    assert len(server.calls) == 21
    times = [call.at_s for call in server.calls]
    assert min(after - before for before, after in pairwise(times)) >= POLL_S
    assert said == [f"waiting for http://127.0.0.1:{server.port}: /health answers 503"]


def test_a_server_that_is_not_there_yet(said: list[str]) -> None:
    port = free_port()
    over = threading.Event()

    def start() -> None:
        time.sleep(1.5)
        with socket.create_server(("127.0.0.1", port)):
            over.wait(30)

    thread = threading.Thread(target=start)
    thread.start()
    wait_for([at(port)], None, 30, never, said.append)
    over.set()
    thread.join()
    assert said == [f"waiting for http://127.0.0.1:{port}: Connection refused"]


def test_the_last_reason_when_the_time_is_over(said: list[str]) -> None:
    with Odd(healthy_after(1 << 20)) as server:
        began = time.monotonic()
        with pytest.raises(ServerUnavailable) as over:
            wait_for([at(server.port)], "/health", 1.5, never, said.append)
        assert 1.5 <= time.monotonic() - began < 15
        asked = len(server.calls)
        time.sleep(4 * POLL_S)
        assert len(server.calls) <= asked + 1, "it goes on polling"
    assert str(over.value) == f"not ready within 1.5 s: http://127.0.0.1:{server.port}: /health answers 503"
    assert over.value.exit_code is Exit.UNAVAILABLE and int(over.value.exit_code) == 3
    assert asked >= 2


def test_a_server_that_hangs_delays_neither_the_end_nor_a_signal(said: list[str]) -> None:
    release = threading.Event()
    with Odd(lambda call: call.hang_up() if release.wait(60) else None) as server:
        began = time.monotonic()
        with pytest.raises(ServerUnavailable, match=r"no answer yet$"):
            wait_for([at(server.port)], "/health", 0.2, never, said.append)
        wait_for([at(server.port)], "/health", 60, lambda: time.monotonic() > began + 0.5, said.append)
        assert time.monotonic() - began < 20
        release.set()
    assert said == []


@pytest.mark.parametrize(("scheme", "health"), [("http", None), ("grpc", None), ("grpc", "/health")])
def test_a_connection_is_enough_where_no_health_can_be_asked(scheme: str, health: str | None, said: list[str]) -> None:
    port = free_port()
    with pytest.raises(ServerUnavailable, match=f"{scheme}://127.0.0.1:{port}: Connection refused$"):
        wait_for([at(port, scheme)], health, 2.0, never, said.append)
    with Odd(healthy_after(1 << 20)) as server:
        wait_for([at(server.port, scheme)], health, 30, never, said.append)
        assert server.calls == []


def test_all_servers_have_to_be_ready(said: list[str]) -> None:
    """One that was ready is not asked again."""
    with Odd(healthy_after(0)) as one, Odd(healthy_after(3)) as two, Odd(healthy_after(6)) as three:
        servers = [at(each.port) for each in (one, two, three)]
        wait_for(servers, "/health", 30, never, said.append)
        assert [len(each.calls) for each in (one, two, three)] == [1, 4, 7]
    port = free_port()
    with Odd(healthy_after(0)) as one, pytest.raises(ServerUnavailable, match=r"127.0.0.1:\d+: Connection refused$"):
        wait_for([at(one.port), at(port)], "/health", 2.0, never, said.append)
    # at that moment the other may not have answered yet
    assert said[-1].removesuffix(" (and 1 more)") == f"waiting for http://127.0.0.1:{port}: Connection refused"


def test_it_says_what_it_waits_for_now_and_then(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "SAY_S", 0.4)
    ports = [free_port(), free_port()]
    with pytest.raises(ServerUnavailable, match=r"refused \(and 1 more\)$"):
        wait_for([at(port) for port in ports], "/health", 2.0, never, said.append)
    assert 2 <= len(said) <= 5, "at once, and every 0.4 s"
    # either may be the first that was asked: each line names one that is known to refuse
    assert set(said) <= {f"waiting for http://127.0.0.1:{port}: Connection refused (and 1 more)" for port in ports}
