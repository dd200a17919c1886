"""One vocabulary for what model servers say of themselves, and what each server and version calls it.

Names are written down, never guessed by pattern: Google Managed Prometheus takes whole names only, and calls some
counters "unknown", so that kinds have to be known too. Each was read in the server's own source or exposition.
"""

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

MetricKind = Literal["counter", "gauge", "histogram"]


class Quantity(enum.StrEnum):
    """What can be compared between servers. Times are in seconds, shares 0 to 1, over all series of a server."""

    RUNNING = "running"  # requests in the batch
    WAITING = "waiting"  # requests that the server holds and has not begun
    KV_CACHE_USE = "kv_cache_use"  # share of the KV cache, or of the slots where each has its own part of it
    PREEMPTIONS = "preemptions"
    CACHE_QUERIES = "prefix_cache_queries"  # prompt tokens looked up
    CACHE_HITS = "prefix_cache_hits"  # of them found
    REQUESTS = "requests"  # that ended
    PROMPT_TOKENS = "prompt_tokens"
    GENERATED_TOKENS = "generated_tokens"
    TTFT = "ttft"
    ITL = "itl"
    TPOT = "tpot"
    E2E = "e2e"
    QUEUE = "queue"
    PREFILL = "prefill"
    DECODE = "decode"
    QUEUE_SECONDS = "queue_seconds"  # summed over requests, where a server has no histogram of it
    PROCESS_CPU = "process_cpu_seconds"  # of the process that answers /metrics, which is mostly the HTTP front
    PROCESS_MEMORY = "process_memory_bytes"  # likewise, resident


SHARES = frozenset({Quantity.KV_CACHE_USE})  # of several series the mean; of all other gauges the sum


