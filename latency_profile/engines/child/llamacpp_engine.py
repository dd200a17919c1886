"""llama.cpp in this process, by xllamacpp: its server's scheduler with as many slots as requests are to run at once.

A request's first token is placed by llama.cpp's own count of how long generation took, back from its end.
"""

import json
import time
import urllib.request
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

from latency_profile.engines.exchange import Batch, EngineRefusal, Load, Ran, Ready

SLOTS = 32  # as many as the runner of engines starts its server with
CONTEXT = 2048  # tokens of a slot, where nothing is said
GRAIN = 256  # llama.cpp pads a slot's context to a multiple of it


class LlamaCpp:
    """One model in this process."""

    def __init__(self, wanted: Load) -> None:
        """Raises EngineRefusal where it cannot be had."""
        try:
            import xllamacpp
        except ImportError as error:
            raise EngineRefusal(
                f"--engine llamacpp needs {error.name}, which this Python does not have; install it (pip install "
                "xllamacpp), or name another Python by --engine-python"
            ) from error
        if wanted.model is None or not Path(wanted.model).is_file():
            raise EngineRefusal(f"--model {wanted.model}: llama.cpp takes a GGUF file")
        if wanted.tensor_parallel_size > 1:
            raise EngineRefusal("--tensor-parallel-size: llama.cpp takes 1 here")
        for flag, value in (("--dtype", wanted.dtype), ("--load-format", wanted.load_format)):
            if value != "auto":
                raise EngineRefusal(f"{flag} {value}: a GGUF file has its own; takes auto")
        gpus = [device for device in xllamacpp.get_device_info() if "GPU" in str(device.get("type", "")).upper()]
        if wanted.device == "gpu" and not gpus:
            raise EngineRefusal("--device gpu: llama.cpp sees no GPU here")
        gpu = bool(gpus) and wanted.device != "cpu"
        slots = wanted.max_num_seqs or SLOTS
        context = -(-(wanted.max_model_len or CONTEXT) // GRAIN) * GRAIN
        params = xllamacpp.CommonParams()
        params.model.path = wanted.model
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.n_parallel = slots
        params.n_ctx = slots * context
        params.n_batch = wanted.max_num_batched_tokens
        params.n_gpu_layers = 999 if gpu else 0
        if wanted.threads is not None:
            params.cpuparams.n_threads = wanted.threads
        start_ns = time.monotonic_ns()
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:  # no GGUF, or not enough memory: its log says which
            reason = " ".join(str(error).split())[:300]
            raise EngineRefusal(f"--model {wanted.model}: {reason} ({slots} slots of {context} tokens)") from error
        load_s = (time.monotonic_ns() - start_ns) / 1e9
        meta = _model_of(self._server.listening_address)
        self.ready = Ready(
            engine="llamacpp",
            version=f"xllamacpp {xllamacpp.__version__}",
            model=wanted.model,
            device=str(gpus[0].get("description") or gpus[0].get("name")) if gpu else "CPU",
            dtype=None,
            vocabulary=meta["n_vocab"],
            max_model_len=min(meta["n_ctx_train"], context),
            longest=meta["n_ctx_train"],
            at_once=slots,
            continuous=True,
            load_s=load_s,
        )

    def run(self, batch: Batch) -> Ran:
        how = {"ignore_eos": True, "temperature": 0.0, "cache_prompt": False}
        orders = [
            {"prompt": prompt, "n_predict": tokens, **how}
            for prompt, tokens in zip(batch.prompts, batch.output_tokens, strict=True)
        ]
        answers: list[dict[str, Any]] = [{} for _ in orders]
        ends_s = [0.0] * len(orders)
        together = Barrier(len(orders) + 1)

        def ask(place: int) -> None:
            together.wait()
            try:
                answers[place] = self._server.handle_completions(orders[place])
                ends_s[place] = time.monotonic()
            except Exception as error:
                answers[place] = {"error": str(error)}

        threads = [Thread(target=ask, args=(place,)) for place in range(len(orders))]
        for thread in threads:
            thread.start()
        start_s = time.monotonic()
        together.wait()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - start_s
        for answer in answers:
            if "timings" not in answer:
                raise RuntimeError(f"llama.cpp answered {json.dumps(answer)[:200]}")
        end_s = [end - start_s for end in ends_s]
        generating_s = [answer["timings"]["predicted_ms"] / 1e3 for answer in answers]
        return Ran(
            took_s,
            [max(0.0, end - spent) for end, spent in zip(end_s, generating_s, strict=True)],
            end_s,
            [answer["usage"]["prompt_tokens"] for answer in answers],
            [answer["usage"]["completion_tokens"] for answer in answers],
        )


def _model_of(address: str) -> dict[str, Any]:
    """What its own server says of the model: vocabulary and greatest length."""
    with urllib.request.urlopen(f"{address}/v1/models", timeout=30) as answer:
        meta: dict[str, Any] = json.load(answer)["data"][0]["meta"]
        return meta


def load(wanted: Load) -> LlamaCpp:
    return LlamaCpp(wanted)
