"""From a machine's samples to the results: each quantity over the window, energy a token, throttling. Pure."""

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from latency_profile.hardware.structure import GpuReadings, HardwareReadings, HostReadings, Source, TpuReadings
from latency_profile.measures import Window, all_rows
from latency_profile.rates import rates_in
from latency_profile.records import Records
from latency_profile.statistics import NS_PER_S, Summary, quantile, summarize

# nvmlClocksEventReasons that are throttling: the card would run faster, and may not. The others are no throttling: idle
# (0x1), clocks that somebody set (0x2), a group of cards that keep step (0x10), the display (0x100).
THROTTLING = {
    0x04: "sw_power_cap",
    0x08: "hw_slowdown",  # heat, a power brake, or a supply that gave way; 0x40 or 0x80 come with it where it is known
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x200: "board_limit",  # by older drivers only
    0x400: "reliability",
}
FEWEST_SAMPLES = 2
# A point may end a little before its window does; what is read over less than this of a stretch is not told of it.
COVERED_SHARE = 0.95
# What an edge of the stretch lies between: so much of the stretch, or the distance of NVML's samples of the counter.
# An exporter repeats a value for up to half a minute; where it stood at the edge is then not known.
WIDEST_EDGE_SHARE = 0.1
WIDEST_EDGE_S = 2.5

Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]
Samples = NDArray[np.float64]


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class Gauge(Summary, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A summary of the samples inside the window."""

    p95: Annotated[float | None, Meta(description="interpolated linearly between order statistics")]


class GpuSummary(_Whole, frozen=True, kw_only=True):
    """One GPU over the window. null: the card or its driver does not tell, or fewer than two samples fell into it."""

    index: Annotated[int, Meta(ge=0, description="nvidia-smi's number, which CUDA may count otherwise")]
    uuid: str | None
    name: str | None
    driver: str | None
    memory_bytes: int | None
    power_limit_w: Annotated[float | None, Meta(description="the limit in force")]
    samples: Annotated[int, Meta(ge=0, description="inside the window")]
    utilization: Annotated[Gauge | None, Meta(description="share of the time in which any kernel ran")]
    memory_used_bytes: Annotated[Gauge | None, Meta(description="as nvidia-smi has it, without the driver's reserve")]
    power_w: Annotated[
        Gauge | None, Meta(description="of the whole board; a mean over 1 s by the driver, on Ampere and newer")
    ]
    temperature_c: Gauge | None
    sm_clock_mhz: Gauge | None
    memory_clock_mhz: Gauge | None
    energy_j: Annotated[Amount | None, Meta(description="over the window")]
    energy_by: Annotated[str | None, Meta(description="counter: the card's own; power: the samples of it, added up")]
    throttled_share: Annotated[Share | None, Meta(description="of the samples: held below the clocks it could run at")]
    throttled_by: Annotated[
        dict[str, Share] | None,
        Meta(description="the same by NVML's reason, those that occurred; several may hold at once"),
    ]


class TpuSummary(_Whole, frozen=True, kw_only=True):
    """One chip over the window, of samples a minute apart. null: not told, or fewer than two samples fell into it."""

    accelerator: str | None
    name: str | None
    pod: str | None
    samples: Annotated[int, Meta(ge=0, description="inside the window")]
    duty_cycle: Annotated[Gauge | None, Meta(description="share of the time in which anything ran")]
    tensorcore_utilization: Annotated[Gauge | None, Meta(description="share of the peak rate of matrix operations")]
    memory_bandwidth_utilization: Gauge | None
    memory_used_bytes: Gauge | None
    memory_total_bytes: Gauge | None


class EnergyUse(_Whole, frozen=True, kw_only=True):
    """Of all GPUs and all models together, from window.rates_start_s to window.end_s."""

    energy_j: Annotated[Amount | None, Meta(description="null where a GPU does not tell")]
    mean_power_w: Amount | None
    joules_per_output_token: Annotated[
        Amount | None,
        Meta(description="null where there were none, where the verdict bars it, and where no GPU was ever at work"),
    ]
    output_tokens_per_s_per_w: Annotated[Amount | None, Meta(description="its reciprocal, tokens per joule")]


class HostSummary(_Whole, frozen=True, kw_only=True):
    """The client's machine over the window; in a container mostly its host."""

    server_here: Annotated[bool, Meta(description="whether the server is on this machine too")]
    cpus: Annotated[int, Meta(ge=1)]
    memory_bytes: int | None
    cpu_busy: Annotated[Gauge | None, Meta(description="share of all CPUs, by whomever, from second to second")]
    memory_available_bytes: Gauge | None


class Telemetry(_Whole, frozen=True, kw_only=True):
    """The machines while the point ran."""

    source: Annotated[Source | None, Meta(description="who told of the accelerators: this machine, or exporters")]
    gpus: list[GpuSummary]
    tpus: list[TpuSummary]
    absent: Annotated[str | None, Meta(description="why there are no GPUs, in a line")]
    energy: Annotated[EnergyUse | None, Meta(description="null without GPUs, and where the window has no length")]
    host: Annotated[HostSummary | None, Meta(description="null where the system does not tell")]
    sampler_core_share: Annotated[
        Amount | None, Meta(description="CPU that sampling the GPUs took, as a share of one core")
    ]
    notices: Annotated[list[str], Meta(description="what is special about single accelerators")]


class Throttling(msgspec.Struct, frozen=True):
    """share: of the samples with any reason of THROTTLING; by: of each that occurred, the commonest first; samples:
    how many there were."""

    share: float
    samples: int
    by: dict[str, float]


def telemetry(records: Records, span: Window, usable: bool) -> Telemetry | None:
    """Of a point; None where nothing was watched. usable: whether the verdict lets its numbers be used."""
    readings = records.context.hardware
    if readings is None:
        return None
    start_s, end_s = span.start_ns / NS_PER_S, span.end_ns / NS_PER_S
    filled = span.filled
    rates = rates_in(records, all_rows(records), filled) if readings.gpus else None
    energy = None
    if rates is not None:
        tokens_per_s = rates.output_tokens if usable else None
        energy = energy_use(readings.gpus, filled.start_ns / NS_PER_S, filled.end_ns / NS_PER_S, tokens_per_s)
    took_s, seconds = readings.sampling_cpu_s, readings.sampling_s
    resting = sum(_all_idle([gpu], start_s, end_s) for gpu in readings.gpus)
    idle = f"{resting} of {len(readings.gpus)} GPUs were never at work: energy and joules a token count them too"
    return Telemetry(
        source=readings.source,
        gpus=[gpu_summary(gpu, start_s, end_s) for gpu in readings.gpus],
        tpus=[tpu_summary(tpu, start_s, end_s) for tpu in readings.tpus],
        absent=readings.absent,
        energy=energy,
        host=host_summary(readings, start_s, end_s),
        sampler_core_share=took_s / seconds if took_s is not None and seconds else None,
        notices=[*readings.notices, *([idle] if 0 < resting < len(readings.gpus) else [])],
    )


def gpu_summary(gpu: GpuReadings, start_s: float, end_s: float) -> GpuSummary:
    """One GPU from start_s to end_s, since the point's start."""

    def over(series: Sequence[float | None] | None) -> Gauge | None:
        return gauge(_inside(gpu.times_s, series, start_s, end_s))

    energy = energy_j(gpu, start_s, end_s)
    found = throttling(gpu, start_s, end_s)
    times = np.asarray(gpu.times_s)
    return GpuSummary(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        driver=gpu.driver,
        memory_bytes=gpu.memory_bytes,
        power_limit_w=gpu.power_limit_w,
        samples=int(((times >= start_s) & (times <= end_s)).sum()),
        utilization=over(gpu.utilization),
        memory_used_bytes=over(gpu.memory_used_bytes),
        power_w=over(gpu.power_w),
        temperature_c=over(gpu.temperature_c),
        sm_clock_mhz=over(gpu.sm_clock_mhz),
        memory_clock_mhz=over(gpu.memory_clock_mhz),
        energy_j=None if energy is None else energy[0],
        energy_by=None if energy is None else energy[1],
        throttled_share=None if found is None else found.share,
        throttled_by=None if found is None else found.by,
    )


def mean_utilization(gpus: Sequence[GpuSummary]) -> float | None:
    """Over the GPUs that tell it, 0 to 1; None where none does."""
    means = [gpu.utilization.mean for gpu in gpus if gpu.utilization and gpu.utilization.mean is not None]
    return math.fsum(means) / len(means) if means else None


def tpu_summary(tpu: TpuReadings, start_s: float, end_s: float) -> TpuSummary:
    """One chip from start_s to end_s, since the point's start."""

    def over(series: Sequence[float | None] | None) -> Gauge | None:
        return gauge(_inside(tpu.times_s, series, start_s, end_s))

    return TpuSummary(
        accelerator=tpu.accelerator,
        name=tpu.name,
        pod=tpu.pod,
        samples=sum(start_s <= at <= end_s for at in tpu.times_s),
        duty_cycle=over(tpu.duty_cycle),
        tensorcore_utilization=over(tpu.tensorcore_utilization),
        memory_bandwidth_utilization=over(tpu.memory_bandwidth_utilization),
        memory_used_bytes=over(tpu.memory_used_bytes),
        memory_total_bytes=over(tpu.memory_total_bytes),
    )


def host_summary(readings: HardwareReadings, start_s: float, end_s: float) -> HostSummary | None:
    host: HostReadings | None = readings.host
    if host is None:
        return None
    return HostSummary(
        server_here=readings.server_here,
        cpus=host.cpus,
        memory_bytes=host.memory_bytes,
        cpu_busy=gauge(_inside(host.times_s, host.cpu_busy, start_s, end_s)),
        memory_available_bytes=gauge(_inside(host.times_s, host.memory_available_bytes, start_s, end_s)),
    )


def gauge(values: Samples) -> Gauge | None:
    """None of fewer than two values: one says nothing of a stretch of time."""
    if len(values) < FEWEST_SAMPLES:
        return None
    return Gauge(**msgspec.structs.asdict(summarize(values)), p95=quantile(np.sort(values), 0.95))


def throttling(gpu: GpuReadings, start_s: float, end_s: float) -> Throttling | None:
    """How much of the samples from start_s to end_s was throttled, and by what; None of fewer than two samples."""
    reasons = _inside(gpu.times_s, gpu.clock_reasons, start_s, end_s).astype(np.int64)
    if len(reasons) < FEWEST_SAMPLES:
        return None
    shares = {name: float(((reasons & bit) != 0).mean()) for bit, name in THROTTLING.items()}
    by = sorted(((name, share) for name, share in shares.items() if share > 0), key=lambda pair: -pair[1])
    return Throttling(float(((reasons & sum(THROTTLING)) != 0).mean()), len(reasons), dict(by))


def energy_use(gpus: Sequence[GpuReadings], start_s: float, end_s: float, tokens_per_s: float | None) -> EnergyUse:
    """What all GPUs took from start_s to end_s, a stretch of some length, and what came of it. tokens_per_s: of output,
    over the same stretch; None where it must not be used.

    GPUs that are all known to have stood still did not make these tokens: what passes requests on from a local address
    looks like a server on this machine.
    """
    parts = [part[0] for gpu in gpus if (part := energy_j(gpu, start_s, end_s)) is not None]
    energy = math.fsum(parts) if parts and len(parts) == len(gpus) else None
    power = None if energy is None else energy / (end_s - start_s)
    tokens_per_joule = None
    if power and tokens_per_s and not _all_idle(gpus, start_s, end_s):
        tokens_per_joule = tokens_per_s / power
    return EnergyUse(
        energy_j=energy,
        mean_power_w=power,
        joules_per_output_token=1 / tokens_per_joule if tokens_per_joule else None,
        output_tokens_per_s_per_w=tokens_per_joule,
    )


def energy_j(gpu: GpuReadings, start_s: float, end_s: float) -> tuple[float, str] | None:
    """Joules from start_s to end_s, and what they are from: the card's counter, taken between two samples at both edges
    (one at least in between; it is read every 2 s), or else the power, by trapezoids.

    Where the samples end a little before end_s, the rest is taken to be as what was read. None where they miss more
    than 1 - COVERED_SHARE of the stretch, fewer than two fall into it, or an edge lies between two that are far apart.
    """
    if sum(start_s <= at <= end_s for at in gpu.times_s) < FEWEST_SAMPLES:
        return None
    for series, by, fewest in ((gpu.energy_j, "counter", 1), (gpu.power_w, "power", FEWEST_SAMPLES)):
        times, values = _known(gpu.times_s, series)
        inside = (times >= start_s) & (times <= end_s)
        if inside.sum() < fewest:
            continue
        first, last = max(start_s, float(times[0])), min(end_s, float(times[-1]))
        if last - first < COVERED_SHARE * (end_s - start_s):
            continue
        read = times[np.insert(np.diff(values) != 0, 0, True)] if by == "counter" else times
        if max(_between(read, start_s), _between(read, end_s)) > max(
            WIDEST_EDGE_S, WIDEST_EDGE_SHARE * (end_s - start_s)
        ):
            continue
        at = np.concatenate(([first], times[inside], [last]))
        there = np.interp(at, times, values)
        steps = np.diff(there) if by == "counter" else (there[1:] + there[:-1]) / 2 * np.diff(at)
        if (steps < 0).any():  # the counter began anew
            continue
        return float(steps.sum()) * (end_s - start_s) / (last - first), by
    return None


def _between(times: Samples, at_s: float) -> float:
    """How far apart the samples before and after a moment are; 0 at a sample, and where there is none on one side."""
    before, after = times[times <= at_s], times[times >= at_s]
    return float(after[0] - before[-1]) if len(before) and len(after) else 0.0


def _all_idle(gpus: Sequence[GpuReadings], start_s: float, end_s: float) -> bool:
    busy = [_inside(gpu.times_s, gpu.utilization, start_s, end_s) for gpu in gpus]
    return all(len(values) and not values.any() for values in busy)


def _inside(times_s: Sequence[float], series: Sequence[float | None] | None, start_s: float, end_s: float) -> Samples:
    times, values = _known(times_s, series)
    return values[(times >= start_s) & (times <= end_s)]


def _known(times_s: Sequence[float], series: Sequence[float | None] | None) -> tuple[Samples, Samples]:
    """Times and values of the samples that were had."""
    values = np.array([] if series is None else series, dtype=np.float64)  # None becomes NaN
    there = ~np.isnan(values)
    return np.asarray(times_s, dtype=np.float64)[: len(values)][there], values[there]
