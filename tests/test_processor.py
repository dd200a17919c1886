"""The CPU over a point: what is read, and what is left when one reading is taken from the next."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latency_profile.telemetry import processor
from latency_profile.telemetry.cgroup import Cgroup, Level
from latency_profile.telemetry.processor import MachineTime, ProcessorReading, between, machine_time, waited_ns

SECOND = 1_000_000_000
TICKS = os.sysconf("SC_CLK_TCK")


def reading(at_s: float, *levels: Level, usage_s: float | None = None, **changes: object) -> ProcessorReading:
    values = {
        "at_ns": round(at_s * SECOND),
        "cpus": 4,
        "parent_cpu_ns": round(at_s * SECOND / 100),
        "cgroup": Cgroup("v2", levels, None if usage_s is None else round(usage_s * SECOND)),
        "machine": None,
        "waited_ns": (),
    }
    return ProcessorReading(**(values | changes))  # type: ignore[arg-type]


def test_counters_are_of_the_point_alone() -> None:
    before = reading(100, Level("/a", 0.5, 1000, 900, 90 * SECOND), usage_s=50, waited_ns=(5 * SECOND, 0))
    after = reading(110, Level("/a", 0.5, 1100, 925, 92 * SECOND), usage_s=53, waited_ns=(6 * SECOND, SECOND // 2))
    use = between(before, after)
    assert (use.seconds, use.cpus, use.cgroup, use.limit_cores) == (10.0, 4, "v2", 0.5)
    assert (use.periods, use.throttled_periods, use.throttled_s) == (100, 25, 2.0)
    assert use.cgroup_cpu_s == 3.0
    assert use.parent_cpu_s == pytest.approx(0.1)
    assert use.waited_s == [1.0, 0.5]


def test_the_level_that_was_throttled_most() -> None:
    before = reading(0, Level("/a/b", 1.0, 10, 9, 9), Level("/a", 2.0, 10, 0, 0))
    after = reading(10, Level("/a/b", 1.0, 20, 10, 9 + SECOND), Level("/a", 2.0, 30, 15, 3 * SECOND))
    use = between(before, after)
    assert (use.periods, use.throttled_periods, use.throttled_s) == (20, 15, 3.0)
    assert use.limit_cores == 1.0


def test_the_machine_and_what_was_stolen_from_it() -> None:
    before = reading(0, machine=MachineTime(2, 1000.0, 7.0))
    after = reading(10, machine=MachineTime(2, 1015.0, 8.5))
    use = between(before, after)
    assert (use.machine_cpus, use.machine_cpu_s, use.stolen_s) == (2, 15.0, 1.5)


def test_what_is_not_known_is_none() -> None:
    use = between(
        reading(0, cgroup=Cgroup(None), waited_ns=(3, None)), reading(10, cgroup=Cgroup(None), waited_ns=(4, 1))
    )
    assert use.cgroup is use.limit_cores is use.cgroup_cpu_s is use.stolen_s is use.waited_s is None
    assert (use.periods, use.throttled_periods) == (0, 0)


def test_a_machines_time(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    numbers = [1000, 200, 300, 9000, 400, 10, 20, 50, 999, 0]  # user nice system idle iowait irq softirq steal guest …
    lines = ["cpu  " + " ".join(str(number * TICKS) for number in numbers), "cpu0 1", "cpu1 1", "intr 5"]
    (tmp_path / "proc/stat").write_text("\n".join(lines))
    assert machine_time(tmp_path) == MachineTime(2, 1000 + 200 + 300 + 10 + 20, 50)


@pytest.mark.parametrize("text", ["", "cpu", "cpu 1 2 3", "cpu a b c d e f g h", "intr 4"])
def test_a_sandbox_without_a_machines_time(tmp_path: Path, text: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(text)
    assert machine_time(tmp_path) is None
    assert machine_time(tmp_path / "nowhere") is None


def test_a_process_that_has_to_share_a_cpu_waited_for_it() -> None:
    """Two that compute on one CPU: each waits about as long as it runs."""
    cpu = min(os.sched_getaffinity(0))
    spin = f"import os; os.sched_setaffinity(0, [{cpu}]); print(flush=True)\nwhile True: pass"
    both = [subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in both:
            assert process.stdout and process.stdout.readline() == b"\n", "it computes from now on"
        pids = [process.pid for process in both]
        if waited_ns(Path("/"), pids[0]) is None:
            pytest.skip("this kernel has no schedstat")
        before = processor.read(time.monotonic_ns(), 0, pids)
        time.sleep(1.0)
        use = between(before, processor.read(time.monotonic_ns(), 0, pids))
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert use.waited_s is not None
    assert sum(use.waited_s) > 0.7 * use.seconds
    assert use.machine_cpu_s is not None and use.stolen_s is not None
    assert use.machine_cpu_s + use.stolen_s > 0.7 * use.seconds, "a host that takes the CPU away says so"


def test_a_process_that_has_ended_does_not_matter() -> None:
    assert waited_ns(Path("/"), 2**22 + 1) is None
