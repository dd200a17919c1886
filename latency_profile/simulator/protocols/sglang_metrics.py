"""/metrics in the names and buckets of SGLang (python/sglang/srt/metrics/collector.py). Only what is modelled."""

from collections.abc import Iterator

from latency_profile.simulator.engine import EngineProfile
from latency_profile.simulator.job import Stats
from latency_profile.simulator.metrics import Meter, heading, histogram_lines, labelled

_TTFT = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0)
_ITL_MS = (2, 4, 6, 8, 10, 15, 20, 25, 30, 35, 40, 60, 80, 100, 200, 400, 600, 800, 1000, 2000, 4000, 6000, 8000)
_E2E = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0, 800.0)
_HISTOGRAMS = (
    ("time_to_first_token", "time_to_first_token_seconds", "Histogram of time to first token in seconds."),
    ("inter_token", "inter_token_latency_seconds", "Histogram of inter-token latency in seconds."),
    ("e2e", "e2e_request_latency_seconds", "Histogram of End-to-end request latency in seconds"),
    ("queue", "queue_time_seconds", "Histogram of queueing time in seconds."),
)


class Metrics(Meter):
    """SGLang's."""

    def __init__(self, model: str, profile: EngineProfile | None) -> None:
        itl = tuple(limit / 1000 for limit in _ITL_MS)
        super().__init__({"time_to_first_token": _TTFT, "inter_token": itl, "e2e": _E2E, "queue": _E2E})
        self._labels = {"model_name": model}
        self._room = profile.block_size * profile.num_blocks if profile is not None else 0

    def lines(self, stats: Stats) -> Iterator[str]:
        hit_rate = stats.prefix_hits / stats.prefix_queries if stats.prefix_queries else 0.0
        for name, text, value in (
            ("num_running_reqs", "The number of running requests.", float(stats.running)),
            ("num_used_tokens", "The number of used tokens.", float(round(stats.kv_usage * self._room))),
            ("token_usage", "The token usage.", stats.kv_usage),
            ("num_queue_reqs", "The number of requests in the waiting queue.", float(stats.waiting)),
            ("cache_hit_rate", "The prefix cache hit rate.", hit_rate),
            ("max_total_num_tokens", "Maximum total number of tokens in the KV cache pool.", float(self._room)),
        ):
            yield from self._one(name, "gauge", text, value)
        for name, text, count in (
            ("prompt_tokens_total", "Number of prefill tokens processed.", self.prompt_tokens),
            ("generation_tokens_total", "Number of generation tokens processed.", self.generation_tokens),
            ("cached_tokens_total", "Number of cached prompt tokens.", self.cached_tokens),
            ("num_requests_total", "Number of requests processed.", self.requests),
            ("num_aborted_requests_total", "Number of requests aborted.", self.finished["abort"]),
        ):
            yield from self._one(name, "counter", text, count)
        for quantity, name, text in _HISTOGRAMS:
            yield from heading(f"sglang:{name}", "histogram", text)
            yield from histogram_lines(f"sglang:{name}", self.histograms[quantity], self._labels)

    def _one(self, name: str, kind: str, text: str, value: float) -> Iterator[str]:
        yield from heading(f"sglang:{name}", kind, text)
        yield f"sglang:{name}{labelled(self._labels)} {float(value)!r}"
