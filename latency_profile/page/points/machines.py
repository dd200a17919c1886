"""What the server and the machines told while a point ran, over its time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from latency_profile.hardware.structure import HardwareReadings
from latency_profile.page.figure import Figure, TextTable
from latency_profile.page.numbers import NOTHING, share, text
from latency_profile.page.points.bins import Bins, Readings, bins_over, length_text, over_time
from latency_profile.page.points.point import Point
from latency_profile.page.section import Named, Section
from latency_profile.statistics import NS_PER_S
from latency_profile.telemetry.vocabulary import Quantity

SERVER, MACHINES = "What the server said", "The machines"
SERIES = 2.5  # with more of them, as of many GPUs, fewer steps are drawn of each
GIB = 2**30
Levels = Sequence[float | None]
Read = tuple[Sequence[float], Levels]  # times, s since the point's start, and what was read then
READINGS_A_BIN = 1.5  # so that a step between two readings is not empty by chance


def server_part(point: Point) -> Section:
    """Of its metrics: gauges over time, by the first source that read them; exact ones come first."""
    readings: list[dict[str, Any]] = point.at("server", "readings") or []
    found = next((each for each in readings if each["gauges"]), None)
    if found is None:
        return Section(heading=SERVER, sentences=("No metrics of the server were read over this point.",))
    series, times = found["series"]["gauges"], found["series"]["times_s"]
    known = {Quantity.RUNNING.value: "running", Quantity.WAITING.value: "waiting"}
    requests = {name: (times, series[key]) for key, name in known.items() if key in series}
    cache = series.get(Quantity.KV_CACHE_USE.value)
    figures = [
        *_over_time(point, "server-requests", "Requests inside the server", "requests", requests),
        *_over_time(
            point, "kv-cache", "KV cache in use", "%", {} if cache is None else {"KV cache": (times, _percent(cache))}
        ),
    ]
    sentences = [f"Its metrics were read at {len(times):,} looks ({found['source']})."]
    untold = [name for key, name in known.items() if key not in series]
    sentences += [f"They do not say how many requests are {name}." for name in untold]
    if cache is None:
        sentences.append("They do not say how full its KV cache is.")
    if found["at_least"]:
        sentences.append(f"Increases may lack something: {found['at_least']}")
    table = Named(caption="At the looks within the measured window", table=_gauges(found["gauges"]))
    return Section(heading=SERVER, sentences=tuple(sentences), tables=(table,), figures=tuple(figures))


def _gauges(gauges: Mapping[str, dict[str, Any]]) -> TextTable:
    figures = ("mean", "median", "min", "p90", "p99", "max")
    return TextTable(
        header=("gauge", "looks", *figures),
        rows=tuple(
            (name, f"{gauge['n']:,}", *(_gauge_text(name, gauge[figure]) for figure in figures))
            for name, gauge in gauges.items()
        ),
    )


def _gauge_text(name: str, value: float) -> str:
    if name == Quantity.KV_CACHE_USE:
        return share(value)
    return f"{value / GIB:.2f} GiB" if name == Quantity.PROCESS_MEMORY else text(value)


def machines_part(point: Point) -> Section:
    """Accelerators and the client's host: series of the records, summaries of the JSON."""
    told = point.at("telemetry")
    if told is None:
        return Section(heading=MACHINES, sentences=("No machine was watched over this point.",))
    sentences = [told["absent"]] if told["absent"] else []
    sentences += told["notices"]
    hardware = None if point.known is None else point.known.records.context.hardware
    if hardware is None:
        sentences.append("The point's records are not there: only summaries are known.")
    figures = () if hardware is None else tuple(_machine_figures(point, hardware))
    rows = (*_gpu_rows(told["gpus"]), *_tpu_rows(told["tpus"]), *_host_rows(told["host"]))
    header = ("machine", "busy, mean", "busy, max", "memory used, max", "power, mean", "throttled")
    tables = (Named(caption="Over the measured window", table=TextTable(header=header, rows=rows)),) if rows else ()
    return Section(heading=MACHINES, sentences=tuple(sentences), tables=tables, figures=figures)


