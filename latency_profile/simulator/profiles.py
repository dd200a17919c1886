"""Engines by name. Every number has its reason beside it; none is a promise about a machine."""

from latency_profile.simulator.engine import EngineProfile

# vLLM 0.24 on one H100 80GB (700 W), Llama-3-8B, bf16, measured: `vllm bench latency` (128 in, 64 out), prefill alone
# (one token out) and `vllm bench serve` (512 in, 128 out, Poisson). tests/test_simulator_calibration.py holds the model
# against the latter.
H100_8B = EngineProfile(
    name="h100-8b",
    step_ns=6_500_000,  # batch 1: (427 - 15.5) ms / 63 steps = 6.53 ms; 16 GB of weights at 3.35 TB/s alone are 4.8 ms
    sequence_ns=7_000,  # batch 128: (937 - 406) ms / 63 = 8.43 ms, less a and c · 128 · 160 tokens
    context_ns=49.0,  # 32 layers · 8 KV heads · 128 · 2 · 2 bytes = 128 KiB a token at 80 % of 3.35 TB/s
    prefill_token_ns=24_000.0,  # 32 × 512 in two steps 394 ms, 128 × 128 406 ms; 16 GFLOP each at 68 % of 989 TFLOP/s
    prefill_floor_ns=9_000_000,  # 1 × 128 takes 15.5 ms: outside the CUDA graphs of decode
    frontend_ns=8_000_000,  # what is left of TTFT p50 at 2 requests/s (36.6 ms) beside its step and those before it
    max_num_seqs=1024,  # vLLM's default for an API server on 80 GB
    max_num_batched_tokens=8192,  # likewise
    block_size=16,  # vLLM's default
    num_blocks=27_000,  # reckoned: 90 % of 79.6 GiB less 15 of weights and 3 of activations, in blocks of 2 MiB
    max_model_len=8192,  # Llama-3-8B
    async_scheduling=True,  # vLLM's default
    jitter=0.02,  # ITL p50 and p90 at 2 requests/s: 6.5 and 6.8 ms
)

# Not measured: the H100's numbers scaled by the published data sheets (memory 3.35 → 2.04 TB/s, dense bf16 989 → 312
# TFLOP/s), efficiencies kept.
A100_8B = EngineProfile(
    name="a100-8b",
    step_ns=10_700_000,  # 6.5 ms · 3.35 / 2.04
    sequence_ns=11_500,  # 7 µs · 3.35 / 2.04
    context_ns=80.0,  # 49 ns · 3.35 / 2.04
    prefill_token_ns=76_000.0,  # 24 µs · 989 / 312
    prefill_floor_ns=14_800_000,  # bound by memory: 9 ms · 3.35 / 2.04
    frontend_ns=8_000_000,  # the host's work: the same
    max_num_seqs=256,  # vLLM's default for an API server on other cards than Hopper
    max_num_batched_tokens=2048,  # likewise
    block_size=16,
    num_blocks=27_000,  # the same 80 GB
    max_model_len=8192,
    async_scheduling=True,
    jitter=0.02,
)

# vLLM 0.32 (CPU) with SmolLM2-135M on two cores, measured: 44 tokens/s at concurrency 1 and 218 at 8; `vllm bench
# serve` with 4 at once, 64 in, 48 out: TTFT p50 204 ms, TPOT p50 24.7 ms.
CPU_135M = EngineProfile(
    name="cpu-135m",
    step_ns=20_700_000,  # 22.7 ms at 1, 36.7 ms at 8: 20.7 + 2.0 a sequence
    sequence_ns=2_000_000,
    context_ns=0.0,  # not told apart from b at these lengths
    prefill_token_ns=700_000.0,  # 4 · 64 tokens in 204 ms, less a
    prefill_floor_ns=0,
    frontend_ns=3_000_000,  # assumed
    max_num_seqs=16,  # as that server was started
    max_num_batched_tokens=2048,
    block_size=128,  # vLLM's cache_config_info on CPU
    num_blocks=364,  # likewise, for 1 GiB of cache
    max_model_len=2048,  # as that server was started
    jitter=0.05,  # assumed
)

# Made up: a step of 1 ms, whatever it carries, for tests that want answers soon and loads that only the client limits.
INSTANT = EngineProfile(
    name="instant",
    step_ns=1_000_000,
    sequence_ns=0.0,
    context_ns=0.0,
    prefill_token_ns=0.0,
    prefill_floor_ns=0,
    frontend_ns=0,
    max_num_seqs=4096,
    max_num_batched_tokens=1_000_000,
    block_size=16,
    num_blocks=1_000_000,
    max_model_len=131_072,
    prefix_caching=False,  # nothing to gain: saves hashing
)

PROFILES = {profile.name: profile for profile in (H100_8B, A100_8B, CPU_135M, INSTANT)}
