"""The whole way, from flags to files, against the embedded model server."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from benchmarks.truth import simulator
from latency_profile import records
from tests.tool import (
    SYNTHETIC,
    benchmark,
    command,
    environment,
    latency_profile_command,
    only_point,
    point_files,
    read_point,
    schema,
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server that answers at once: 8 tokens in about 12 ms."""
    with simulator("--fixed-timing", "5,1", "--model", "first", "--model", "second") as number:
        yield number


def flags(port: int, folder: Path, *more: str) -> list[str]:
    return [
        "--save-json-results",
        "--host=127.0.0.1",
        f"--port={port}",
        f"--output-dir={folder}",
        "--models=first",
        *SYNTHETIC,
        *more,
    ]


def test_a_point_counts_what_happened(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--stream-request", "--request-rate=50", "--num-prompts=60"))
    assert done.returncode in (0, 4), done.stderr
    point = only_point(tmp_path)
    metrics = point["metrics"]
    assert metrics["num_prompts_attempted"] == metrics["num_prompts_succeeded"] == 60
    assert metrics["total_output_token"] == 60 * 8
    assert metrics["total_input_tokens"] == 60 * 32
    assert metrics["request_rate"] == 50.0
    assert metrics["median_TTFT_ms"] >= 5
    assert metrics["median_TPOT_ms"] == pytest.approx(1.0, abs=0.5)
    assert metrics["median_latency_ms"] >= 12
    assert point["tokens"]["sources"]["USAGE"] == 60
    assert point["dimensions"]["model_id"] == "first"


def test_not_streamed_has_no_ttft(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--request-rate=50", "--num-prompts=20"))
    assert done.returncode in (0, 4), done.stderr
    metrics = only_point(tmp_path)["metrics"]
    assert metrics["num_prompts_succeeded"] == 20
    assert metrics["total_output_token"] == 160
    assert not [key for key in metrics if "TTFT" in key or "ITL" in key or "TPOT" in key]


def test_sweep_writes_a_file_a_point_and_one_for_the_profile(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--request-rates=20,40,inf", "--num-prompts=20", "--file-prefix=sweep"))
    assert done.returncode in (0, 4), done.stderr
    rates = [read_point(path)["metrics"]["request_rate"] for path in point_files(tmp_path)]
    assert sorted(rates, key=str) == [20.0, 40.0, "inf"]
    names = [path.name.rsplit("-", 3)[0] for path in point_files(tmp_path)]
    assert sorted(names) == ["sweep-vllm-20.0qps", "sweep-vllm-40.0qps", "sweep-vllm-infqps"]
    [whole] = tmp_path.glob("*-profile-*.json")
    profile = json.loads(whole.read_text())
    jsonschema.validate(profile, schema("profile"))
    assert [point["request_rate"] for point in profile["points"]] == [20.0, 40.0, None]
    assert {name for point in profile["points"] for name in point["files"]} == {p.name for p in point_files(tmp_path)}
    assert not list(tmp_path.glob(".point-*")), "spools are removed when the records are whole"


def test_traffic_split_gives_a_file_a_model_and_the_weighted_one(port: int, tmp_path: Path) -> None:
    arguments = flags(port, tmp_path, "--models=first,second", "--traffic-split=0.9,0.1", "--num-prompts=200")
    done = benchmark(*arguments, "--request-rate=200")
    assert done.returncode in (0, 4), done.stderr
    by_model = {point["config"]["model"]: point["metrics"] for point in map(read_point, point_files(tmp_path))}
    assert set(by_model) == {"first", "second", "weighted"}
    assert by_model["weighted"]["num_prompts_attempted"] == 200
    assert by_model["first"]["num_prompts_attempted"] + by_model["second"]["num_prompts_attempted"] == 200
    assert 160 <= by_model["first"]["num_prompts_attempted"] <= 196  # binomial(200, 0.9), 1e-5 tails


def test_closed_loop_keeps_its_concurrency(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--concurrencies=1,4", "--num-prompts=40", "--stream-request"))
    assert done.returncode in (0, 4), done.stderr
    for path in tmp_path.glob("*.records.npz"):
        point = records.load(path)
        sent, end = point["sent_ns"], point["end_ns"]
        most = max(int(((sent <= at) & (end > at)).sum()) for at in sent)
        assert most == point.context.concurrency
        assert len(point) == 40
        assert (point["due_ns"] == records.NONE).all()


def test_closed_loop_ends_with_its_time(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--concurrencies=2", "--num-prompts=5000", "--benchmark-time-seconds=1.5"))
    assert done.returncode in (0, 4), done.stderr
    [path] = tmp_path.glob("*.records.npz")
    point = records.load(path)
    assert 50 < len(point) < 5000
    assert point["sent_ns"].max() < 1.5e9
    assert (point["status"] == records.Status.OK).all()


def test_reanalyze_gives_the_same_bytes(port: int, tmp_path: Path) -> None:
    done = benchmark(
        *flags(port, tmp_path, "--models=first,second", "--request-rate=50", "--num-prompts=30", "--stream-request")
    )
    assert done.returncode in (0, 4), done.stderr
    [path] = tmp_path.glob("*.records.npz")
    again = tmp_path / "again"
    remade = latency_profile_command("reanalyze", str(path), str(again))
    assert remade.returncode == 0, remade.stderr
    before = {p.name: p.read_bytes() for p in point_files(tmp_path)}
    assert {p.name: p.read_bytes() for p in point_files(again)} == before
    assert len(before) == 3


def test_reanalyze_refuses_what_is_no_records_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_text("no")
    done = latency_profile_command("reanalyze", str(path))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_point_keeps_what_was_measured(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with simulator("--fixed-timing", "200,20") as port:
        arguments = flags(port, tmp_path, "--models=simulated", "--stream-request", "--request-rates=30,60")
        process = subprocess.Popen(
            command(*arguments, "--benchmark-time-seconds=60"),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        assert process.stderr
        assert "started" in process.stderr.readline()
        time.sleep(2.5)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert "req/s" in out
    point = only_point(tmp_path)
    assert point["cut_short"] == number.name
    counts = point["load"]["counts"]
    assert 20 <= counts["succeeded"] <= 150
    assert counts["unfinished"] >= 1, "some were in flight"
    assert point["metrics"]["num_prompts_succeeded"] == counts["succeeded"]


def test_plain_output_has_no_control_characters(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--request-rate=20", "--num-prompts=10"))
    assert done.returncode in (0, 4), done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "TTFT" not in done.stdout
    assert "E2E ms" in done.stdout


def test_dry_run_sends_nothing() -> None:
    arguments = ["--port=9", "--request-rates=2,4", "--benchmark-time-seconds=10", "--dry-run", *SYNTHETIC]
    done = benchmark(*arguments, "--models=m", "--stream-request", OPENAI_API_KEY="sk-not-to-be-seen")
    assert done.returncode == 0, done.stderr  # nobody listens on port 9
    assert "point 2 of 2: 4 req/s" in done.stdout
    assert '"model":"m"' in done.stdout
    assert "sk-not-to-be-seen" not in done.stdout + done.stderr
    assert "authorization: (not shown)" in done.stdout


def test_key_goes_to_the_server_and_nowhere_else(port: int, tmp_path: Path) -> None:
    key = "sk-very-secret-0123456789"
    done = benchmark(*flags(port, tmp_path, "--request-rate=20", "--num-prompts=5"), OPENAI_API_KEY=key)
    assert done.returncode in (0, 4), done.stderr
    assert key not in done.stdout + done.stderr
    for path in tmp_path.iterdir():
        assert key.encode() not in path.read_bytes(), path.name
