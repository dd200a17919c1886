"""vLLM's OpenAI-compatible spelling: reads requests, refuses what vLLM refuses. Checked against vLLM 0.32's own bytes.

Answers are written by `vllm_answer`.
"""

import json
import math
import random
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from latency_profile.simulator.text import Vocabulary

VERSION = "0.32.0"
COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
_DEFAULT_MAX_TOKENS = 16  # of /v1/completions; a chat may fill the context


class Refusal(Exception):
    """A request that is answered with an error. `body` is vLLM's JSON."""

    def __init__(self, status: int, kind: str, message: str, parameter: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.body = msgspec.json.encode(
            {"error": {"message": message, "type": kind, "param": parameter, "code": status}}
        )


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class _Common(msgspec.Struct, kw_only=True):
    """Fields of both doors. Others are ignored, as vLLM does."""

    model: str | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    ignore_eos: bool = False
    return_token_ids: bool | None = None
    n: int | None = 1
    best_of: int | None = None
    use_beam_search: bool = False
    echo: bool | None = False
    logprobs: bool | int | None = None


class _Completion(_Common, kw_only=True):
    prompt: str | list[str | int | list[int]]


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None


class _Chat(_Common, kw_only=True):
    messages: list[_Message]
    max_completion_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What the server serves, as far as requests are judged by it."""

    models: Sequence[str]
    max_model_len: int
    vocabulary: Vocabulary
    eos_probability: float = 0.0  # that a token is the answer's last, unless ignore_eos
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, understood. `key` is a hash of the prompt: it seeds whatever is drawn for the answer."""

    chat: bool
    model: str
    prompt_ids: list[int]
    key: int
    max_tokens: int
    output_tokens: int
    stopped: bool  # ends with an end-of-sequence token (which counts as a token), not at max_tokens
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool


def read(path: str, body: bytes, served: Served) -> Ask:
    """Understands the body of a POST to one of the two doors. Raises Refusal."""
    chat = path == CHAT
    decoder = _CHAT_DECODER if chat else _COMPLETION_DECODER
    try:
        request: Any = decoder.decode(body)
    except msgspec.ValidationError as error:
        place = str(error).rpartition("`$.")[2].rstrip("`") if "`$." in str(error) else ""
        raise _invalid(f"body.{place}" if place else "body", {"type": "value_error", "msg": str(error)}) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _malformed(body) from None

    model = request.model if request.model is not None else served.models[0]
    if model not in served.models:
        names = ", ".join(served.models)
        raise Refusal(404, "NotFoundError", f"The model `{model}` does not exist. Valid aliases: {names}.", "model")
    _refuse_unsimulated(request)
    prompt_ids = _chat_ids(request, served.vocabulary) if chat else _prompt_ids(request.prompt, served.vocabulary)
    max_tokens = _max_tokens(request, len(prompt_ids), served, chat)
    key = zlib.crc32(array("I", prompt_ids).tobytes())
    output_tokens, stopped = _draw_length(max_tokens, request, served, key)
    options = request.stream_options or _StreamOptions()
    return Ask(
        chat=chat,
        model=model,
        prompt_ids=prompt_ids,
        key=key,
        max_tokens=max_tokens,
        output_tokens=output_tokens,
        stopped=stopped,
        stream=bool(request.stream),
        include_usage=bool(options.include_usage),
        continuous_usage=bool(options.include_usage and options.continuous_usage_stats),
        return_token_ids=bool(request.return_token_ids),
    )


def _refuse_unsimulated(request: _Common) -> None:
    for name, refused in (
        ("n", request.n not in (None, 1)),
        ("best_of", request.best_of not in (None, 1)),
        ("use_beam_search", request.use_beam_search),
        ("echo", bool(request.echo)),
        ("logprobs", request.logprobs not in (None, False)),
    ):
        if refused:
            value = getattr(request, name)
            raise _bad(f"{name}={value} is not simulated: one sampled answer without log probabilities is.", name)


def _prompt_ids(prompt: str | list[str | int | list[int]], vocabulary: Vocabulary) -> list[int]:
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0] if isinstance(prompt[0], str) else [*prompt[0]]
    if isinstance(prompt, str):
        ids = vocabulary.encode(prompt)
    else:
        ids = [token for token in prompt if isinstance(token, int)]
        if len(ids) != len(prompt):
            raise _bad("a batch of prompts in one request is not simulated: send one prompt a request.", "prompt")
        if not all(0 <= token < 1 << 32 for token in ids):
            raise _bad("Token id out of vocabulary", "prompt")
    if not ids:
        raise _bad("The decoder prompt cannot be empty", "prompt")
    return ids


