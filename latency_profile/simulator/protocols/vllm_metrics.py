"""/metrics in the names, buckets and text form of vLLM 0.32 (vllm/v1/metrics/loggers.py). Only what is modelled."""

import time
from collections.abc import Iterator

from latency_profile.simulator.engine import EngineProfile
from latency_profile.simulator.job import Stats
from latency_profile.simulator.metrics import Histogram, Meter, heading, histogram_lines, labelled, token_bounds

_SHORT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_TTFT = (*_SHORT, 160.0, 640.0, 2560.0)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_COMMON = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)
_REQUEST = (*_COMMON, 960.0, 1920.0, 7680.0)
_ITERATION = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)
_PREEMPTIONS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
_ANSWERS = (1.0, 2.0, 5.0, 10.0, 20.0)

# (quantity, name, buckets or none for tokens, help), in vLLM's order
_HISTOGRAMS = (
    ("prompt", "request_prompt_tokens", None, "Number of prefill tokens processed."),
    ("generation", "request_generation_tokens", None, "Number of generation tokens processed."),
    (
        "generation_limit",
        "request_max_num_generation_tokens",
        None,
        "Histogram of maximum number of requested generation tokens.",
    ),
    ("answers", "request_params_n", _ANSWERS, "Histogram of the n request parameter."),
    ("max_tokens", "request_params_max_tokens", None, "Histogram of the max_tokens request parameter."),
    (
        "time_to_first_token",
        "time_to_first_token_seconds",
        _TTFT,
        "Histogram of time to first token in seconds.",
    ),
    ("inter_token", "inter_token_latency_seconds", _ITL, "Histogram of inter-token latency in seconds."),
    (
        "per_token",
        "request_time_per_output_token_seconds",
        _ITL,
        "Histogram of time_per_output_token_seconds per request.",
    ),
    ("e2e", "e2e_request_latency_seconds", _REQUEST, "Histogram of e2e request latency in seconds."),
    (
        "queue",
        "request_queue_time_seconds",
        _REQUEST,
        "Histogram of time spent in WAITING phase for request.",
    ),
    (
        "inference",
        "request_inference_time_seconds",
        _REQUEST,
        "Histogram of time spent in RUNNING phase for request.",
    ),
    (
        "prefill",
        "request_prefill_time_seconds",
        _REQUEST,
        "Histogram of time spent in PREFILL phase for request.",
    ),
    (
        "decode",
        "request_decode_time_seconds",
        _REQUEST,
        "Histogram of time spent in DECODE phase for request.",
    ),
    (
        "preemptions",
        "request_num_preemptions",
        _PREEMPTIONS,
        "Histogram of the number of times a request was preempted.",
    ),
    (
        "computed",
        "request_prefill_kv_computed_tokens",
        None,
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
    ),
)


class Metrics(Meter):
    """vLLM's."""

    def __init__(self, model: str, max_model_len: int, profile: EngineProfile | None) -> None:
        tokens = token_bounds(max_model_len)
        super().__init__({quantity: bounds or tokens for quantity, _, bounds, _ in _HISTOGRAMS})
        # The greatest number of tokens among a request's answers; there is one answer.
        self.histograms["generation_limit"] = self.histograms["generation"]
        self.finished["repetition"] = 0
        self._labels = {"engine": "0", "model_name": model}
        self._profile = profile
        self._created = time.time()

    def lines(self, stats: Stats) -> Iterator[str]:
        yield from heading(
            "process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds."
        )
        yield f"process_start_time_seconds {self._created!r}"
        yield from self._gauges(stats)
        yield from self._counters(stats)
        yield from self._all_histograms(stats)
        yield from self._config()

    def _line(self, name: str, value: float, **labels: str) -> str:
        return f"vllm:{name}{labelled({**self._labels, **labels})} {float(value)!r}"

    def _gauges(self, stats: Stats) -> Iterator[str]:
        for name, text, value in (
            ("num_requests_running", "Number of requests in model execution batches.", float(stats.running)),
            ("num_requests_waiting", "Number of requests waiting to be processed.", float(stats.waiting)),
            ("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", stats.kv_usage),
        ):
            yield from heading(f"vllm:{name}", "gauge", text)
            yield self._line(name, value)

    def _counters(self, stats: Stats) -> Iterator[str]:
        sources = {
            "local_compute": self.prompt_tokens - self.cached_tokens,
            "local_cache_hit": self.cached_tokens,
            "external_kv_transfer": 0,
        }
        cached = "Number of cached prompt tokens (local + external)."
        queries = "Prefix cache queries, in terms of number of queried tokens."
        hits = "Prefix cache hits, in terms of number of cached tokens."
        preemptions = "Cumulative number of preemption from the engine."
        for name, text, label, values in (
            ("prefix_cache_queries", queries, "", {"": stats.prefix_queries}),
            ("prefix_cache_hits", hits, "", {"": stats.prefix_hits}),
            ("num_preemptions", preemptions, "", {"": stats.preemptions}),
            ("prompt_tokens", "Number of prefill tokens processed.", "", {"": self.prompt_tokens}),
            ("prompt_tokens_by_source", "Number of prompt tokens by source.", "source", sources),
            ("prompt_tokens_cached", cached, "", {"": self.cached_tokens}),
            ("generation_tokens", "Number of generation tokens processed.", "", {"": self.generation_tokens}),
            ("request_success", "Count of successfully processed requests.", "finished_reason", self.finished),
        ):
            yield from heading(f"vllm:{name}_total", "counter", text)
            yield from (self._line(f"{name}_total", value, **_label(label, key)) for key, value in values.items())
            yield from heading(f"vllm:{name}_created", "gauge", text)
            yield from (self._line(f"{name}_created", self._created, **_label(label, key)) for key in values)

    def _all_histograms(self, stats: Stats) -> Iterator[str]:
        iterations = Histogram(_ITERATION)
        for tokens, steps in stats.iterations.items():
            iterations.observe(tokens, steps)
        parts = [("iteration_tokens_total", iterations, "Histogram of number of tokens per engine_step.")]
        parts += [(name, self.histograms[quantity], text) for quantity, name, _, text in _HISTOGRAMS]
        for name, histogram, text in parts:
            yield from heading(f"vllm:{name}", "histogram", text)
            yield from histogram_lines(f"vllm:{name}", histogram, self._labels)
            yield from heading(f"vllm:{name}_created", "gauge", text)
            yield self._line(f"{name}_created", self._created)

    def _config(self) -> Iterator[str]:
        if self._profile is None:
            return
        yield from heading("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig")
        labels = {
            "block_size": str(self._profile.block_size),
            "enable_prefix_caching": str(self._profile.prefix_caching),
            "engine": "0",
            "kv_cache_size_tokens": str(self._profile.block_size * self._profile.num_blocks),
            "num_gpu_blocks": str(self._profile.num_blocks),
        }
        yield f"vllm:cache_config_info{labelled(labels)} 1.0"


def _label(name: str, value: str) -> dict[str, str]:
    return {name: value} if name else {}
