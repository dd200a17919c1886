"""What is read of a machine: NVML by a library whose numbers are known, or a real one; addresses, /proc, whole runs."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.truth import simulator
from latency_profile.hardware import host
from latency_profile.hardware.host import HostSampler, memory
from latency_profile.hardware.local import is_local
from latency_profile.hardware.structure import GpuReadings
from latency_profile.hardware.summary import energy_j
from latency_profile.hardware.ticker import Ticker
from tests.launching import until
from tests.tool import ROOT, SYNTHETIC, benchmark, only_point, point_files, read_point

SOURCE = ROOT / "tests/data/nvml.c"
TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE = """
import os, sys, time
import msgspec
from latency_profile.hardware import nvml, ticker
ticker.LONGEST_TURN_S = float(os.environ.get("LONGEST_TURN_S", "20"))
try:
    gpus = nvml.Gpus()
except nvml.NoGpus as error:
    print(msgspec.json.encode({"absent": str(error)}).decode())
    sys.exit()
sampler = nvml.Sampler(gpus)
start = time.monotonic_ns()
time.sleep(float(sys.argv[1]))
end, came_back = time.monotonic_ns(), sampler.stop()
print(msgspec.json.encode({
    "gpus": sampler.readings(start, end), "notices": sampler.notices, "came_back": came_back,
    "share": sampler.cpu_s / sampler.seconds, "seconds": (end - start) / 1e9,
}).decode(), flush=True)
"""


def build(folder: Path, *flags: str) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    library = folder / "libnvidia-ml.so.1"
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *flags, "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libnvidia-ml.so.1 as of today."""
    return build(tmp_path_factory.mktemp("driver"))


@pytest.fixture(scope="module")
def old_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("old"), "-DOLD")


def sample(driver: Path, seconds: float = 0.0, **env: str) -> dict[str, Any]:
    """What a sampler reads in a process of its own: a library is loaded once."""
    done = subprocess.run(
        [sys.executable, "-c", SAMPLE, str(seconds)],
        cwd=ROOT,
        env=os.environ | {"LD_LIBRARY_PATH": str(driver)} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def gpus_of(found: dict[str, Any]) -> list[GpuReadings]:
    return msgspec.convert(found["gpus"], list[GpuReadings])


def test_what_the_library_says_is_what_is_read(driver: Path) -> None:
    found = sample(driver, 2.0)
    large, small = gpus_of(found)
    assert (large.index, large.uuid, large.name, large.driver) == (0, "GPU-0", "Large", "580.1")
    assert (large.memory_bytes, large.power_limit_w, small.power_limit_w) == (80 << 30, 350.0, None)
    assert set(large.memory_used_bytes or ()) == {5 << 30}, "without the reserve"
    assert set(large.utilization or ()) == {0.37}
    assert set(large.temperature_c or ()) == {45}
    assert (set(large.sm_clock_mhz or ()), set(large.memory_clock_mhz or ())) == ({1980}, {2619})
    assert (set(large.clock_reasons or ()), set(small.clock_reasons or ())) == ({4}, {1})
    assert small.energy_j is small.utilization is None, "not supported is not 0"
    assert set(small.power_w or ()) == {50.0}
    assert (found["notices"], found["came_back"]) == ([], True)


def test_ten_times_a_second_without_drift(driver: Path) -> None:
    found = sample(driver, 3.0)
    times, seconds = gpus_of(found)[0].times_s, found["seconds"]
    inside = [at for at in times if 0 <= at <= seconds]
    assert inside[0] < 1
    # Late wakings do not add up: most of the samples are on the grid of the first one.
    off = sorted(abs(at - times[0] - round((at - times[0]) / 0.1) * 0.1) for at in times[:-1])
    assert off[len(off) // 2] < 0.01
    assert seconds <= times[-1] < seconds + 1
    assert seconds / 0.2 <= len(inside) <= seconds / 0.1 + 1, "a stall is not made up for"


def test_the_counter_is_the_integral_of_the_power(driver: Path) -> None:
    """The fake card's power rises by 10 W a second from 100 W; its counter is computed, not added up.

    It is read every 2 s, and straight lines between are off by up to 10 W/s · (2 s)² / 8 at either edge. Where the
    sampler had lost the CPU, two readings may be too far apart for an edge between them: then the edges are readings.
    """
    large, _ = gpus_of(sample(driver, 6.0))
    read = [at for at, value in zip(large.times_s, large.energy_j or (), strict=True) if value is not None]
    assert len(read) in (3, 4, 5, 6)  # at 0, 2, 4, 6 s and the end
    gap = max(later - earlier for earlier, later in itertools.pairwise(read))
    start, end = (0.25, 5.75) if gap < 2.4 else (read[0], read[-1])
    by_power = GpuReadings(**{name: getattr(large, name) for name in large.__slots__} | {"energy_j": None})
    counted, added = energy_j(large, start, end), energy_j(by_power, start, end)
    assert counted is not None
    assert added is not None
    assert (counted[1], added[1]) == ("counter", "power")
    off = 2 * 10 * gap**2 / 8 + 0.2
    assert counted[0] == pytest.approx(added[0], abs=off)
    least = 100 * (end - start) + 5 * (end**2 - start**2)
    assert least - off <= counted[0] <= least + 10 * (end - start) * 5 + off  # it started up to 5 s later


def test_a_gpu_that_is_lost_leaves_the_other_one(driver: Path) -> None:
    found = sample(driver, 2.5, FAKE_LOST_MS="500")
    large, small = gpus_of(found)
    assert None not in (large.power_w or [None])
    values = small.power_w or []
    assert values[0] == 50.0
    assert values[-1] is None, "it is not asked again"
    assert len(values) == len(small.times_s)
    assert found["notices"] == ["GPU 1 (Small): GPU is lost"]
    assert found["came_back"]


def test_the_power_of_a_divided_board_is_said_to_be_that(driver: Path) -> None:
    said = sample(driver, 0.3, FAKE_MIG="1")["notices"]
    assert len(said) == 1
    assert said[0].startswith("GPU 0 (") and said[0].endswith(
        "is divided (MIG): its power and energy are the whole board's"
    )


def test_a_driver_that_hangs_is_left_alone(driver: Path) -> None:
    found = sample(driver, 1.5, FAKE_HANG_MS="600", LONGEST_TURN_S="0.5")
    assert not found["came_back"]
    assert found["notices"] == ["NVML did not come back from a question: the samples end there"]
    assert 1 <= len(gpus_of(found)[0].times_s) <= 8


def test_an_older_driver_is_asked_in_its_words(old_driver: Path) -> None:
    large, _ = gpus_of(sample(old_driver, 0.3))
    assert set(large.memory_used_bytes or ()) == {(5 << 30) + (600 << 20)}
    assert set(large.clock_reasons or ()) == {4}


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"FAKE_INIT": "9"}, "the NVIDIA driver of this machine is not loaded"),
        ({"FAKE_INIT": "999"}, "NVML says: Unknown Error"),
        ({"FAKE_GPUS": "0"}, "no NVIDIA GPU on this machine"),
    ],
)
def test_why_there_are_no_gpus(driver: Path, env: dict[str, str], said: str) -> None:
    assert sample(driver, **env) == {"absent": said}


