"""The protocols that servers have of their own. Each as its server's source or recorded answers have it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.conformance.dialect import PROMPT, PROMPT_TOKENS, Dialect, Part, Said, json_of


def _text(parts: Sequence[Part]) -> str:
    return "".join(part.text for part in parts)


def _tokens(parts: Sequence[Part]) -> int:
    return sum(part.tokens for part in parts)


@dataclass(frozen=True, kw_only=True)
class Sglang(Dialect):
    """/generate: every event has the whole text up to now, or, as `incremental`, only what is new."""

    incremental: bool = False

    @property
    def variant(self) -> str:
        return "-incremental" if self.incremental else ""

    def _event(self, text: str, tokens: int, finish: str | None) -> bytes:
        reason = None if finish is None else {"type": self.finishes[finish], "message": None}
        meta = {"id": "a1", "finish_reason": reason, "prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens}
        return json_of({"text": text, "meta_info": meta | {"cached_tokens": 0}})

    def stream(self, parts: Sequence[Part], finish: str | None = "stop", *, mark: bool = True) -> list[Said]:
        said, text, tokens = [], "", 0
        for number, part in enumerate(parts):
            text = part.text if self.incremental else text + part.text
            tokens += part.tokens
            reason = finish if number == len(parts) - 1 else None
            said.append(Said(self._event(text, tokens, reason), number))
        if not parts and finish is not None:
            said.append(Said(self._event("", 0, finish)))
        return [*said, Said(b"[DONE]")] if mark else said

    def whole(self, parts: Sequence[Part], finish: str | None = "stop") -> bytes:
        return self._event(_text(parts), _tokens(parts), finish)

    def error(self, message: str) -> bytes:
        return json_of({"error": {"message": message}})

    def end_mark(self) -> bytes | None:
        return b"[DONE]"


@dataclass(frozen=True, kw_only=True)
class LlamaCpp(Dialect):
    """/completion: `tokens_predicted` is the count up to now; the last event stops, with the server's own times."""

    def _last(self, text: str, tokens: int, finish: str | None) -> bytes:
        stopped = {"stop": True, "stop_type": self.finishes[finish]} if finish else {"stop": False}
        timings = {"prompt_n": 1, "prompt_ms": 18.608, "predicted_n": tokens, "predicted_ms": 476.022}
        said = {"index": 0, "content": text, "tokens": [], **stopped, "tokens_predicted": tokens}
        return json_of(said | {"tokens_evaluated": PROMPT_TOKENS, "timings": timings})

    def stream(self, parts: Sequence[Part], finish: str | None = "stop", *, mark: bool = True) -> list[Said]:
        said, total = [], 0
        for number, part in enumerate(parts):
            total += part.tokens
            event = {"index": 0, "content": part.text, "tokens": [7042], "stop": False, "tokens_predicted": total}
            said.append(Said(json_of(event | {"tokens_evaluated": PROMPT_TOKENS}), number))
        return [*said, Said(self._last("", total, finish))] if finish else said

    def whole(self, parts: Sequence[Part], finish: str | None = "stop") -> bytes:
        return self._last(_text(parts), _tokens(parts), finish)

    def error(self, message: str) -> bytes:
        return json_of({"error": {"code": 500, "message": message, "type": "server_error"}})


