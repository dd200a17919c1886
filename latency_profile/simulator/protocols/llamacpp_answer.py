"""llama.cpp's answers, in its order of keys: /completion, and OpenAI's doors with their timings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.job import Job
from latency_profile.simulator.protocols.base import Ask, Writer, json_reply, sse
from latency_profile.simulator.protocols.openai_doors import OpenAIAsk, OpenAIWriter, encoded
from latency_profile.simulator.text import Vocabulary

JSON = b"application/json; charset=utf-8"
ORIGIN = b"access-control-allow-origin: \r\n"
KEEP_ALIVE = ORIGIN + b"keep-alive: timeout=5, max=100\r\n"
_STREAM_FIELDS = b"x-accel-buffering: no\r\n" + KEEP_ALIVE
_FINGERPRINT = "b0-simulator"
_MS = 1e6
# generation_settings before and after what a request sets here
_SETTINGS: dict[str, Any] = {
    "seed": 4294967295,
    "temperature": 0.8,
    "dynatemp_range": 0.0,
    "dynatemp_exponent": 1.0,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05000000074505806,
    "top_n_sigma": -1.0,
    "xtc_probability": 0.0,
    "xtc_threshold": 0.10000000149011612,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "dry_multiplier": 0.0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_penalty_last_n": 64,
    "dry_sequence_breakers": ["\n", ":", '"', "*"],
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.10000000149011612,
    "adaptive_target": -1.0,
    "adaptive_decay": 0.8999999761581421,
    "stop": [],
    "max_tokens": -1,
    "n_predict": -1,
    "n_keep": 0,
    "n_discard": 0,
    "ignore_eos": False,
    "stream": False,
    "logit_bias": [],
    "n_probs": 0,
    "min_keep": 0,
    "grammar": "",
    "grammar_lazy": False,
    "grammar_triggers": [],
    "preserved_tokens": [],
    "chat_format": "Content-only",
    "reasoning_format": "deepseek",
    "reasoning_in_content": False,
    "generation_prompt": "",
    "samplers": ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"],
    "speculative.types": "none",
    "timings_per_token": False,
    "post_sampling_probs": False,
    "backend_sampling": False,
    "lora": [],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeAsk(Ask):
    """A request at /completion."""

    prompt: str
    asked: int  # n_predict as it was sent; -1: none
    ignore_eos: bool
    return_tokens: bool
    timings_per_token: bool
    sampling: Mapping[str, float]


def error_body(status: int, message: str, kind: str) -> bytes:
    """llama.cpp's error."""
    return encoded({"error": {"code": status, "message": message, "type": kind}})


def timings(job: Job, tokens: int) -> dict[str, float | int]:
    """What the server measured: prompt processing until the first token, then generation (ms)."""
    prompt_n = job.prompt_tokens - job.cached_tokens
    prompt_ms = max(0, job.first_ns - job.started_ns) / _MS
    predicted_ms = max(0.001, (job.last_ns - job.first_ns) / _MS)  # as there, where the first token ends the prompt
    gaps = max(1, tokens - 1)
    return {
        "cache_n": job.cached_tokens,
        "prompt_n": prompt_n,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / max(1, prompt_n),
        "prompt_per_second": 1e3 * prompt_n / prompt_ms if prompt_ms else 0.0,
        "predicted_n": tokens,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_ms / gaps,
        "predicted_per_second": 1e3 * gaps / predicted_ms,
    }


class NativeWriter(Writer):
    """/completion: one event a token, then one with the settings and timings."""

    content_type: ClassVar[bytes] = b"text/event-stream"
    fields = _STREAM_FIELDS
    late_head: ClassVar[bool] = True
    closes: ClassVar[bool] = True

    def __init__(self, ask: NativeAsk, job: Job, vocabulary: Vocabulary, name: str) -> None:
        super().__init__(ask, job, vocabulary, name)
        self._ask = ask

    def events(self, start: int, count: int, last: bool) -> Iterator[bytes]:
        ask = self._ask
        text = self.text(start, count)
        if text:
            ids = encoded(self.ids(start, count))
            told = ask.told(start + count)
            counts = b'"tokens_predicted":%d,"tokens_evaluated":%d' % (told, len(ask.prompt_ids))
            more = b',"timings":' + encoded(timings(self._job, start + count)) if ask.timings_per_token else b""
            head = b'{"index":0,"content":"%b","tokens":%b,"stop":false,"id_slot":-1,' % (text, ids)
            yield sse(head + counts + more + b"}")
        if last:
            yield sse(encoded(self._final_object("", [])))

    def whole(self) -> Reply:
        ids = self.ids(0, self._ask.output_tokens) if self._ask.return_tokens else []
        return json_reply(200, self._final_object(self.whole_text(), ids), KEEP_ALIVE, JSON)

    def failure(self, message: str) -> Iterator[bytes]:
        yield sse(error_body(500, message, "server_error"))

    def _final_object(self, content: str, ids: list[int]) -> dict[str, object]:
        ask = self._ask
        settings = {
            **_SETTINGS,
            **ask.sampling,
            "max_tokens": ask.asked,
            "n_predict": ask.asked,
            "ignore_eos": ask.ignore_eos,
            "stream": ask.stream,
            "timings_per_token": ask.timings_per_token,
        }
        if ask.ignore_eos:
            settings["logit_bias"] = [{"bias": None, "token": self._vocabulary.end_id}]
        prompt, tokens = len(ask.prompt_ids), ask.output_tokens
        return {
            "index": 0,
            "content": content,
            "tokens": ids,
            "id_slot": 0,
            "stop": not ask.unfinished,
            "model": ask.model,
            "tokens_predicted": ask.told(tokens),
            "tokens_evaluated": prompt,
            "generation_settings": settings,
            "prompt": ask.prompt,
            "has_new_line": False,
            "truncated": False,
            "stop_type": ask.finish("limit", "eos") or "none",
            "stopping_word": "",
            "tokens_cached": prompt + tokens - 1,
            "timings": timings(self._job, ask.told(tokens)),
        }


