"""What the client counted of itself over one point, gathered for the records' context. Pure: plain values."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from latency_profile.sender.fleet import Live
from latency_profile.sender.job import Collected, Finished
from latency_profile.statistics import NS_PER_S
from latency_profile.telemetry.processor import ProcessorUse

MOST_LOOKS = 1000  # that are kept; of a longer point every second one, every fourth, …


class Looks:
    """The loops' own counters, looked at while the point runs: [ns since its start, requests sent, requests ended].

    They come from the running loops, the records from the spools that are read afterwards: two ways of counting that
    have to agree.
    """

    def __init__(self) -> None:
        self.kept: list[list[int]] = []
        self._step = 1
        self._since = 0

    def through(self, look: Callable[[Live], None]) -> Callable[[Live], None]:
        """A watcher of the fleet that keeps what it sees and hands it on."""

        def seen(live: Live) -> None:
            self._keep(round(live.elapsed_s * NS_PER_S), live.sent, live.completed + live.failed)
            look(live)

        return seen

    def _keep(self, at_ns: int, sent: int, ended: int) -> None:
        if self.kept and self.kept[-1][1:] == [sent, ended]:
            return  # between two reports of the loops the fleet shows the last one again
        self._since += 1
        if self._since < self._step:
            return
        self._since = 0
        self.kept.append([at_ns, sent, ended])
        if len(self.kept) > MOST_LOOKS:
            del self.kept[::2]
            self._step *= 2


def client_counts(
    finished: Sequence[Finished],
    collected: Sequence[Collected],
    seconds: float,
    use: ProcessorUse,
    looks: Sequence[Sequence[int]],
) -> dict[str, Any]:
    """The client's own counts over the point, all processes together. seconds: from its start to its end."""
    errors: dict[str, list[str]] = {}
    for part in collected:
        for status, messages in part.errors.items():
            errors.setdefault(status, []).extend(messages)
    return {
        "processes": len(finished),
        "reads": sum(part.reads for part in finished),
        "connections_opened": sum(part.connections_opened for part in finished),
        "connections_failed": sum(part.connections_failed for part in finished),
        "connections_closed_by_server": sum(part.connections_closed_by_server for part in finished),
        "requests_on_reused_connections": sum(part.reused for part in finished),
        "requests_resent": sum(part.resent for part in finished),
        "requests_retried": sum(part.retried for part in finished),
        "retries": sum(part.retries for part in finished),
        "most_waiting_for_connection": max(part.most_waiting_for_connection for part in finished),
        "cpu_s": sum(part.cpu_ns for part in finished) / NS_PER_S,
        "longest_turn_s": max(part.longest_turn_ns for part in finished) / NS_PER_S,
        "stalls": sum(part.stalls for part in finished),
        "stalled_s": sum(part.stalled_ns for part in finished) / NS_PER_S,
        "slowest_spool_flush_s": max(part.slowest_flush_ns for part in finished) / NS_PER_S,
        "error_samples": errors,
        "sender_core_shares": [part.cpu_ns / NS_PER_S / seconds for part in finished] if seconds > 0 else [],
        "processor": msgspec.to_builtins(use),
        "in_flight": looks,
    }
