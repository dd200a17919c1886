"""Several servers in turn: which request goes where, over which path, and what happens when one is not there."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest

from latency_profile.errors import ServerUnavailable
from latency_profile.records import Status
from latency_profile.sender.fleet import Fleet
from latency_profile.sender.job import Target, joined
from tests.driving import Load, answer, drive, target_of
from tests.launching import until
from tests.servers import odd
from tests.servers.odd import Call, Odd


@pytest.fixture(scope="module", params=[1, 2, 3])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    with Fleet(request.param) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def one() -> Iterator[Fleet]:
    with Fleet(1) as fleet:
        yield fleet


def target(server: Odd, prefix: str = "") -> Target:
    return target_of("", 0, url=f"http://{server.host}:{server.port}{prefix}")


def test_requests_go_in_turn_however_many_processes_send_them(fleet: Fleet, tmp_path: Path) -> None:
    """Request k goes to target k mod 2, and a shard of three has requests for both."""
    with Odd(answer) as even, Odd(answer) as uneven:
        load = Load(due_ms=range(24), targets=[target(uneven)])
        driven = drive(fleet, target(even), tmp_path, load)
    assert driven.statuses == [Status.OK] * 24
    assert sorted(call.index for call in even.calls) == list(range(0, 24, 2))
    assert sorted(call.index for call in uneven.calls) == list(range(1, 24, 2))
    assert list(driven.records["url"]) == [0, 1] * 12
    for server in (even, uneven):
        assert all(f"host: 127.0.0.1:{server.port}\r\n".encode() in call.head for call in server.calls)


def test_a_closed_loop_goes_in_turn_too(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(answer) as first, Odd(answer) as second, Odd(answer) as third:
        load = Load(count=30, concurrency=5, ahead=2, targets=[target(second), target(third)])
        driven = drive(fleet, target(first), tmp_path, load)
    assert driven.statuses == [Status.OK] * 30
    for number, server in enumerate((first, second, third)):
        assert sorted(call.index for call in server.calls) == list(range(number, 30, 3))


def test_each_request_has_its_path_under_the_prefix_of_its_target(fleet: Fleet, tmp_path: Path) -> None:
    paths = ["/v2/models/a/generate", "/v2/models/b/generate"]
    path_of = [0, 0, 1, 1, 0, 1, 1, 0]
    with Odd(answer) as plain, Odd(answer) as team:
        load = Load(due_ms=[0] * 8, targets=[target(team, "/team/v2")], paths=paths, path_of=path_of)
        driven = drive(fleet, target(plain), tmp_path, load)
    assert driven.statuses == [Status.OK] * 8
    asked = {call.index: call.head.split(b" ")[1].decode() for call in (*plain.calls, *team.calls)}
    assert asked == {index: ("/team" if index % 2 else "") + paths[path] for index, path in enumerate(path_of)}


def test_one_target_that_is_down_at_the_start_is_named(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(answer) as gone:
        down = target(gone)
    with Odd(answer) as up:
        named = rf"cannot connect to 127\.0\.0\.1 port {gone.port}: Connection refused"
        for targets in ((down, target(up)), (target(up), down)):
            with pytest.raises(ServerUnavailable, match=named):
                drive(fleet, targets[0], tmp_path, Load(due_ms=[0] * 12, targets=targets[1:]))
        assert up.calls == []
        again = drive(fleet, target(up), tmp_path, Load(due_ms=[0] * 4))  # the processes are still good
    assert again.statuses == [Status.OK] * 4


def test_one_target_that_dies_takes_only_its_own_requests_with_it(one: Fleet, tmp_path: Path) -> None:
    def die(call: Call) -> None:
        if call.index >= 7:
            mortal.refuse()
            call.send(odd.whole(3, "connection: close"))
            call.hang_up()
        else:
            call.send(odd.whole(3))

    due = [*range(0, 200, 20), *range(500, 3500, 60)]
    with Odd(answer) as healthy, Odd(die) as mortal:
        driven = drive(one, target(healthy), tmp_path, Load(due_ms=due, targets=[target(mortal)], connection_limit=2))
    index = driven.records["index"]
    statuses = driven.records["status"]
    assert np.all(statuses[index % 2 == 0] == Status.OK)
    assert np.all(statuses[(index % 2 == 1) & (index < 8)] == Status.OK)
    assert np.all(statuses[(index % 2 == 1) & (index >= 10)] == Status.CONNECT_REFUSED)
    late = (driven.records["sent_ns"] - driven.records["due_ns"])[(index % 2 == 0) & (index >= 10)]
    assert np.median(late) < 100_000_000, "nobody waits for the other's connections; the machine may pause"


class Slow:
    """Answers when as many have been there at once as may, and late enough for one too many to be seen."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.server = Odd(self)

    def __call__(self, call: Call) -> None:
        until(lambda: self.server.most_at_once >= self._most)
        time.sleep(0.1)
        call.send(odd.whole(3))


