"""Several replicas behind one address, one of them restarted; other traffic: seen by the server's own metrics."""

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from latency_profile.telemetry import doors
from tests.launching import until
from tests.real_profile import Profiled, metric, profile
from tests.servers.balancer import balancer
from tests.servers.process import free_port
from tests.servers.simulator import Simulator, simulator
from tests.tool import SYNTHETIC

TIMING = ("--fixed-timing", "20,4")


def open_loop(folder: Path, rate: float, seconds: float, *flags: str) -> Profiled:
    return profile(
        folder,
        *SYNTHETIC,
        f"--request-rate={rate}",
        f"--benchmark-time-seconds={seconds}",
        "--stream-request",
        "--scrape-server-metrics",
        *flags,
    )


def readings(point: dict[str, Any]) -> dict[str, Any]:
    (found,) = point["server"]["readings"]
    assert isinstance(found, dict)
    return found


def remarks(point: dict[str, Any], name: str) -> list[str]:
    return [remark["text"] for remark in point["verdict"]["remarks"] if remark["name"] == name]


def increases(found: dict[str, Any]) -> dict[str, float]:
    return {name: counter["increase"] for name, counter in found["counters"].items()}


def test_one_of_two_replicas_is_restarted_in_mid_point(tmp_path: Path) -> None:
    """Sums are what both replicas' logs say, but for what the restarted one did after the last look at it."""
    folders = [tmp_path / name for name in ("a", "b", "c", "results")]
    for folder in folders:
        folder.mkdir()
    port = free_port()
    profiled: list[Profiled] = []
    with ExitStack() as over:
        steady = over.enter_context(simulator(folders[0], *TIMING))
        doomed = over.enter_context(simulator(folders[1], *TIMING, "--port", str(port)))
        url = over.enter_context(balancer([int(steady.url.rpartition(":")[2]), port]))
        flags = [f"--url={url}", f"--metrics-urls={steady.url}/metrics,{doomed.url}/metrics", "--retries=3"]
        # Bursts need connections, and idle ones go: both get new ones.
        flags += ["--arrival=gamma", "--burstiness=0.05"]
        thread = threading.Thread(target=lambda: profiled.append(open_loop(folders[3], 40, 12, *flags)))
        thread.start()
        until(lambda: metric(f"{steady.url}/metrics", "vllm:request_success_total") > 70, within_s=60)  # of some 240
        truths = [doomed.truth()]
        young = over.enter_context(simulator(folders[2], *TIMING, "--port", str(port)))
        thread.join()
        truths += [steady.truth(), young.truth()]
    point = profiled[0].point
    found = readings(point)
    by_name = {replica["name"]: replica for replica in found["replicas"]}
    assert len(by_name) == 2
    named = by_name[f"127.0.0.1:{port}"]
    other = next(replica for name, replica in by_name.items() if name != f"127.0.0.1:{port}")
    assert len(named["restarts_s"]) == 1
    assert other["restarts_s"] == []
    assert any(f"127.0.0.1:{port} was restarted" in text for text in remarks(point, "SERVER_RESTARTED"))
    assert f"the replica 127.0.0.1:{port} restarted during the point" in profiled[0].done.stderr
    assert "restarted" in found["at_least"]

    tokens = [int(truth.event_tokens.sum()) for truth in truths]
    died, stayed, came = tokens
    assert other["counters"]["generated_tokens"] == stayed
    lost = died + came - named["counters"]["generated_tokens"]
    assert 0 <= lost <= 40 / 2 * 8 * 2.5, "more than it can have done since the last look, of one a second"
    assert came > 0
    assert increases(found)["generated_tokens"] == stayed + named["counters"]["generated_tokens"]
    assert point["verdict"]["verdict"] != "CONTAMINATED"


