"""Whether the limit of open files is known to be too low before anything is sent."""

import resource
import subprocess
from pathlib import Path

import numpy as np
import pytest

from latency_profile.errors import UsageError
from latency_profile.open_files import SPARE_FILES, check_open_files
from latency_profile.points import PlannedPoint
from tests.servers.process import free_port
from tests.tool import SYNTHETIC, command, environment

DUE = np.zeros(5000, dtype=np.int64)


def open_loop(rate: float, prompts: int = 5000) -> PlannedPoint:
    return PlannedPoint(0, rate, None, DUE, 0, prompts, None)


def closed_loop(concurrency: int, prompts: int = 5000) -> PlannedPoint:
    return PlannedPoint(0, None, concurrency, None, 0, prompts, 10.0)


def notice(point: PlannedPoint, open_files: int, processes: int = 1, limit: int = 0) -> str | None:
    return check_open_files([point], open_files, processes, limit, 1)


def test_a_closed_loop_that_cannot_fit_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        notice(closed_loop(1000), 1024)
    assert str(refused.value) == (
        "--concurrencies: got 1000, takes at most 824: the limit of open files (1024 a process, 1 sending) lets it "
        "have 824 connections; raise it (ulimit -n, or the container runtime's limit), or --workers"
    )


@pytest.mark.parametrize(
    ("point", "open_files", "processes", "limit"),
    [
        (closed_loop(824), 1024, 1, 0),
        (closed_loop(1000), 1024, 2, 0),
        (closed_loop(1000, prompts=500), 1024, 1, 0),  # never has more than its prompts in flight
        (closed_loop(1000), 1024, 1, 100),  # 100 connections are what was asked for
        (closed_loop(1000), 1_048_576, 1, 0),
        (open_loop(10), 1024, 1, 0),
        (open_loop(float("inf"), prompts=824), 1024, 1, 0),
    ],
)
def test_what_fits_is_not_spoken_of(point: PlannedPoint, open_files: int, processes: int, limit: int) -> None:
    assert notice(point, open_files, processes, limit) is None


def test_a_rate_that_may_not_fit_is_said_with_both_figures() -> None:
    """824 connections at 100 requests/s are enough for answers of 8.24 s (Little's law)."""
    assert notice(open_loop(100), 1024) == (
        "100 req/s: the limit of open files (1024 a process, 1 sending) lets it have 824 connections; with answers of "
        "more than 8.24 s on average, requests wait"
    )


def test_a_burst_needs_a_connection_for_each_request() -> None:
    text = notice(open_loop(float("inf")), 1024)
    assert text is not None
    assert text.endswith("lets it have 824 connections, of the 5000 that it may need at once")


def test_shards_of_pods_need_their_part_only() -> None:
    whole = closed_loop(1000)
    part = PlannedPoint(0, None, 1000, None, 0, 5000, 10.0, pod=1, pods=2)
    assert notice(part, 1024) is None
    with pytest.raises(UsageError, match="got 1000, takes at most 824:"):
        notice(whole, 1024)
    with pytest.raises(UsageError, match="got 2000, takes at most 1648:"):
        notice(PlannedPoint(0, None, 2000, None, 0, 5000, 10.0, pod=1, pods=2), 1024)


def test_the_steepest_point_speaks_for_all() -> None:
    text = check_open_files([open_loop(100), open_loop(1), open_loop(200)], 1024, 1, 0, 1)
    assert text is not None
    assert text.startswith("200 req/s: ")
    assert text.endswith(" (and 1 more)")


def test_it_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """Under the limit that the process was started with; nobody listens at the port, and nobody is asked."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))

    done = subprocess.run(
        command(f"--port={free_port()}", "--models=m", *SYNTHETIC, "--concurrencies=101", "--num-prompts=500"),
        env=environment(),
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"got 101, takes at most {300 - SPARE_FILES}: the limit of open files (300 a process" in done.stderr
    assert len(done.stderr.splitlines()) == 1
