"""Hugging Face transformers: `generate` on static batches, on a GPU or a CPU.

A request that finds no place in a batch waits for the next one, as everybody does who calls `generate` in a loop.
"""

import time
from typing import Any

from latency_profile.engines.exchange import Batch, EngineRefusal, Load, Ran, Ready

AT_ONCE = 32  # requests in one batch, where nothing is said
TINY = {  # the model that needs no files: a Llama of 5 million random weights
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
}


class Transformers:
    """One model in this process."""

    def __init__(self, wanted: Load) -> None:
        """Raises EngineRefusal where it cannot be had."""
        try:
            import torch
            import transformers
        except ImportError as error:
            raise EngineRefusal(
                f"--engine transformers needs {error.name}, which this Python does not have; install it (pip install "
                "torch transformers), or name another Python by --engine-python"
            ) from error
        if wanted.tensor_parallel_size > 1:
            raise EngineRefusal("--tensor-parallel-size: transformers' generate takes 1 here")
        gpu = torch.cuda.is_available() and wanted.device != "cpu"
        if wanted.device == "gpu" and not gpu:
            raise EngineRefusal("--device gpu: torch sees no GPU here")
        if wanted.threads is not None:
            torch.set_num_threads(wanted.threads)
        torch.manual_seed(wanted.seed)
        start_ns = time.monotonic_ns()
        self._torch = torch
        self._device = "cuda" if gpu else "cpu"
        self._model = _model(transformers, torch, wanted).to(self._device).eval()
        config = self._model.config.get_text_config()
        generation = self._model.generation_config
        generation.eos_token_id = None  # nothing ends an answer but its length
        generation.pad_token_id = 0
        generation.temperature = generation.top_p = generation.top_k = None  # of sampling: greedy takes none
        self._at_once = wanted.max_num_seqs or AT_ONCE
        self.ready = Ready(
            engine="transformers",
            version=transformers.__version__,
            model=wanted.model or "tiny",
            device=torch.cuda.get_device_name() if gpu else "CPU",
            dtype=str(self._model.dtype).removeprefix("torch."),
            vocabulary=config.vocab_size,
            max_model_len=min(wanted.max_model_len or config.max_position_embeddings, config.max_position_embeddings),
            longest=config.max_position_embeddings,
            at_once=self._at_once,
            continuous=False,
            load_s=(time.monotonic_ns() - start_ns) / 1e9,
        )

    def run(self, batch: Batch) -> Ran:
        first_s: list[float | None] = []
        end_s: list[float] = []
        counts: list[int] = []
        start_ns = time.monotonic_ns()
        for place in range(0, len(batch.prompts), self._at_once):
            wanted = batch.output_tokens[place : place + self._at_once]
            stamps, generated = self._generate(batch.prompts[place : place + self._at_once], max(wanted))
            since_s = [(stamp - start_ns) / 1e9 for stamp in stamps]
            first_s += [since_s[0]] * len(wanted)
            end_s += [since_s[min(tokens, generated) - 1] for tokens in wanted]
            counts += [min(tokens, generated) for tokens in wanted]
        took_s = (time.monotonic_ns() - start_ns) / 1e9
        return Ran(took_s, first_s, end_s, [len(prompt) for prompt in batch.prompts], counts)

    def _generate(self, prompts: list[list[int]], tokens: int) -> tuple[list[int], int]:
        """When each step's tokens were there (monotonic ns), and how many steps there were."""
        torch = self._torch
        longest = max(map(len, prompts))
        # Shorter prompts stand at the right, so that all of them end where the first token is generated.
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=self._device)
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        stamps: list[int] = []

        def stamp(input_ids: Any, _: Any, **__: Any) -> Any:
            if self._device == "cuda":
                torch.cuda.synchronize()
            stamps.append(time.monotonic_ns())
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

        with torch.inference_mode():
            answer = self._model.generate(
                ids,
                attention_mask=mask.to(self._device),
                do_sample=False,
                max_new_tokens=tokens,
                stopping_criteria=[stamp],
            )
        return stamps, answer.shape[1] - longest


def _model(transformers: Any, torch: Any, wanted: Load) -> Any:
    dtype = "auto" if wanted.dtype == "auto" else getattr(torch, wanted.dtype, None)
    if dtype != "auto" and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise EngineRefusal(f"--dtype {wanted.dtype}: takes a floating-point type of torch, such as bfloat16")
    try:
        if wanted.model is None:
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**TINY))
            return model if dtype == "auto" else model.to(dtype)
        if wanted.load_format == "dummy":
            config = transformers.AutoConfig.from_pretrained(wanted.model)
            own = getattr(config, "dtype", None) or torch.float32
            return transformers.AutoModelForCausalLM.from_config(config, dtype=own if dtype == "auto" else dtype)
        return transformers.AutoModelForCausalLM.from_pretrained(wanted.model, dtype=dtype)
    except (OSError, ValueError) as error:  # no such model, or no model of this kind
        raise EngineRefusal(f"--model {wanted.model}: {' '.join(str(error).split())[:300]}") from error


def load(wanted: Load) -> Transformers:
    return Transformers(wanted)
