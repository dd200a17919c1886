"""The NVIDIA GPUs of this machine, as NVML tells of them, ten times a second.

NVML is the library under nvidia-smi and part of the driver; `pynvml`, of NVIDIA's package nvidia-ml-py, is imported
only when it is used. All GPUs that it shows are read: which of them the server has been given, only the server knows.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from latency_profile.hardware.structure import GpuReadings
from latency_profile.hardware.ticker import NS, Ticker

PERIOD_S = 0.1
# The energy counter takes 5 ms of CPU to read (H100, driver 580), everything else together 20 µs; and it only adds up.
ENERGY_TICKS = 20
MARGIN_S = 2.5  # before a point's start and after its end: a value at an edge is found between two samples

Ask = Callable[[Any], float]  # a handle to a value

# In the order of asking: the counter of energy first, next to the sample's time.
QUANTITIES = (
    *("energy_j", "power_w", "utilization", "memory_used_bytes", "temperature_c", "sm_clock_mhz"),
    *("memory_clock_mhz", "clock_reasons"),
)


class NoGpus(Exception):
    """There is nothing to read. `str(error)` says why, in a line."""


@dataclass(slots=True)
class Sampled:
    """One GPU over one point. `rows`: the monotonic time in ns, then one value of each of QUANTITIES."""

    gpu: "Gpu"
    asks: list[list[Ask]]  # of each quantity: how to ask for it, the first one that the driver knows; none: it has none
    rows: list[tuple[int, list[float | None]]] = field(default_factory=list)
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Gpu:
    """What stays as it is."""

    index: int
    handle: Any
    uuid: str | None
    name: str | None
    driver: str | None
    memory_bytes: int | None
    power_limit_w: float | None

    def __str__(self) -> str:
        return f"GPU {self.index}" + (f" ({self.name})" if self.name else "")


class Gpus:
    """All that NVML shows. It stays open until the process ends, as a driver without a user may unload."""

    def __init__(self) -> None:
        """Raises NoGpus."""
        try:
            import pynvml
        except ImportError:
            raise NoGpus("the package nvidia-ml-py is not installed") from None
        self.nvml: Any = pynvml
        self.notices: list[str] = []
        reasons = {
            pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver on this machine",
            pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver of this machine is not loaded",
        }
        try:
            pynvml.nvmlInit()
            found = [self._gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            raise NoGpus(reasons.get(error.value, f"NVML says: {error}")) from None
        self.gpus = [gpu for gpu in found if gpu is not None]
        if not self.gpus:
            raise NoGpus("; ".join(self.notices) or "no NVIDIA GPU on this machine")

    def _gpu(self, index: int) -> Gpu | None:
        nvml = self.nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:  # lost before we came, or not for this container
            self.notices.append(f"GPU {index}: {error}")
            return None

        def known(ask: Callable[[], Any]) -> Any:
            with contextlib.suppress(nvml.NVMLError):
                return ask()
            return None

        memory = known(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        limit_mw = known(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        divided = known(lambda: nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE)
        gpu = Gpu(
            index=index,
            handle=handle,
            uuid=known(lambda: nvml.nvmlDeviceGetUUID(handle)),
            name=known(lambda: nvml.nvmlDeviceGetName(handle)),
            driver=known(nvml.nvmlSystemGetDriverVersion),
            memory_bytes=None if memory is None else memory.total,
            power_limit_w=None if limit_mw is None else limit_mw / 1e3,
        )
        if divided:
            self.notices.append(f"{gpu} is divided (MIG): its power and energy are the whole board's")
        return gpu

    def asks(self) -> list[list[Ask]]:
        """How to ask for each of QUANTITIES: the ways of newer drivers before those of older ones.

        Used memory is nvidia-smi's: without what the driver reserves, which the first version of the question counts in
        (a driver too old for the second one, before 510, reserves nothing that nvidia-smi would leave out).
        """
        nvml = self.nvml
        sm, memory, core = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM, nvml.NVML_TEMPERATURE_GPU
        return [
            [lambda handle: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3],
            [lambda handle: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3],
            [lambda handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100],
            [
                lambda handle: nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2).used,
                lambda handle: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            ],
            [
                lambda handle: nvml.nvmlDeviceGetTemperature(handle, core),
                lambda handle: nvml.nvmlDeviceGetTemperatureV(handle, core),
            ],
            [lambda handle: nvml.nvmlDeviceGetClockInfo(handle, sm)],
            [lambda handle: nvml.nvmlDeviceGetClockInfo(handle, memory)],
            [nvml.nvmlDeviceGetCurrentClocksEventReasons, nvml.nvmlDeviceGetCurrentClocksThrottleReasons],
        ]


class Sampler:
    """Reads all GPUs ten times a second from its making until `stop`, in a thread of its own."""

    def __init__(self, gpus: Gpus) -> None:
        self._nvml = gpus.nvml
        never = ("NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "NO_PERMISSION")
        self._never = frozenset(getattr(self._nvml, f"NVML_ERROR_{name}") for name in never)
        gone = ("GPU_IS_LOST", "RESET_REQUIRED")
        self._gone = frozenset(getattr(self._nvml, f"NVML_ERROR_{name}") for name in gone)
        self._sampled = [Sampled(gpu, gpus.asks()) for gpu in gpus.gpus]
        self._notices = dict.fromkeys(gpus.notices)
        self._ticks = 0
        self._stopping = False
        self._ticker = Ticker("nvml", PERIOD_S, self._sample)

    @property
    def cpu_s(self) -> float:
        """CPU time that the samples took, the driver's part in the kernel included."""
        return self._ticker.cpu_s

    @property
    def seconds(self) -> float:
        """From the first sample to the last."""
        return self._ticker.seconds

    @property
    def notices(self) -> list[str]:
        """What went wrong with single GPUs, each thing once."""
        return list(self._notices)

    def stop(self) -> bool:
        """Takes a last sample, of energy too. False where NVML does not come back from a question; what there was till
        then stays."""
        self._stopping = True
        if self._ticker.stop():
            return True
        self._notices["NVML did not come back from a question: the samples end there"] = None
        return False

    def readings(self, start_ns: int, until_ns: int) -> list[GpuReadings]:
        """The samples from just before `start_ns` until just after `until_ns`, monotonic; times are from `start_ns`."""
        first_ns, last_ns = start_ns - MARGIN_S * NS, until_ns + MARGIN_S * NS
        return [_readings(sampled, start_ns, first_ns, last_ns) for sampled in self._sampled]

    def _sample(self) -> None:
        with_energy = self._stopping or self._ticks % ENERGY_TICKS == 0
        self._ticks += 1
        for sampled in self._sampled:
            at_ns = time.monotonic_ns()
            energy, *others = sampled.asks
            row = [self._ask(sampled, energy) if with_energy else None, *(self._ask(sampled, asks) for asks in others)]
            sampled.rows.append((at_ns, row))

    def _ask(self, sampled: Sampled, asks: list[Ask]) -> float | None:
        while asks and not sampled.lost:
            try:
                return asks[0](sampled.gpu.handle)
            except self._nvml.NVMLError as error:
                if error.value in self._never:
                    del asks[0]
                    continue
                sampled.lost = error.value in self._gone
                self._notices[f"{sampled.gpu}: {error}"] = None
                return None
        return None


def _readings(sampled: Sampled, start_ns: int, first_ns: float, last_ns: float) -> GpuReadings:
    rows = [row for row in sampled.rows if first_ns <= row[0] <= last_ns]
    columns: dict[str, Any] = {}
    for place, name in enumerate(QUANTITIES):
        values = [row[1][place] for row in rows]
        columns[name] = None if all(value is None for value in values) else values
    if columns["energy_j"] is not None:  # since the driver was loaded
        zero = next(value for value in columns["energy_j"] if value is not None)
        columns["energy_j"] = [None if value is None else round(value - zero, 3) for value in columns["energy_j"]]
    gpu = sampled.gpu
    return GpuReadings(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        driver=gpu.driver,
        memory_bytes=gpu.memory_bytes,
        power_limit_w=gpu.power_limit_w,
        times_s=[round((at_ns - start_ns) / NS, 6) for at_ns, _ in rows],
        **columns,
    )
