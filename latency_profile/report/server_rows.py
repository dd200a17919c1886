"""What the server and the machine told of a point, as a line of the second table: units and picks, no statistics."""

from latency_profile.hardware.summary import mean_utilization
from latency_profile.report.table_row import ServerFigures
from latency_profile.results import PointResult
from latency_profile.server_view.structure import GaugeView
from latency_profile.telemetry.vocabulary import Quantity

MS_PER_S = 1000.0


def server_figures(result: PointResult) -> ServerFigures:
    """Each None where nobody told it; gauges over the measured window, exact readings first."""
    running, waiting, kv = (
        _gauge(result, each) for each in (Quantity.RUNNING, Quantity.WAITING, Quantity.KV_CACHE_USE)
    )
    both, telemetry = result.server.reconciliation, result.telemetry
    split = both.ttft_split if both else None
    energy = telemetry.energy if telemetry else None
    busy = mean_utilization(telemetry.gpus) if telemetry else None
    return ServerFigures(
        running=running.mean if running else None,
        waiting=waiting.mean if waiting else None,
        most_waiting=waiting.max if waiting else None,
        kv_percent=100 * kv.max if kv else None,
        outside_ms=_ms(split.outside_s if split else None),
        queue_ms=_ms(split.queue_s if split else None),
        prefill_ms=_ms(split.prefill_s if split else None),
        gpu_percent=None if busy is None else 100 * busy,
        watts=energy.mean_power_w if energy else None,
        joules_per_token=energy.joules_per_output_token if energy else None,
    )


def _gauge(result: PointResult, quantity: Quantity) -> GaugeView | None:
    return next((each.gauges[quantity.value] for each in result.server.readings if quantity.value in each.gauges), None)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * MS_PER_S
