"""What is read of a machine while a point runs, as it stands in the records.

Plain dataclasses, which msgspec reads and writes like its own structures: what samples them then needs nothing but
Python and NVML.
"""

from dataclasses import dataclass, field
from typing import Literal

# One value a sample; None: that one could not be had. In place of the whole series None: the card, or the driver, has
# no such thing, which is not the same as 0.
Series = list[float | None] | None
Counts = list[int | None] | None
Source = Literal["nvml", "dcgm", "gke"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReadings:
    """One GPU: what it is, and its samples, all series of the length of `times_s`."""

    index: int  # NVML's, in order of the PCI bus: nvidia-smi's, not CUDA's
    uuid: str | None
    name: str | None
    driver: str | None
    memory_bytes: int | None
    power_limit_w: float | None  # the enforced one: the least of the card's and what an administrator set
    times_s: list[float]  # since the point's start, just before the sample's first question; the first ones below 0
    energy_j: Series  # by the card's own counter, since the first sample; at every twentieth one and the last
    power_w: Series  # of the whole board; the driver's mean over 1 s on Ampere (but GA100) and newer
    utilization: Series  # share of the driver's last sampling period (1/6 to 1 s) in which any kernel ran
    memory_used_bytes: Counts  # without what the driver reserves for itself
    temperature_c: Counts
    sm_clock_mhz: Counts
    memory_clock_mhz: Counts
    clock_reasons: Counts  # bits of nvmlClocksEventReasons: why the clocks are no higher; see summary.THROTTLING


@dataclass(frozen=True, slots=True, kw_only=True)
class TpuReadings:
    """One chip, as GKE samples it once a minute; all series of the length of `times_s`."""

    accelerator: str | None  # GKE's id of the chip
    name: str | None  # its kind
    pod: str | None  # that has it
    times_s: list[float]  # since the point's start
    duty_cycle: Series  # share of the sampling period in which anything ran
    tensorcore_utilization: Series  # share of the peak rate of matrix operations
    memory_bandwidth_utilization: Series
    memory_used_bytes: Counts
    memory_total_bytes: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReadings:
    """CPUs and memory of this machine; in a container mostly those of its host."""

    cpus: int
    memory_bytes: int | None
    times_s: list[float]  # since the point's start
    cpu_busy: list[float | None]  # share of all CPUs' time since the sample before; None of the first one
    memory_available_bytes: list[int | None]  # what could be had without swapping, by the kernel's estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareReadings:
    """Over one point."""

    gpus: list[GpuReadings] = field(default_factory=list)
    tpus: list[TpuReadings] = field(default_factory=list)
    source: Source | None = None  # who told of the accelerators
    absent: str | None = None  # why there are no accelerators, in a line
    host: HostReadings | None = None  # of the client's machine; None where the system does not tell
    server_here: bool = False  # whether that is the server's machine too
    notices: list[str] = field(default_factory=list)  # what went wrong with single accelerators
    sampling_cpu_s: float | None = None  # that the GPUs' samples took of a CPU; None without GPUs
    sampling_s: float | None = None  # how long they were taken for
