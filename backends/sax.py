"""SAX: POST /generate of the HTTP server in front of it.

Source: the first inference-benchmark for model servers on GKE, whose request this is, word for word. The answer has
OpenAI's form; it is never streamed, and says neither how many tokens it has nor why it ended.
"""

from typing import Any, ClassVar

from backends.base import Backend, Options, Piece, Request, Traits
from backends.json_door import JsonDoor
from backends.openai import read_event


class GenerateDoor(JsonDoor):
    """POST /generate; --sax-model names the model to this server, where it differs from the one of the profile."""

    path: ClassVar[str] = "/generate"
    marks_end: ClassVar[bool] = False
    traits: ClassVar[Traits] = Traits(
        settings=frozenset({"best_of", "use_beam_search", "top_k", "temperature"}),
        streams=False,
        verified="specification (the first inference-benchmark)",
    )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        temperature = options.temperature
        if temperature is None:
            temperature = 0.0 if options.use_beam_search else 1.0
        self._sax_model = options.sax_model
        self._common: dict[str, Any] = {
            "n": 1,
            "best_of": options.best_of,
            "use_beam_search": options.use_beam_search,
            "temperature": temperature,
            "top_p": 1.0,
            "top_k": 50 if options.top_k is None else options.top_k,
            "stream": False,
        }

    def fields(self, request: Request) -> dict[str, Any]:
        model = self._sax_model or request.model
        return {"model": model, "prompt": request.prompt, "max_tokens": request.output_length, **self._common}

    def read(self, payload: bytes) -> Piece:
        return read_event(payload)


BACKEND = Backend(name="sax", title="SAX", doors={"generate": GenerateDoor})
