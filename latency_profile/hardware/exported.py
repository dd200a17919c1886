"""Accelerators as a cluster's exporters tell of them, through a Prometheus: NVIDIA's DCGM exporter, GKE's TPU metrics.

Both name the pod that has been given an accelerator; which pods serve, the server's own series say. What cannot be
told apart from somebody else's accelerators is not taken. Pure but for `ask`.

Names: dcgm-exporter, etc/dcp-metrics-included.csv (memory in MiB, energy in mJ, utilization in %); GKE system metrics,
kubernetes.io/container/accelerator (https://cloud.google.com/monitoring/api/metrics_kubernetes), as PromQL spells them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latency_profile.hardware.structure import GpuReadings, TpuReadings
from latency_profile.telemetry.doors import NoMetrics
from latency_profile.telemetry.promql import Series

Ask = Callable[[str], Sequence[Series]]  # a metric's whole name to its samples over the point; raises NoMetrics

MIB = 1024 * 1024
# Series of the readings: the exporter's names, the newest first, and what their values are multiplied with.
DCGM: Mapping[str, tuple[tuple[str, ...], float]] = {
    "power_w": (("DCGM_FI_DEV_POWER_USAGE",), 1.0),
    "utilization": (("DCGM_FI_DEV_GPU_UTIL",), 0.01),
    "memory_used_bytes": (("DCGM_FI_DEV_FB_USED",), MIB),
    "temperature_c": (("DCGM_FI_DEV_GPU_TEMP",), 1.0),
    "sm_clock_mhz": (("DCGM_FI_DEV_SM_CLOCK",), 1.0),
    "memory_clock_mhz": (("DCGM_FI_DEV_MEM_CLOCK",), 1.0),
    "energy_j": (("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",), 1e-3),
    "clock_reasons": (("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"), 1.0),
}
GKE: Mapping[str, tuple[tuple[str, ...], float]] = {
    "duty_cycle": (("kubernetes_io:container_accelerator_duty_cycle",), 0.01),
    "tensorcore_utilization": (("kubernetes_io:container_accelerator_tensorcore_utilization",), 0.01),
    "memory_bandwidth_utilization": (("kubernetes_io:container_accelerator_memory_bandwidth_utilization",), 0.01),
    "memory_used_bytes": (("kubernetes_io:container_accelerator_memory_used",), 1.0),
    "memory_total_bytes": (("kubernetes_io:container_accelerator_memory_total",), 1.0),
}
WHOLE = frozenset(
    {"memory_used_bytes", "memory_total_bytes", "temperature_c", "sm_clock_mhz", "memory_clock_mhz", "clock_reasons"}
)
NVIDIA = "nvidia"  # GKE has the same metrics of GPUs, by another make
PROBES = 2  # names: an exporter that has neither is not there; which fields it tells is a matter of its configuration
BOARD = frozenset({"power_w", "energy_j"})  # what a card has only one of, and the exporter tells of each MIG instance
# Where a series names the pod it is about. A Prometheus that keeps its own labels calls the exporter's exported_….
POD_LABELS = ("exported_pod", "pod", "pod_name")
NAMESPACE_LABELS = ("exported_namespace", "namespace", "namespace_name")


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose accelerators count: those of these pods, or where the pods are not known, of this namespace."""

    pods: frozenset[str]
    namespace: str | None

    def has(self, labels: Mapping[str, str]) -> bool:
        """Pods of a StatefulSet have the same names in every namespace: one that is told must be the server's."""
        namespace = _first(labels, NAMESPACE_LABELS)
        if self.pods:
            elsewhere = self.namespace is not None and namespace not in (None, self.namespace)
            return _first(labels, POD_LABELS) in self.pods and not elsewhere
        return self.namespace is not None and namespace == self.namespace


@dataclass(frozen=True, slots=True)
class Exported:
    """What the exporters told of a point; `absent` says why there is nothing."""

    gpus: list[GpuReadings]
    tpus: list[TpuReadings]
    absent: str | None
    notices: list[str]  # why some of it is missing