def run(folder: Path, *more: str, **env: str) -> tuple[list[dict[str, Any]], str]:
    """The points of a short profile of the embedded server, and what was said."""
    with simulator("--fixed-timing", "20,5") as port:
        flags = ["--host=127.0.0.1", f"--port={port}", "--save-json-results", f"--output-dir={folder}", *SYNTHETIC]
        done = benchmark(*flags, "--stream-request", "--benchmark-time-seconds=3", *more, **env)
    assert done.returncode in (0, 4), done.stderr
    return [read_point(path) for path in point_files(folder)], done.stderr


def test_a_profile_with_gpus_beside_the_server(driver: Path, tmp_path: Path) -> None:
    (point,), said = run(tmp_path, "--request-rate=20", "--scrape-server-metrics", LD_LIBRARY_PATH=str(driver))
    told = point["telemetry"]
    assert "no GPU figures" not in said
    assert [gpu["name"] for gpu in told["gpus"]] == ["Large", "Small"]
    large, small = told["gpus"]
    assert 10 <= large["samples"] <= 32, "ten a second, but for stalls"
    assert large["throttled_by"] == {"sw_power_cap": 1.0}
    assert large["energy_by"] in ("counter", "power"), "a stall keeps its readings too far apart for the counter"
    assert small["energy_by"] == "power"
    assert 3 * 100 < large["energy_j"] < 3 * 400
    assert small["energy_j"] == pytest.approx(150, rel=0.02)
    assert "GPU_THROTTLED" in [remark["name"] for remark in point["verdict"]["remarks"]]
    assert told["host"]["server_here"]
    energy = told["energy"]
    if point["verdict"]["verdict"] not in ("CLIENT_LIMITED", "FAILED"):
        tokens_per_s = point["throughput"]["output_tokens_per_s"]
        assert energy["joules_per_output_token"] == pytest.approx(energy["mean_power_w"] / tokens_per_s)
    assert 0 < told["sampler_core_share"] < 0.1


