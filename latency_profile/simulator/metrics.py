"""/metrics in the names, buckets and text form of vLLM 0.32 (vllm/v1/metrics/loggers.py). Only what is modelled."""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from latency_profile.simulator.engine import EngineProfile
from latency_profile.simulator.job import Job, Stats
from latency_profile.simulator.log import Finish

_SECOND = 1e9
_SHORT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_TTFT = (*_SHORT, 160.0, 640.0, 2560.0)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_COMMON = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)
_REQUEST = (*_COMMON, 960.0, 1920.0, 7680.0)
_ITERATION = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)
_PREEMPTIONS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
_ANSWERS = (1.0, 2.0, 5.0, 10.0, 20.0)


class Histogram:
    """Counts of values by upper bound (inclusive), and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count


def token_bounds(max_model_len: int) -> list[float]:
    """1, 2, 5, 10, 20, 50 … up to the greatest length (vLLM's build_1_2_5_buckets)."""
    bounds: list[float] = []
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power > max_model_len:
                return bounds
            bounds.append(float(factor * power))
        power *= 10


class Metrics:
    """Fed by the server with the timing model's own times, so that scrapes are exact whatever the writes' delay."""

    def __init__(self, model: str, max_model_len: int, profile: EngineProfile | None) -> None:
        escaped = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        self._labels = {"engine": "0", "model_name": escaped}
        self._profile = profile
        self._created = time.time()
        tokens = token_bounds(max_model_len)
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generation_tokens = 0
        self.finished = dict.fromkeys(("stop", "length", "abort", "error", "repetition"), 0)
        self.histograms = {
            name: (Histogram(bounds), text)
            for name, bounds, text in (
                ("request_prompt_tokens", tokens, "Number of prefill tokens processed."),
                ("request_generation_tokens", tokens, "Number of generation tokens processed."),
                (
                    "request_max_num_generation_tokens",
                    tokens,
                    "Histogram of maximum number of requested generation tokens.",
                ),
                ("request_params_n", _ANSWERS, "Histogram of the n request parameter."),
                ("request_params_max_tokens", tokens, "Histogram of the max_tokens request parameter."),
                ("time_to_first_token_seconds", _TTFT, "Histogram of time to first token in seconds."),
                ("inter_token_latency_seconds", _ITL, "Histogram of inter-token latency in seconds."),
                (
                    "request_time_per_output_token_seconds",
                    _ITL,
                    "Histogram of time_per_output_token_seconds per request.",
                ),
                ("e2e_request_latency_seconds", _REQUEST, "Histogram of e2e request latency in seconds."),
                ("request_queue_time_seconds", _REQUEST, "Histogram of time spent in WAITING phase for request."),
                ("request_inference_time_seconds", _REQUEST, "Histogram of time spent in RUNNING phase for request."),
                ("request_prefill_time_seconds", _REQUEST, "Histogram of time spent in PREFILL phase for request."),
                ("request_decode_time_seconds", _REQUEST, "Histogram of time spent in DECODE phase for request."),
                ("request_num_preemptions", _PREEMPTIONS, "Histogram of the number of times a request was preempted."),
                (
                    "request_prefill_kv_computed_tokens",
                    tokens,
                    "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
                ),
            )
        }
        self._itl = self.histograms["inter_token_latency_seconds"][0]

    def first(self, job: Job, due_ns: int, count: int) -> None:
        """The first event of a job is due."""
        self.prompt_tokens += job.prompt_tokens
        self.cached_tokens += job.cached_tokens
        self.generation_tokens += count
        self._observe("time_to_first_token_seconds", (due_ns - job.arrival_ns) / _SECOND)

    def next(self, gap_ns: int, count: int) -> None:
        """A later one is due, `gap_ns` after the one before it."""
        self.generation_tokens += count
        self._itl.observe(gap_ns / _SECOND)

    def finish(self, job: Job, first_ns: int, last_ns: int, max_tokens: int, finish: Finish) -> None:
        """A job has all its tokens."""
        decode = (last_ns - first_ns) / _SECOND
        self.finished[finish.name.lower()] += 1
        self._observe("request_prompt_tokens", job.prompt_tokens)
        self._observe("request_generation_tokens", job.output_tokens)
        self._observe("request_max_num_generation_tokens", job.output_tokens)
        self._observe("request_params_n", 1)
        self._observe("request_params_max_tokens", max_tokens)
        self._observe("request_time_per_output_token_seconds", decode / max(1, job.output_tokens - 1))
        self._observe("e2e_request_latency_seconds", (last_ns - job.arrival_ns) / _SECOND)
        self._observe("request_queue_time_seconds", (job.started_ns - job.ready_ns) / _SECOND)
        self._observe("request_inference_time_seconds", (last_ns - job.started_ns) / _SECOND)
        self._observe("request_prefill_time_seconds", (first_ns - job.started_ns) / _SECOND)
        self._observe("request_decode_time_seconds", decode)
        self._observe("request_num_preemptions", job.preemptions)
        self._observe("request_prefill_kv_computed_tokens", job.prompt_tokens - job.cached_tokens)

    def abort(self) -> None:
        self.finished["abort"] += 1

    def render(self, stats: Stats) -> bytes:
        """The text exposition format, as prometheus_client writes it."""
        lines: list[str] = []
        for part in (self._gauges(stats), self._counters(stats), self._histograms(stats), self._config()):
            lines.extend(part)
        return ("\n".join(lines) + "\n").encode()

    def _observe(self, name: str, value: float) -> None:
        self.histograms[name][0].observe(value)

    def _line(self, name: str, value: float, **labels: str) -> str:
        pairs = ",".join(f'{key}="{text}"' for key, text in sorted({**self._labels, **labels}.items()))
        return f"vllm:{name}{{{pairs}}} {float(value)!r}"

    def _gauges(self, stats: Stats) -> Iterator[str]:
        yield from _head("num_requests_running", "gauge", "Number of requests in model execution batches.")
        yield self._line("num_requests_running", stats.running)
        yield from _head("num_requests_waiting", "gauge", "Number of requests waiting to be processed.")
        yield self._line("num_requests_waiting", stats.waiting)
        yield from _head("kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.")
        yield self._line("kv_cache_usage_perc", stats.kv_usage)

    def _counters(self, stats: Stats) -> Iterator[str]:
        sources = {
            "local_compute": self.prompt_tokens - self.cached_tokens,
            "local_cache_hit": self.cached_tokens,
            "external_kv_transfer": 0,
        }
        for name, text, label, values in (
            (
                "prefix_cache_queries",
                "Prefix cache queries, in terms of number of queried tokens.",
                "",
                {"": stats.prefix_queries},
            ),
            (
                "prefix_cache_hits",
                "Prefix cache hits, in terms of number of cached tokens.",
                "",
                {"": stats.prefix_hits},
            ),
            ("num_preemptions", "Cumulative number of preemption from the engine.", "", {"": stats.preemptions}),
            ("prompt_tokens", "Number of prefill tokens processed.", "", {"": self.prompt_tokens}),
            ("prompt_tokens_by_source", "Number of prompt tokens by source.", "source", sources),
            (
                "prompt_tokens_cached",
                "Number of cached prompt tokens (local + external).",
                "",
                {"": self.cached_tokens},
            ),
            ("generation_tokens", "Number of generation tokens processed.", "", {"": self.generation_tokens}),
            ("request_success", "Count of successfully processed requests.", "finished_reason", self.finished),
        ):
            yield from _head(f"{name}_total", "counter", text)
            yield from (self._line(f"{name}_total", value, **_label(label, key)) for key, value in values.items())
            yield from _head(f"{name}_created", "gauge", text)
            yield from (self._line(f"{name}_created", self._created, **_label(label, key)) for key in values)

    def _histograms(self, stats: Stats) -> Iterator[str]:
        iterations = Histogram(_ITERATION)
        for tokens, steps in stats.iterations.items():
            iterations.observe(tokens, steps)
        text = "Histogram of number of tokens per engine_step."
        for name, (histogram, help_text) in {"iteration_tokens_total": (iterations, text), **self.histograms}.items():
            yield from _head(name, "histogram", help_text)
            below = 0
            for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
                below += count
                yield self._line(f"{name}_bucket", below, le="+Inf" if bound is None else repr(bound))
            yield self._line(f"{name}_count", below)
            yield self._line(f"{name}_sum", histogram.total)
            yield from _head(f"{name}_created", "gauge", help_text)
            yield self._line(f"{name}_created", self._created)

    def _config(self) -> Iterator[str]:
        if self._profile is None:
            return
        yield from _head("cache_config_info", "gauge", "Information of the LLMEngine CacheConfig")
        labels = {
            "block_size": str(self._profile.block_size),
            "enable_prefix_caching": str(self._profile.prefix_caching),
            "engine": "0",
            "kv_cache_size_tokens": str(self._profile.block_size * self._profile.num_blocks),
            "num_gpu_blocks": str(self._profile.num_blocks),
        }
        pairs = ",".join(f'{key}="{text}"' for key, text in labels.items())
        yield f"vllm:cache_config_info{{{pairs}}} 1.0"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP vllm:{name} {text}", f"# TYPE vllm:{name} {kind}"


def _label(name: str, value: str) -> dict[str, str]:
    return {name: value} if name else {}
