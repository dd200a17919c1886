"""benchmark_offline.py on a real llama.cpp in its child process: exact lengths, files, crashes, signals, bad input."""

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from latency_profile import cli
from tests.launching import until
from tests.servers import vllm_server
from tests.tool import ROOT, called, environment, schema

PROGRAM = [sys.executable, str(ROOT / "benchmark_offline.py")]
SMALL = ("--input-len=8", "--output-len=4", "--num-batches=3")


def offline(*arguments: str, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, timeout=timeout, check=False, env=environment(**env)
    )


def result_of(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("*-offline-2*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    jsonschema.validate(found, schema("offline"))
    return found


def check_cells(result: dict[str, Any], requests: Sequence[int], inputs: int, outputs: int) -> None:
    """Every cell was measured, with exactly the tokens that were wanted."""
    (study,) = result["studies"]
    assert [cell["requests"] for cell in study["cells"]] == list(requests)
    for cell in study["cells"]:
        assert cell["trouble"] is None
        assert (cell["input_tokens"], cell["output_tokens"]) == (inputs * cell["requests"], outputs * cell["requests"])
        assert cell["runs"] == 3
        assert 0 < cell["ttft"]["p50_s"] < cell["request_latency"]["p50_s"] <= cell["batch_latency"]["max_s"]
        rate, seconds = cell["output_tokens_per_s"]["value"], cell["batch_generation_time_s"]["value"]
        assert rate * seconds == pytest.approx(cell["output_tokens"])


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(") ")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


@contextmanager
def running(model: Path, folder: Path, *, batches: int, after: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The program in mid-run, when its progress has said `after`, and its engine's process."""
    with subprocess.Popen(
        [
            *PROGRAM, "--engine=llamacpp", f"--model={model}", "--batch-sizes=1,2", f"--num-batches={batches}",
            "--input-len=8", "--output-len=8", "--threads=1", f"--output-dir={folder}",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        assert process.stderr
        while after not in (line := process.stderr.readline()):
            assert line, "it ended before"
        (guard,) = children_of(process.pid)
        (engine,) = children_of(guard)
        yield process, engine


def test_a_batch_study_of_llamacpp(smollm2_gguf: Path, tmp_path: Path) -> None:
    done = offline(
        "--engine=llamacpp", f"--model={smollm2_gguf}", "--batch-sizes=1,2,4", *SMALL, "--gpu-price=2.5",
        "--threads=1", f"--output-dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path)
    check_cells(result, [1, 2, 4], 8, 4)
    assert result["machine_cost_per_hour_usd"] == 2.5
    (engine,) = result["engines"]
    assert (engine["engine"], engine["device"], engine["requests_at_once"]) == ("llamacpp", "CPU", 4)
    for cell in result["studies"][0]["cells"]:
        cost = cell["usd_per_million_tokens"]
        whole = cost["input"] * cell["input_tokens"] + cost["output"] * cell["output_tokens"]
        assert whole / 1e6 == pytest.approx(2.5 / 3600 * cell["batch_generation_time_s"]["value"])
    (table,) = tmp_path.glob("*.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["runs"], row["trouble"]) for row in rows] == [(label, "3", "") for label in "124"]
    first = result["studies"][0]["cells"][0]
    assert float(rows[0]["output_tokens_per_s"]) == first["output_tokens_per_s"]["value"]
    assert f"{first['output_tokens_per_s']['value']:,.1f}" in done.stdout
    assert list(tmp_path.glob("*.svg"))
    assert "| Batch Size | 1 to 4 |" in done.stdout


def test_a_data_set_with_its_own_lengths(smollm2_gguf: Path, smollm2_tokenizer: Path, tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    prompts = [
        {"prompt": f"Tell me of number {number} " * (1 + number), "output_len": 3 + number} for number in range(6)
    ]
    data.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    done = offline(
        "--engine=llamacpp", f"--model={smollm2_gguf}", f"--tokenizer={smollm2_tokenizer}", "--study=dataset",
        f"--dataset={data}", "--num-prompts=6", "--threads=1", f"--output-dir={tmp_path / 'out'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (cell,) = result_of(tmp_path / "out")["studies"][0]["cells"]
    assert (cell["requests"], cell["output_tokens"], cell["runs"]) == (6, sum(range(3, 9)), 1)
    assert "* Total Generations:            6" in done.stdout
    assert f"* Avg Generation Tokens:        {sum(range(3, 9)) / 6:.2f}" in done.stdout


def test_a_data_set_that_is_drawn(smollm2_gguf: Path, tmp_path: Path) -> None:
    done = offline(
        "--engine=llamacpp", f"--model={smollm2_gguf}", "--study=dataset", "--num-prompts=6", "--threads=1",
        "--input-len=12", "--input-len-stddev=3", "--output-len=4", f"--output-dir={tmp_path}",
        PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "?: the runs give no upper bound" in done.stdout  # a sign that the terminal lacks
    (cell,) = result_of(tmp_path)["studies"][0]["cells"]
    assert (cell["requests"], cell["output_tokens"]) == (6, 24)
    assert 6 < cell["input_tokens"] / 6 < 18
    assert cell["input_tokens"] != 6 * 12


def test_an_engine_that_crashes_costs_its_cell_and_no_other(smollm2_gguf: Path, tmp_path: Path) -> None:
    with running(smollm2_gguf, tmp_path, batches=20, after="[3/") as (process, engine):
        os.kill(engine, signal.SIGKILL)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 4, said
    cells = result_of(tmp_path)["studies"][0]["cells"]
    (lost,) = [cell for cell in cells if cell["trouble"]]
    (other,) = [cell for cell in cells if not cell["trouble"]]
    assert lost["trouble"] == "the engine was lost: it was ended by SIGKILL"
    assert other["runs"] == 20
    assert "the engine's last words" in said


def test_a_study_that_the_model_is_too_short_for_is_refused_before_any_runs(smollm2_gguf: Path, tmp_path: Path) -> None:
    done = offline(
        "--engine=llamacpp", f"--model={smollm2_gguf}", "--study=batch-size,sequence-length", "--batch-sizes=1", *SMALL,
        "--sequence-lengths=9000", "--num-requests=1", "--max-num-seqs=1", f"--output-dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(
        "error: sequence-length 9000: a request of 18000 tokens, prompt and answer together; "
    )
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_results_that_cannot_be_stored_are_kept_elsewhere(smollm2_gguf: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with running(smollm2_gguf, folder, batches=10, after="[1/") as (process, _):
        folder.rmdir()
        folder.write_text("")  # a file now
        _, said = process.communicate(timeout=120)
    assert process.returncode == 6, said
    (line,) = [line for line in said.splitlines() if line.startswith("error: cannot write ")]
    kept = Path(line.rpartition("; everything is in ")[2])
    try:
        assert len(result_of(kept)["studies"][0]["cells"]) == 2
        assert {path.suffix for path in kept.iterdir()} >= {".json", ".csv", ".log"}
    finally:
        shutil.rmtree(kept)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_was_measured_and_leaves_nothing_running(
    smollm2_gguf: Path, tmp_path: Path, number: int, code: int
) -> None:
    with running(smollm2_gguf, tmp_path, batches=500, after="[6/") as (process, engine):
        started = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert time.monotonic() - started < 40
    assert not Path(f"/proc/{engine}").exists()
    result = result_of(tmp_path)
    assert result["cut_short"] == signal.Signals(number).name
    assert 1 <= sum(cell["runs"] for cell in result["studies"][0]["cells"]) < 500, "of 1000"


def test_nothing_is_left_of_a_program_that_is_killed(smollm2_gguf: Path, tmp_path: Path) -> None:
    with running(smollm2_gguf, tmp_path, batches=500, after="[3/") as (process, engine):
        process.kill()
        process.communicate(timeout=30)
        until(lambda: not Path(f"/proc/{engine}").exists(), within_s=30)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch-sizes=4,0"], "--batch-sizes: got '4,0', takes whole numbers above 0, separated by commas"),
        (["--gpu-price=0"], "--gpu-price: got '0', takes a number from 1e-06"),
        (["--gpu-price=-1"], "--gpu-price: got '-1', takes a number from 1e-06"),
        (["--gpu-price=2", "--utilization=1.2"], "--utilization: got '1.2', takes a share above 0 and at most 1"),
        (["--utilization=0.4"], "--utilization: takes --gpu-price beside it"),
        (["--engine=vllm", "--threads=2"], "--threads: got it with --engine vllm, which takes no such setting here"),
        (["--enforce-eager"], "--enforce-eager: got it with --engine transformers, which takes no such setting here"),
        (["--output-len=0"], "--output-len: got '0', takes a whole number, 1 or more"),
        (
            ["--study=dataset"],
            "--study dataset: takes a data set's file (--dataset), or lengths to draw (--",
        ),
        (["--engine=llamacpp"], "--model None: llama.cpp takes a GGUF file"),
        (["--engine=llamacpp", "--model=/nowhere.gguf"], "--model /nowhere.gguf: llama.cpp takes a GGUF file"),
        (["--engine=llamacpp", "--model=GGUF", "--device=gpu"], "--device gpu: llama.cpp sees no GPU here"),
        (
            ["--engine=llamacpp", "--model=GGUF", "--tensor-parallel-size=2"],
            "--tensor-parallel-size: llama.cpp takes 1",
        ),
        (["--engine=llamacpp", "--model=GGUF", "--dtype=float16"], "--dtype float16: a GGUF file has its own"),
        (
            ["--engine=llamacpp", "--model=GGUF", "--batch-sizes=1", "--input-len=9000"],
            "batch-size 1: a request of 9064 tokens, prompt and answer together; ",
        ),
        (["--output-dir=/proc/nowhere"], "--output-dir: cannot write to /proc/nowhere: "),
        (["--engine-python=/nowhere/python"], "--engine-python /nowhere/python: there is no such program"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_left(
    smollm2_gguf: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    given = [argument.replace("GGUF", str(smollm2_gguf)) for argument in arguments]
    done = called(cli.offline, f"--output-dir={tmp_path}", *given)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {said}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="this Python has torch")
def test_a_python_without_the_engine_is_told(tmp_path: Path) -> None:
    done = offline(f"--output-dir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --engine transformers needs torch, which this Python does not have")


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("engine", "more"),
    [("transformers", []), ("transformers", ["--load-format=dummy"]), ("vllm", ["--enforce-eager"])],
)
def test_other_engines_generate_exactly_what_was_asked_for(engine: str, more: list[str], tmp_path: Path) -> None:
    done = offline(
        f"--engine={engine}", f"--engine-python={vllm_server.ENVIRONMENT / 'bin' / 'python'}",
        f"--model={vllm_server.MODEL}", "--batch-sizes=1,2", *SMALL, *more, f"--output-dir={tmp_path}",
        timeout=400, **vllm_server.OFFLINE, VLLM_CPU_KVCACHE_SPACE="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_cells(result_of(tmp_path), [1, 2], 8, 4)


@pytest.mark.vllm
def test_the_tiny_model_needs_no_files(tmp_path: Path) -> None:
    done = offline(
        f"--engine-python={vllm_server.ENVIRONMENT / 'bin' / 'python'}", "--batch-sizes=1,8", *SMALL,
        f"--output-dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_cells(result_of(tmp_path), [1, 8], 8, 4)
    assert result_of(tmp_path)["engines"][0]["model"] == "tiny"


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--engine=transformers", "--model=/nowhere"], "--model /nowhere: "),
        (["--engine=transformers", "--device=gpu"], "--device gpu: torch sees no GPU here"),
        (["--engine=transformers", "--batch-sizes=1", "--input-len=5000"], "batch-size 1: a request of 5064 tokens"),
        (["--engine=transformers", "--dtype=float17"], "--dtype float17: takes a floating-point type of torch"),
        (["--engine=transformers", "--dtype=int8"], "--dtype int8: takes a floating-point type of torch"),
        (["--engine=transformers", "--dtype=nn"], "--dtype nn: takes a floating-point type of torch"),
        (["--engine=vllm"], "--engine vllm: --model is missing"),
        (["--engine=vllm", "--model=/nowhere"], "--model /nowhere: "),
        (["--engine=vllm", "--model=MODEL", "--device=gpu"], "--device gpu: vLLM sees no GPU here"),
    ],
)
def test_bad_input_of_other_engines(tmp_path: Path, arguments: list[str], said: str) -> None:
    given = [argument.replace("MODEL", str(vllm_server.MODEL)) for argument in arguments]
    python = vllm_server.ENVIRONMENT / "bin" / "python"
    done = offline(*given, f"--engine-python={python}", f"--output-dir={tmp_path}", **vllm_server.OFFLINE)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {said}"), done.stderr
