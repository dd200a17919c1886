"""benchmark_summary.csv: a row a run, appended by any number of runners at once."""

import csv
import fcntl
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from latency_profile.errors import StorageError
from latency_profile.hardware.summary import GpuSummary
from latency_profile.launch.structure import EngineRun

NAME = "benchmark_summary.csv"
MS_PER_S = 1000.0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The columns, in order. Times in s, memory in bytes. Over all requests of the run, as the compatibility metrics
    are, but for cost (of the measured window); of GPUs over all that were at work. None: there is no such number."""

    date: str
    backend: str
    model: str | None
    concurrency: int
    verdict: str
    requests: int | None
    succeeded: int | None
    failed: int | None
    duration_s: float | None
    requests_per_s: float | None
    output_tokens_per_s: float | None
    ttft_mean_s: float | None
    ttft_p99_s: float | None
    e2e_mean_s: float | None
    e2e_p99_s: float | None
    tpot_mean_s: float | None
    itl_p99_s: float | None
    gpus: int | None
    gpu_name: str | None
    gpu_utilization_mean: float | None
    gpu_memory_used_max_bytes: float | None
    gpu_power_mean_w: float | None
    gpu_temperature_max_c: float | None
    usd_per_million_output_tokens: float | None  # the machines' whole price over these tokens
    usd_per_million_total_tokens: float | None
    start_s: float | None
    reason: str | None
    file: str  # last: it shows that a line is whole


def row_of(run: EngineRun) -> Row:
    """The run's row."""
    flat = run.metrics
    counts = None if run.result is None else run.result.load.counts
    cost = None if run.result is None else run.result.cost

    def seconds(name: str) -> float | None:
        value: float | None = flat.get(f"{name}_ms")
        return None if value is None else value / MS_PER_S

    return Row(
        date=run.stem.removeprefix(f"{run.backend}_"),
        backend=run.backend,
        model=run.model,
        concurrency=run.concurrency,
        verdict=run.verdict,
        requests=counts.attempted if counts else None,
        succeeded=counts.succeeded if counts else None,
        failed=counts.failed if counts else None,
        duration_s=flat.get("benchmark_time"),
        requests_per_s=flat.get("throughput_rps"),
        output_tokens_per_s=flat.get("throughput"),
        ttft_mean_s=seconds("avg_TTFT"),
        ttft_p99_s=seconds("p99_TTFT"),
        e2e_mean_s=seconds("avg_latency"),
        e2e_p99_s=seconds("p99_latency"),
        tpot_mean_s=seconds("avg_TPOT"),
        itl_p99_s=seconds("p99_ITL"),
        **_gpu_columns(gpus_at_work(run)),
        usd_per_million_output_tokens=cost.usd_per_million_output_tokens if cost else None,
        usd_per_million_total_tokens=cost.usd_per_million_total_tokens if cost else None,
        start_s=run.start_s,
        reason=" ".join(run.reasons) or None,
        file=f"{run.stem}.json",
    )


def gpus_at_work(run: EngineRun) -> list[GpuSummary]:
    """The GPUs that worked while the run was measured; all of them where none is known to have."""
    telemetry = None if run.result is None else run.result.telemetry
    gpus = [] if telemetry is None else telemetry.gpus
    return [gpu for gpu in gpus if gpu.utilization and gpu.utilization.max] or gpus


def _gpu_columns(gpus: list[GpuSummary]) -> dict[str, Any]:
    names = sorted({gpu.name for gpu in gpus if gpu.name})
    used = [
        gpu.memory_used_bytes.max for gpu in gpus if gpu.memory_used_bytes and gpu.memory_used_bytes.max is not None
    ]
    busy = [gpu.utilization.mean for gpu in gpus if gpu.utilization and gpu.utilization.mean is not None]
    power = [gpu.power_w.mean for gpu in gpus if gpu.power_w and gpu.power_w.mean is not None]
    heat = [gpu.temperature_c.max for gpu in gpus if gpu.temperature_c and gpu.temperature_c.max is not None]
    return {
        "gpus": len(gpus) or None,
        "gpu_name": "; ".join(names) or None,
        "gpu_utilization_mean": sum(busy) / len(busy) if busy else None,
        # A sum that lacks one of them would be no sum of all.
        "gpu_memory_used_max_bytes": sum(used) if used and len(used) == len(gpus) else None,
        "gpu_power_mean_w": sum(power) if power and len(power) == len(gpus) else None,
        "gpu_temperature_max_c": max(heat, default=None),
    }


COLUMNS = Row.__struct_fields__


def append(folder: Path, row: Row) -> Path:
    """Adds the row, below a header where the file is new. Raises StorageError where it cannot, or where the file has
    another header.

    The file is locked (flock) meanwhile. A last line that a crash tore is taken away: what it said stands in its run's
    own file, which is written first.
    """
    path = folder / NAME
    try:
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            kept, begins = _sound(path, file.read())
            file.truncate(kept)
            file.write(begins + _line(["" if value is None else value for value in msgspec.structs.astuple(row)]))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def check(folder: Path) -> None:
    """Makes the folder where there is none. Raises StorageError where a row could not be added there."""
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if path.exists():
            with path.open("r+b") as file:
                _sound(path, file.read())
    except OSError as error:
        raise StorageError(f"cannot write into {folder}: {error.strerror or error}") from error


def _sound(path: Path, content: bytes) -> tuple[int, bytes]:
    """How many of the bytes to keep, and what a new row begins with."""
    header = _line(COLUMNS)
    if header.startswith(content):  # nothing, a torn header, or the whole of it and no row
        return 0, header
    if not content.startswith(header):
        raise StorageError(f"{path} begins with another line of columns than this version writes: move it away")
    if content.endswith(b"\n"):
        return len(content), b""
    torn_from = content.rfind(b"\n") + 1
    last = next(_cells(content[torn_from:]), [])
    if len(last) == len(COLUMNS) and last[-1].endswith(".json"):  # whole: an editor left the line's end out
        return len(content), b"\n"
    return torn_from, b""


def _line(cells: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([" ".join(str(cell).split()) for cell in cells])
    return text.getvalue().encode()


def _cells(line: bytes) -> Iterator[list[str]]:
    return iter(csv.reader([line.decode(errors="replace")]))
