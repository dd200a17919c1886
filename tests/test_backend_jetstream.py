"""JetStream's HTTP doors; of the one of its own, on what a real one sent (tests/data/jetstream)."""

import json
from dataclasses import replace

import pytest

import backends
from backends.base import BadAnswer, Options, Piece, Unsupported
from tests.backend_cases import DATA, PROMPT, REQUEST, body_of, door, on_file, read, text_of

SIDECAR = door("jetstream")
OWN = door("jetstream", "v1", stream=True)
END = Piece(choice=True, finish="empty sample")


def test_requests() -> None:
    assert body_of("jetstream") == {"prompt": PROMPT, "max_tokens": 9}
    assert body_of("jetstream", "v1", stream=True) == {"max_tokens": 9, "text_content": {"text": PROMPT}}
    recorded = json.loads((DATA / "jetstream/http_generate_text.request.json").read_bytes())
    asked = json.loads(OWN.body(replace(REQUEST, prompt="AB", output_length=3)))
    assert asked == recorded


def test_which_door_streams() -> None:
    backend = backends.load("jetstream")
    assert SIDECAR.framing == "object" and OWN.framing == "objects"
    with pytest.raises(Unsupported, match=r"^--stream-request has no counterpart in /generate"):
        backend.choose("generate", Options(stream=True))
    with pytest.raises(Unsupported, match=r"^--stream-request is needed for /v1/generate"):
        backend.choose("v1", Options())


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("http_generate_text", ["\u010a", "\u018f", "\u0256"]),
        ("http_generate_text2", ["\u0190", "\u0258", "\u0384"]),
        ("http_long_prompt", ["\u1040", "\u1860", "\u2490"]),
        ("http_generate_tokens", ["", "", ""]),
    ],
)
def test_a_stream_of_objects(name: str, texts: list[str]) -> None:
    """Asked with token ids, it answers with ids only."""
    pieces = on_file(OWN, f"jetstream/{name}.body")
    assert pieces == [*(Piece(text, True, 1) for text in texts), END]
    assert text_of(pieces) == "".join(texts)


def test_other_forms_of_its_events() -> None:
    assert OWN.read(b'{"initialContent":{}}') == Piece()
    assert OWN.read(b'{"streamContent":{}}') == Piece(choice=True)
    assert OWN.read(b'{"streamContent":{"samples":[{"text":"ab","tokenIds":[1,2]},{"text":"c"}]}}') == Piece(
        "ab", True, 2
    )
    assert read(OWN, b'{"streamContent":{"samples":[{"text":"}{"}]}}{"error":"no"}') == [
        Piece("}{", True),
        Piece(error="no"),
    ]


def test_the_sidecar() -> None:
    assert SIDECAR.read(b'{\n    "response": " Paris."\n}') == Piece(" Paris.", choice=True)
    assert SIDECAR.read(b'{"response":""}') == Piece(choice=True)
    assert not SIDECAR.marks_end


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("http_err_malformed", "JSON decode error"),
        ("http_err_extra", "Extra inputs are not permitted"),
        ("http_old_generate_path", "Not Found"),
        ("http_no_metrics", "Not Found"),
    ],
)
def test_errors(name: str, message: str) -> None:
    body = (DATA / f"jetstream/{name}.body").read_bytes()
    for made in (SIDECAR, OWN):
        [piece] = read(made, body)
        assert piece.error is not None and message in piece.error


@pytest.mark.parametrize(
    "payload",
    [
        b'{"response":5}',
        b'{"streamContent":5}',
        b'{"streamContent":{"samples":{}}}',
        b'{"streamContent":{"samples":["a"]}}',
        b'{"streamContent":{"samples":[{"text":5}]}}',
        b'{"streamContent":{"samples":[{"text":"a","tokenIds":["a"]}]}}',
        b'{"streamContent":{"samples":[{"text":"a"',
    ],
)
def test_what_is_not_in_these_protocols(payload: bytes) -> None:
    for made in (SIDECAR, OWN):
        with pytest.raises(BadAnswer):
            made.read(payload)