def exported(ask: Ask, whose: Whose, start_s: float, *, tpus: bool) -> Exported:
    """start_s: of the point, Unix s; tpus: whether GKE's metrics are there to be asked for."""
    reasons: list[str] = []
    cards = _by_device(ask, DCGM, whose, _card, reasons)
    found = [_gpu(index, labels, columns, start_s) for index, (labels, columns) in enumerate(cards)]
    chips = _by_device(ask, GKE, whose, _chip, reasons) if tpus and not found else []
    others = [_tpu(labels, columns, start_s) for labels, columns in chips if labels.get("make") != NVIDIA]
    if chips and not others:
        reasons.append("GKE's own metrics of NVIDIA GPUs are not read: it takes DCGM exporter's")
    absent = None if found or others else "; ".join(dict.fromkeys(reasons)) or "Prometheus has no accelerators' metrics"
    return Exported(found, others, absent, [] if absent else list(dict.fromkeys(reasons)))


Columns = dict[str, dict[float, float]]  # by series of the readings: Unix s to value
Device = tuple[dict[str, str], Columns]


def _by_device(
    ask: Ask,
    names: Mapping[str, tuple[tuple[str, ...], float]],
    whose: Whose,
    identity: Callable[[Mapping[str, str]], tuple[str, ...]],
    reasons: list[str],
) -> list[Device]:
    """The devices that count, in the order of their labels; `reasons` takes why others, or none, are there."""
    devices: dict[tuple[str, ...], Device] = {}
    others = 0
    for place, (column, (spelled, factor)) in enumerate(names.items(), 1):
        for name in spelled:
            try:
                there = ask(name)
            except NoMetrics as error:
                reasons.append(f"{error}: {name}")
                break
            for series in there:
                labels = dict(series.labels)
                if not whose.has(labels):
                    others += 1
                    continue
                _, columns = devices.setdefault(identity(labels), (labels, {}))
                finite = series.finite()
                columns.setdefault(column, {}).update(
                    {at: value * factor for at, value in zip(finite.at_s, finite.values, strict=True)}
                )
            if there:
                break
        if place == PROBES and not devices and not others:
            return []  # no such exporter: the other names need not be asked for
    if others and not devices:
        reasons.append("the accelerators that Prometheus knows are not said to be the server's pods'")
    return [devices[key] for key in sorted(devices)]


def _card(labels: Mapping[str, str]) -> tuple[str, ...]:
    """A card is one by its UUID, whichever exporter tells of it and whatever that calls the host."""
    uuid = labels.get("UUID", "")
    host = () if uuid else (labels.get("Hostname", ""), labels.get("gpu", ""))
    return (uuid, *host, labels.get("GPU_I_ID", ""))


def _chip(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Ids of chips need not differ from one host to the next; a chip is one pod's."""
    return (_first(labels, NAMESPACE_LABELS) or "", _first(labels, POD_LABELS) or "", labels.get("accelerator_id", ""))


def _gpu(place: int, labels: Mapping[str, str], columns: Columns, start_s: float) -> GpuReadings:
    if labels.get("GPU_I_ID"):
        columns = {name: column for name, column in columns.items() if name not in BOARD}
    times, values = _aligned(columns, DCGM)
    number = labels.get("gpu", "")
    return GpuReadings(
        index=int(number) if number.isdecimal() else place,
        uuid=labels.get("UUID"),
        name=labels.get("modelName"),
        driver=labels.get("DCGM_FI_DRIVER_VERSION"),
        memory_bytes=None,
        power_limit_w=None,
        times_s=[at - start_s for at in times],
        **values,
    )


def _tpu(labels: Mapping[str, str], columns: Columns, start_s: float) -> TpuReadings:
    times, values = _aligned(columns, GKE)
    return TpuReadings(
        accelerator=labels.get("accelerator_id"),
        name=labels.get("model"),
        pod=_first(labels, POD_LABELS),
        times_s=[at - start_s for at in times],
        **values,
    )


def _aligned(columns: Columns, names: Mapping[str, object]) -> tuple[list[float], dict[str, Any]]:
    """All series at the times of any; None where one was not read then, and in place of one that was never read."""
    times = sorted({at for column in columns.values() for at in column})
    values: dict[str, Any] = {}
    for name in names:
        column = columns.get(name)
        kept = None if not column else [column.get(at) for at in times]
        if kept is not None and name in WHOLE:
            kept = [None if value is None else round(value) for value in kept]
        values[name] = kept
    return times, values


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((labels[name] for name in names if labels.get(name)), None)
