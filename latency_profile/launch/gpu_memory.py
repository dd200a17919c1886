"""Whether a server's GPU memory is free again: the next engine is given what the first one had."""

import time

from latency_profile.hardware.nvml import QUANTITIES, Gpus, NoGpus

FREE_WITHIN_S = 60.0
LOOK_S = 0.5
SLACK_BYTES = 512 << 20  # other processes' contexts come and go
_MEMORY = QUANTITIES.index("memory_used_bytes")


class GpuMemory:
    """What each GPU of this machine had in use before the first server, in bytes. Without NVML nothing is known, and
    nothing is held against a server."""

    def __init__(self) -> None:
        try:
            self._gpus: Gpus | None = Gpus()
        except NoGpus:
            self._gpus = None
        self._before = self._used()

    def _used(self) -> dict[str, float]:
        if self._gpus is None:
            return {}
        used: dict[str, float] = {}
        for gpu in self._gpus.gpus:
            for ask in self._gpus.asks()[_MEMORY]:  # newer drivers' way first
                try:
                    used[str(gpu)] = ask(gpu.handle)
                    break
                except self._gpus.nvml.NVMLError:
                    continue
        return used

    def still_held(self, within_s: float = FREE_WITHIN_S) -> str | None:
        """Waits until no GPU has more in use than before; what is still held after that, or None."""
        deadline = time.monotonic() + within_s
        while held := self._held():
            if time.monotonic() > deadline:
                return held
            time.sleep(LOOK_S)
        return None

    def _held(self) -> str | None:
        more = {name: used - self._before.get(name, used) for name, used in self._used().items()}
        parts = [f"{name} has {size / (1 << 20):.0f} MiB" for name, size in more.items() if size > SLACK_BYTES]
        return f"{', '.join(parts)} more in use than before the first server" if parts else None
