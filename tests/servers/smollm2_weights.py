"""Write a Hugging Face folder (bf16 weights, config, tokenizer) from a GGUF file: `smollm2_weights.py MODEL.gguf DIR`.

Runs in the environment of vLLM: it needs torch, transformers, gguf and accelerate. Offline.
"""

import os
import sys
from pathlib import Path

import smollm2


def write_weights(gguf: Path, folder: Path) -> None:
    """Dequantize `gguf` to bf16 and save it, with its tokenizer, in `folder`."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read by transformers when it is imported
    import torch
    from transformers import AutoModelForCausalLM

    metadata = smollm2.read_metadata(gguf)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    # The weights are plain numbers now; the marks of GGUF's quantization would forbid saving them.
    model.hf_quantizer = None
    for mark in ("is_quantized", "quantization_method"):
        if mark in vars(model):
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        setattr(model.config, f"{name}_token_id", metadata[f"tokenizer.ggml.{key}_token_id"])
    model.save_pretrained(folder)
    smollm2.write_tokenizer(gguf, folder)


if __name__ == "__main__":
    write_weights(Path(sys.argv[1]), Path(sys.argv[2]))