@pytest.mark.parametrize(
    ("limit", "parts"), [(5, (3, 2)), (6, (3, 3)), (3, (1, 1, 1)), (4, (2, 1, 1)), (8, (3, 3, 2)), (0, (4, 4, 4))]
)
def test_the_limit_and_the_connections_ahead_are_shared(
    one: Fleet, tmp_path: Path, limit: int, parts: tuple[int, ...]
) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(Slow(part).server) for part in parts]
        targets = [target(server) for server in servers]
        load = Load(due_ms=[0] * 12, ahead=12, connection_limit=limit, timeout_s=60, targets=targets[1:])
        driven = drive(one, targets[0], tmp_path, load)
    assert driven.statuses == [Status.OK] * 12
    assert tuple(server.most_at_once for server in servers) == parts
    assert driven.finished.connections_opened == sum(parts)


def test_each_process_gives_the_rest_of_its_limit_to_another_target(tmp_path: Path) -> None:
    with Fleet(2) as two, Slow(3).server as first, Slow(3).server as second, Slow(2).server as third:
        others = [target(second), target(third)]
        load = Load(due_ms=[0] * 24, ahead=4, connection_limit=4, timeout_s=60, targets=others)
        driven = drive(two, target(first), tmp_path, load)
    assert driven.statuses == [Status.OK] * 24
    assert [server.most_at_once for server in (first, second, third)] == [3, 3, 2]


def test_a_process_opens_connections_only_to_whom_it_sends(tmp_path: Path) -> None:
    """Of two shards each has one of the two targets."""
    with Fleet(2) as two, Odd(answer) as first, Odd(answer) as second:
        load = Load(due_ms=[0] * 12, ahead=6, targets=[target(second)])
        driven = drive(two, target(first), tmp_path, load)
    assert driven.statuses == [Status.OK] * 12
    assert [part.connections_opened for part in driven.ran.finished] == [6, 6]
    assert (len(first.calls), len(second.calls)) == (6, 6)


@pytest.mark.parametrize(
    ("prefix", "path", "whole"),
    [
        ("", "/v1/completions", "/v1/completions"),
        ("/team", "/v1/completions", "/team/v1/completions"),
        ("/team/v1", "/v1/completions", "/team/v1/completions"),
        ("/v1/completions", "/v1/completions", "/v1/completions"),
        ("/team/v1/chat", "/v1/chat/completions", "/team/v1/chat/completions"),
        ("/v1/team", "/v1/completions", "/v1/team/v1/completions"),
        ("/av1", "/v1/completions", "/av1/v1/completions"),
        ("/team/", "/generate", "/team/generate"),
        ("", "/", "/"),
        ("/team", "/", "/team/"),
    ],
)
def test_prefix_and_path(prefix: str, path: str, whole: str) -> None:
    assert joined(prefix, path) == whole
    assert joined(prefix, whole) == whole


def test_the_scope_of_an_ipv6_address_reaches_the_process() -> None:
    scoped = Target(("fe80::1", 80, 0, 3), socket.AF_INET6, b"")
    there = msgspec.json.decode(msgspec.json.encode(scoped), type=Target)
    assert there == scoped and isinstance(there.address, tuple)
