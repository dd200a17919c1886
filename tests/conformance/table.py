"""The table: a row for each door of each backend, streaming and not. A new backend gets the whole suite by its row."""

from collections.abc import Iterator
from typing import Any

from latency_profile.outcome import TokenSource
from tests.conformance.dialect import Dialect
from tests.conformance.native_dialects import JetStream, LlamaCpp, Predict, Sglang, Sidecar, Tgi, Triton
from tests.conformance.openai_dialects import Chat, OpenAi, Sax

_TEXT = "text completion has one text and no roles"
_COMPLETIONS = {"role": _TEXT, "null delta": _TEXT, "reasoning": _TEXT}
_OPENAI_FINISH = {
    "abort": "OpenAI's API has no such reason",
    "error": "OpenAI's API has no such reason",
}
_NOT_STREAMED = {
    "role": "events are a stream's",
    "usage": "events are a stream's",
    "no choices": "events are a stream's",
    "null delta": "events are a stream's",
    "end mark": "events are a stream's",
}
_NO_CHOICES = {
    "role": "its events are texts, without choices, roles or deltas",
    "usage": "its counts stand beside the text",
    "no choices": "its events are texts, without choices, roles or deltas",
    "null delta": "its events are texts, without choices, roles or deltas",
    "reasoning": "it gives one text, reasoning included",
}
_NO_REASONS = dict.fromkeys(("finish", "stop", "length", "abort", "error"), "it does not say why it ended")
_STOPS = {"stop": "stop", "length": "length"}
_WITH_ABORT = {**_STOPS, "abort": "abort"}
_WITH_ERROR = {**_WITH_ABORT, "error": "error"}


def _openai_doors(
    backend: str, usage_on: str, words: dict[str, str], *, marks: bool = True, reasons: bool = True
) -> Iterator[Dialect]:
    lacks = {word: why for word, why in _OPENAI_FINISH.items() if word not in words}
    if not marks:
        lacks["end mark"] = "it ends a stream without [DONE]"
    if usage_on == "last":
        lacks["usage"] = "its usage comes with the last choice"
    for door in ("completions", "chat"):
        for streams in (True, False):
            less = {**lacks, **({} if streams else _NOT_STREAMED), **({} if door == "chat" else _COMPLETIONS)}
            if door == "chat" and not reasons:
                less["reasoning"] = "it has no field for it"
            yield (Chat if door == "chat" else OpenAi)(
                backend=backend,
                door=door,
                streams=streams,
                each=usage_on == "each",
                usage_on=usage_on,
                marks=marks,
                finishes=words,
                lacks=less,
                thinks_in="reasoning_content" if reasons else None,
            )


def _rows() -> Iterator[Dialect]:
    yield from _openai_doors("vllm", "each", _WITH_ERROR)
    yield from _openai_doors("openai", "own", _STOPS)
    for streams in (True, False):
        yield Chat(
            backend="openai",
            door="reasoning",
            streams=streams,
            thinks_in="reasoning",
            lacks={**_OPENAI_FINISH, **({} if streams else _NOT_STREAMED)},
        )
    yield from _openai_doors("sglang", "each", _WITH_ABORT)
    yield from _openai_doors("llamacpp", "last", _STOPS)
    yield from _openai_doors("tgi", "own", _STOPS, reasons=False)
    yield from _openai_doors("naive_transformers", "last", _STOPS, marks=False, reasons=False)

    for streams in (True, False):
        whole = {} if streams else _NOT_STREAMED
        no_error = {"error": "it has no such reason"}
        yield Sglang(
            backend="sglang",
            door="generate",
            streams=streams,
            each=True,
            finishes=_WITH_ABORT,
            lacks={**_NO_CHOICES, **no_error, **whole},
        )
        llama_lacks = {"abort": "it has no such reason", "end mark": "its last event says stop", **no_error}
        yield LlamaCpp(
            backend="llamacpp",
            door="completion",
            streams=streams,
            each=True,
            finishes={"stop": "eos", "length": "limit"},
            lacks={**_NO_CHOICES, **llama_lacks, **whole},
        )
        tgi_lacks = {"abort": "it sends an error in its place", "end mark": "its last event has the whole text"}
        if streams:
            tgi_lacks["several tokens"] = "an event is a token"
        else:
            tgi_lacks["finish"] = "its text is whole also without the details"
        yield Tgi(
            backend="tgi",
            door="generate",
            streams=streams,
            each=True,
            finishes={"stop": "eos_token", "length": "length"},
            lacks={**_NO_CHOICES, **tgi_lacks, **no_error, **whole},
        )
        for counted in (True, False):
            yield Triton(
                backend="tensorrt_llm_triton",
                door="generate",
                streams=streams,
                total=counted,
                each=counted,
                source=TokenSource.TOKEN_IDS if streams else TokenSource.USAGE,
                told_prompt=counted,
                ends_itself=False,
                finishes={},
                lacks={**_NO_CHOICES, **_NO_REASONS, "end mark": "it has none", **whole},
            )
    yield Sglang(
        backend="sglang",
        door="generate",
        streams=True,
        each=True,
        incremental=True,
        tells_text=False,
        finishes=_WITH_ABORT,
        lacks={**_NO_CHOICES, "error": "it has no such reason"},
    )
    yield Triton(
        backend="tensorrt_llm_triton",
        door="generate",
        streams=False,
        total=False,
        told_prompt=False,
        ends_itself=False,
        finishes={},
        echoes=True,
        lacks={**_NO_CHOICES, **_NO_REASONS, **_NOT_STREAMED},
    )
    yield JetStream(
        backend="jetstream",
        door="v1",
        streams=True,
        each=True,
        source=TokenSource.TOKEN_IDS,
        framing="objects",
        told_prompt=False,
        ends_itself=False,
        finishes={},
        lacks={**_NO_CHOICES, **_NO_REASONS, "error body": "one object is a stream of one event"}
        | {"end mark": "the empty sample at its end is not always there"},
    )
    bare: dict[str, Any] = {
        "streams": False,
        "total": False,
        "told_prompt": False,
        "ends_itself": False,
        "finishes": {},
    }
    bare_lacks = {**_NO_CHOICES, **_NO_REASONS, **_NOT_STREAMED}
    yield Sidecar(backend="jetstream", door="generate", lacks=bare_lacks, **bare)
    yield Sax(backend="sax", door="generate", lacks=bare_lacks, **bare)
    yield Predict(backend="naive_transformers", door="predict", lacks=bare_lacks, **bare)


DIALECTS: list[Dialect] = list(_rows())
STREAMS = [dialect for dialect in DIALECTS if dialect.streams]
WHOLES = [dialect for dialect in DIALECTS if not dialect.streams]
