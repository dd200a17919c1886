"""`--until-ci` the whole way, from the flag to the files, against the embedded model server; and what is refused.

The looks give way to all else on the machine, so that where it is busy points end late: the limits allow for that.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.truth import simulator
from latency_profile import records
from latency_profile.cli import profile
from latency_profile.records import Status
from tests.tool import SYNTHETIC, benchmark, called, only_point

RATE = 120


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """TTFT from 120 to 280 ms: what a busy machine adds to it is little."""
    with simulator("--fixed-timing", "200,5,0.4", "--model", "m") as number:
        yield number


def flags(port: int, folder: Path, *more: str) -> list[str]:
    common = ["--save-json-results", "--host=127.0.0.1", f"--port={port}", "--models=m", f"--output-dir={folder}"]
    return [*common, *SYNTHETIC, "--stream-request", *more]


def test_a_point_ends_when_it_knows_enough(port: int, tmp_path: Path) -> None:
    done = benchmark(
        *flags(port, tmp_path, f"--request-rate={RATE}", "--benchmark-time-seconds=120", "--until-ci=60%"), timeout=300
    )
    assert done.returncode in (0, 4), done.stderr
    point = only_point(tmp_path)
    found = point["until_ci"]
    stopped = found["stopped_after_s"]
    assert found["reached"] and found["target"] == 0.6 and found["estimate_needed_s"] is None
    assert stopped is not None and 5 < stopped < 110, "p99 needs some 850 requests to have an upper end"
    assert found["looks"] >= 2
    assert all(one["relative_half_width"] <= 0.6 for levels in found["known"].values() for one in levels.values())
    assert point["window"]["end_s"] == pytest.approx(stopped)
    assert point["cut_short"] is None and point["load"]["counts"]["unfinished"] == 0
    assert re.search(r"stopped after [0-9.]+ s: p50, p95, p99 known to 60 %", done.stdout)
    [path] = tmp_path.glob("*.records.npz")
    rows = records.load(path)
    assert set(rows["status"]) == {Status.OK}, "what was in flight at the stop was waited for"
    assert -0.2 < rows["due_ns"].max() / 1e9 - stopped < 3, "as soon as the sender hears of it"
    assert rows.context.duration_s == stopped and rows.context.measured_ns / 1e9 > stopped
    assert point["load"]["offered_requests_per_s"] == pytest.approx(RATE, rel=0.25)


@pytest.mark.slow
def test_a_point_that_knows_too_little_takes_its_time_and_says_by_when(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, f"--request-rate={RATE}", "--benchmark-time-seconds=4", "--until-ci=0.001"))
    assert done.returncode in (0, 4), done.stderr
    point = only_point(tmp_path)
    found = point["until_ci"]
    assert not found["reached"] and found["stopped_after_s"] is None
    assert point["window"]["end_s"] == 4.0
    assert found["estimate_needed_s"] > 4
    assert "0.1 % would take" in done.stdout


@pytest.mark.slow
def test_a_closed_loop_ends_too(port: int, tmp_path: Path) -> None:
    arguments = flags(port, tmp_path, "--concurrencies=40", "--num-prompts=30000", "--benchmark-time-seconds=120")
    done = benchmark(*arguments, "--until-ci=60%", "--workers=2", timeout=300)
    assert done.returncode in (0, 4), done.stderr
    point = only_point(tmp_path)
    stopped = point["until_ci"]["stopped_after_s"]
    assert stopped is not None and 2 < stopped < 110
    [path] = tmp_path.glob("*.records.npz")
    rows = records.load(path)
    assert set(rows["status"]) == {Status.OK}
    assert rows["sent_ns"].max() / 1e9 < stopped + 0.2


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--until-ci=0"], "takes a share above 0 and below 1, such as 5% or 0.05"),
        (["--until-ci=100%"], "takes a share above 0 and below 1"),
        (["--until-ci=5"], "takes a share above 0 and below 1"),
        (["--until-ci=5%%"], "takes a share above 0 and below 1"),
        (["--until-ci=nan"], "takes a share above 0 and below 1"),
        (["--until-ci=5%"], "takes --benchmark-time-seconds beside it"),
        (["--until-ci=5%", "--request-rates=1,inf", "--benchmark-time-seconds=5"], "takes finite request rates"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, given: list[str], says: str) -> None:
    rate = [] if any("rates" in one for one in given) else ["--request-rate=5"]
    done = called(profile, *flags(1, tmp_path, *rate, *given))
    assert done.returncode == 2
    assert done.stderr.startswith("error: --until-ci: got ") and says in done.stderr
    assert done.stderr.count("\n") == 1
