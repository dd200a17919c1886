"""OpenAI's completions and chat, in the ways in which compatible servers spell them (recorded answers: tests/data)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.conformance.dialect import PROMPT_TOKENS, Dialect, Part, Said, json_of


@dataclass(frozen=True, kw_only=True)
class OpenAi(Dialect):
    """`usage_on`: "own" event behind the last (OpenAI), "last" event with a choice (llama.cpp), or "each" (vLLM).
    `thinks_in`: the field of a chat message that has the reasoning; None: these models have none."""

    usage_on: str = "own"
    marks: bool = True  # [DONE]
    thinks_in: str | None = "reasoning_content"

    def _event(self, choices: list[dict[str, Any]], usage: int | None = None) -> bytes:
        said: dict[str, Any] = {"object": "text_completion", "choices": choices}
        if usage is not None:
            said["usage"] = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": usage}
        return json_of(said)

    def _choice(self, part: Part, finish: str | None) -> dict[str, Any]:
        return {"index": 0, "text": part.text, "finish_reason": finish}

    def _word(self, finish: str | None) -> str | None:
        return None if finish is None else self.finishes[finish]

    def stream(self, parts: Sequence[Part], finish: str | None = "stop", *, mark: bool = True) -> list[Said]:
        said: list[Said] = []
        total = 0
        for number, part in enumerate(parts):
            total += part.tokens
            last = number == len(parts) - 1 and finish is None
            usage = total if self.usage_on == "each" or (last and self.usage_on == "last") else None
            said.append(Said(self._event([self._choice(part, None)], usage), number))
        usage = total if self.usage_on in ("each", "last") else None
        if finish is not None:
            said.append(Said(self._event([self._choice(Part(""), self._word(finish))], usage)))
        if own := self.usage(total):
            said.append(Said(own))
        return [*said, Said(b"[DONE]")] if mark and self.marks else said

    def whole(self, parts: Sequence[Part], finish: str | None = "stop") -> bytes:
        text = Part("".join(part.text for part in parts))
        return self._event([self._choice(text, self._word(finish))], sum(part.tokens for part in parts))

    def error(self, message: str) -> bytes:
        return json_of({"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}})

    def usage(self, tokens: int) -> bytes | None:
        return None if self.usage_on == "last" else self._event([], tokens)

    def no_choices(self) -> bytes | None:
        return self._event([])

    def end_mark(self) -> bytes | None:
        return b"[DONE]" if self.marks else None


@dataclass(frozen=True, kw_only=True)
class Chat(OpenAi):
    """Roles, messages and deltas."""

    def _choice(self, part: Part, finish: str | None) -> dict[str, Any]:
        where = self.thinks_in if part.hidden and self.thinks_in else "content"
        return {"index": 0, "delta": {where: part.text} if part.text else {}, "finish_reason": finish}

    def whole(self, parts: Sequence[Part], finish: str | None = "stop") -> bytes:
        message: dict[str, Any] = {"role": "assistant"}
        message["content"] = "".join(part.text for part in parts if not part.hidden) or None
        if self.thinks_in:
            message[self.thinks_in] = "".join(part.text for part in parts if part.hidden) or None
        choice = {"index": 0, "message": message, "finish_reason": self._word(finish)}
        return self._event([choice], sum(part.tokens for part in parts))

    def role(self) -> bytes | None:
        delta = {"role": "assistant", "content": ""}
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        return self._event([choice], 0 if self.usage_on == "each" else None)

    def null_delta(self) -> bytes | None:
        return self._event([{"index": 0, "delta": None, "finish_reason": None}])


@dataclass(frozen=True, kw_only=True)
class Sax(OpenAi):
    """OpenAI's form, and nothing in it but the text."""

    def whole(self, parts: Sequence[Part], finish: str | None = "stop") -> bytes:
        del finish
        return json_of({"choices": [{"text": "".join(part.text for part in parts)}]})
