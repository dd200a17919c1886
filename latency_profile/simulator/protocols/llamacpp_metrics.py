"""/metrics in llama.cpp's names. A prompt's seconds end with its first token; there is no speculative decoding."""

from collections.abc import Iterator

from latency_profile.simulator.job import Stats
from latency_profile.simulator.metrics import Meter, heading


class Metrics(Meter):
    """llama.cpp's; all without labels."""

    def lines(self, stats: Stats) -> Iterator[str]:
        steps = sum(stats.iterations.values())
        busy = sum(tokens * count for tokens, count in stats.iterations.items()) / steps if steps else 0.0
        computed = self.prompt_tokens - self.cached_tokens
        drafts = "Speculative: Total"
        decode = "Total number of llama_decode() calls, excluding speculative decoding and multimodal decoding"
        for name, kind, text, value in (
            ("prompt_tokens_total", "counter", "Number of prompt tokens processed, excluding cached tokens", computed),
            (
                "prompt_tokens_cached_total",
                "counter",
                "Number of prompt tokens reused from the cache",
                self.cached_tokens,
            ),
            ("prompt_seconds_total", "counter", "Total time spent processing prompts", self.prefill_s),
            ("tokens_predicted_total", "counter", "Number of generation tokens processed", self.generation_tokens),
            ("tokens_predicted_seconds_total", "counter", "Total time spent generating tokens", self.decode_s),
            ("n_decode_total", "counter", decode, steps or self.generation_tokens),
            (
                "n_tokens_max",
                "counter",
                "Largest observed sequence length (prompt + generation)",
                self.longest,
            ),
            ("spec_decode_num_draft_tokens_total", "counter", f"{drafts} draft tokens generated", 0),
            (
                "spec_decode_num_accepted_tokens_total",
                "counter",
                f"{drafts} draft tokens accepted by the target model",
                0,
            ),
            ("spec_decode_num_drafts_total", "counter", f"{drafts} speculative decoding verification steps", 0),
            (
                "prompt_tokens_seconds",
                "gauge",
                "Average prompt throughput in tokens/s",
                computed / self.prefill_s if self.prefill_s else 0,
            ),
            (
                "predicted_tokens_seconds",
                "gauge",
                "Average generation throughput in tokens/s",
                self.generation_tokens / self.decode_s if self.decode_s else 0,
            ),
            ("requests_processing", "gauge", "Number of requests processing", stats.running),
            ("requests_deferred", "gauge", "Number of requests deferred", stats.waiting),
            (
                "n_busy_slots_per_decode",
                "gauge",
                "Average number of busy slots per llama_decode() call",
                busy,
            ),
        ):
            yield from heading(f"llamacpp:{name}", kind, text)
            yield f"llamacpp:{name} {value:g}" if isinstance(value, float) else f"llamacpp:{name} {value}"
