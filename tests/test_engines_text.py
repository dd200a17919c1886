"""The console block, in the form of the document that asked for it."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import jsonschema
import msgspec
import pytest

from latency_profile import results
from latency_profile.hardware.structure import GpuReadings, HardwareReadings
from latency_profile.launch.requests_table import requests_table
from latency_profile.launch.structure import EngineRun
from latency_profile.launch.summary import row_of
from latency_profile.launch.text import block, closing, comparison
from tests.make_records import make_records, uniform_records
from tests.tool import schema

MIB = 1 << 20
TIMES = [n / 10 for n in range(-1, 42)]


def gpu(index: int, busy: float) -> GpuReadings:
    n = len(TIMES)
    return GpuReadings(
        index=index,
        uuid=None,
        name="NVIDIA RTX 4090",
        driver=None,
        memory_bytes=24576 * MIB,
        power_limit_w=None,
        times_s=TIMES,
        energy_j=None,
        power_w=[312.5] * (n - 1) + [312.5],
        utilization=[busy] * n,
        memory_used_bytes=[18432 * MIB] * (n - 1) + [18432 * MIB],
        temperature_c=[68] * n,
        sm_clock_mhz=None,
        memory_clock_mhz=None,
        clock_reasons=None,
    )


def engine_run(name: str = "vllm", hardware: HardwareReadings | None = None, **changes: object) -> EngineRun:
    """Four requests one after the other, of 5 tokens each: TTFT 100 ms, TPOT 200 ms, E2E 900 ms."""
    starts = [0.0, 0.9, 1.8, 2.7]
    tokens = [[at + 0.1 + 0.2 * k for k in range(5)] for at in starts]
    records = make_records(
        [-1] * 4, starts, tokens, request_rate=None, concurrency=1, duration_s=None, hardware=hardware
    )
    values: dict[str, object] = {
        "backend": name,
        "stem": f"{name}_20260201_143000",
        "model": "m",
        "url": "http://127.0.0.1:8000",
        "concurrency": 1,
        "command": ["serve"],
        "variables": [],
        "start_s": 12.0,
        "failure": None,
        "interrupted": None,
        "files": {},
        "result": results.point_result(records),
        "hardware": hardware,
    }
    return EngineRun(**(values | changes))  # type: ignore[arg-type]


def test_the_block_of_an_engine_with_its_gpu() -> None:
    found = engine_run(hardware=HardwareReadings(gpus=[gpu(0, 0.873), gpu(1, 0.0)], source="nvml", server_here=True))
    lines = block(found).split("\n")
    assert lines[:14] == [
        "=== RESULTS FOR vllm ===",
        "Total Requests: 4",
        "Duration:       3.60s",
        "System TPS:     5.56 tok/s",
        "TTFT (ms):      Mean: 100.00 | P99: 100.00",
        "E2E (ms):       Mean: 900.00 | P99: 900.00",
        "TPOT (ms):      200.00",
        "ITL P99 (ms):   200.00",
        "",
        "=== GPU METRICS (NVIDIA RTX 4090) ===",
        "GPU Util:       Mean: 87.3% | Max: 87.3%",
        "Memory:         Mean: 18432MB | Max: 18432MB / 24576MB",
        "Power:          Mean: 312.5W | Max: 312.5W",
        "Temperature:    Mean: 68.0C | Max: 68.0C",
    ]
    assert lines[14:16] == ["", "Verdict:        TOO_FEW_SAMPLES"]  # and the idle GPU has no block
    row = row_of(found)
    assert (row.gpus, row.gpu_name, row.gpu_power_mean_w) == (1, "NVIDIA RTX 4090", 312.5)
    assert (row.ttft_mean_s, row.e2e_p99_s) == (0.1, 0.9)


def test_sums_over_gpus_are_of_all_that_worked_or_not_told() -> None:
    def row(*gpus: GpuReadings) -> tuple[float | None, float | None]:
        found = row_of(engine_run(hardware=HardwareReadings(gpus=list(gpus), source="nvml", server_here=True)))
        assert found.gpus == 2 and found.gpu_utilization_mean == pytest.approx(0.7)
        return found.gpu_power_mean_w, found.gpu_memory_used_max_bytes

    both, silent = gpu(1, 0.5), replace(gpu(1, 0.5), power_w=None, memory_used_bytes=None)
    assert row(gpu(0, 0.9), both) == (pytest.approx(625), 2 * 18432 * MIB)
    assert row(gpu(0, 0.9), silent) == (None, None)


def test_without_a_gpu_one_line_says_why() -> None:
    found = engine_run(hardware=HardwareReadings(absent="no NVIDIA driver on this machine", server_here=True))
    assert "No GPU metrics: no NVIDIA driver on this machine." in block(found).split("\n")
    assert "GPU METRICS" not in block(found)
    assert "No GPU metrics: the machine was not watched." in block(engine_run())
    assert "No GPU metrics: no point was measured." in block(engine_run(result=None, failure="not started"))


def test_the_table_of_requests_has_the_points_own_numbers() -> None:
    for streaming in (True, False):
        records = uniform_records(6, streaming=streaming)
        rows = list(csv.DictReader(io.StringIO(requests_table(records).decode())))
        flat = msgspec.to_builtins(results.point_result(records).metrics)
        for column, key in (("ttft_s", "avg_TTFT_ms"), ("tpot_s", "avg_TPOT_ms"), ("e2e_s", "avg_latency_ms")):
            cells = [row[column] for row in rows]
            if flat.get(key) is None:
                assert cells == [""] * 6 and not streaming
            else:
                assert sum(map(float, cells)) / 6 * 1000 == pytest.approx(flat[key])


def test_the_comparison_has_every_engine_its_verdict_and_why() -> None:
    never = engine_run(
        "sglang", result=None, failure="the server ended with exit code 3 before it served", start_s=None
    )
    died = engine_run("llamacpp", failure="the server was ended by SIGKILL while it was measured")
    runs = [engine_run(), never, died]
    text = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    comparison(runs, text)
    text.seek(0)
    said = text.read()
    assert "x FAILED at sglang: the server ended with exit code 3 before it served." in said
    assert "x FAILED at llamacpp: the server was ended by SIGKILL while it was measured." in said
    assert "~ TOO_FEW_SAMPLES at vllm: " in said
    assert "95 % intervals" in said
    assert row_of(never).verdict == row_of(died).verdict == "FAILED"
    assert row_of(never).requests is None
    last = closing(runs, ["transformers"], 4)
    assert last == (
        "1 of 4 engines have numbers to use; vllm TOO_FEW_SAMPLES; sglang FAILED; llamacpp FAILED; "
        "not run: transformers. Exit code 4."
    )


def test_the_runs_file_keeps_its_schema_and_reads_back() -> None:
    watched = HardwareReadings(gpus=[gpu(0, 0.873)], source="nvml", server_here=True)
    never = engine_run("sglang", result=None, failure="not started", start_s=None, command=None, url=None)
    for run in (engine_run(hardware=watched), engine_run(interrupted="SIGINT"), never):
        data = msgspec.json.encode(run)
        jsonschema.validate(json.loads(data), schema("engine_run"))
        assert msgspec.json.decode(data, type=EngineRun) == run


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": "2.0"},
        {"concurrency": 0},
        {"start_s": -1.0},
        {"surprise": 1},
        {"result": {}},
        {"command": "vllm serve"},
    ],
)
def test_the_schema_refuses_what_is_not_a_run(change: dict[str, Any]) -> None:
    found = json.loads(msgspec.json.encode(engine_run()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found | change, schema("engine_run"))


def test_the_schema_wants_all_metrics_of_streamed_answers() -> None:
    found = json.loads(msgspec.json.encode(engine_run()))
    del found["result"]["metrics"]["avg_TTFT_ms"]
    with pytest.raises(jsonschema.ValidationError, match="avg_TTFT_ms"):
        jsonschema.validate(found, schema("engine_run"))
