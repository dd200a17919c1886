"""What a search came to, in words."""

from latency_profile.capacity.structure import Capacity, Of

UNITS = {Of.RATE: "req/s", Of.CONCURRENCY: "in flight"}


def capacity_text(found: Capacity) -> str:
    """In a sentence."""
    searched = f"{found.probes} probe{'' if found.probes == 1 else 's'}, {found.seconds:.0f} s of sending"
    return f"{_told(found)} ({searched})."


def _told(found: Capacity) -> str:
    unit = UNITS[found.of]
    if found.low is not None and found.high is not None:
        said = f"Capacity: {found.estimate:.4g} {unit} ({found.low:.4g} to {found.high:.4g}, {found.confidence:.0%})"
        if found.binding:
            said = f"{said}; {found.binding} breaks first"
        return f"{said}; {found.reason}" if found.reason else said
    if found.answered and found.highest_kept is not None:
        return f"Capacity: at least {found.highest_kept:.4g} {unit}, which keeps all objectives; {found.reason}"
    if found.answered:
        return f"Capacity: below {found.lowest_broken:.4g} {unit}, which breaks an objective; {found.reason}"
    clear = [
        f"{load:.4g} {unit} is clearly {what}"
        for load, what in ((found.highest_kept, "kept"), (found.lowest_broken, "broken"))
        if load is not None
    ]
    return "; ".join([f"No capacity: {found.reason}", *clear])
