"""vLLM's OpenAI-compatible server: reads requests, refuses what vLLM refuses. Checked against vLLM 0.32's own bytes.

Answers are written by `vllm_answer`.
"""

import secrets
import time
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.engine import EngineProfile
from latency_profile.simulator.job import Job, Stats
from latency_profile.simulator.metrics import Meter
from latency_profile.simulator.protocols.base import Ask, Refusal, ServerProtocol, json_reply
from latency_profile.simulator.protocols.openai_doors import OpenAIAsk, OpenAIDoors
from latency_profile.simulator.protocols.vllm_answer import VARY, VERSION, VllmWriter
from latency_profile.simulator.protocols.vllm_metrics import Metrics

_DEFAULT_MAX_TOKENS = 16  # of /v1/completions; a chat may fill the context
_KINDS = {401: "Unauthorized", 429: "TooManyRequestsError", 503: "ServiceUnavailableError"}


def error_body(status: int, kind: str, message: str, parameter: str | None = None) -> bytes:
    """vLLM's error."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": parameter, "code": status}})


class Protocol(OpenAIDoors):
    """vLLM."""

    reasoning: ClassVar[bool] = True
    fields: ClassVar[bytes] = VARY
    reset_path = "/reset_prefix_cache"  # there only with VLLM_SERVER_DEV_MODE=1

    def read(self, path: str, body: bytes) -> OpenAIAsk:
        return self.ask(path, body)

    def writer(self, ask: Ask, job: Job, request_id: str | None) -> VllmWriter:
        """Named by the x-request-id header where there is one, else by chance, after the door's prefix."""
        assert isinstance(ask, OpenAIAsk)
        name = ("chatcmpl-" if ask.chat else "cmpl-") + (request_id or secrets.token_hex(8))
        return VllmWriter(ask, job, self.served.vocabulary, name, int(time.time()))

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(status, _KINDS.get(status, "InternalServerError"), message)

    def make_meter(self, engine: EngineProfile | None) -> Meter:
        return Metrics(self.served.models[0], self.served.max_model_len, engine)

    def make_doors(self) -> Mapping[tuple[str, str], ServerProtocol.Door]:
        # a result must not pass for a real vLLM's
        version = self.constant(msgspec.json.encode({"version": f"{VERSION}+simulator"}))
        return {
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): self.constant(b""),
            ("GET", "/ping"): self.constant(b""),
            ("GET", "/version"): version,
            ("GET", "/metrics"): self.metrics,
        }

    def reset_reply(self, done: bool) -> Reply:
        return json_reply(200, {"success": done}, self.fields)

    def refuse_malformed(self, position: int, reason: str) -> Refusal:
        place = f"body.{position}"
        detail = {"type": "json_invalid", "loc": place, "msg": "JSON decode error", "input": "<dict of 0 items>"}
        return self._validation(place, {**detail, "ctx": {"error": reason}})

    def refuse_invalid(self, place: str, message: str) -> Refusal:
        where = f"body.{place}" if place else "body"
        return self._validation(where, {"type": "value_error", "loc": where, "msg": message})

    def refuse_value(self, message: str, parameter: str) -> Refusal:
        return self._refusal(400, "BadRequestError", message, parameter)

    def check_model(self, model: str | None) -> str:
        models = self.served.models
        if model is not None and model not in models:
            message = f"The model `{model}` does not exist. Valid aliases: {', '.join(models)}."
            raise self._refusal(404, "NotFoundError", message, "model")
        return models[0] if model is None else model

    def limit(self, asked: int | None, prompt: int, chat: bool) -> int:
        limit = self.served.max_model_len
        if asked is not None and asked < 1:
            message = f"max_tokens must be at least 1, got {asked}. (parameter=max_tokens, value={asked})"
            raise self.refuse_value(message, "max_tokens")
        if asked is not None and asked > limit:
            raise self.refuse_value(
                f"max_tokens={asked} cannot be greater than max_model_len={limit}. Please request fewer output tokens. "
                f"(parameter=max_tokens, value={asked})",
                "max_tokens",
            )
        if prompt >= limit:
            raise self.refuse_value(
                f"This model's maximum context length is {limit} tokens. However, your prompt contains at least "
                f"{prompt} input tokens, which exceeds this limit even without any output tokens. Please reduce the "
                f"length of the input prompt. (parameter=input_tokens, value={prompt})",
                "input_tokens",
            )
        if asked is None:
            asked = limit - prompt if chat else min(_DEFAULT_MAX_TOKENS, limit - prompt)
        if prompt + asked > limit:
            raise self.refuse_value(
                f"This model's maximum context length is {limit} tokens. However, you requested {asked} output tokens "
                f"and your prompt contains at least {prompt} input tokens, for a total of at least {prompt + asked} "
                "tokens. Please reduce the length of the input prompt or the number of requested output tokens. "
                f"(parameter=input_tokens, value={prompt})",
                "input_tokens",
            )
        return asked

    def _validation(self, place: str, detail: dict[str, object]) -> Refusal:
        return self._refusal(400, "Bad Request", f"1 validation error:\n  {detail}", place)

    def _refusal(self, status: int, kind: str, message: str, parameter: str | None) -> Refusal:
        return Refusal(Reply(status, error_body(status, kind, message, parameter), fields=self.fields))

    def _models(self, _: Stats) -> Reply:
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
                "max_model_len": self.served.max_model_len,
                "permission": [permission],
            }
            for model in self.served.models
        ]
        return json_reply(200, {"object": "list", "data": entries}, self.fields)
