"""What the tests of the backends share: one request, doors by name, and what real servers sent (tests/data)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import backends
from backends.base import Door, Options, Piece, Request
from backends.framing import json_objects, sse_events

DATA = Path(__file__).with_name("data")
PROMPT = 'Say "é"\n'
REQUEST = Request(index=3, model="org/model", prompt=PROMPT, input_length=4, output_length=9)
CUT = {"sse": sse_events, "objects": json_objects}


def door(backend: str, endpoint: str = "generate", options: Options | None = None, **asked: Any) -> Door:
    """The door that `--endpoint` names, with these options."""
    return backends.load(backend).choose(endpoint, options or Options(**asked)).door


def body_of(backend: str, endpoint: str = "generate", request: Request = REQUEST, **asked: Any) -> Any:
    """The request that goes out, decoded."""
    return json.loads(door(backend, endpoint, **asked).body(request))


def read(made: Door, body: bytes) -> list[Piece]:
    """The pieces of a whole body, cut as this door has it."""
    cut = CUT.get(made.framing)
    return [made.read(payload) for _, payload in cut(body)] if cut else [made.read(body)]


def on_file(made: Door, name: str) -> list[Piece]:
    """The pieces of a recorded body."""
    return read(made, (DATA / name).read_bytes())


def text_of(pieces: Sequence[Piece]) -> str:
    """The text of an answer: pieces that say `so_far` stand for all before them."""
    text = ""
    for piece in pieces:
        text = (piece.text or text) if piece.so_far else text + piece.text
    return text
