"""vLLM's answers, byte for byte in its own order of keys: streamed events and whole answers."""

import msgspec

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.job import Job
from latency_profile.simulator.protocols.base import json_reply
from latency_profile.simulator.protocols.openai_doors import OpenAIAsk, OpenAIWriter, encoded
from latency_profile.simulator.text import Vocabulary

VERSION = "0.32.0"
FINGERPRINT = f"vllm-{VERSION}-simulator"
VARY = b"vary: Origin\r\n"
_FINGERPRINT = b',"system_fingerprint":"%b"' % FINGERPRINT.encode()


class VllmWriter(OpenAIWriter):
    """Both doors. Reasoning is called `reasoning`, as since vLLM 0.12."""

    fields = VARY

    def __init__(self, ask: OpenAIAsk, job: Job, vocabulary: Vocabulary, name: str, created: int) -> None:
        super().__init__(ask, job, vocabulary, name, created)
        if not ask.stream:
            return
        kind = "chat.completion.chunk" if ask.chat else "text_completion"
        self._start = encoded({"id": name, "object": kind, "created": created, "model": ask.model})[:-1]
        opening = b'{"index":0,"delta":{"content":"' if ask.chat else b'{"index":0,"text":"'
        self._choice = self._start + b',"choices":[' + opening
        if ask.chat:
            tail = b'"},"logprobs":null,"finish_reason":null,"token_ids":null}]}'
        else:
            ids = b'"prompt_token_ids":null,"token_ids":null}]}'
            tail = b'","logprobs":null,"finish_reason":null,"stop_reason":null,' + ids
        self._head, self._tail = b"data: " + self._choice, tail + b"\n\n"
        self._plain = not (ask.continuous_usage or ask.return_token_ids)

    def role_event(self) -> bytes:
        ask = self._ask
        usage = b',"usage":' + self._usage(0) if ask.continuous_usage else b""
        ids = encoded(ask.prompt_ids) if ask.return_token_ids else b"null"
        return (
            self._start
            + b',"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
            + b'%b,"prompt_token_ids":%b,"prompt_text":null}' % (usage, ids)
        )

    def token_event(self, text: bytes, start: int, count: int, finish: bytes, hidden: bool) -> bytes:
        ask = self._ask
        token_ids = prompt_ids = b"null"
        if ask.return_token_ids:
            token_ids = encoded(self.ids(start, count))
            prompt_ids = encoded(ask.prompt_ids) if start == 0 else b"null"
        last = finish != b"null"
        head = self._choice
        if hidden:
            head = self._start + b',"choices":[{"index":0,"delta":{"reasoning":"'
        if ask.chat:
            stop = b',"stop_reason":null' if last else b""
            choice = b'"},"logprobs":null,"finish_reason":%b%b,"token_ids":%b}]' % (finish, stop, token_ids)
        else:
            ids = b'"prompt_token_ids":%b,"token_ids":%b}]' % (prompt_ids, token_ids)
            choice = b'","logprobs":null,"finish_reason":%b,"stop_reason":null,%b' % (finish, ids)
        usage = b',"usage":' + self._usage(start + count) if ask.continuous_usage else b""
        fingerprint = _FINGERPRINT if last and not ask.include_usage else b""
        return b"".join((head, text, choice, usage, fingerprint, b"}"))

    def usage_event(self) -> bytes | None:
        if not self._ask.include_usage:
            return None
        return self._start + b',"choices":[],"usage":%b%b}' % (self._usage(self._ask.output_tokens), _FINGERPRINT)

    def error(self, message: str) -> bytes:
        return encoded({"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}})

    def whole(self) -> Reply:
        ask = self._ask
        reasoning, text = self.reasoning_and_text()
        token_ids = self.ids(0, ask.output_tokens) if ask.return_token_ids else None
        prompt_ids = ask.prompt_ids if ask.return_token_ids else None
        usage = {
            **msgspec.json.decode(self._usage(ask.output_tokens)),
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        }
        kind = "chat.completion" if ask.chat else "text_completion"
        start = {"id": self.name, "object": kind, "created": self._created, "model": ask.model}
        middle = {"service_tier": None, "system_fingerprint": FINGERPRINT, "usage": usage}
        end = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        if ask.chat:
            names = ("refusal", "annotations", "audio", "function_call")
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": text, **dict.fromkeys(names), "reasoning": reasoning},
                "logprobs": None,
                "finish_reason": ask.finish(),
                "stop_reason": None,
                "token_ids": token_ids,
                "routed_experts": None,
            }
            prompts = {"prompt_logprobs": None, "prompt_token_ids": prompt_ids, "prompt_text": None}
            return json_reply(200, {**start, "choices": [choice], **middle, **prompts, **end}, self.fields)
        choice = {
            "index": 0,
            "text": text,
            "logprobs": None,
            "finish_reason": ask.finish(),
            "stop_reason": None,
            "token_ids": token_ids,
            "prompt_logprobs": None,
            "prompt_token_ids": prompt_ids,
            "routed_experts": None,
        }
        return json_reply(200, {**start, "choices": [choice], **middle, **end}, self.fields)

    def _usage(self, generated: int) -> bytes:
        prompt, told = len(self._ask.prompt_ids), self._ask.told(generated)
        counts = (prompt, prompt + told, told)
        return b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % counts
