"""Engines on a machine with GPUs: NVML by a library whose numbers are known."""

import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.launching import run_file, simulator, started
from tests.test_hardware_sampler import build
from tests.tool import ROOT, schema

MEMORY = """
from latency_profile.launch.gpu_memory import GpuMemory
memory = GpuMemory()
print(memory.still_held(0))
memory._before["GPU 0 (Large)"] -= 3 << 30
print(memory.still_held(0.1))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libnvidia-ml.so.1 that shows two GPUs, one of which tells little."""
    return build(tmp_path_factory.mktemp("driver"))


def test_memory_that_a_server_still_holds_is_named(driver: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        cwd=ROOT,
        env=os.environ | {"LD_LIBRARY_PATH": str(driver)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == [
        "None",
        "GPU 0 (Large) has 3072 MiB more in use than before the first server",
    ]


def test_the_block_and_the_files_have_the_gpus_figures(
    driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    with started(tmp_path, {"vllm": simulator("--fixed-timing", "20,20")}, "--backend=vllm", "--concurrency=2") as run:
        _, out, err = run.ends()
    block = out[out.index("=== GPU METRICS (Large) ===") :].split("\n")
    assert block[1:3] == [
        "GPU Util:       Mean: 37.0% | Max: 37.0%",
        "Memory:         Mean: 5120MB | Max: 5120MB / 81920MB",
    ], err
    assert block[3].startswith("Power:          Mean: 1")
    assert block[4] == "Temperature:    Mean: 45.0C | Max: 45.0C"
    assert "Small" not in out  # it does not tell that it worked
    found = run_file(run.output, "vllm")
    jsonschema.validate(found, schema("engine_run"))
    large, small = found["hardware"]["gpus"]
    assert set(large["utilization"]) == {0.37}
    assert len(large["times_s"]) == len(large["power_w"]) > 2, "ten a second, but for stalls"
    assert small["utilization"] is None
