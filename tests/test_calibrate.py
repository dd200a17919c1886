"""`latency-profile calibrate` and `--calibrate` as a user runs them. Structure, not timing: other things run on a test
machine; what the comparison finds is held to its size in test_calibration_compare."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from latency_profile import records
from latency_profile.calibration.structure import Calibration
from latency_profile.cli import main, profile
from tests.servers.simulator import simulator
from tests.tool import SYNTHETIC, benchmark, called, latency_profile_command, only_point

LOAD = (*SYNTHETIC, "--stream-request", "--request-rate=20", "--benchmark-time-seconds=2")


def read(path: Path) -> dict[str, Calibration]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Calibration])


def test_the_plans_of_flags(tmp_path: Path) -> None:
    """Nothing listens where the profile's own server would be: only the loopback server is asked."""
    out = tmp_path / "found.json"
    done = latency_profile_command(
        "calibrate", *LOAD, "--port=9", "--workers=2", "--seconds=1.5", "--no-calibration-search", f"--json={out}"
    )
    assert done.returncode in (0, 4), done.stderr
    assert ("✗" in done.stdout) == (done.returncode == 4)
    [(label, found)] = read(out).items()
    assert label == "20 req/s"
    assert (found.cadence, found.processes, found.failed, found.highest) == ("assumed", 2, 0, None)
    assert found.requests >= 20
    assert found.events.written == found.events.received
    assert found.planned_s <= 1.5
    assert found.truth.uncertainty_p99_s is not None and found.truth.uncertainty_p99_s > 0
    for name in msgspec.structs.fields(found.errors):
        assert getattr(found.errors, name.name) is not None, name.name
    assert found.errors.ttft is not None and found.errors.ttft.p50_s > 0  # a client cannot see it before it was sent
    assert "TTFT from due" in done.stdout
    assert "shared this machine's CPU" in done.stdout


def test_a_profile_that_calibrates_first(tmp_path: Path) -> None:
    """Its results hold what was found; its server saw the profile's own requests and no others."""
    with simulator(tmp_path, "--fixed-timing", "20,5") as server:
        done = benchmark(
            *LOAD,
            f"--url={server.url}",
            "--calibrate",
            "--no-calibration-search",
            "--calibration-cadence=30,5,0.1",
            "--save-json-results",
            f"--output-dir={tmp_path}",
        )
        truth = server.truth()
    assert done.returncode in (0, 4), done.stderr
    point = only_point(tmp_path)
    found = msgspec.convert(point["calibration"], Calibration)
    assert found.cadence == "assumed"
    assert found.requests > 0
    assert found.highest is None
    assert "calibrated: TTFT" in done.stdout
    assert len(truth) == point["metrics"]["num_prompts_attempted"]
    assert not list(tmp_path.glob(".*")), "scratch is left"

    [path] = tmp_path.glob("*.records.npz")
    assert records.load(path).context.calibration == found
    replay(path, tmp_path / "replayed.json", point)


def replay(path: Path, out: Path, point: dict[str, Any]) -> None:
    """The point's own plan, and answers of its own lengths and cadence."""
    done = latency_profile_command("calibrate", "--no-calibration-search", f"--json={out}", str(path))
    assert done.returncode in (0, 4), done.stderr
    [(label, found)] = read(out).items()
    assert (label, found.cadence) == ("20 req/s", "replayed")
    assert found.requests + found.failed == point["metrics"]["num_prompts_attempted"]
    assert found.events.written == point["metrics"]["total_output_token"]
    known = records.load(path)
    assert found.planned_s == pytest.approx(known["due_ns"].max() / 1e9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "calibrate: got nothing"),
        (("--seconds=-1", "x.npz"), "--seconds: got -1"),
        (("no-such-file.npz",), "no-such-file.npz: No such file or directory"),
        (("--json=/no/such/folder/x.json", "x.npz"), "--json: got '/no/such/folder/x.json'"),
        (("--tokenizer=bundled", "--request-rate=-4"), "--request-rate: got"),
        ((*LOAD, "--calibration-cadence=50,0,0"), "--calibration-cadence: got"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    done = called(main, "calibrate", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert words in line


def test_a_cadence_needs_the_calibration() -> None:
    done = called(profile, *LOAD, "--calibration-cadence=50,10,0.2")
    assert done.returncode == 2
    assert "takes effect only with --calibrate" in done.stderr


def test_help_tells_what_it_does() -> None:
    done = latency_profile_command("calibrate", "--help")
    assert done.returncode == 0
    assert "RECORDS.npz" in done.stdout and "Nothing is sent to the server under test" in done.stdout
