"""`benchmark_engines.py` with a real llama.cpp and the embedded server, as a user runs it: what crashes, what is kept,
and that nothing is left running."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import yaml

from latency_profile.cli import engines
from latency_profile.launch.structure import EngineRun
from latency_profile.launch.summary import COLUMNS
from tests.launching import answers_arrive, dataset, llamacpp, run_file, simulator, started, until
from tests.servers.simulator import simulator as running_simulator
from tests.tool import ROOT, environment

SLOW = ("--fixed-timing", "20,150")  # an answer of some ten tokens takes a second and a half
CRASH = {"tokenizer": "bundled", "command": ["bash", "-c", "for n in $(seq 30); do echo line $n; done; exit 3"]}
# A server that ignores SIGTERM and leaves a process in a session of its own, which does too.
STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(600)"])
    os._exit(0)
os.execv(sys.executable, [sys.executable, "-m", "latency_profile.simulator", *sys.argv[1:]])
"""


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "benchmark_summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(params=["simulator", pytest.param("llamacpp", marks=pytest.mark.slow)])
def third(request: pytest.FixtureRequest) -> dict[str, object]:
    """The engine that is measured: the embedded server, or a real llama.cpp."""
    if request.param == "simulator":
        return simulator("--engine", "instant", backend="llamacpp")
    gguf, tokenizer = map(request.getfixturevalue, ("smollm2_gguf", "smollm2_tokenizer"))
    return llamacpp(gguf, tokenizer)


