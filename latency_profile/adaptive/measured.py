"""What the chooser takes of a point's result. Pure."""

from latency_profile.adaptive.chooser import Measured
from latency_profile.results.structure import PointResult
from latency_profile.verdict import Kind


def measured(result: PointResult) -> Measured:
    """Of a point at a finite rate: p50 and p99 of the service TTFT (of E2E unless streamed), and throughput."""
    load, service = result.load, result.latency.service
    assert load.request_rate is not None
    latency = service.e2e if service.ttft is None else service.ttft
    return Measured(
        rate=load.request_rate,
        offered=load.offered_requests_per_s,
        completed=load.completed_requests_per_s,
        figures=(latency.p50.value_s, latency.p99.value_s, load.completed_requests_per_s),
        saturated=result.verdict.verdict is Kind.SATURATED,
        usable=result.verdict.usable,
        failed=result.verdict.verdict is Kind.FAILED,
    )
