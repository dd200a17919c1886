"""TensorRT-LLM on Triton: POST /v2/models/{model}/generate and /generate_stream (one door).

Source: Triton's generate extension; the ensemble's tensors in TensorRT-LLM's triton_backend/all_models. Triton hands
words that are no tensor of the model on as parameters, which the ensemble passes over: so a request may have words of
newer and of older models side by side. Triton reports failures inside a 200, and has no end mark.
"""

from typing import Annotated, Any, ClassVar

import msgspec

from backends.base import Backend, BadAnswer, Options, Piece, Request, Times, Traits, Unsupported, json_field
from backends.json_door import Count, JsonDoor, decode, error_text

_Clock = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]  # ns of the server's monotonic clock


class _Event(msgspec.Struct):
    text_output: str | list[str] | None = None  # a list: one text a beam, the best first
    num_input_tokens: Count | None = None
    num_output_tokens: Count | None = None
    arrival_time_ns: _Clock | None = None
    first_scheduled_time_ns: _Clock | None = None
    first_token_time_ns: _Clock | None = None
    last_token_time_ns: _Clock | None = None
    error: Any = None


class _Asked(msgspec.Struct):
    text_input: str = ""


_events = msgspec.json.Decoder(_Event)
_asked = msgspec.json.Decoder(_Asked)


class GenerateDoor(JsonDoor):
    """POST /v2/models/{model}/generate and /generate_stream."""

    path: ClassVar[str] = "/v2/models/{model}/generate"
    stream_path: ClassVar[str | None] = "/v2/models/{model}/generate_stream"
    marks_end: ClassVar[bool] = False
    echoes: ClassVar[bool] = True
    traits: ClassVar[Traits] = Traits(
        settings=frozenset({"ignore_eos", "best_of", "use_beam_search", "top_k", "temperature"}),
        exact_length=True,
        counts="num_output_tokens where the model gives it, tokenizer",
        verified="Triton 2.51.0 with a Python model that has TensorRT-LLM's tensors",
    )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._ignore_eos = options.ignore_eos
        self._common: dict[str, Any] = {
            "bad_words": "",
            "stop_words": "",
            "stream": options.stream,
            "exclude_input_in_output": True,  # or the prompt would come back, and be counted
        }
        if options.use_beam_search:
            if options.stream:
                raise Unsupported("use_beam_search", "a stream of TensorRT-LLM")
            self._common["beam_width"] = options.best_of
        elif options.best_of != 1:
            raise Unsupported("best_of", "TensorRT-LLM, except with --use-beam-search, where it is the beam's width")
        else:  # the count of a beam search is that of all its beams
            self._common["return_num_input_tokens"] = True
            self._common["return_num_output_tokens"] = True
        if options.top_k is not None:
            self._common["top_k"] = options.top_k
        if options.temperature is not None:
            self._common["temperature"] = options.temperature

    def fields(self, request: Request) -> dict[str, Any]:
        fields = {"text_input": request.prompt, "max_tokens": request.output_length, **self._common}
        if self._ignore_eos:  # no end before the wanted length: min_length until 2024, min_tokens since
            fields["min_length"] = fields["min_tokens"] = request.output_length
        return fields

    def read(self, payload: bytes) -> Piece:
        event = decode(_events, payload, "an answer of Triton's generate")
        if event.error is not None:
            return Piece(error=error_text(event.error))
        text = event.text_output
        if text is None:
            raise BadAnswer("neither text_output nor error in it")
        if isinstance(text, list):
            text = text[0] if text else ""
        count = event.num_output_tokens  # of this response: of a stream, of its one event
        return Piece(  # by position: this runs once a token
            text,
            True,
            count or 0 if self.stream else 0,
            None if self.stream else count,
            event.num_input_tokens,
            None,
            None,
            False,
            False,
            False,
            _times(event),
        )

    def own_text(self, body: bytes, text: str) -> str:
        """Without the prompt, where the text begins with exactly that."""
        try:
            return text.removeprefix(decode(_asked, body, "a request of ours").text_input)
        except BadAnswer:  # --extra-body has made something else of it
            return text


def _times(event: _Event) -> Times | None:
    """What `return_perf_metrics` brings; None without."""
    arrival, scheduled = event.arrival_time_ns, event.first_scheduled_time_ns
    first, last = event.first_token_time_ns, event.last_token_time_ns
    if arrival is None or scheduled is None or first is None or last is None:
        return None
    if not 0 < arrival <= scheduled <= first <= last:  # a clock that was not read is 0
        return None
    return Times(scheduled - arrival, first - scheduled, last - first, last - arrival)


BACKEND = Backend(
    name="tensorrt_llm_triton",
    title="TensorRT-LLM on Triton",
    doors={"generate": GenerateDoor},
    default_model="ensemble",
    health_path="/v2/health/ready",
    version_path="/v2",
    read_version=json_field("version"),
)