class OpenAIDoorsWriter(OpenAIWriter):
    """OpenAI's doors. A completion's usage comes unasked with its last event; a chat's in its own event, if asked."""

    content_type: ClassVar[bytes] = b"text/event-stream"
    fields = _STREAM_FIELDS
    late_head: ClassVar[bool] = True
    closes: ClassVar[bool] = True
    separate_finish = True

    def __init__(self, ask: OpenAIAsk, job: Job, vocabulary: Vocabulary, name: str, created: int) -> None:
        super().__init__(ask, job, vocabulary, name, created)
        if not ask.stream:
            return
        common = {"model": ask.model, "system_fingerprint": _FINGERPRINT}
        if ask.chat:
            end = {"created": created, "id": name, **common, "object": "chat.completion.chunk"}
            self._end = b"]," + encoded(end)[1:-1]
            choice, tail = b'{"finish_reason":null,"index":0,"delta":{"content":"', b'"}}' + self._end
        else:
            self._middle = b"]," + encoded({"created": created, **common, "object": "text_completion"})[1:-1]
            self._end = b',"id":%b' % encoded(name)
            choice = b'{"text":"'
            tail = b'","index":0,"logprobs":null,"finish_reason":null}' + self._middle + self._end
        self._head, self._tail = b'data: {"choices":[' + choice, tail + b"}\n\n"
        self._plain = not ask.timings_per_token

    def role_event(self) -> bytes:
        return self._chat(b'{"role":"assistant","content":null}', b"null") + b"}"

    def token_event(self, text: bytes, start: int, count: int, finish: bytes, hidden: bool) -> bytes:
        more = self._timings(start + count) if self._ask.timings_per_token else b""
        if self._ask.chat:
            return self._chat(b'{"content":"%b"}' % text, b"null") + more + b"}"
        choice = b'{"choices":[{"text":"%b","index":0,"logprobs":null,"finish_reason":null}' % text
        return choice + self._middle + self._end + more + b"}"

    def finish_event(self) -> bytes:
        finish = b'"stop"' if self._ask.stopped else b'"length"'
        if self._ask.chat:
            more = b"" if self._ask.include_usage else self._timings(self._ask.output_tokens)
            return self._chat(b"{}", finish) + more + b"}"
        choice = b'{"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":%b}' % finish
        usage = b',"usage":' + encoded(self._usage())
        return choice + self._middle + usage + self._end + self._timings(self._ask.output_tokens) + b"}"

    def usage_event(self) -> bytes | None:
        if not (self._ask.chat and self._ask.include_usage):
            return None
        usage = b',"usage":' + encoded(self._usage())
        return b'{"choices":[' + self._end + usage + self._timings(self._ask.output_tokens) + b"}"

    def failure(self, message: str) -> Iterator[bytes]:
        yield sse(self.error(message))

    def error(self, message: str) -> bytes:
        return error_body(500, message, "server_error")

    def whole(self) -> Reply:
        ask = self._ask
        choice: dict[str, object] = {"text": self.whole_text(), "index": 0, "logprobs": None}
        choice["finish_reason"] = ask.finish()
        if ask.chat:
            message = {"role": "assistant", "content": self.whole_text()}
            choice = {"finish_reason": ask.finish(), "index": 0, "message": message}
        answer = {
            "choices": [choice],
            "created": self._created,
            "model": ask.model,
            "system_fingerprint": _FINGERPRINT,
            "object": "chat.completion" if ask.chat else "text_completion",
            "usage": self._usage(),
            "id": self.name,
            "timings": timings(self._job, ask.told(ask.output_tokens)),
        }
        return json_reply(200, answer, KEEP_ALIVE, JSON)

    def _chat(self, delta: bytes, finish: bytes) -> bytes:
        return b'{"choices":[{"finish_reason":%b,"index":0,"delta":%b}' % (finish, delta) + self._end

    def _timings(self, tokens: int) -> bytes:
        return b',"timings":' + encoded(timings(self._job, self._ask.told(tokens)))

    def _usage(self) -> dict[str, object]:
        ask = self._ask
        prompt, told = len(ask.prompt_ids), ask.told(ask.output_tokens)
        details = {"cached_tokens": self._job.cached_tokens}
        return {
            "completion_tokens": told,
            "prompt_tokens": prompt,
            "total_tokens": prompt + told,
            "prompt_tokens_details": details,
        }
