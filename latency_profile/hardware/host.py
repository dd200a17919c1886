"""CPUs and memory of this machine, once a second, from Linux' /proc."""

import time
from itertools import pairwise
from pathlib import Path

from latency_profile.hardware.structure import HostReadings
from latency_profile.hardware.ticker import NS, Ticker
from latency_profile.telemetry.processor import MachineTime, machine_time

PERIOD_S = 1.0
_KIB = 1024

Row = tuple[int, MachineTime | None, int | None]  # monotonic ns, the CPUs' counters, available memory in bytes


class HostSampler:
    """Reads them from its making until `stop`, in a thread of its own."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._rows: list[Row] = []
        self._memory_bytes = memory(root).get("MemTotal")
        self._ticker = Ticker("host", PERIOD_S, self._sample)

    def stop(self) -> None:
        """Takes a last sample."""
        self._ticker.stop()

    def readings(self, start_ns: int, until_ns: int) -> HostReadings | None:
        """The samples from just before `start_ns` until just after `until_ns`, monotonic. None where the system does
        not tell."""
        rows = [row for row in self._rows if start_ns - PERIOD_S * NS <= row[0] <= until_ns + PERIOD_S * NS]
        if not rows or rows[0][1] is None:
            return None
        return HostReadings(
            cpus=rows[0][1].cpus,
            memory_bytes=self._memory_bytes,
            times_s=[round((row[0] - start_ns) / NS, 6) for row in rows],
            cpu_busy=[None, *(_busy(before, after) for before, after in pairwise(rows))],
            memory_available_bytes=[row[2] for row in rows],
        )

    def _sample(self) -> None:
        self._rows.append((time.monotonic_ns(), machine_time(self._root), memory(self._root).get("MemAvailable")))


def memory(root: Path) -> dict[str, int]:
    """/proc/meminfo, in bytes; empty where it is missing."""
    try:
        lines = [line.split() for line in (root / "proc/meminfo").read_text().splitlines()]
        return {line[0].rstrip(":"): int(line[1]) * _KIB for line in lines if len(line) == 3 and line[2] == "kB"}
    except (OSError, ValueError):
        return {}


def _busy(before: Row, after: Row) -> float | None:
    """Share of all CPUs' time from one row to the next; None of a short rest at the end, as the counters are of 10 ms,
    by which it may also come out above 1."""
    seconds = (after[0] - before[0]) / NS
    if before[1] is None or after[1] is None or seconds < PERIOD_S / 2:
        return None
    return round(min(1.0, max(0.0, (after[1].busy_s - before[1].busy_s) / (after[1].cpus * seconds))), 4)