@dataclass(frozen=True, slots=True)
class Sample:
    """Where one number stands: a sample's name, which of its series, and how it becomes the vocabulary's unit."""

    name: str  # of a histogram without _bucket, _sum, _count
    labels: Mapping[str, str] = field(default_factory=dict)
    factor: float = 1.0
    complement: bool = False  # 1 - value: it tells the share that is free


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity under its names, the newest first; a server has one of them, and is asked for each.

    ways: each is one or more samples that are summed.
    """

    quantity: Quantity | None  # None: only handed on under the server's own name
    kind: MetricKind
    ways: tuple[tuple[Sample, ...], ...]
    optional: bool = False  # some versions have none; that is worth no notice

    @property
    def names(self) -> tuple[str, ...]:
        """All names, each once."""
        return tuple(dict.fromkeys(sample.name for way in self.ways for sample in way))


def _metrics(prefix: str, *rows: tuple[object, ...]) -> tuple[Metric, ...]:
    """Rows (quantity, kind, way, …); a way is a sample, its name, or several of these to be summed. "?" after the kind:
    optional."""
    made = []
    for quantity, kind, *ways in rows:
        assert isinstance(kind, str)
        assert quantity is None or isinstance(quantity, Quantity)
        plain = kind.removesuffix("?")
        assert plain in ("counter", "gauge", "histogram")
        made.append(
            Metric(quantity, plain, tuple(_way(prefix, way) for way in ways), optional=plain != kind)  # type: ignore[arg-type]
        )
    return tuple(made)


def _way(prefix: str, way: object) -> tuple[Sample, ...]:
    parts = way if isinstance(way, tuple) else (way,)
    return tuple(part if isinstance(part, Sample) else Sample(f"{prefix}{part}") for part in parts)


Q = Quantity
# What prometheus_client tells of its own process, on Linux, unless it gathers from several.
PROCESS = _metrics(
    "process_",
    (Q.PROCESS_CPU, "counter?", "cpu_seconds_total"),
    (Q.PROCESS_MEMORY, "gauge?", "resident_memory_bytes"),
)
# Version 1 of the engine, and what version 0 called it. vllm/v1/metrics/loggers.py, vllm/engine/metrics.py.
VLLM = (
    *_metrics(
        "vllm:",
        (Q.KV_CACHE_USE, "gauge", "kv_cache_usage_perc", "gpu_cache_usage_perc"),
        (Q.WAITING, "gauge", "num_requests_waiting"),
        (Q.RUNNING, "gauge", "num_requests_running"),
        (None, "gauge?", "num_requests_swapped"),
        (None, "gauge?", "cpu_cache_usage_perc"),
        (None, "gauge?", "cpu_prefix_cache_hit_rate"),
        (None, "gauge?", "gpu_prefix_cache_hit_rate"),
        (None, "gauge?", "avg_prompt_throughput_toks_per_s"),
        (None, "gauge?", "avg_generation_throughput_toks_per_s"),
        (None, "histogram?", "time_in_queue_requests"),
        (Q.PROMPT_TOKENS, "counter", "prompt_tokens_total"),
        (Q.GENERATED_TOKENS, "counter", "generation_tokens_total"),
        (Q.REQUESTS, "counter", "request_success_total"),
        (Q.PREEMPTIONS, "counter", "num_preemptions_total"),
        (Q.CACHE_QUERIES, "counter?", "prefix_cache_queries_total", "gpu_prefix_cache_queries_total"),
        (Q.CACHE_HITS, "counter?", "prefix_cache_hits_total", "gpu_prefix_cache_hits_total"),
        (Q.TTFT, "histogram", "time_to_first_token_seconds"),
        (Q.ITL, "histogram", "inter_token_latency_seconds", "time_per_output_token_seconds"),
        (Q.TPOT, "histogram?", "request_time_per_output_token_seconds"),
        (Q.E2E, "histogram", "e2e_request_latency_seconds"),
        (Q.QUEUE, "histogram", "request_queue_time_seconds"),
        (None, "histogram", "request_inference_time_seconds"),
        (Q.PREFILL, "histogram?", "request_prefill_time_seconds"),
        (Q.DECODE, "histogram?", "request_decode_time_seconds"),
        (None, "histogram", "request_prompt_tokens"),
        (None, "histogram", "request_generation_tokens"),
        (None, "histogram", "iteration_tokens_total"),
    ),
    *PROCESS,
)
# python/sglang/srt/metrics/collector.py; the server needs --enable-metrics.
SGLANG = (
    *_metrics(
        "sglang:",
        (Q.RUNNING, "gauge", "num_running_reqs"),
        (Q.WAITING, "gauge", "num_queue_reqs"),
        (Q.KV_CACHE_USE, "gauge", "token_usage"),
        (None, "gauge?", "cache_hit_rate"),  # of its last batch only
        (None, "gauge?", "gen_throughput"),
        (Q.REQUESTS, "counter", "num_requests_total"),
        (Q.PROMPT_TOKENS, "counter", "prompt_tokens_total"),
        (Q.GENERATED_TOKENS, "counter", "generation_tokens_total"),
        (Q.CACHE_QUERIES, "counter?", "prompt_tokens_total"),
        (Q.CACHE_HITS, "counter?", "cached_tokens_total"),
        (Q.PREEMPTIONS, "counter?", "num_retracted_requests_total"),
        (Q.TTFT, "histogram", "time_to_first_token_seconds"),
        (Q.ITL, "histogram", "inter_token_latency_seconds", "time_per_output_token_seconds"),
        (Q.E2E, "histogram", "e2e_request_latency_seconds"),
        (Q.QUEUE, "histogram?", "queue_time_seconds"),
    ),
    *PROCESS,
)
# router/src/server.rs, router/src/infer; lengths and durations are histograms, whose sums count tokens.
TGI = _metrics(
    "tgi_",
    (Q.RUNNING, "gauge", "batch_current_size"),
    (Q.WAITING, "gauge", "queue_size"),
    (Q.REQUESTS, "counter", "request_success"),
    (Q.PROMPT_TOKENS, "counter", "request_input_length_sum"),
    (Q.GENERATED_TOKENS, "counter", "request_generated_tokens_sum"),
    (Q.E2E, "histogram", "request_duration"),
    (Q.QUEUE, "histogram", "request_queue_duration"),
    (None, "histogram", "request_mean_time_per_token_duration"),  # with the prefill in it: no TPOT
    (None, "histogram", "request_inference_duration"),
    (None, "histogram", "request_validation_duration"),
    (None, "counter?", "request_count"),
    (None, "counter?", "request_failure"),
)
# tools/server/server.cpp; the server needs --metrics. It counts no requests, and its seconds are those in which any
# prompt was read or any token made: of requests that ran at the same time they are no sum.
LLAMACPP = _metrics(
    "llamacpp:",
    (Q.RUNNING, "gauge", "requests_processing"),
    (Q.WAITING, "gauge", "requests_deferred"),
    (Q.KV_CACHE_USE, "gauge?", "kv_cache_usage_ratio"),
    (Q.PROMPT_TOKENS, "counter", ("prompt_tokens_total", "prompt_tokens_cached_total"), "prompt_tokens_total"),
    (Q.GENERATED_TOKENS, "counter", "tokens_predicted_total"),
    (Q.CACHE_QUERIES, "counter?", ("prompt_tokens_total", "prompt_tokens_cached_total")),
    (Q.CACHE_HITS, "counter?", "prompt_tokens_cached_total"),
    (None, "counter", "prompt_seconds_total"),
    (None, "counter", "tokens_predicted_seconds_total"),
    (None, "counter", "n_decode_total"),
    (None, "gauge", "n_busy_slots_per_decode"),
)
# Triton's own (docs/user_guide/metrics.md) and TensorRT-LLM's backend (README.md, "Triton Metrics"). Counters of
# durations are in µs, the histogram of first responses (--metrics-config histogram_latencies=true) in ms.
TRITON = _metrics(
    "nv_",
    (Q.RUNNING, "gauge?", Sample("nv_trt_llm_request_metrics", {"request_type": "scheduled"})),
    (
        Q.WAITING,
        "gauge?",
        Sample("nv_trt_llm_request_metrics", {"request_type": "waiting"}),
        "inference_pending_request_count",
    ),
    (Q.KV_CACHE_USE, "gauge?", Sample("nv_trt_llm_kv_cache_block_metrics", {"kv_cache_block_type": "fraction"})),
    (Q.REQUESTS, "counter", "inference_request_success"),
    (Q.PROMPT_TOKENS, "counter?", "llm_input_token_len_sum"),
    (Q.GENERATED_TOKENS, "counter?", "llm_output_token_len_sum"),
    (Q.QUEUE_SECONDS, "counter", Sample("nv_inference_queue_duration_us", factor=1e-6)),
    (Q.TTFT, "histogram?", Sample("nv_inference_first_response_histogram_ms", factor=1e-3)),
    (None, "counter", "inference_request_failure"),
    (None, "counter", "inference_request_duration_us"),
    (None, "counter", "inference_compute_infer_duration_us"),
    (None, "gauge?", "trt_llm_inflight_batcher_metrics"),
    (None, "gauge?", "gpu_utilization"),
)
# jetstream/core/metrics/prometheus.py; the server needs --prometheus_port. Older ones tell the slots that are free.
JETSTREAM = (
    *_metrics(
        "jetstream_",
        (Q.WAITING, "gauge", "prefill_backlog_size"),
        (
            Q.KV_CACHE_USE,
            "gauge",
            "slots_used_percentage",
            Sample("jetstream_slots_available_percentage", complement=True),
        ),
        (Q.REQUESTS, "counter?", "request_success_count_total"),
        (Q.PROMPT_TOKENS, "counter?", "request_input_length_sum"),
        (Q.GENERATED_TOKENS, "counter?", "request_output_length_sum"),
        (Q.TTFT, "histogram?", "time_to_first_token"),
        (Q.TPOT, "histogram?", "time_per_output_token"),
        (Q.E2E, "histogram?", "time_per_request"),
        (Q.QUEUE, "histogram?", "queue_duration"),
        (None, "gauge?", "transfer_backlog_size"),
        (None, "gauge?", "generate_backlog_size"),
        (None, "histogram?", "time_per_prefill_token"),
        (None, "histogram?", "wait_time_per_request"),
    ),
    *PROCESS,
)

# By backend. The openai backend speaks to any server: `metrics_of` finds out by the names' prefixes.
METRICS: Mapping[str, tuple[Metric, ...]] = {
    "vllm": VLLM,
    "sglang": SGLANG,
    "tgi": TGI,
    "llamacpp": LLAMACPP,
    "tensorrt_llm_triton": TRITON,
    "jetstream": JETSTREAM,
}
PREFIXES = {
    "vllm:": VLLM,
    "sglang:": SGLANG,
    "tgi_": TGI,
    "llamacpp:": LLAMACPP,
    "nv_": TRITON,
    "jetstream_": JETSTREAM,
}
# Of plain samples the kind is the one written here, whatever a server says: llama.cpp called an average a counter, and
# what is handed on by a federation or a gateway has often lost its type.
KINDS: Mapping[str, MetricKind] = {
    name: metric.kind
    for known in METRICS.values()
    for metric in known
    if metric.kind != "histogram"
    for name in metric.names
}
DEFAULT = VLLM  # what a Prometheus is asked for where nothing tells which server it is: the commonest
PORTS = {"tensorrt_llm_triton": 8002}  # of metrics, where that is not the server's own
MODEL_LABELS = frozenset({"model_name", "model", "served_model_name"})  # by which servers tell their models apart


def models_in(labels: Iterable[tuple[str, str]]) -> set[str]:
    """What these labels call the model; empty where they do not tell models apart."""
    return {text for name, text in labels if name in MODEL_LABELS}


def spelled(models: Collection[str]) -> set[str]:
    """What a server may call these models: by their names, or by the last part of a path; JetStream has _ for -."""
    names = {name for model in models for name in (model, model.rpartition("/")[2])}
    return names | {name.replace("-", "_") for name in names}


def metrics_of(backend: str, names: frozenset[str] | None = None) -> tuple[Metric, ...]:
    """The metrics of a backend's server. names: those that it has, which tell where the backend does not."""
    if backend in METRICS:
        return METRICS[backend]
    if names is None:
        return DEFAULT if backend == "openai" else ()
    return next((known for prefix, known in PREFIXES.items() if any(name.startswith(prefix) for name in names)), ())