def _chat_ids(request: _Chat, vocabulary: Vocabulary) -> list[int]:
    """A ChatML rendering: a tokenizer.json carries no chat template, and only the count matters here."""
    parts = []
    for message in request.messages:
        content = message.content or ""
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content)
        parts.append(f"<|im_start|>{message.role}\n{content}<|im_end|>\n")
    return vocabulary.encode("".join(parts) + "<|im_start|>assistant\n")


def _max_tokens(request: Any, prompt: int, served: Served, chat: bool) -> int:
    limit = served.max_model_len
    asked: int | None = request.max_tokens
    if chat and request.max_completion_tokens is not None:
        asked = request.max_completion_tokens
    if asked is not None and asked < 1:
        raise _bad(f"max_tokens must be at least 1, got {asked}. (parameter=max_tokens, value={asked})", "max_tokens")
    if asked is not None and asked > limit:
        raise _bad(
            f"max_tokens={asked} cannot be greater than max_model_len={limit}. Please request fewer output tokens. "
            f"(parameter=max_tokens, value={asked})",
            "max_tokens",
        )
    if prompt >= limit:
        raise _bad(
            f"This model's maximum context length is {limit} tokens. However, your prompt contains at least {prompt} "
            "input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the "
            f"input prompt. (parameter=input_tokens, value={prompt})",
            "input_tokens",
        )
    if asked is None:
        asked = limit - prompt if chat else min(_DEFAULT_MAX_TOKENS, limit - prompt)
    if prompt + asked > limit:
        raise _bad(
            f"This model's maximum context length is {limit} tokens. However, you requested {asked} output tokens and "
            f"your prompt contains at least {prompt} input tokens, for a total of at least {prompt + asked} tokens. "
            "Please reduce the length of the input prompt or the number of requested output tokens. "
            f"(parameter=input_tokens, value={prompt})",
            "input_tokens",
        )
    if not 0 <= request.min_tokens <= asked:
        raise _bad(
            f"min_tokens must be between 0 and max_tokens={asked}, got {request.min_tokens}. "
            f"(parameter=min_tokens, value={request.min_tokens})",
            "min_tokens",
        )
    return asked


def _draw_length(max_tokens: int, request: _Common, served: Served, key: int) -> tuple[int, bool]:
    """How many tokens will be generated, and whether an end token is the last of them.

    After `min_tokens` each token is the end with probability p: geometric, by inversion of one uniform draw.
    """
    probability = served.eos_probability
    if request.ignore_eos or probability == 0:
        return max_tokens, False
    uniform = random.Random(f"length {served.seed} {key}").random()
    draws = 1 if probability == 1 else 1 + math.floor(math.log(1 - uniform) / math.log(1 - probability))
    length = request.min_tokens + draws
    return (length, True) if length <= max_tokens else (max_tokens, False)


def _bad(message: str, parameter: str) -> Refusal:
    return Refusal(400, "BadRequestError", message, parameter)


def _invalid(place: str, detail: dict[str, str]) -> Refusal:
    kind, *rest = detail.items()
    text = str(dict([kind, ("loc", place), *rest]))
    return Refusal(400, "Bad Request", f"1 validation error:\n  {text}", place)


def _malformed(body: bytes) -> Refusal:
    position, reason = 0, "Invalid bytes"
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        position, reason = error.pos, error.msg
    except UnicodeDecodeError:
        pass
    place = f"body.{position}"
    detail = {"type": "json_invalid", "loc": place, "msg": "JSON decode error", "input": "<dict of 0 items>"}
    text = str({**detail, "ctx": {"error": reason}})
    return Refusal(400, "Bad Request", f"1 validation error:\n  {text}", place)


_COMPLETION_DECODER = msgspec.json.Decoder(_Completion)
_CHAT_DECODER = msgspec.json.Decoder(_Chat)
