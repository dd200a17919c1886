"""Hugging Face Transformers without an engine: a predict server, and the OpenAI doors of `transformers serve`.

Source: the first inference-benchmark for model servers on GKE, and the prediction form of Vertex AI, for POST /predict
(TorchServe with a handler around `generate`); recorded bytes for `transformers serve`, which answers 422 to a field
that it does not know, gives usage without being asked, and ends a stream without [DONE].
"""

import dataclasses
from typing import Any, ClassVar

import msgspec

from backends import openai
from backends.base import Backend, BadAnswer, Options, Piece, Request, Traits
from backends.json_door import JsonDoor, decode, error_text

ECHO_HEAD = "Prompt:\n"
ECHO_END = "\nOutput:\n"


class _Generated(msgspec.Struct):
    generated_text: str


class _Answer(msgspec.Struct):
    predictions: list[list[_Generated] | _Generated | str] | None = None
    error: Any = None
    message: str | None = None  # of TorchServe's errors, beside `code` and `type`


class _Instance(msgspec.Struct):
    prompt: str = ""


class _Asked(msgspec.Struct):
    instances: list[_Instance] = []


_answers = msgspec.json.Decoder(_Answer)
_asked = msgspec.json.Decoder(_Asked)


class PredictDoor(JsonDoor):
    """POST /predict: one instance in, one prediction out, counted by the tokenizer."""

    path: ClassVar[str] = "/predict"
    marks_end: ClassVar[bool] = False
    echoes: ClassVar[bool] = True
    traits: ClassVar[Traits] = Traits(
        settings=frozenset({"top_k"}), streams=False, verified="specification (the first inference-benchmark)"
    )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._top_k = {} if options.top_k is None else {"top_k": options.top_k}

    def fields(self, request: Request) -> dict[str, Any]:
        return {"instances": [{"prompt": request.prompt, "max_length": request.output_length, **self._top_k}]}

    def read(self, payload: bytes) -> Piece:
        answer = decode(_answers, payload, "an answer of a predict server")
        if answer.error is not None:
            return Piece(error=error_text(answer.error))
        if answer.predictions is None:
            if answer.message is None:
                raise BadAnswer("neither predictions nor error in it")
            return Piece(error=answer.message)
        first: list[_Generated] | _Generated | str = answer.predictions[0] if answer.predictions else ""
        if isinstance(first, list):
            first = first[0] if first else ""
        return Piece(first if isinstance(first, str) else first.generated_text, choice=True)

    def own_text(self, body: bytes, text: str) -> str:
        """Of "Prompt:\\n<prompt>\\nOutput:\\n<text>" the last part, whatever stands in the prompt or in the text."""
        try:
            instances = decode(_asked, body, "a request of ours").instances
        except BadAnswer:  # --extra-body has made something else of it
            return text
        echo = ECHO_HEAD + (instances[0].prompt if instances else "")
        if not text.startswith(echo):
            return text
        _, end, own = text[len(echo) :].partition(ECHO_END)
        return own if end else text


class CompletionsDoor(openai.CompletionsDoor):
    """POST /v1/completions of `transformers serve`."""

    health_path: ClassVar[str | None] = "/health"
    traits: ClassVar[Traits] = Traits(
        settings=frozenset({"temperature"}), counts="usage, tokenizer", verified="transformers serve 5.19.0 (CPU)"
    )


class ChatDoor(openai.ChatDoor):
    """POST /v1/chat/completions of `transformers serve`."""

    health_path: ClassVar[str | None] = "/health"
    traits: ClassVar[Traits] = dataclasses.replace(CompletionsDoor.traits, chat=True)


BACKEND = Backend(
    name="naive_transformers",
    title="Hugging Face Transformers",
    doors={"predict": PredictDoor, "completions": CompletionsDoor, "chat": ChatDoor},
    default_model="default",
    health_path="/ping",
)
