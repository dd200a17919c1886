"""/metrics in TGI's names and buckets (router/src/server.rs). Only what is modelled."""

from collections.abc import Iterator

from latency_profile.simulator.job import Stats
from latency_profile.simulator.metrics import Meter, histogram_lines

_DURATIONS = tuple(0.00015 * 1.5**k for k in range(35))
_HISTOGRAMS = (
    ("e2e", "request_duration"),
    ("queue", "request_queue_duration"),
    ("inference", "request_inference_duration"),
    ("per_token", "request_mean_time_per_token_duration"),
    ("prompt", "request_input_length"),
    ("generation", "request_generated_tokens"),
    ("max_tokens", "request_max_new_tokens"),
)
_LENGTHS = ("prompt", "generation", "max_tokens")


class Metrics(Meter):
    """TGI's, without help texts, as its exporter writes them."""

    def __init__(self, max_total_tokens: int) -> None:
        lengths = tuple(max_total_tokens / 100 * k for k in range(1, 101))
        super().__init__({quantity: lengths if quantity in _LENGTHS else _DURATIONS for quantity, _ in _HISTOGRAMS})

    def lines(self, stats: Stats) -> Iterator[str]:
        failed = self.finished["error"]
        for name, labels, count in (
            ("request_count", "", self.requests + stats.running + stats.waiting),
            ("request_success", "", self.finished["length"] + self.finished["stop"]),
            ("request_failure", '{err="generation"}', failed),
            ("request_failure", '{err="dropped"}', self.finished["abort"]),
        ):
            if labels != '{err="dropped"}':  # the second line of the same metric
                yield f"# TYPE tgi_{name} counter"
            yield f"tgi_{name}{labels} {count}"
        for name, count in (("queue_size", stats.waiting), ("batch_current_size", stats.running)):
            yield f"# TYPE tgi_{name} gauge"
            yield f"tgi_{name} {count}"
        for quantity, name in _HISTOGRAMS:
            yield f"# TYPE tgi_{name} histogram"
            yield from histogram_lines(f"tgi_{name}", self.histograms[quantity], {})
