"""Which process looks at a running point, and ends it when it knows enough."""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

from latency_profile.capacity.probe import Running
from latency_profile.capacity.probing import Probing
from latency_profile.plan import NS
from latency_profile.sender.job import Point
from latency_profile.settings import Settings
from latency_profile.slo.grammar import PER_TOKEN
from latency_profile.until_ci.tail import Order
from latency_profile.until_ci.watch import Asked, Watch


def watching(
    settings: Settings, endpoint: str, jobs: Sequence[Point], probe: Running | None
) -> AbstractContextManager[Watch | None]:
    """A watch on a point that is to end when it knows enough; nothing for other points. jobs: its shards. probe: of
    --find-capacity."""
    if jobs[0].duration_ns is None:
        return contextlib.nullcontext()

    def order(start_ns: int) -> Order:
        return Order(
            spools=[job.spool for job in jobs],
            plan=jobs[0].plan,
            start_ns=start_ns,
            backend=settings.backend,
            endpoint=endpoint,
            streaming=settings.stream_request,
            warmup_ns=round(settings.warmup_seconds * NS),
            cooldown_ns=round(settings.cooldown_seconds * NS),
            tokens=probe is not None and any(each.metric in PER_TOKEN for each in probe.objectives),
        )

    if probe is not None:
        return Watch(
            "latency_profile.capacity",
            lambda start_ns: Probing(order=order(start_ns), probe=probe),
            None,
        )
    target = settings.until_ci
    if target is None:
        return contextlib.nullcontext()
    return Watch("latency_profile.until_ci", lambda start_ns: Asked(order=order(start_ns), target=target), target)
