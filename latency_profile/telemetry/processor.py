"""The CPU that the client has, and what kept it from it, over one point: read before and after, and subtracted.

`read` tells what it finds on Linux; elsewhere, and in sandboxes, most of it is None.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from latency_profile.telemetry.cgroup import Cgroup, read_cgroup

NS_PER_S = 1e9
_STOLEN = 7  # columns of /proc/stat (proc_stat(5)): user nice system idle iowait irq softirq steal …
_BUSY = (0, 1, 2, 5, 6)


class ProcessorUse(msgspec.Struct, frozen=True, kw_only=True):
    """Of one point. None where the system does not say."""

    seconds: float  # between the two readings
    cpus: int  # that this process may run on
    cgroup: str | None  # "v1" or "v2"; None: none that accounts for CPU
    limit_cores: float | None  # the tightest quota of this process's groups; None: no limit
    periods: int  # of the group that was throttled most: accounting periods in which it had something to run
    throttled_periods: int  # in which it used up its quota
    throttled_s: float  # summed over CPUs
    cgroup_cpu_s: float | None  # of everything in this process's own group
    parent_cpu_s: float  # of the process that watches the senders
    waited_s: list[float] | None  # by sender process: it could run, and others had the CPUs
    stolen_s: float | None  # that the hypervisor gave to others, summed over the machine's CPUs
    machine_cpu_s: float | None  # that the whole machine used
    machine_cpus: int | None


class MachineTime(msgspec.Struct, frozen=True):
    """Since the machine started, summed over its CPUs."""

    cpus: int
    busy_s: float
    stolen_s: float


@dataclass(frozen=True, slots=True)
class ProcessorReading:
    """Counters at one moment."""

    at_ns: int  # monotonic
    cpus: int
    parent_cpu_ns: int
    cgroup: Cgroup
    machine: MachineTime | None
    waited_ns: tuple[int | None, ...]


def read(at_ns: int, parent_cpu_ns: int, senders: Sequence[int], root: Path = Path("/")) -> ProcessorReading:
    """Everything as it is now. at_ns: the clock; parent_cpu_ns: of this process; senders: their process ids."""
    return ProcessorReading(
        at_ns=at_ns,
        cpus=_cpus(),
        parent_cpu_ns=parent_cpu_ns,
        cgroup=read_cgroup(root),
        machine=machine_time(root),
        waited_ns=tuple(waited_ns(root, pid) for pid in senders),
    )


def between(before: ProcessorReading, after: ProcessorReading) -> ProcessorUse:
    """What happened from one reading to the next."""
    earlier = {level.folder: level for level in before.cgroup.levels}
    deltas = [
        (
            level.throttled_periods - earlier[level.folder].throttled_periods,
            level.periods - earlier[level.folder].periods,
            level.throttled_ns - earlier[level.folder].throttled_ns,
        )
        for level in after.cgroup.levels
        if level.folder in earlier
    ]
    throttled, periods, throttled_ns = max(deltas, default=(0, 0, 0))
    usage = before.cgroup.usage_ns, after.cgroup.usage_ns
    waited = [
        (now - then) / NS_PER_S
        for then, now in zip(before.waited_ns, after.waited_ns, strict=True)
        if then is not None and now is not None
    ]
    machine = (before.machine, after.machine) if before.machine and after.machine else None
    return ProcessorUse(
        seconds=(after.at_ns - before.at_ns) / NS_PER_S,
        cpus=after.cpus,
        cgroup=after.cgroup.version,
        limit_cores=after.cgroup.limit_cores,
        periods=periods,
        throttled_periods=throttled,
        throttled_s=throttled_ns / NS_PER_S,
        cgroup_cpu_s=None if usage[0] is None or usage[1] is None else (usage[1] - usage[0]) / NS_PER_S,
        parent_cpu_s=(after.parent_cpu_ns - before.parent_cpu_ns) / NS_PER_S,
        waited_s=waited if len(waited) == len(after.waited_ns) else None,
        stolen_s=machine[1].stolen_s - machine[0].stolen_s if machine else None,
        machine_cpu_s=machine[1].busy_s - machine[0].busy_s if machine else None,
        machine_cpus=machine[1].cpus if machine else None,
    )


def machine_time(root: Path) -> MachineTime | None:
    """From /proc/stat. In a container that is mostly the host's; None where it is missing or empty."""
    try:
        lines = [line.split() for line in (root / "proc/stat").read_text().splitlines()]
        per_s = os.sysconf("SC_CLK_TCK")
        ticks = next([int(number) for number in line[1:]] for line in lines if line and line[0] == "cpu")
        cpus = sum(line[0].startswith("cpu") for line in lines if line) - 1
        return MachineTime(cpus, sum(ticks[column] for column in _BUSY) / per_s, ticks[_STOLEN] / per_s)
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def waited_ns(root: Path, pid: int) -> int | None:
    """How long a process of one thread could have run and did not: the second number of its schedstat
    (Linux, Documentation/scheduler/sched-stats.rst)."""
    try:
        return int((root / f"proc/{pid}/schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
