"""vLLM's answers, byte for byte in its own order of keys: streamed events, whole answers, lists of models."""

import secrets
import time
from collections.abc import Sequence

import msgspec

from latency_profile.simulator.text import RING, Vocabulary
from latency_profile.simulator.vllm import VERSION, Ask

FINGERPRINT = f"vllm-{VERSION}-simulator"
NOT_FOUND = b'{"detail":"Not Found"}'
NOT_ALLOWED = b'{"detail":"Method Not Allowed"}'
VERSION_BODY = msgspec.json.encode({"version": f"{VERSION}+simulator"})  # a result must not pass for a real vLLM's

_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_MASK = RING - 1


def answer_id(ask: Ask, request_id: str | None) -> str:
    """The x-request-id header where there is one, else random, after the door's prefix."""
    return ("chatcmpl-" if ask.chat else "cmpl-") + (request_id or secrets.token_hex(8))


class Stream:
    """The events of one streamed answer, already framed as chunks of a chunked body.

    What stays the same from event to event is encoded once; an ordinary event is one lookup and one join.
    """

    def __init__(self, ask: Ask, name: str, created: int, vocabulary: Vocabulary) -> None:
        self._ask = ask
        self._vocabulary = vocabulary
        self._offset = ask.key & _MASK
        kind = "chat.completion.chunk" if ask.chat else "text_completion"
        start = msgspec.json.encode({"id": name, "object": kind, "created": created, "model": ask.model})
        self._start = b"data: " + start[:-1]
        choice = b'{"index":0,"delta":{"content":"' if ask.chat else b'{"index":0,"text":"'
        self._head = self._start + b',"choices":[' + choice
        if ask.chat:
            self._tail = b'"},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
        else:
            ids = b'"prompt_token_ids":null,"token_ids":null}]}\n\n'
            self._tail = b'","logprobs":null,"finish_reason":null,"stop_reason":null,' + ids
        self._plain = not (ask.continuous_usage or ask.return_token_ids)

    def event(self, start: int, count: int) -> bytes:
        """The chunk that carries tokens `start` to `start + count` of the answer; with the last, all that ends it."""
        ask = self._ask
        if self._plain and count == 1 and 0 < start < ask.output_tokens - 1:
            payload = self._head + self._vocabulary.encoded[(self._offset + start) & _MASK] + self._tail
            return b"%x\r\n%b\r\n" % (len(payload), payload)
        chunks = []
        if ask.chat and start == 0:
            chunks.append(_chunk(self._role()))
        last = start + count == ask.output_tokens
        chunks.append(_chunk(self._tokens(start, count, last)))
        if last:
            if ask.include_usage:
                ends = b',"choices":[],"usage":%b,"system_fingerprint":"%b"}\n\n'
                chunks.append(_chunk(self._start + ends % (self._usage(ask.output_tokens), FINGERPRINT.encode())))
            chunks.append(_END)
        return b"".join(chunks)

    def _role(self) -> bytes:
        ask = self._ask
        usage = b',"usage":' + self._usage(0) if ask.continuous_usage else b""
        ids = _ids(ask.prompt_ids) if ask.return_token_ids else b"null"
        return (
            self._start
            + b',"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
            + b'%b,"prompt_token_ids":%b,"prompt_text":null}\n\n' % (usage, ids)
        )

    def _tokens(self, start: int, count: int, last: bool) -> bytes:
        ask = self._ask
        words = count - 1 if last and ask.stopped else count  # the end token has no text
        text = self._vocabulary.answer_json(self._offset, start, words)
        token_ids = prompt_ids = b"null"
        if ask.return_token_ids:
            token_ids = _ids(answer_ids(ask, self._vocabulary, start, count))
            prompt_ids = _ids(ask.prompt_ids) if start == 0 else b"null"
        finish = (b'"stop"' if ask.stopped else b'"length"') if last else b"null"
        if ask.chat:
            stop = b',"stop_reason":null' if last else b""
            choice = b'"},"logprobs":null,"finish_reason":%b%b,"token_ids":%b}]' % (finish, stop, token_ids)
        else:
            choice = (
                b'","logprobs":null,"finish_reason":%b,"stop_reason":null,"prompt_token_ids":%b,"token_ids":%b}]'
                % (
                    finish,
                    prompt_ids,
                    token_ids,
                )
            )
        usage = b',"usage":' + self._usage(start + count) if ask.continuous_usage else b""
        fingerprint = b',"system_fingerprint":"%b"' % FINGERPRINT.encode() if last and not ask.include_usage else b""
        return b"".join((self._head, text, choice, usage, fingerprint, b"}\n\n"))

    def _usage(self, generated: int) -> bytes:
        prompt = len(self._ask.prompt_ids)
        return b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
            prompt,
            prompt + generated,
            generated,
        )


def whole(ask: Ask, name: str, created: int, vocabulary: Vocabulary) -> bytes:
    """The body of an answer that is not streamed."""
    words = ask.output_tokens - ask.stopped
    text = "".join(vocabulary.texts[((ask.key & _MASK) + k) & _MASK] for k in range(words))
    token_ids = answer_ids(ask, vocabulary, 0, ask.output_tokens) if ask.return_token_ids else None
    prompt_ids = ask.prompt_ids if ask.return_token_ids else None
    prompt = len(ask.prompt_ids)
    usage = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + ask.output_tokens,
        "completion_tokens": ask.output_tokens,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }
    finish = "stop" if ask.stopped else "length"
    start = {"id": name, "object": "chat.completion" if ask.chat else "text_completion", "created": created}
    middle = {"service_tier": None, "system_fingerprint": FINGERPRINT, "usage": usage}
    end = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
    if ask.chat:
        names = ("refusal", "annotations", "audio", "function_call", "reasoning")
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, **dict.fromkeys(names)},
            "logprobs": None,
            "finish_reason": finish,
            "stop_reason": None,
            "token_ids": token_ids,
            "routed_experts": None,
        }
        prompts = {"prompt_logprobs": None, "prompt_token_ids": prompt_ids, "prompt_text": None}
        return msgspec.json.encode({**start, "model": ask.model, "choices": [choice], **middle, **prompts, **end})
    choice = {
        "index": 0,
        "text": text,
        "logprobs": None,
        "finish_reason": finish,
        "stop_reason": None,
        "token_ids": token_ids,
        "prompt_logprobs": None,
        "prompt_token_ids": prompt_ids,
        "routed_experts": None,
    }
    return msgspec.json.encode({**start, "model": ask.model, "choices": [choice], **middle, **end})


def answer_ids(ask: Ask, vocabulary: Vocabulary, start: int, count: int) -> list[int]:
    """Token ids of a part of the answer."""
    ids = vocabulary.answer_ids(ask.key & _MASK, start, count)
    if ask.stopped and start + count == ask.output_tokens:
        ids[-1] = vocabulary.end_id
    return ids


def models_body(models: Sequence[str], max_model_len: int) -> bytes:
    """GET /v1/models."""
    created = int(time.time())
    permission = {
        "id": f"modelperm-{secrets.token_hex(8)}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    entries = [
        {
            "id": model,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": model,
            "parent": None,
            "max_model_len": max_model_len,
            "permission": [permission],
        }
        for model in models
    ]
    return msgspec.json.encode({"object": "list", "data": entries})


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _ids(ids: Sequence[int]) -> bytes:
    return msgspec.json.encode(ids)
