"""`--slo` the whole way, from the flag to the files and the exit code, against the embedded model server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchmarks.truth import simulator
from latency_profile.cli import profile
from latency_profile.reanalyze import reanalyze
from tests.tool import SYNTHETIC, benchmark, called, point_files, read_point, schema

UNUSABLE = ("CLIENT_LIMITED", "CONTAMINATED", "FAILED")  # what a busy machine may make of a point
OBJECTIVES = {  # TTFT is 200 ms, a token comes every 5 ms; a busy machine does not come near these limits
    "ttft:p50<2s": "kept",
    "ttft:p90<190ms": "broken",
    "itl:mean<1ms": "broken",
    "e2e:p99.9<20s": "unresolved",
    "errors<20%": "kept",
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with simulator("--fixed-timing", "200,5", "--model", "m", "--model", "n") as number:
        yield number


def flags(port: int, folder: Path, *more: str) -> list[str]:
    common = ["--save-json-results", "--host=127.0.0.1", f"--port={port}", f"--output-dir={folder}"]
    return [*common, *SYNTHETIC, "--stream-request", *more]


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {objective["name"]: objective["outcome"] for objective in found["slo"]["objectives"]}


def test_objectives_of_a_rate_and_of_each_of_two_models(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = benchmark(
        *flags(port, tmp_path, "--models=m,n", "--traffic-split=0.5,0.5", "--request-rate=60"),
        "--benchmark-time-seconds=4",
        LATENCY_PROFILE_SLO=", ".join(OBJECTIVES),
    )
    points = [read_point(path) for path in point_files(tmp_path)]
    assert [point["config"]["model"] for point in points] == ["m", "n", "weighted"]
    calm = not {point["verdict"]["verdict"] for point in points} & {*UNUSABLE, "SATURATED"}
    whole = points[2]["verdict"]["verdict"]  # of all requests: it decides, whatever a busy machine made of one model's
    assert done.returncode == (4 if whole in UNUSABLE else 0), done.stdout + done.stderr
    for point in points:
        assert [each["name"] for each in point["slo"]["objectives"]] == list(OBJECTIVES)
        if point["verdict"]["verdict"] in UNUSABLE:
            assert point["slo"]["outcome"] is None and "not judged" in done.stdout
            continue
        assert point["slo"]["outcome"] == "broken"
        assert not calm or outcomes(point) == OBJECTIVES, point["verdict"]
        ttft, broken = point["slo"]["objectives"][:2]
        assert (
            0.2
            <= ttft["measured_low_s"]
            <= ttft["measured_s"]
            == point["latency"]["response"]["ttft"]["p50"]["value_s"]
        )
        assert broken["attainment"]["share"] == 0 and broken["attainment"]["broken"] == point["window"]["requests"]
    assert points[2]["window"]["requests"] == sum(point["window"]["requests"] for point in points[:2])
    (path,) = tmp_path.glob("*-profile-*.json")
    profile = json.loads(path.read_text())
    jsonschema.validate(profile, schema("profile"))
    assert profile["exit_code"] == done.returncode and profile["slo"]["text"] in done.stdout
    assert profile["points"][0]["slo"] == points[2]["slo"]["outcome"] and profile["slo"]["highest_kept"] is None
    if calm:
        assert "At 60 req/s ttft:p90<190ms is broken (" in done.stdout  # by its p90, or by who kept it
    again = tmp_path / "again"
    (records,) = tmp_path.glob("*.records.npz")
    assert reanalyze(records, again) == done.returncode and profile["slo"]["text"] in capsys.readouterr().out
    assert [path.read_bytes() for path in point_files(again)] == [path.read_bytes() for path in point_files(tmp_path)]


def test_what_stays_unresolved_in_a_closed_loop_is_exit_code_4(port: int, tmp_path: Path) -> None:
    done = benchmark(
        *flags(port, tmp_path, "--models=m", "--concurrencies=40", "--benchmark-time-seconds=3"),
        "--slo=e2e:p99.9<20s",
        "--slo=ttft:p50<2s",
    )
    (path,) = point_files(tmp_path)
    found = read_point(path)
    assert done.returncode == 4, done.stdout + done.stderr
    if found["verdict"]["verdict"] not in UNUSABLE:
        assert outcomes(found) == {"e2e:p99.9<20s": "unresolved", "ttft:p50<2s": "kept"}
        assert "At 40 in flight e2e:p99.9<20s is unresolved (" in done.stdout
        assert found["slo"]["objectives"][0]["needed_requests"] >= 3600
        assert "? unresolved" in done.stdout


def test_a_wrong_objective_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    done = called(profile, *flags(1, tmp_path, "--request-rate=5"), "--slo=ttft:p99<500")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(
        "error: --slo: got 'ttft:p99<500' (a limit without ms or s), takes objectives such as "
    )
    assert done.stderr.count("\n") == 1
