"""What the metrics of each model server are called: those that Prometheus is asked for.

Kinds are written down, not asked: Google Managed Prometheus calls some counters "unknown".
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity under its names, the newest first; a server has at least one of them."""

    kind: Literal["counter", "gauge", "histogram"]
    names: tuple[str, ...]
    optional: bool = False  # some versions have none; that is worth no notice


def vllm(kind: Literal["counter", "gauge", "histogram"], *names: str, optional: bool = False) -> Metric:
    """A metric of vLLM, by its names without the prefix."""
    return Metric(kind, tuple(f"vllm:{name}" for name in names), optional)


VLLM = (
    vllm("gauge", "kv_cache_usage_perc", "gpu_cache_usage_perc"),
    vllm("gauge", "num_requests_waiting"),
    vllm("gauge", "num_requests_running"),
    # Gone with version 1 of the engine.
    vllm("gauge", "num_requests_swapped", optional=True),
    vllm("gauge", "cpu_cache_usage_perc", optional=True),
    vllm("gauge", "cpu_prefix_cache_hit_rate", optional=True),
    vllm("gauge", "gpu_prefix_cache_hit_rate", optional=True),
    vllm("gauge", "avg_prompt_throughput_toks_per_s", optional=True),
    vllm("gauge", "avg_generation_throughput_toks_per_s", optional=True),
    vllm("histogram", "time_in_queue_requests", optional=True),
    vllm("counter", "prompt_tokens_total"),
    vllm("counter", "generation_tokens_total"),
    vllm("counter", "request_success_total"),
    vllm("counter", "num_preemptions_total"),
    vllm("counter", "prefix_cache_queries_total", "gpu_prefix_cache_queries_total", optional=True),
    vllm("counter", "prefix_cache_hits_total", "gpu_prefix_cache_hits_total", optional=True),
    vllm("histogram", "time_to_first_token_seconds"),
    vllm("histogram", "inter_token_latency_seconds", "time_per_output_token_seconds"),
    vllm("histogram", "request_time_per_output_token_seconds", optional=True),
    vllm("histogram", "e2e_request_latency_seconds"),
    vllm("histogram", "request_queue_time_seconds"),
    vllm("histogram", "request_inference_time_seconds"),
    vllm("histogram", "request_prefill_time_seconds", optional=True),
    vllm("histogram", "request_decode_time_seconds", optional=True),
    vllm("histogram", "request_prompt_tokens"),
    vllm("histogram", "request_generation_tokens"),
    vllm("histogram", "iteration_tokens_total"),
)

# The openai backend speaks to any server; vLLM is the commonest, and says little wrong where it is another.
METRICS: dict[str, tuple[Metric, ...]] = {"vllm": VLLM, "openai": VLLM}