def test_a_gpu_that_is_lost_in_mid_run_is_said(driver: Path, tmp_path: Path) -> None:
    flags = ("--request-rate=5", "--scrape-server-metrics")
    (point,), said = run(tmp_path, *flags, LD_LIBRARY_PATH=str(driver), FAKE_LOST_MS="1500")
    assert point["telemetry"]["notices"] == ["GPU 1 (Small): GPU is lost"]
    assert said.count("GPU 1 (Small): GPU is lost") == 1


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has an NVIDIA driver")
def test_without_a_driver_a_line_says_so_once(tmp_path: Path) -> None:
    flags = ("--request-rates=5,10", "--scrape-server-metrics", "--sleep-seconds=0", "--benchmark-time-seconds=1")
    points, said = run(tmp_path, *flags)
    assert said.count("no GPU figures: no NVIDIA driver on this machine") == 1
    assert [point["telemetry"]["absent"] for point in points] == ["no NVIDIA driver on this machine"] * 2
    assert [point["telemetry"]["gpus"] for point in points] == [[], []]


def test_nobody_watches_who_was_not_asked_to(driver: Path, tmp_path: Path) -> None:
    run(tmp_path, "--request-rate=10", "--benchmark-time-seconds=1", LD_LIBRARY_PATH=str(driver))
    assert only_point(tmp_path)["telemetry"] is None


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


def test_which_addresses_are_this_machines(tmp_path: Path) -> None:
    assert is_local(socket.AF_INET, ("127.0.0.1", 8000))
    assert is_local(socket.AF_INET, ("127.8.9.10", 8000))
    assert is_local(socket.AF_INET, ("0.0.0.0", 8000))
    assert is_local(socket.AF_INET6, ("::1", 8000, 0, 0))
    assert not is_local(socket.AF_INET, ("192.0.2.7", 8000), tmp_path)  # RFC 5737: nobody's
    assert not is_local(socket.AF_INET6, ("2001:db8::7", 8000, 0, 0), tmp_path)  # RFC 3849


def test_an_address_of_a_card_of_this_machine(tmp_path: Path) -> None:
    address = own_address()
    assert is_local(socket.AF_INET, (address, 8000), tmp_path)
    setting = tmp_path / "proc/sys/net/ipv4/ip_nonlocal_bind"
    setting.parent.mkdir(parents=True)
    setting.write_text("1\n")
    assert not is_local(socket.AF_INET, (address, 8000), tmp_path), "then binding proves nothing"
    assert is_local(socket.AF_INET, ("127.0.0.1", 8000), tmp_path)


def machine(root: Path, busy_s: float, available_kb: int) -> None:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/stat").write_text(f"cpu  {round(busy_s * TICKS)} 0 0 999 0 0 0 0\ncpu0 1\ncpu1 1\n")
    (root / "proc/meminfo").write_text(f"MemTotal: 4096 kB\nMemAvailable: {available_kb} kB\nHugePages_Total: 7\n")


def test_the_cpus_and_the_memory_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path, 100.0, 2048)
    began = time.monotonic_ns()
    with monkeypatch.context() as rarely:
        rarely.setattr(host, "PERIOD_S", 60.0)  # a first sample and a last one, however long this takes
        sampler = HostSampler(tmp_path)
    until(lambda: sampler.readings(began, time.monotonic_ns()) is not None)
    time.sleep(0.6)
    machine(tmp_path, 100.3, 1024)
    sampler.stop()
    found = sampler.readings(began, time.monotonic_ns())
    assert found is not None
    assert (found.cpus, found.memory_bytes) == (2, 4096 << 10)
    assert found.memory_available_bytes == [2048 << 10, 1024 << 10]
    seconds = found.times_s[1] - found.times_s[0]
    assert found.cpu_busy == [None, pytest.approx(0.3 / (2 * seconds), abs=0.001)]


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    sampler = HostSampler(tmp_path)
    sampler.stop()
    assert sampler.readings(0, time.monotonic_ns()) is None
    assert memory(tmp_path) == {}


def test_a_tick_that_takes_long_is_followed_by_the_next_whole_one() -> None:
    times: list[int] = []

    def tick() -> None:
        times.append(time.monotonic_ns())
        if len(times) == 2:
            time.sleep(0.13)

    began = time.monotonic_ns()
    ticker = Ticker("test", 0.1, tick)
    time.sleep(1.0)
    assert ticker.stop()
    after = [(at - times[0]) / 1e8 for at in times]
    assert after[2] > 2.5, "the one at 2 was missed"
    assert 4 <= len(times) <= (time.monotonic_ns() - began) / 1e8 + 1, "and is not made up for"
    assert 0 < ticker.cpu_s < ticker.seconds


@pytest.mark.gpu
def test_a_real_gpu_beside_nvidia_smi() -> None:
    if shutil.which("nvidia-smi") is None:
        pytest.skip("no NVIDIA GPU here: no nvidia-smi")
    command = [sys.executable, "-m", "benchmarks.nvml", "--seconds=20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