def test_one_crashes_at_start_one_in_mid_run_and_the_rest_is_measured(third: dict[str, object], tmp_path: Path) -> None:
    sections = {
        "vllm": simulator(*SLOW),
        "sglang": CRASH,
        "llamacpp": third,
    }
    with started(tmp_path, sections, "--backend=all", "--concurrency=2", prompts=8) as run:
        until(lambda: answers_arrive(run.output, "vllm"))
        time.sleep(2)  # of six
        os.kill(run.pid_of("latency_profile.simulator"), signal.SIGKILL)
        code, out, err = run.ends()
        assert run.left() == []
    assert code == 4, err
    assert "left out: transformers" in err

    died, never, measured = (run_file(run.output, name) for name in ("vllm", "sglang", "llamacpp"))
    assert died["failure"] == "the server was ended by SIGKILL while it was measured"
    assert died["result"]["metrics"]["num_prompts_attempted"] == 8
    assert died["result"]["metrics"]["num_prompts_succeeded"] < 8
    assert never["failure"] == "the server ended with exit code 3 before it served"
    assert never["result"] is None
    assert "  | line 11\n" in err
    assert "  | line 30\n" in err
    assert "  | line 10\n" not in err
    assert measured["failure"] is None
    assert measured["result"]["metrics"]["num_prompts_succeeded"] == 8
    assert measured["start_s"] > 0
    assert (run.output / measured["files"]["server_log"]).exists()

    assert [(row["backend"], row["verdict"]) for row in rows(run.output)][:2] == [
        ("vllm", "FAILED"),
        ("sglang", "FAILED"),
    ]
    last = rows(run.output)[2]
    assert (last["backend"], last["requests"], last["failed"]) == ("llamacpp", "8", "0")
    assert last["file"] == next(run.output.glob("llamacpp_*.json")).name
    assert f"=== RESULTS FOR llamacpp ===\nTotal Requests: 8\nDuration:       {float(last['duration_s']):.2f}s\n" in out
    assert "✗ FAILED at vllm: the server was ended by SIGKILL while it was measured." in out
    assert "✗ FAILED at sglang: the server ended with exit code 3 before it served." in out

    (path,) = run.output.glob("llamacpp_*.json")
    again = msgspec.json.decode(path.read_bytes(), type=EngineRun)
    assert json.loads(msgspec.json.encode(again)) == measured  # all that it says is in the structure

    metrics = measured["result"]["metrics"]
    with (run.output / measured["files"]["requests"]).open(newline="") as file:
        requests = list(csv.DictReader(file))
    for column, key in (("ttft_s", "avg_TTFT_ms"), ("tpot_s", "avg_TPOT_ms"), ("e2e_s", "avg_latency_ms")):
        values = [float(row[column]) for row in requests if row[column]]
        assert sum(values) / len(values) * 1000 == pytest.approx(metrics[key])
    assert sum(int(row["output_tokens"]) for row in requests) == metrics["total_output_token"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_in_mid_run_keeps_what_was_measured(tmp_path: Path, number: signal.Signals, code: int) -> None:
    sections = {
        "vllm": simulator("--engine", "instant"),
        "sglang": simulator(*SLOW, backend="sglang"),
        "llamacpp": CRASH,
    }
    with started(tmp_path, sections, "--backend=all", "--concurrency=2") as run:
        until(lambda: answers_arrive(run.output, "sglang"))
        time.sleep(2.5)  # of thirteen
        run.process.send_signal(number)
        ended, out, err = run.ends(20)
        assert run.left() == []
    assert ended == code, err
    whole, cut = run_file(run.output, "vllm"), run_file(run.output, "sglang")
    assert whole["result"]["metrics"]["num_prompts_succeeded"] == 18
    assert whole["interrupted"] is None
    assert cut["interrupted"] == number.name
    assert 0 < cut["result"]["metrics"]["num_prompts_attempted"] < 18
    assert [row["backend"] for row in rows(run.output)] == ["vllm", "sglang"]
    assert "not run: llamacpp" in out


def test_a_signal_while_a_server_starts_ends_it(tmp_path: Path) -> None:
    with started(tmp_path, {"vllm": {"tokenizer": "bundled", "command": ["sleep", "600"]}}, "--backend=vllm") as run:
        until(lambda: any("sleep 600" in line for line in run.left()))
        run.process.send_signal(signal.SIGINT)
        code, out, _ = run.ends(20)
        assert run.left() == []
    assert code == 130
    found = run_file(run.output, "vllm")
    assert (found["interrupted"], found["failure"]) == ("SIGINT", "interrupted by SIGINT")
    assert "0 of 1 engines have numbers to use; vllm FAILED. Exit code 130." in out


@pytest.mark.slow
def test_nothing_is_left_of_a_runner_that_is_killed(tmp_path: Path) -> None:
    section = simulator(*SLOW)
    section["command"] = [sys.executable, "-c", STUBBORN, *section["command"][3:]]
    with started(tmp_path, {"vllm": section}, "--backend=vllm") as run:
        until(lambda: answers_arrive(run.output, "vllm"))
        assert len(run.left()) >= 4  # runner, guard, server and what that left behind
        run.process.kill()
        run.process.wait()
        until(lambda: not run.left())


@pytest.mark.slow
def test_a_server_that_dies_before_its_first_answer_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    """The profile waits for a first answer until its deadline: the runner knows that none can come."""
    sections = {
        "vllm": simulator("--fixed-timing", "60000,1"),
        "sglang": simulator("--engine", "instant", backend="sglang"),
    }
    with started(tmp_path, sections, "--backend=all") as run:
        until(lambda: any(run.output.glob("vllm_*/*first-request*/spool-*")))
        os.kill(run.pid_of("latency_profile.simulator"), signal.SIGKILL)
        code, _, err = run.ends(40)
    assert code == 4, err
    died = run_file(run.output, "vllm")
    assert died["failure"] == "the server was ended by SIGKILL while it was measured"
    assert died["interrupted"] is None
    assert run_file(run.output, "sglang")["result"]["metrics"]["num_prompts_succeeded"] == 18


@pytest.mark.slow
def test_a_server_that_never_serves_is_given_up_and_a_taken_port_is_left_alone(tmp_path: Path) -> None:
    sections = {"vllm": {"tokenizer": "bundled", "command": ["sleep", "600"]}}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sections["vllm"]["port"] = taken.getsockname()[1]
        with started(tmp_path, sections, "--backend=vllm", "--start-timeout=2") as run:
            code, _, err = run.ends(30)
            assert run.left() == []
    assert code == 4
    assert run_file(run.output, "vllm")["failure"].startswith("not ready within 2 s: http://127.0.0.1:")
    assert f"port {taken.getsockname()[1] if taken.fileno() >= 0 else sections['vllm']['port']} is taken" in err


def test_a_server_that_runs_already(tmp_path: Path) -> None:
    dataset(tmp_path / "benchmark_dataset.json", 60)
    with running_simulator(tmp_path, "--fixed-timing", "20,5") as server:
        command = [sys.executable, str(ROOT / "benchmark_engines.py"), f"--url={server.url}", "--tokenizer=bundled"]
        command += ["--", "--machine-cost=2.5"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment()
        )
        assert done.returncode in (0, 4), done.stderr
        assert server.process.poll() is None
    run = run_file(tmp_path / "results", "unknown")
    assert run["concurrency"] == 10
    assert run["result"]["metrics"]["num_prompts_succeeded"] == 60
    assert run["command"] is None
    assert "=== RESULTS FOR unknown ===" in done.stdout
    (row,) = rows(tmp_path / "results")
    assert tuple(row) == COLUMNS
    whole = 2.5 / 3600 / run["result"]["throughput"]["output_tokens_per_s"] * 1e6
    if done.returncode == 0:
        assert float(row["usd_per_million_output_tokens"]) == pytest.approx(whole)
    else:  # a busy machine's numbers must not be used: they have no price
        assert row["usd_per_million_output_tokens"] == ""


@pytest.mark.slow
def test_without_metrics_of_the_server_the_machine_is_watched_all_the_same(tmp_path: Path) -> None:
    section = simulator("--engine", "instant", backend="naive_transformers")
    with started(
        tmp_path,
        {"transformers": section | {"endpoint": "completions", "model": "simulated"}},
        "--backend=transformers",
    ) as run:
        _, _, err = run.ends()
        assert "only the machine is watched" in err
    result = run_file(run.output, "transformers")
    assert result["result"]["telemetry"]["host"]["cpus"] == os.cpu_count(), err
    assert len(result["hardware"]["host"]["times_s"]) > 0
    (point,) = run.output.glob("transformers_*/benchmark-naive_transformers-concurrency*.json")
    assert json.loads(point.read_text())["telemetry"] == result["result"]["telemetry"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--backend=nemo"], "--backend: got 'nemo', takes vllm, sglang, llamacpp, transformers or all"),
        (["--backend=vllm", "--concurrency=0"], "--concurrency: got '0', takes a whole number, 1 or more"),
        (["--backend=vllm", "--dataset=absent.json"], "--dataset absent.json: no such file"),
        (["--backend=vllm", "--start-timeout=soon"], "--start-timeout: got 'soon', takes a number above 0"),
        (["--backend=vllm", "--", "--concurrencies=1,2"], "--concurrencies: got another load"),
        (["--backend=vllm", "--", "--stay"], "--stay: not with several engines"),
        (["--backend=vllm", "--", "--dtype=int8"], "--dtype: no such flag"),
        (["--backend=llamacpp"], "there is no program ./llama-server"),
        (["--url=http://127.0.0.1:1"], "--config: got a file of servers' settings beside --url"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    (tmp_path / "servers.yaml").write_text(yaml.safe_dump({"vllm": simulator("--engine", "instant")}))
    dataset(tmp_path / "benchmark_dataset.json", 18)
    own = [f"--config={tmp_path / 'servers.yaml'}", f"--output={tmp_path / 'results'}"]
    own += [f"--dataset={tmp_path / 'benchmark_dataset.json'}"]
    assert engines([*own, *flags]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "results").exists()