@dataclass(frozen=True, kw_only=True)
class Tgi(Dialect):
    """/generate and /generate_stream: an event a token; the last one has the whole text and the details."""

    def _details(self, tokens: int, finish: str | None) -> dict[str, Any]:
        reason = {"finish_reason": self.finishes[finish]} if finish else {}
        return {**reason, "generated_tokens": tokens, "seed": None, "input_length": PROMPT_TOKENS}

    def stream(self, parts: Sequence[Part], finish: str | None = "stop", *, mark: bool = True) -> list[Said]:
        said = []
        for number, part in enumerate(parts):
            event: dict[str, Any] = {"index": number + 1}
            event["token"] = {"id": 28723, "text": part.text, "logprob": -0.61, "special": False}
            last = number == len(parts) - 1 and finish is not None
            event["generated_text"] = _text(parts) if last else None
            event["details"] = self._details(len(parts), finish) if last else None
            said.append(Said(json_of(event), number))
        return said

    def whole(self, parts: Sequence[Part], finish: str | None = "stop") -> bytes:
        return json_of({"generated_text": _text(parts), "details": self._details(_tokens(parts), finish)})

    def error(self, message: str) -> bytes:
        return json_of({"error": message, "error_type": "generation"})

    def head(self, parts: Sequence[Part]) -> list[str]:
        common = ["x-compute-type: gpu+optimized", "x-compute-characters: 24"]
        if self.streams:
            return [*common, "x-accel-buffering: no"]
        counts = [f"x-prompt-tokens: {PROMPT_TOKENS}", f"x-generated-tokens: {_tokens(parts)}"]
        return [*common, *counts, "x-queue-time: 3", "x-total-time: 120"]


@dataclass(frozen=True, kw_only=True)
class Triton(Dialect):
    """/v2/models/ensemble/generate and /generate_stream; as `total`, of a model with counts of tokens.

    `echoes`: of a model that does not know exclude_input_in_output.
    """

    echoes: bool = False

    @property
    def variant(self) -> str:
        return ("-counted" if self.total else "") + ("-echo" if self.echoes else "")

    def _event(self, text: str, tokens: int) -> bytes:
        said: dict[str, Any] = {"context_logits": 0.0, "cum_log_probs": 0.0, "model_name": "ensemble"}
        counts = {"num_input_tokens": PROMPT_TOKENS, "num_output_tokens": tokens} if self.total else {}
        return json_of(said | counts | {"output_log_probs": [0.0, 0.0], "text_output": text})

    def stream(self, parts: Sequence[Part], finish: str | None = "stop", *, mark: bool = True) -> list[Said]:
        said = [Said(self._event(part.text, part.tokens), number) for number, part in enumerate(parts)]
        return said or [Said(self._event("", 0))]

    def whole(self, parts: Sequence[Part], finish: str | None = "stop") -> bytes:
        return self._event((PROMPT if self.echoes else "") + _text(parts), _tokens(parts))

    def error(self, message: str) -> bytes:
        return json_of({"error": message})


@dataclass(frozen=True, kw_only=True)
class JetStream(Dialect):
    """/v1/generate: indented objects, one behind the other; one with an empty sample ends them."""

    def _event(self, sample: dict[str, Any]) -> bytes:
        return json.dumps({"streamContent": {"samples": [sample]}}, indent=1, ensure_ascii=False).encode()

    def stream(self, parts: Sequence[Part], finish: str | None = "stop", *, mark: bool = True) -> list[Said]:
        said = [
            Said(self._event({"text": part.text, "tokenIds": [266] * part.tokens}), number)
            for number, part in enumerate(parts)
        ]
        return [*said, Said(self._event({}))] if finish else said

    def error(self, message: str) -> bytes:
        return json_of({"error": {"code": 13, "message": message}})


@dataclass(frozen=True, kw_only=True)
class Sidecar(Dialect):
    """JetStream's HTTP sidecar."""

    def whole(self, parts: Sequence[Part], finish: str | None = "stop") -> bytes:
        return json_of({"response": _text(parts)})

    def error(self, message: str) -> bytes:
        return json_of({"error": message})


@dataclass(frozen=True, kw_only=True)
class Predict(Dialect):
    """A predict server: `instances` in, `predictions` out, the prompt repeated before the text."""

    def whole(self, parts: Sequence[Part], finish: str | None = "stop") -> bytes:
        echoed = f"Prompt:\n{PROMPT}\nOutput:\n{_text(parts)}"
        return json_of({"predictions": [[{"generated_text": echoed}]]})

    def error(self, message: str) -> bytes:
        return json_of({"code": 503, "type": "InternalServerException", "message": message})
