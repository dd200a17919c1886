"""The GPU sampler beside nvidia-smi: `python -m benchmarks.nvml --seconds 30`, on a machine with an NVIDIA GPU.

Both read the same card at the same time. Each line of nvidia-smi, one a second, is held against the sampler's values
from BESIDE_S before it until BESIDE_S after it: what moves between two readings lies between them, and what does not is
the same. A quantity agrees where its distance from these values is within nvidia-smi's resolution in AGREEING_SHARE of
the lines. The sampler's own CPU is held against 1 % of a core. The exit code is 1 where either is beyond.

With `--load` a process multiplies matrices meanwhile, where torch can be imported. Nothing but Python, pynvml and
nvidia-smi is needed.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

from latency_profile.hardware.nvml import QUANTITIES, Gpus, NoGpus, Sampler
from latency_profile.hardware.structure import GpuReadings

NS = 1_000_000_000
MIB = 1 << 20
LIMIT_CORES = 0.01
BESIDE_S = 0.3
AGREEING_SHARE = 0.95
QUESTIONS = 50  # to find what one costs
LOAD_WARMUP_S = 5.0
LOAD = """
import torch
a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
print("ready", flush=True)
while True:
    for _ in range(50):
        a @ b
    torch.cuda.synchronize()
"""


@dataclass(frozen=True)
class Column:
    """One quantity, as both have it."""

    query: str  # nvidia-smi's name
    series: str  # of GpuReadings
    per_unit: float  # of the sampler's value in nvidia-smi's unit
    resolution: float  # of nvidia-smi, in its unit


COLUMNS = (
    Column("utilization.gpu", "utilization", 0.01, 1),
    Column("memory.used", "memory_used_bytes", MIB, 1),
    Column("power.draw", "power_w", 1, 0.01),
    Column("temperature.gpu", "temperature_c", 1, 1),
    Column("clocks.sm", "sm_clock_mhz", 1, 1),
    Column("clocks.mem", "memory_clock_mhz", 1, 1),
)


@dataclass(frozen=True)
class Line:
    """One line of nvidia-smi."""

    gpu: int
    unix_s: float
    values: tuple[float | None, ...]  # in the order of COLUMNS; None: it does not know


@dataclass(frozen=True)
class Agreement:
    """One quantity of one GPU over all lines."""

    column: Column
    gpu: int
    lines: int
    smi_mean: float
    nearest_mean: float  # of the samples that are nearest in time, in nvidia-smi's unit
    agreeing: int  # lines
    furthest: float  # the largest distance from the samples beside a line

    @property
    def agrees(self) -> bool:
        return self.agreeing >= AGREEING_SHARE * self.lines


def parse(text: str) -> Line:
    """A line of nvidia-smi's CSV, without header and units: timestamp, index, COLUMNS."""
    stamp, index, *values = (part.strip() for part in text.split(","))
    return Line(
        gpu=int(index),
        unix_s=datetime.strptime(stamp, "%Y/%m/%d %H:%M:%S.%f").timestamp(),
        values=tuple(_number(value) for value in values),
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]", "[Not Supported]"
        return None


def compare(lines: Sequence[Line], gpus: Sequence[GpuReadings], start_unix_s: float) -> list[Agreement]:
    """Each quantity that both know. start_unix_s: where the readings' times begin."""
    found = []
    for gpu in gpus:
        for place, column in enumerate(COLUMNS):
            series = getattr(gpu, column.series)
            pairs = [
                (value, at, beside)
                for line in lines
                if line.gpu == gpu.index and (value := line.values[place]) is not None and series is not None
                if (beside := _beside(gpu.times_s, series, at := line.unix_s - start_unix_s, column.per_unit))
            ]
            if not pairs:
                continue
            apart = [_distance(value, [sample for _, sample in beside]) for value, _, beside in pairs]
            nearest = [min(beside, key=lambda sample: abs(sample[0] - at))[1] for _, at, beside in pairs]
            # Two roundings of one number may be a whole step apart, and the sum of their floats a little more.
            agreeing = sum(distance <= column.resolution * 1.000001 for distance in apart)
            smi = fmean(value for value, _, _ in pairs)
            found.append(Agreement(column, gpu.index, len(pairs), smi, fmean(nearest), agreeing, max(apart)))
    return found


