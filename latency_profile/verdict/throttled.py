"""The remark on a GPU that was held below the clocks it could run at: at another power limit, or in a cooler room, the
same server would be faster."""

from collections.abc import Iterator

from latency_profile.hardware.structure import GpuReadings
from latency_profile.hardware.summary import Throttling, throttling
from latency_profile.statistics import NS_PER_S
from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.kinds import Name, Remark

# Of the window. A shorter time moves no percentile but the last ones, and a card's clocks by less than two runs differ.
THROTTLED_LIMIT = 0.01

MEANINGS = {
    "sw_power_cap": "its power limit",
    "hw_slowdown": "slowed down by the hardware",
    "sw_thermal": "heat, by the driver",
    "hw_thermal": "heat, by the hardware",
    "hw_power_brake": "a power brake from outside",
    "board_limit": "the board's limit",
    "reliability": "the voltage that it may have",
}


def throttled(known: Evidence) -> Iterator[Remark]:
    """Of the machine, whichever model is in question: the GPU that was throttled longest."""
    readings = known.records.context.hardware
    start_s, end_s = known.span.start_ns / NS_PER_S, known.span.end_ns / NS_PER_S
    found = [
        (gpu, shares)
        for gpu in (readings.gpus if readings else [])
        if (shares := throttling(gpu, start_s, end_s)) is not None and shares.share > THROTTLED_LIMIT
    ]
    if found:
        gpu, shares = max(found, key=lambda pair: pair[1].share)
        yield Remark(name=Name.GPU_THROTTLED, text=_text(gpu, shares, len(found) - 1))


def _text(gpu: GpuReadings, shares: Throttling, others: int) -> str:
    name = f" ({gpu.name})" if gpu.name else ""
    more = f", and {others} more no longer than that," if others else ""
    limit = "" if gpu.power_limit_w is None else f" of {gpu.power_limit_w:.0f} W"
    few = shares.samples * THROTTLED_LIMIT < 1  # one sample is more than the limit then: no share is known so well

    def part(share: float) -> str:
        return f"{round(share * shares.samples)}" if few else f"{share:.1%}"

    reasons = ", ".join(
        f"{MEANINGS[reason]}{limit if reason == 'sw_power_cap' else ''} in {part(share)}"
        for reason, share in shares.by.items()
    )
    of = f"{shares.samples} samples" if few else f"the window (limit {THROTTLED_LIMIT:.0%})"
    return f"GPU {gpu.index}{name}{more} was throttled in {part(shares.share)} of {of}: {reasons}."
