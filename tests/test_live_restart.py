"""A server that goes away in mid-point and comes back: what the records show of it, and a real one that is killed."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latency_profile.records import Records, Status
from latency_profile.verdict import Name, judge
from latency_profile.verdict.evidence import evidence
from latency_profile.verdict.restart import absences
from tests.make_records import SECOND, make_records
from tests.servers.process import free_port
from tests.tool import SYNTHETIC, command, environment, only_point

RATE = 10
NUMBER = 600
LOST = (Status.RESET, Status.CONNECT_REFUSED)


def with_absence(start_s: float, length_s: float, kinds: tuple[Status, ...] = LOST, **columns: Any) -> Records:
    """Ten requests a second, answered in 0.5 s; of those in flight at `start_s`, and due until the server is back, the
    first kind is of those in flight and the second of the others."""
    due = np.arange(NUMBER) / RATE
    end = due + 0.5
    status = np.full(NUMBER, Status.OK)
    in_flight = (due < start_s) & (end > start_s)
    refused = (due >= start_s) & (due < start_s + length_s)
    status[in_flight], status[refused] = kinds[0], kinds[-1]
    end[in_flight] = start_s
    end[refused] = due[refused] + 0.001
    return make_records(due, end_s=end, columns={"status": status, **columns}, duration_s=60.0, streaming=False)


def remarks(records: Records) -> dict[Name, str]:
    return {remark.name: remark.text for remark in judge(records).remarks}


def test_an_absence_is_told_with_its_time_and_its_length() -> None:
    records = with_absence(20.05, 1.5)
    (found,) = absences(records, evidence(records).rows)
    assert found.start_ns == pytest.approx(20.05 * SECOND)
    assert found.end_ns == pytest.approx(22.1 * SECOND)  # due at 21.6, the first after it was back, and answered then
    assert found.requests == 20  # 5 in flight, 15 due
    assert remarks(records)[Name.SERVER_RESTARTED] == (
        "The server went away and came back (at 20.1 s for 2.0 s): 20 requests lost the connection or found none."
    )


def test_a_server_that_never_comes_back_has_not_restarted() -> None:
    assert Name.SERVER_RESTARTED not in remarks(with_absence(20, 40))


def test_each_absence_is_counted() -> None:
    one, other = with_absence(10, 1), with_absence(40, 1)
    status = np.where(other["status"] != Status.OK, other["status"], one["status"])
    one.columns["status"] = status
    one.columns["end_ns"] = np.where(other["status"] != Status.OK, other["end_ns"], one["end_ns"])
    assert "went away 2 times" in remarks(one)[Name.SERVER_RESTARTED]


@pytest.mark.parametrize("seed", range(20))
def test_connections_that_break_now_and_then_are_no_restart(seed: int) -> None:
    """Three in a hundred, each by itself: among 600 two in a row are common."""
    rng = np.random.default_rng(seed)
    due = np.arange(NUMBER) / RATE
    status = np.where(rng.random(NUMBER) < 0.03, Status.RESET, Status.OK)
    records = make_records(due, end_s=due + 0.5, columns={"status": status}, duration_s=60.0, streaming=False)
    assert absences(records, evidence(records).rows) == []


def test_one_broken_connection_is_no_restart() -> None:
    records = with_absence(20.05, 0.0)
    records.columns["status"][records["status"] != Status.OK] = Status.OK
    records.columns["status"][300] = Status.RESET
    assert absences(records, evidence(records).rows) == []


@pytest.mark.parametrize("kind", [Status.HTTP_UNAVAILABLE, Status.HTTP_GATEWAY])
def test_a_busy_server_has_not_gone_away(kind: Status) -> None:
    records = with_absence(20, 1.5, (kind,))
    assert absences(records, evidence(records).rows) == []


def test_a_503_while_it_loads_belongs_to_its_absence() -> None:
    records = with_absence(20.05, 1.5, (Status.RESET, Status.HTTP_UNAVAILABLE))
    assert [found.requests for found in absences(records, evidence(records).rows)] == [20]


def test_unfinished_requests_say_nothing() -> None:
    records = with_absence(20, 1.5, (Status.CANCELLED,))
    assert absences(records, evidence(records).rows) == []


@pytest.mark.parametrize(("failed_connections", "expected"), [(3, 1), (0, 0)])
def test_what_was_sent_again_counts_where_connections_failed(failed_connections: int, expected: int) -> None:
    """Retries hide the failures. Where connections failed too, it was no 429 that they answered to."""
    records = with_absence(20.05, 1.5)
    lost = records["status"] != Status.OK
    records.columns["status"] = np.where(lost, Status.OK, records["status"])
    records.columns["retries"] = np.where(lost, 2, 0)
    records.columns["end_ns"] = np.where(lost, round(22 * SECOND), records["end_ns"])
    records.context.client["connections_failed"] = failed_connections
    found = absences(records, evidence(records).rows)
    assert len(found) == expected
    if found:
        assert found[0].requests == 20
        assert found[0].start_ns == pytest.approx(20.0 * SECOND)  # the last good answer


@contextlib.contextmanager
def server_at(port: int) -> Iterator[subprocess.Popen[str]]:
    flags = ("--host=127.0.0.1", f"--port={port}", "--fixed-timing", "300,20")
    started = [sys.executable, "-m", "latency_profile.simulator", *flags]
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert "listening" in process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_server_that_is_killed_and_started_again_is_survived_and_marked(tmp_path: Path) -> None:
    port = free_port()
    flags = ("--backend=vllm", "--host=127.0.0.1", f"--port={port}", "--models=simulated", "--stream-request")
    more = ("--request-rates=40", "--benchmark-time-seconds=15", "--save-json-results", f"--output-dir={tmp_path}")
    with server_at(port) as first:
        running = subprocess.Popen(
            command(*flags, *SYNTHETIC, *more), stderr=subprocess.PIPE, text=True, env=environment()
        )
        assert running.stderr
        assert "started" in running.stderr.readline()
        time.sleep(3)
        first.send_signal(signal.SIGKILL)
        first.wait()
        time.sleep(0.3)
    with server_at(port):
        _, err = running.communicate(timeout=60)
    assert running.returncode in (0, 4), err  # by how many requests it cost
    point = only_point(tmp_path)
    (remark,) = [one["text"] for one in point["verdict"]["remarks"] if one["name"] == "SERVER_RESTARTED"]
    assert remark.startswith("The server went away and came back (at ")
    gone_at, length = (float(part.split(" s")[0]) for part in remark.partition("(at ")[2].split(" for ")[:2])
    assert 1 < gone_at < 8  # after 3 s, and a little
    assert 0.5 < length < 12  # a start of the server
    counts = point["load"]["counts"]
    assert counts["failed"] > 3 and counts["succeeded"] > 100, "it went on"


def test_the_port_is_free_again_for_the_next_server() -> None:
    """What the test above stands on: an address in TIME_WAIT can be listened on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with socket.create_server(("127.0.0.1", port)):
        pass