def _beside(
    times_s: Sequence[float], series: Sequence[float | None], at: float, per_unit: float
) -> list[tuple[float, float]]:
    """(time, value in nvidia-smi's unit) of the samples about a moment."""
    pairs = zip(times_s, series, strict=True)
    return [(time_s, value / per_unit) for time_s, value in pairs if abs(time_s - at) <= BESIDE_S and value is not None]


def _distance(value: float, samples: Sequence[float]) -> float:
    return max(0.0, min(samples) - value, value - max(samples))


@contextmanager
def load() -> Iterator[None]:
    """Keeps the first GPU busy. Raises SystemExit where torch cannot do that."""
    with subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        if process.stdout.readline().strip() != "ready":
            raise SystemExit("--load: torch does not run on a GPU here (see above)")
        try:
            time.sleep(LOAD_WARMUP_S)
            yield
        finally:
            process.kill()


def watch(seconds: float, gpus: Gpus) -> tuple[list[Line], list[GpuReadings], float, Sampler]:
    """Both at once: nvidia-smi's lines, the sampler's readings, when these begin (Unix time), and the sampler."""
    names = ",".join(column.query for column in COLUMNS)
    command = ["nvidia-smi", f"--query-gpu=timestamp,index,{names}", "--format=csv,noheader,nounits", "-lms", "1000"]
    if shutil.which("stdbuf"):  # into a pipe it may keep its lines to itself, and lose them when it is stopped
        command = ["stdbuf", "-oL", *command]
    sampler = Sampler(gpus)
    start_unix_s, start_ns = time.time(), time.monotonic_ns()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=10)[0]
    sampler.stop()
    lines = [parse(line) for line in text.splitlines() if line.count(",") == len(COLUMNS) + 1]
    return lines, sampler.readings(start_ns, time.monotonic_ns()), start_unix_s, sampler


def costs(gpus: Gpus) -> dict[str, float]:
    """CPU of one question of each quantity to the first GPU, µs; what it does not know is left out."""
    handle = gpus.gpus[0].handle
    found = {}
    for name, asks in zip(QUANTITIES, gpus.asks(), strict=True):
        for ask in asks:
            began = time.thread_time()
            try:
                for _ in range(QUESTIONS):
                    ask(handle)
            except gpus.nvml.NVMLError:
                continue
            found[name] = (time.thread_time() - began) / QUESTIONS * 1e6
            break
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=30, help="how long both read (default: 30)")
    parser.add_argument("--load", action="store_true", help="keep the first GPU busy meanwhile; needs torch")
    options = parser.parse_args()
    try:
        gpus = Gpus()
    except NoGpus as error:
        print(f"no GPU figures: {error}", file=sys.stderr)
        return 1
    with load() if options.load else nullcontext():
        lines, readings, start_unix_s, sampler = watch(options.seconds, gpus)
        took = costs(gpus)
    agreements = compare(lines, readings, start_unix_s)
    print("| GPU | quantity | lines | nvidia-smi, mean | sampler, mean | apart | resolution | furthest | within |")
    print("|---|---|---|---|---|---|---|---|---|")
    for one in agreements:
        print(
            f"| {one.gpu} | {one.column.query} | {one.lines} | {one.smi_mean:,.2f} | {one.nearest_mean:,.2f} | "
            f"{one.nearest_mean - one.smi_mean:+.3f} | {one.column.resolution:g} | {one.furthest:.3f} | "
            f"{one.agreeing} of {one.lines}{'' if one.agrees else ': BEYOND'} |"
        )
    share = sampler.cpu_s / sampler.seconds
    print(f"\n{', '.join(str(gpu) for gpu in gpus.gpus)}; driver {gpus.gpus[0].driver}")
    samples = min(len(gpu.times_s) for gpu in readings)
    print(f"{samples} samples of each GPU in {sampler.seconds:.1f} s: {share:.2%} of a core (limit {LIMIT_CORES:.0%})")
    print("CPU of one question, µs: " + ", ".join(f"{name} {cost:.0f}" for name, cost in took.items()))
    for notice in sampler.notices:
        print(notice)
    if not agreements:
        print("nvidia-smi and the sampler have nothing in common", file=sys.stderr)
    return 0 if agreements and share <= LIMIT_CORES and all(one.agrees for one in agreements) else 1


if __name__ == "__main__":
    sys.exit(main())