def test_replicas_behind_an_address_that_balances_have_no_increases(tmp_path: Path) -> None:
    """Two processes answer /metrics in turn: their differences mean nothing, and nothing is made of them."""
    for name in ("a", "b", "results"):
        (tmp_path / name).mkdir()
    with simulator(tmp_path / "a", *TIMING) as one:
        time.sleep(2.5)  # a process is told from one that has just been started by its age
        with (
            simulator(tmp_path / "b", *TIMING) as two,
            balancer([int(server.url.rpartition(":")[2]) for server in (one, two)]) as url,
        ):
            time.sleep(2.5)
            profiled = open_loop(tmp_path / "results", 10, 6, f"--url={url}")
    found = readings(profiled.point)
    assert (found["counters"], found["histograms"]) == ({}, {})
    assert "several processes answer in turn" in found["unlike"]
    assert "--metrics-urls" in profiled.done.stderr
    assert profiled.point["server"]["reconciliation"]["requests"] is None
    assert found["gauges"]["running"]["n"] >= 3


class Others:
    """Requests to a server at a steady pace, from elsewhere, until told to stop."""

    def __init__(self, server: str, per_s: float, body: dict[str, Any]) -> None:
        self._server, self._per_s, self._body = server, per_s, body
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def __enter__(self) -> "Others":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(1 / self._per_s):
            requests.post(f"{self._server}/v1/completions", json=self._body, timeout=30).raise_for_status()
            self.sent += 1


def others(server: str, per_s: float) -> Others:
    body = {"model": "simulated", "prompt": "word " * 30, "max_tokens": 8, "ignore_eos": True}
    return Others(server, per_s, body)


@pytest.mark.parametrize("share", [0.05, 0.0])
def test_traffic_from_elsewhere_is_found(tmp_path: Path, share: float) -> None:
    with simulator(tmp_path, *TIMING) as server, ExitStack() as over:
        if share:
            elsewhere = over.enter_context(others(server.url, 40 * share))
        profiled = open_loop(tmp_path, 40, 10, f"--url={server.url}")
        sent = elsewhere.sent if share else 0
    point = profiled.point
    both = point["server"]["reconciliation"]
    if share:
        assert 14 <= both["requests"]["excess"] <= sent + 1, "20 where the machine has time for them; one in flight"
        assert point["verdict"]["verdict"] in ("CONTAMINATED", "CLIENT_LIMITED"), "the second where the machine is busy"
        assert profiled.done.returncode == 4
        told = [reason for reason in point["verdict"]["reasons"] if "others use it too" in reason]
        assert len(told) == 1, point["verdict"]
        assert told[0].startswith("CONTAMINATED: ") == (point["verdict"]["verdict"] != "CONTAMINATED")
    else:
        assert both["requests"]["excess"] == both["requests"]["lack"] == 0
        assert both["generated_tokens"]["excess"] == both["generated_tokens"]["lack"] == 0
        assert not [each for each in both["disagreements"] if each["cause"] != "OUTSIDE"], both["disagreements"]
        assert point["verdict"]["verdict"] not in ("CONTAMINATED", "FAILED")


def test_a_headless_name_stands_for_every_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address of the name is asked, under the name; addresses of another family are the same pods."""
    with simulator(tmp_path, *TIMING) as server:
        port = int(server.url.rpartition(":")[2])
        found = [(2, 1, 6, "", (address, port)) for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1")]
        found.append((10, 1, 6, "", ("::1", port, 0, 0)))
        monkeypatch.setattr(doors.socket, "getaddrinfo", lambda *_, **__: found)
        (door,) = doors.doors_at([f"http://vllm-pods:{port}/metrics"], [server_of(server)])
        assert door.addresses() == ["127.0.0.1", "127.0.0.2"]
        assert door.server.headers == ()
        monkeypatch.undo()
        look = door.look(5.0, 5.0, "127.0.0.1")
        assert (look.at_s, look.families["vllm:num_requests_running"].kind) == (5.0, "gauge")


def test_only_the_servers_own_door_gets_its_key(tmp_path: Path) -> None:
    with simulator(tmp_path, *TIMING) as server:
        own = server_of(server)
        mine, other = doors.doors_at([f"{server.url}/metrics", "http://elsewhere:9000"], [own])
    assert mine.server.headers == own.headers
    assert other.server.headers == ()
    assert other.url == "http://elsewhere:9000/metrics"


def server_of(server: Simulator) -> Any:
    return doors.server_at("", 0, server.url, (("authorization", "Bearer key"),), None, True)
