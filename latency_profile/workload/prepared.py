"""A prepared workload: requests by their index."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.base import Request
from latency_profile.errors import UsageError
from latency_profile.workload import WorkloadSpec, draws, words
from latency_profile.workload import tokenizer as tokenizers
from latency_profile.workload.cache import Cache
from latency_profile.workload.dataset import open_dataset
from latency_profile.workload.heads import Heads, NoHeads
from latency_profile.workload.selection import Selection
from latency_profile.workload.sharing import intended_hits
from latency_profile.workload.synthetic import Dummy, Synthetic
from latency_profile.workload.tokenizer import Tokenizer

_CHUNK = 256  # requests made at once
_UNIQUE_INDEXES = 1 << 44  # what a nonce tells apart
# Prompts, by which a share is told: more take seconds while a point is sent, and change none of its digits.
_TOLD = 1 << 20


class Workload:
    """Requests that depend on nothing but the spec and their index. Not for several threads at once."""

    def __init__(
        self,
        spec: WorkloadSpec,
        tokenizer: Tokenizer,
        heads: Heads | NoHeads,
        source: Selection | Synthetic | Dummy,
        cache_notices: list[str],
    ) -> None:
        self.spec = spec
        self._tokenizer = tokenizer
        self._heads = heads
        self._source = source
        self._cache_notices = cache_notices
        self._needed = 0  # at most: a search for the capacity may come to its end long before
        self._handed_out = 0
        self._weights = spec.traffic_split or (1.0,) * len(spec.models)

    @classmethod
    def prepare(cls, spec: WorkloadSpec, count: int) -> "Workload":
        """Loads tokenizer and data, and finds the texts of the first `count` requests. Raises UsageError."""
        _check(spec)
        tokenizer = tokenizers.load(spec.tokenizer, spec.trust_remote_code)
        notices: list[str] = []
        heads: Heads | NoHeads
        source: Selection | Synthetic | Dummy
        # A data set's own text needs no words of the tokenizer.
        found = words.find(tokenizer) if spec.unique or spec.dataset is None else None
        special = found.special if found else tokenizer.counts([""], special=True)[0]
        if spec.unique and found:
            heads = Heads(tokenizer, found, spec.nonce, spec.shared_prefix, spec.shared_prefix_groups)
        else:
            heads = NoHeads(special)
        if spec.dataset is not None:
            cache = Cache(spec.cache_dir, notices)
            source = Selection(
                open_dataset(spec.dataset, cache),
                tokenizer,
                heads,
                cache,
                seed=spec.seed,
                max_input=spec.max_input_length,
                max_output=spec.max_output_length,
            )
        else:
            assert found is not None  # looked for above
            if spec.dummy_text:
                source = Dummy(tokenizer, found, heads, spec.max_input_length, spec.max_output_length)
            else:
                assert spec.input_lengths is not None and spec.output_lengths is not None  # _check has seen to it
                source = Synthetic(tokenizer, found, heads, spec.seed, spec.input_lengths, spec.output_lengths)
        workload = cls(spec, tokenizer, heads, source, notices)
        workload._ensure(count)
        return workload

    def for_models(self, models: tuple[str, ...]) -> "Workload":
        """The same prompts for other models, as many as there were; shares what is loaded."""
        spec = dataclasses.replace(self.spec, models=models)
        other = Workload(spec, self._tokenizer, self._heads, self._source, self._cache_notices)
        other._needed = self._needed
        return other

    def for_nonce(self, nonce: str) -> "Workload":
        """Prompts of the same texts and lengths that no cache has from these: as many as there were."""
        return Workload.prepare(dataclasses.replace(self.spec, nonce=nonce), self._needed)

    def requests(self, start: int, count: int) -> Iterator[Request]:
        """Requests start .. start + count - 1, made in chunks as they are taken.

        Indexes beyond what was prepared are found now. Raises UsageError where they cannot be.
        """
        if start < 0 or count < 0 or start + count > _UNIQUE_INDEXES:
            raise ValueError(f"no requests {start} to {start + count}")
        self._ensure(start + count)
        self._handed_out = max(self._handed_out, start + count)
        return self._made(start, start + count)

    def count_tokens(self, texts: list[str]) -> list[int]:
        """Tokens of each text, without special tokens: for answers whose server gave no count."""
        return self._tokenizer.counts(texts, special=False)

    @property
    def description(self) -> dict[str, Any]:
        """What the requests were made from, as JSON."""
        spec = self.spec
        told: dict[str, Any] = {
            "kind": self._source.data.kind if isinstance(self._source, Selection) else self._source.kind,
            "tokenizer": self._tokenizer.name,
            "tokenizer_sha256": self._tokenizer.sha256,
            "seed": spec.seed,
            "unique": spec.unique,
            "nonce": spec.nonce if spec.unique else None,
            "prefix_tokens": self._heads.tokens,
            "shared_prefix_tokens": spec.shared_prefix,
            "shared_prefix_groups": spec.shared_prefix_groups if spec.shared_prefix else None,
            "intended_hit_rate": self.intended_hit_rate(0, min(self._needed, _TOLD)),
        }
        if isinstance(self._source, Selection):
            source = self._source
            told |= {
                "dataset": source.data.path.name,
                "dataset_sha256": source.data.sha256,
                "items": len(source.data),
                "items_examined": source.examined,
                "items_dropped": dict(sorted(source.dropped.items())),
                "prompts_available": source.available,
                "times_gone_through": _rounds(source, self._handed_out or self._needed),
            }
        return told

    def intended_hit_rate(self, start: int, count: int, *, touched: int = 0) -> float:
        """The share of the prompts' tokens that a prefix cache is meant to have, over `count` requests from `start` on,
        after it has seen the first `touched` of all."""
        if not self.spec.shared_prefix or not count:
            return 0.0
        index = np.arange(start, start + count)
        lengths = self._source.input_lengths(index)
        hits = intended_hits(
            index, lengths, shared=self.spec.shared_prefix, groups=self.spec.shared_prefix_groups, touched=touched
        )
        return int(hits.sum()) / int(lengths.sum())

    @property
    def notices(self) -> list[str]:
        """Sentences that the user should read."""
        notices = list(self._cache_notices)
        source = self._source
        if isinstance(source, Selection) and (rounds := _rounds(source, self._needed)) > 1:
            notices.append(
                f"The data set {source.data.path.name} has {source.available} prompts that pass the filter and at most "
                f"{self._needed} are needed: it is gone through up to {rounds} times, each prompt with a head of its "
                f"own."
            )
        if isinstance(source, Dummy) and not self.spec.unique:
            notices.append(
                "Dummy text without unique prompts is one prompt, sent every time: prefix caches will have it."
            )
        return notices

    def _ensure(self, count: int) -> None:
        if isinstance(self._source, Selection):
            self._source.ensure(count)
            if self._source.available < count and not self.spec.unique:
                raise UsageError(
                    f"--dataset {self.spec.dataset}: {self._source.available} prompts pass the filter and {count} are "
                    f"needed; none is sent twice where they are not made unique"
                )
        self._needed = max(self._needed, count)

    def _made(self, start: int, end: int) -> Iterator[Request]:
        for chunk in range(start, end, _CHUNK):
            index = np.arange(chunk, min(chunk + _CHUNK, end), dtype=np.int64)
            texts, inputs, outputs = self._source.items(index)
            prompts = self._heads.put(index, texts)
            models = self._models(index)
            rows = zip(index.tolist(), models, prompts, inputs.tolist(), outputs.tolist(), strict=True)
            for number, model, prompt, input_length, output_length in rows:
                yield Request(number, model, prompt, input_length, output_length)

    def _models(self, index: NDArray[np.int64]) -> list[str]:
        models = self.spec.models
        return [models[choice] for choice in draws.choices(self._weights, self.spec.seed, "model", index)]


def _rounds(source: Selection, count: int) -> int:
    """How often a data set is gone through for so many prompts."""
    return -(-count // source.available) if source.available else 0


def _check(spec: WorkloadSpec) -> None:
    """Raises UsageError where the spec contradicts itself."""
    synthetic = spec.input_lengths is not None or spec.output_lengths is not None
    if synthetic and (spec.input_lengths is None or spec.output_lengths is None):
        raise UsageError("--input-len and --output-len: each takes the other beside it")
    given = [
        flag
        for flag, there in (
            ("--dataset", spec.dataset is not None),
            ("--use-dummy-text", spec.dummy_text),
            ("--input-len", synthetic),
        )
        if there
    ]
    if len(given) != 1:
        got = " and ".join(given) or "none of them"
        raise UsageError(f"--dataset, --use-dummy-text, --input-len: one of the three is taken, got {got}")
    for flag, limit in (
        ("--max-input-length", spec.max_input_length),
        ("--max-output-length", spec.max_output_length),
    ):
        if limit < 1:
            raise UsageError(f"{flag} {limit}: it takes 1 token or more")
    if not spec.models:
        raise UsageError("--models: it takes one name or more, got none")
    split = spec.traffic_split
    if split is not None:
        got = ",".join(f"{part:g}" for part in split)
        if len(split) != len(spec.models):
            raise UsageError(f"--traffic-split {got}: {len(split)} shares for {len(spec.models)} models")
        if min(split) < 0 or abs(sum(split) - 1) > 1e-6:
            raise UsageError(f"--traffic-split {got}: it takes shares of 0 or more that sum to 1")