def _machine_figures(point: Point, hardware: HardwareReadings) -> Iterator[Figure]:
    busy = {f"GPU {gpu.index}": (gpu.times_s, _percent(gpu.utilization)) for gpu in hardware.gpus if gpu.utilization}
    busy |= {
        f"TPU {place}": (tpu.times_s, _percent(tpu.duty_cycle))
        for place, tpu in enumerate(hardware.tpus)
        if tpu.duty_cycle
    }
    watts = {f"GPU {gpu.index}": (gpu.times_s, gpu.power_w) for gpu in hardware.gpus if gpu.power_w}
    yield from _over_time(point, "accelerators", "Accelerators at work", "% of the time", busy)
    yield from _over_time(point, "power", "Power of the GPUs", "W", watts)
    host = hardware.host
    if host is not None:
        whose = "server's and client's" if hardware.server_here else "client's"
        of_host = {"all CPUs": (host.times_s, _percent(host.cpu_busy))}
        yield from _over_time(point, "cpu", f"CPUs of the {whose} machine", "% busy", of_host)


def _over_time(point: Point, name: str, title: str, y_title: str, series: Mapping[str, Read]) -> Iterator[Figure]:
    """The readings themselves, or where they are many, their means in equal steps; nothing where nothing was read."""
    length_s = point.at("metrics", "benchmark_time") or 0.0
    there = {
        key: [(at, value) for at, value in zip(times, values, strict=True) if 0 <= at <= length_s]
        for key, (times, values) in series.items()
        if any(value is not None for value in values)
    }
    looks = max((len(of) for of in there.values()), default=0)
    if not looks:
        return
    most = int(point.detail.steps / max(1.0, len(there) / SERIES))
    shown: dict[str, list[float | None]]
    steps: Bins | Readings
    alike, *others = [[at for at, _ in of] for of in there.values()]
    if looks <= most and all(times == alike for times in others):
        shown = {key: [value for _, value in of] for key, of in there.items()}
        steps, reading = Readings(alike, length_s / looks), "As it was read."
    else:
        bins = bins_over(round(length_s * NS_PER_S), max(1, min(most, round(looks / READINGS_A_BIN))))
        if bins is None:
            return
        steps, shown = bins, {key: _means(bins, of) for key, of in there.items()}
        reading = f"Means of the readings in each step of {length_text(bins.width_s)}; a gap is where nothing was read."
    yield over_time(point, name, title, reading, y_title, steps, shown)


def _means(bins: Bins, readings: Sequence[tuple[float, float | None]]) -> list[float | None]:
    """The mean of the readings in each step; None of none."""
    known = [(at, value) for at, value in readings if value is not None]
    places = bins.arrived(np.array([at * NS_PER_S for at, _ in known]).astype(np.int64))
    numbers = np.bincount(places, minlength=bins.count)
    sums = np.bincount(places, [value for _, value in known], bins.count)
    return [float(total / n) if n else None for total, n in zip(sums, numbers, strict=True)]


def _percent(values: Levels) -> list[float | None]:
    return [None if value is None else 100 * value for value in values]


def _of(gauge: dict[str, Any] | None, figure: str) -> float | None:
    return None if gauge is None else gauge[figure]


def _memory(gauge: dict[str, Any] | None) -> str:
    used = _of(gauge, "max")
    return NOTHING if used is None else f"{used / GIB:.1f} GiB"


def _gpu_rows(gpus: Sequence[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for gpu in gpus:
        watts = _of(gpu["power_w"], "mean")
        yield (
            f"GPU {gpu['index']} {gpu['name'] or ''}".strip(),
            share(_of(gpu["utilization"], "mean")),
            share(_of(gpu["utilization"], "max")),
            _memory(gpu["memory_used_bytes"]),
            NOTHING if watts is None else f"{watts:.0f} W",
            share(gpu["throttled_share"]),
        )


def _tpu_rows(tpus: Sequence[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for place, tpu in enumerate(tpus):
        busy = tpu["duty_cycle"]
        used = _memory(tpu["memory_used_bytes"])
        name = f"TPU {place} {tpu['name'] or ''}".strip()
        yield name, share(_of(busy, "mean")), share(_of(busy, "max")), used, NOTHING, NOTHING


def _host_rows(host: dict[str, Any] | None) -> Iterator[tuple[str, ...]]:
    if host is not None:
        busy, whole = host["cpu_busy"], host["memory_bytes"]
        free = _of(host["memory_available_bytes"], "min")
        used = NOTHING if free is None or whole is None else f"{(whole - free) / GIB:.1f} GiB"
        name = f"{host['cpus']} CPUs of the {'server and client' if host['server_here'] else 'client'}"
        yield name, share(_of(busy, "mean")), share(_of(busy, "max")), used, NOTHING, NOTHING
