"""SAX: the request of the first inference-benchmark, word for word."""

import pytest

from backends.base import BadAnswer, Options, Piece, Unsupported
from tests.backend_cases import PROMPT, body_of, door

FIRST = {
    "model": "org/model",
    "prompt": PROMPT,
    "n": 1,
    "best_of": 1,
    "use_beam_search": False,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,
    "max_tokens": 9,
    "stream": False,
}


def test_requests() -> None:
    assert body_of("sax") == FIRST
    assert body_of("sax", sax_model="/sax/test/llama7b") == FIRST | {"model": "/sax/test/llama7b"}
    assert body_of("sax", temperature=0.2, top_k=5) == FIRST | {"temperature": 0.2, "top_k": 5}


def test_a_beam_search_is_greedy_unless_asked_otherwise() -> None:
    beam = FIRST | {"use_beam_search": True, "best_of": 4}
    assert body_of("sax", use_beam_search=True, best_of=4) == beam | {"temperature": 0.0}
    assert body_of("sax", use_beam_search=True, best_of=4, temperature=0.7) == beam | {"temperature": 0.7}


@pytest.mark.parametrize(
    ("options", "flag"), [(Options(ignore_eos=True), "--ignore-eos"), (Options(stream=True), "--stream-request")]
)
def test_what_it_has_no_word_for(options: Options, flag: str) -> None:
    with pytest.raises(Unsupported, match=rf"^{flag} has no counterpart in /generate"):
        door("sax", "generate", options)


def test_answers() -> None:
    made = door("sax")
    assert made.read(b'{"choices":[{"text":" Paris."}]}') == Piece(" Paris.", choice=True)
    assert made.read(b'{"error":"no such model"}').error == "no such model"
    assert not made.marks_end
    for payload in (b'{"choices":[]}', b'{"choices":[{"text":5}]}', b'{"text":"a"}'):
        with pytest.raises(BadAnswer):
            made.read(payload)
