"""TGI's answers: no space after `data:`, and the server's own times in the headers of a whole answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.job import Job
from latency_profile.simulator.protocols.base import Ask, Writer, json_reply
from latency_profile.simulator.protocols.openai_doors import OpenAIAsk, OpenAIWriter, encoded
from latency_profile.simulator.text import Vocabulary

VERSION = "3.3.6+simulator"  # a result must not pass for a real TGI's
EVENTS = b"text/event-stream"
COMPUTE = b"x-compute-type: cpu+simulator\r\n"
_UNBUFFERED = b"x-accel-buffering: no\r\n"
_FINGERPRINT = "3.3.6-simulator"
_DONE = b"data:[DONE]\n\n"
_LOGPROB = -0.5  # nothing is sampled
_MS = 1_000_000


def data(payload: bytes) -> bytes:
    """One event as axum writes it."""
    return b"data:%b\n\n" % payload


def error_body(message: str, kind: str) -> bytes:
    """TGI's error."""
    return encoded({"error": message, "error_type": kind})


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeAsk(Ask):
    """A request at /generate or /generate_stream."""

    prompt: str
    details: bool
    input_details: bool
    full_text: bool
    seed: int | None


class NativeWriter(Writer):
    """The native doors. `index` counts the backend's messages, from 1 on."""

    content_type: ClassVar[bytes] = EVENTS

    def __init__(self, ask: NativeAsk, job: Job, vocabulary: Vocabulary, name: str) -> None:
        super().__init__(ask, job, vocabulary, name)
        self._ask = ask
        self.fields = COMPUTE + b"x-compute-characters: %d\r\n" % len(ask.prompt) + _UNBUFFERED

    def events(self, start: int, count: int, last: bool) -> Iterator[bytes]:
        for place in range(start, start + count):
            final = last and place == start + count - 1
            text, token = self.text(place, 1), self.ids(place, 1)[0]
            yield self._event(place, text, token, final and self._stopped, final)

    def whole(self) -> Reply:
        ask, job = self._ask, self._job
        text = self.whole_text()
        answer: dict[str, object] = {"generated_text": ask.prompt + text if ask.full_text else text}
        if ask.details or ask.input_details:
            answer["details"] = self._details()
        queue = max(0, job.started_ns - job.arrival_ns)
        total, inference = job.last_ns - job.arrival_ns, job.last_ns - job.started_ns
        fields = COMPUTE + b"x-compute-time: %b\r\nx-compute-characters: %d\r\n" % (
            repr(total / 1e9).encode(),
            len(ask.prompt),
        )
        for name, value in (
            (b"total-time", total // _MS),
            (b"validation-time", 0),
            (b"queue-time", queue // _MS),
            (b"inference-time", inference // _MS),
            (b"time-per-token", inference // _MS // max(1, ask.output_tokens)),
            (b"prompt-tokens", len(ask.prompt_ids)),
            (b"generated-tokens", ask.told(ask.output_tokens)),
        ):
            fields += b"x-%b: %d\r\n" % (name, value)
        return json_reply(200, answer, fields)

    def failure(self, message: str) -> Iterator[bytes]:
        yield data(error_body(f"Request failed during generation: {message}", "generation"))

    def _event(self, place: int, text: bytes, token: int, special: bool, final: bool) -> bytes:
        whole, details = b"null", b"null"
        if final:
            whole = encoded(self._ask.prompt * self._ask.full_text + self.whole_text())
            details = encoded(self._stream_details()) if self._ask.details else b"null"
        flag = b"true" if special else b"false"
        piece = b'{"id":%d,"text":"%b","logprob":%g,"special":%b}' % (token, text, _LOGPROB, flag)
        form = b'{"index":%d,"token":%b,"generated_text":%b,"details":%b}'
        return data(form % (place + 1, piece, whole, details))

    def _ending(self) -> dict[str, object]:
        ask = self._ask
        reason = ask.finish("length", "eos_token")
        return {"finish_reason": reason, "generated_tokens": ask.told(ask.output_tokens), "seed": ask.seed}

    def _stream_details(self) -> dict[str, object]:
        return {**self._ending(), "input_length": len(self._ask.prompt_ids)}

    def _details(self) -> dict[str, object]:
        ask = self._ask
        prefill: list[dict[str, object]] = []
        if ask.input_details:
            prefill = [{"id": token, "text": "", "logprob": None} for token in ask.prompt_ids]
        tokens = []
        for place, token in enumerate(self.ids(0, ask.output_tokens)):
            text = self._vocabulary.answer_text(self._offset, place, self._words(place, 1))
            tokens.append({"id": token, "text": text, "logprob": _LOGPROB, "special": not text})
        return {**self._ending(), "prefill": prefill, "tokens": tokens}


class OpenAIDoorsWriter(OpenAIWriter):
    """OpenAI's doors: answers without an id; the last text event of a completion has the usage unasked."""

    content_type: ClassVar[bytes] = EVENTS

    def __init__(self, ask: OpenAIAsk, job: Job, vocabulary: Vocabulary, name: str, created: int) -> None:
        super().__init__(ask, job, vocabulary, name, created)
        self.fields = COMPUTE + b"x-compute-characters: %d\r\n" % len(ask.prompt_ids) + _UNBUFFERED
        if not ask.stream:
            return
        common: dict[str, object] = {"model": ask.model, "system_fingerprint": _FINGERPRINT}
        start: dict[str, object] = {"object": "text_completion", "id": "", "created": created}
        if ask.chat:
            start["object"] = "chat.completion.chunk"
            self._start = encoded({**start, **common})[:-1] + b',"choices":['
            choice = b'{"index":0,"delta":{"role":"assistant","content":"'
            tail = b'"},"logprobs":null,"finish_reason":null}],"usage":null}'
        else:
            self._start = encoded(start)[:-1]
            self._common = b"," + encoded(common)[1:-1]
            choice = b',"choices":[{"index":0,"text":"'
            tail = b'","logprobs":null,"finish_reason":""}]' + self._common + b"}"
        self._head, self._tail = b"data:" + self._start + choice, tail + b"\n\n"
        self._plain = True

    def events(self, start: int, count: int, last: bool) -> Iterator[bytes]:
        for event in super().events(start, count, last):
            yield b"data:" + event.removeprefix(b"data: ")

    def token_event(self, text: bytes, start: int, count: int, finish: bytes, hidden: bool) -> bytes:
        ended = finish != b"null"
        if self._ask.chat:
            choice = b'{"index":0,"delta":{"role":"assistant","content":"%b"},"logprobs":null,"finish_reason":%b}'
            return self._start + choice % (text, finish) + b'],"usage":null}'
        reason = b""
        if ended:
            reason = b"eos_token" if self._ask.stopped else b"length"
        choices = b',"choices":[{"index":0,"text":"%b","logprobs":null,"finish_reason":"%b"}]' % (text, reason)
        if ended:
            return self._start + self._common + choices + b',"usage":' + encoded(self._usage()) + b"}"
        return self._start + choices + self._common + b"}"

    def usage_event(self) -> bytes | None:
        if not (self._ask.chat and self._ask.include_usage):
            return None
        return self._start + b'],"usage":' + encoded(self._usage()) + b"}"

    def error(self, message: str) -> bytes:
        return error_body(f"Request failed during generation: {message}", "generation")

    def failure(self, message: str) -> Iterator[bytes]:
        yield data(self.error(message))
        yield _DONE

    def whole(self) -> Reply:
        ask = self._ask
        text = self.whole_text()
        end = {"logprobs": None, "finish_reason": ask.finish("length", "stop" if ask.chat else "eos_token")}
        choice: dict[str, object] = {"index": 0, "text": text, **end}
        if ask.chat:
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, **end}
        kind = "chat.completion" if ask.chat else "text_completion"
        start = {"object": kind, "id": "", "created": self._created, "model": ask.model}
        middle = {"system_fingerprint": _FINGERPRINT, "choices": [choice]}
        return json_reply(200, {**start, **middle, "usage": self._usage()}, COMPUTE)

    def _usage(self) -> dict[str, int]:
        prompt, told = len(self._ask.prompt_ids), self._ask.told(self._ask.output_tokens)
        return {"prompt_tokens": prompt, "completion_tokens": told, "total_tokens": prompt + told}
