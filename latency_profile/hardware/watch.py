"""What watches the machine through a profile, point by point."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from latency_profile.hardware.exported import Exported
from latency_profile.hardware.host import HostSampler
from latency_profile.hardware.local import is_local
from latency_profile.hardware.nvml import Gpus, NoGpus, Sampler
from latency_profile.hardware.structure import HardwareReadings, Source
from latency_profile.hardware.summary import FEWEST_SAMPLES, energy_j
from latency_profile.hardware.ticker import NS
from latency_profile.records import PointContext
from latency_profile.sender.job import Target


class HardwareWatch:
    """Opens NVML once, where all servers are on this machine. `absent` says why there are no GPUs to watch."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.server_here = all(is_local(target.family, target.address) for target in targets)
        self.absent: str | None = None
        self._gpus: Gpus | None = None
        if not self.server_here:
            servers = "the server is" if len(targets) == 1 else "the servers are"
            self.absent = f"{servers} not on this machine"
            return
        try:
            self._gpus = Gpus()
        except NoGpus as error:
            self.absent = str(error)

    @contextmanager
    def point(self) -> Iterator["PointWatch"]:
        """Watches from here until the block ends, or the readings are taken."""
        watch = PointWatch(self._gpus, self.absent, self.server_here)
        try:
            yield watch
        finally:
            if not watch.stop():  # and the thread that hangs in it must not be joined by another
                self._gpus, self.absent = None, "NVML did not come back from a question"


class PointWatch:
    """The samples of one point."""

    def __init__(self, gpus: Gpus | None, absent: str | None, server_here: bool) -> None:
        self._absent, self._server_here = absent, server_here
        self._sampler = Sampler(gpus) if gpus else None
        self._host = HostSampler()
        self._came_back: bool | None = None

    def stop(self) -> bool:
        """Ends the sampling. False where NVML hangs."""
        if self._came_back is None:
            self._host.stop()
            self._came_back = self._sampler.stop() if self._sampler else True
        return self._came_back

    def of(self, context: PointContext, exported: Exported | None = None) -> HardwareReadings:
        """What was read of the point; where nothing was here, what the cluster's exporters told. Ends the sampling."""
        length_ns = max(context.measured_ns, round((context.duration_s or 0.0) * NS))
        found = self.readings(context.started_monotonic_ns, context.started_monotonic_ns + length_ns)
        if found.gpus or exported is None:
            return found
        absent = "; ".join(filter(None, (found.absent, exported.absent))) if exported.absent else None
        source: Source | None = "dcgm" if exported.gpus else "gke" if exported.tpus else None
        notices = [*found.notices, *exported.notices, *_few_samples(exported, length_ns / NS)]
        return replace(found, gpus=exported.gpus, tpus=exported.tpus, source=source, absent=absent, notices=notices)

    def readings(self, start_ns: int, until_ns: int) -> HardwareReadings:
        """What was read between these monotonic times; times are from the first. Ends the sampling."""
        self.stop()
        sampler = self._sampler
        return HardwareReadings(
            gpus=sampler.readings(start_ns, until_ns) if sampler else [],
            source="nvml" if sampler else None,
            absent=self._absent,
            host=self._host.readings(start_ns, until_ns),
            server_here=self._server_here,
            notices=sampler.notices if sampler else [],
            sampling_cpu_s=sampler.cpu_s if sampler else None,
            sampling_s=sampler.seconds if sampler else None,
        )


def _few_samples(exported: Exported, length_s: float) -> list[str]:
    """Exporters sample every 15 to 60 s, and the last samples may not be stored yet: short points have little."""
    times = [gpu.times_s for gpu in exported.gpus] + [tpu.times_s for tpu in exported.tpus]
    few = sum(sum(0 <= at <= length_s for at in each) < FEWEST_SAMPLES for each in times)
    if few:
        return [f"{few} of {len(times)} accelerators have fewer than two samples inside the point: no figures"]
    told = [gpu for gpu in exported.gpus if gpu.energy_j or gpu.power_w]
    vague = sum(energy_j(gpu, 0.0, length_s) is None for gpu in told)
    return [f"no energy of {vague} of {len(told)} GPUs: the exporter's samples are too far apart here"] if vague else []
