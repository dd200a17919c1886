"""vLLM without its server: the LLM class, with its prefix cache off, as every batch is to be computed."""

import os
import time
from typing import Any

from latency_profile.engines.exchange import Batch, EngineRefusal, Load, Ran, Ready

CPU_CACHE_GIB = "4"  # of KV cache; nine tenths of the machine's memory, its own choice, are seldom free


class Vllm:
    """One LLM in this process; vLLM starts processes of its own for it."""

    def __init__(self, wanted: Load) -> None:
        """Raises EngineRefusal where it cannot be had."""
        if wanted.model is None:
            raise EngineRefusal("--engine vllm: --model is missing, takes a folder or a name on the Hugging Face hub")
        try:
            import vllm
        except ImportError as error:
            raise EngineRefusal(
                f"--engine vllm needs {error.name}, which this Python does not have; name one that has it by "
                "--engine-python"
            ) from error
        from vllm.platforms import current_platform

        gpu = bool(current_platform.is_cuda_alike())
        if wanted.device == "gpu" and not gpu:
            raise EngineRefusal("--device gpu: vLLM sees no GPU here")
        if wanted.device == "cpu" and gpu:
            raise EngineRefusal("--device cpu: this vLLM is built for GPUs; there is one for the CPU")
        given: dict[str, Any] = {
            "max_num_seqs": wanted.max_num_seqs,
            "max_model_len": wanted.max_model_len,
        }
        start_ns = time.monotonic_ns()
        self._vllm = vllm
        try:
            self._llm: Any = vllm.LLM(
                model=wanted.model,
                dtype=wanted.dtype,
                load_format=wanted.load_format,
                tensor_parallel_size=wanted.tensor_parallel_size,
                gpu_memory_utilization=wanted.gpu_memory_utilization,
                max_num_batched_tokens=wanted.max_num_batched_tokens,
                enforce_eager=wanted.enforce_eager,
                seed=wanted.seed,
                enable_prefix_caching=False,
                disable_log_stats=False,  # or it keeps no times of single requests
                **{name: value for name, value in given.items() if value is not None},
            )
        except (OSError, ValueError) as error:  # no such model; settings that contradict each other
            raise EngineRefusal(f"--model {wanted.model}: {' '.join(str(error).split())[:300]}") from error
        model = self._llm.llm_engine.model_config
        self.ready = Ready(
            engine="vllm",
            version=vllm.__version__,
            model=wanted.model,
            device=current_platform.get_device_name() if gpu else "CPU",
            dtype=str(model.dtype).removeprefix("torch."),
            vocabulary=model.get_vocab_size(),
            max_model_len=model.max_model_len,
            longest=model.max_model_len,
            at_once=self._llm.llm_engine.vllm_config.scheduler_config.max_num_seqs,
            continuous=True,
            load_s=(time.monotonic_ns() - start_ns) / 1e9,
        )

    def run(self, batch: Batch) -> Ran:
        prompts = [{"prompt_token_ids": prompt} for prompt in batch.prompts]
        how = [
            self._vllm.SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
            for tokens in batch.output_tokens
        ]
        start_s = time.monotonic()
        answers = self._llm.generate(prompts, how, use_tqdm=False)
        took_s = time.monotonic() - start_s
        # The engine's process stamps with the same machine's monotonic clock.
        times = [answer.metrics for answer in answers]
        return Ran(
            took_s,
            [None if of is None or not of.first_token_ts else of.first_token_ts - start_s for of in times],
            [took_s if of is None or not of.last_token_ts else of.last_token_ts - start_s for of in times],
            [len(answer.prompt_token_ids) for answer in answers],
            [len(answer.outputs[0].token_ids) for answer in answers],
        )


def load(wanted: Load) -> Vllm:
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE_GIB)  # read on the CPU only
    return Vllm(wanted)
