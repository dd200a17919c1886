"""A Python model for Triton that has TensorRT-LLM's tensors and generates common English words, one a token.

Runs in Triton's own process for Python models, which brings `triton_python_backend_utils`; nothing of this repository.

As TensorRT-LLM does: a decoupled model answers a streaming request with several responses, each with its own tokens
only, and one that is not decoupled refuses to stream; an answer begins with the prompt unless that is excluded, a
streamed one never does; `num_output_tokens` is of this response. It puts two tokens into a response, as speculative
decoding does, so that whoever counts responses counts wrong. A request with the bad word FAILURE fails after its first
response.

Its own count of what it generated is the file `generated_tokens` beside its configuration: a line of each response.
(A metric of its own would be Triton's way, but this version of the server crashes when two answers count at a time.)
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

WORDS = ["the", "of", "and", "to", "in", "is", "that", "for", "it", "was", "on", "are", "as", "with", "his", "they"]
TOKENS_PER_RESPONSE = 2
LONGEST_PROMPT = 2000  # characters
FAILURE = b"<fail>"
TOKEN_S = 0.002


def flag(request: Any, name: str) -> bool:
    """An optional tensor of one bool."""
    tensor = pb.get_input_tensor_by_name(request, name)
    return tensor is not None and bool(tensor.as_numpy().flat[0])


def response(text: str, prompt: str, tokens: int, request: Any) -> Any:
    """One response that carries `tokens` tokens."""
    outputs = [
        pb.Tensor("text_output", np.array([text.encode()], dtype=np.object_)),
        pb.Tensor("cum_log_probs", np.zeros(1, np.float32)),
        pb.Tensor("output_log_probs", np.zeros(tokens, np.float32)),
        pb.Tensor("context_logits", np.zeros(1, np.float32)),
    ]
    if flag(request, "return_num_input_tokens"):
        outputs.append(pb.Tensor("num_input_tokens", np.array([len(prompt.split())], np.int32)))
    if flag(request, "return_num_output_tokens"):
        outputs.append(pb.Tensor("num_output_tokens", np.array([tokens], np.int32)))
    return pb.InferenceResponse(outputs)


class TritonPythonModel:
    """What Triton looks for by this name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called once; `model_config` is the configuration as JSON."""
        self.decoupled = json.loads(args["model_config"])["model_transaction_policy"]["decoupled"]
        count = Path(args["model_repository"]) / "generated_tokens"
        self.generated = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # appended to from several threads

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """A decoupled model answers through a request's sender and from a thread of its own."""
        if not self.decoupled:
            return [next(self.answers(request)) for request in requests]
        for request in requests:
            threading.Thread(target=self.send, args=(request,)).start()
        return None

    def send(self, request: Any) -> None:
        """All responses of one request, then the mark of its end."""
        sender = request.get_response_sender()
        for answer in self.answers(request):
            sender.send(answer)
        sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def answers(self, request: Any) -> Iterator[Any]:
        """The responses of one request, each when its tokens are due."""
        prompt = pb.get_input_tensor_by_name(request, "text_input").as_numpy().flat[0].decode()
        count = int(pb.get_input_tensor_by_name(request, "max_tokens").as_numpy().flat[0])
        streams = flag(request, "stream")
        if len(prompt) > LONGEST_PROMPT:
            yield pb.InferenceResponse(error=pb.TritonError("prompt too long"))
            return
        if streams and not self.decoupled:
            yield pb.InferenceResponse(error=pb.TritonError("Streaming is only supported in decoupled mode."))
            return
        bad_words = pb.get_input_tensor_by_name(request, "bad_words")
        fails = bad_words is not None and FAILURE in bad_words.as_numpy()
        tokens = [" " + WORDS[place % len(WORDS)] for place in range(count)]
        step = TOKENS_PER_RESPONSE if streams else max(count, 1)
        echoed = "" if streams or flag(request, "exclude_input_in_output") else prompt
        for start in range(0, max(count, 1), step):
            part = tokens[start : start + step]
            time.sleep(TOKEN_S * len(part))
            os.write(self.generated, b"%d\n" % len(part))
            yield response(echoed + "".join(part), prompt, len(part), request)
            if fails:
                yield pb.InferenceResponse(error=pb.TritonError("the engine failed"))
                return
