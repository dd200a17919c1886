"""The profile's tokenizer: what a server will count for a prompt, and what an answer's text counts.

A prompt counts with the special tokens that the tokenizer's own post-processor adds to one text (Llama's BOS), because
servers add them on their completions doors; an answer's text counts without them. What a chat template adds is in
neither: only the server's usage tells it.

`bundled` names the tokenizer of the embedded server, a byte-level BPE of 8192 tokens without special tokens around a
text. It was trained with tokenizers 0.23.3 (BpeTrainer, vocab_size=8192, special token <|endoftext|>, the byte-level
initial alphabet in sorted order; ByteLevel pre-tokenizer without prefix space) on the English text of CPython 3.11.7's
standard library (PSF licence): the values of `pydoc_data.topics.topics` by sorted key, then `ast.get_docstring` of each
module, class and function, in `ast.walk` order, of each *.py file by sorted path, leaving out the folders test, tests,
idlelib, idle_test, lib2to3, site-packages, pydoc_data, turtledemo and ensurepip. The same steps give the same file.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.workload.hub import one_line, refusal

BUNDLED = Path(__file__).parents[1] / "simulator" / "tokenizer.json"

_BATCH_TEXTS = 512
_BATCH_CHARACTERS = 1_000_000  # an encoding takes about 100 bytes a token while it lives
_TAKES = 'it takes a folder, a tokenizer.json file, a name on the Hugging Face hub, or "bundled"'
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


class Tokenizer:
    """Encodes texts in batches. `sha256` stands for its content and for the library version that applies it."""

    def __init__(
        self, name: str, sha256: str, vocabulary: dict[str, int], encoder: Callable[[list[str], bool], list[list[int]]]
    ) -> None:
        self.name = name
        self.sha256 = sha256
        self._vocabulary = vocabulary
        self._encode = encoder

    def ids(self, texts: Sequence[str], special: bool) -> Iterator[list[int]]:
        """The token ids of each text, in order; `special`: with those that belong around a prompt."""
        start = 0
        while start < len(texts):
            end, characters = start, 0
            while end < len(texts) and end - start < _BATCH_TEXTS and characters < _BATCH_CHARACTERS:
                characters += len(texts[end])
                end += 1
            yield from self._encode(list(texts[start:end]), special)
            start = end

    def counts(self, texts: Sequence[str], special: bool) -> list[int]:
        """The number of tokens of each text."""
        return [len(ids) for ids in self.ids(texts, special)]

    def vocabulary(self) -> list[str]:
        """The tokens as the vocabulary spells them, by id: early ones are the commoner ones in most."""
        return sorted(self._vocabulary, key=lambda token: self._vocabulary[token])


def load(name: str, trust_remote_code: bool = False) -> Tokenizer:
    """Loads a tokenizer. Raises UsageError where there is none, or it cannot be read, and ServerUnavailable where the
    model hub cannot be reached now: a Job may try again."""
    if name == "bundled":
        return _from_file(name, BUNDLED)
    path = Path(name)
    try:
        if path.is_file():
            return _from_file(name, path)
        if path.is_dir():
            file = path / "tokenizer.json"
            return _from_file(name, file) if file.is_file() else _from_transformers(name, trust_remote_code)
    except PermissionError as error:
        raise UsageError(f"--tokenizer {name}: permission denied; {_TAKES}") from error
    if name.startswith((".", "/", "~")) or name.endswith(".json") or not _HUB_NAME.fullmatch(name):
        raise UsageError(f"--tokenizer {name}: no such file or folder; {_TAKES}")
    hub_file, unreachable = _hub_file(name)
    if hub_file:
        return _from_file(name, hub_file)
    try:
        return _from_transformers(name, trust_remote_code)
    except UsageError as error:
        if unreachable:
            raise ServerUnavailable(f"{error} ({unreachable})") from error
        raise


def _from_file(name: str, path: Path) -> Tokenizer:
    content = path.read_bytes()
    try:
        backend = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises plain Exception
        raise UsageError(f"--tokenizer {name}: {path.name} is no tokenizer.json: {one_line(error)}") from error
    return _from_backend(name, content, backend)


def _from_backend(name: str, content: bytes, backend: tokenizers.Tokenizer) -> Tokenizer:
    # Files may carry the truncation and padding of their training, which servers do not apply.
    backend.no_truncation()
    backend.no_padding()
    # encode_batch_fast (since 0.20.1) leaves the offsets out.
    batch = getattr(backend, "encode_batch_fast", backend.encode_batch)

    def encode(texts: list[str], special: bool) -> list[list[int]]:
        return [encoding.ids for encoding in batch(texts, add_special_tokens=special)]

    digest = hashlib.sha256(content + tokenizers.__version__.encode()).hexdigest()
    return Tokenizer(name, digest, backend.get_vocab(with_added_tokens=False), encode)


def _hub_file(name: str) -> tuple[Path | None, str]:
    """The hub's tokenizer.json, from the local cache where it is there; None where the model has none. And why the hub
    could not be asked, if so: the cache may have the files of a tokenizer of another kind."""
    from huggingface_hub import constants, errors, hf_hub_download

    try:
        return Path(hf_hub_download(name, "tokenizer.json")), ""
    except errors.LocalEntryNotFoundError:
        return None, "" if constants.HF_HUB_OFFLINE else "the model hub cannot be reached"
    except errors.EntryNotFoundError:
        return None, ""
    except Exception as error:  # network and hub errors of many kinds
        raise refusal(f"--tokenizer {name}", error, _TAKES) from error


def _from_transformers(name: str, trust_remote_code: bool) -> Tokenizer:
    """For models without a tokenizer.json: transformers converts what they have."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it would say on stderr that it misses PyTorch
    try:
        from transformers import AutoTokenizer

        loaded: Any = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except Exception as error:  # missing parts, network, hub and the model's own code
        raise UsageError(
            f"--tokenizer {name}: no tokenizer.json, and transformers loads none: {one_line(error)}; {_TAKES}"
        ) from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if isinstance(backend, tokenizers.Tokenizer):
        return _from_backend(name, backend.to_str().encode(), backend)

    def encode(texts: list[str], special: bool) -> list[list[int]]:
        return [list(ids) for ids in loaded(texts, add_special_tokens=special)["input_ids"]]

    vocabulary: dict[str, int] = loaded.get_vocab()
    content = json.dumps([type(loaded).__name__, sorted(vocabulary.items())])
    return Tokenizer(name, hashlib.sha256(content.encode()).hexdigest(), vocabulary, encode)
