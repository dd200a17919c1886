"""JetStream's gRPC door: its requests and answers against Google's protobuf library and recorded bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.base import BadAnswer, Options, Piece, Request, Unsupported
from backends.jetstream_grpc import DecodeDoor, fields, varint
from tests.jetstream_messages import DecodeRequest, DecodeResponse, response

DOOR = DecodeDoor(Options(stream=True))


def request(prompt: str, tokens: int) -> Request:
    return Request(index=0, model="m", prompt=prompt, input_length=3, output_length=tokens)


@given(st.text(), st.integers(1, (1 << 31) - 1))
def test_a_request_as_protobuf_reads_it(prompt: str, tokens: int) -> None:
    read = DecodeRequest.FromString(DOOR.body(request(prompt, tokens)))
    assert read.max_tokens == tokens
    assert read.text_content.text == prompt
    assert [field.name for field, _ in read.ListFields()] == ["max_tokens", "text_content"]


@given(st.text(), st.lists(st.integers(-(1 << 31), (1 << 31) - 1)))
def test_an_answer_as_protobuf_writes_it(text: str, ids: list[int]) -> None:
    piece = DOOR.read(response((text, ids)))
    assert piece == Piece(text, True, len(ids), finish=None if text or ids else "empty sample")


@pytest.mark.parametrize(
    ("recorded", "text", "ids"),  # of google-jetstream 0.2.2 with its mock engine
    [
        ("1a0a0a080a02c48a12028a02", "Ċ", 1),
        ("1a0b0a090a03e181801202c020", "၀", 1),
        ("1a060a0412028a02", "", 1),  # asked with token ids
        ("1a020a00", "", 0),
    ],
)
def test_recorded_answers(recorded: str, text: str, ids: int) -> None:
    piece = DOOR.read(bytes.fromhex(recorded))
    assert (piece.text, piece.token_ids, piece.choice) == (text, ids, True)
    assert piece.finish == (None if ids else "empty sample")


def test_a_recorded_request() -> None:
    assert DOOR.body(request("AB", 3)) == bytes.fromhex("20032a040a024142")


def test_what_is_no_token() -> None:
    assert DOOR.read(b"") == Piece()
    assert DOOR.read(DecodeResponse(initial_content={}).SerializeToString()) == Piece()
    assert DOOR.read(DecodeResponse(stream_content={}).SerializeToString()) == Piece(choice=True)


def test_several_tokens_and_several_samples() -> None:
    """Text that was held back comes with all its tokens; of several samples the first is the answer."""
    assert DOOR.read(response(("abc", [1, 1 << 20, 3]), ("other", [4]))) == Piece("abc", True, 3)


def test_ids_that_are_not_packed_and_fields_of_a_later_schema() -> None:
    sample = (
        b"\x10\x07\x10\xff\x7f" + b"\x0a\x01x" + b"\x7d1234" + b"\x791234567\x08" + b"\xa2\x06\x03new" + b"\x50\x01"
    )
    content = b"\x0a" + varint(len(sample)) + sample
    assert DOOR.read(b"\x08\x01\x1a" + varint(len(content)) + content) == Piece("x", True, 2)


def test_a_message_in_two_parts_is_one() -> None:
    """Protocol Buffers, "Last One Wins": parts of a message field are merged."""
    assert DOOR.read(bytes.fromhex("1a001a060a0412028a02")) == Piece("", True, 1)


@pytest.mark.parametrize(
    "broken",
    [
        "1a",
        "1a05",
        "1a020a",
        "ff",
        "ff" * 10 + "01",  # a number without an end
        "1aff" + "ff" * 8 + "01",  # a length beyond all bytes
        "1b",  # a group
        "0000",  # field 0
        "1801",  # stream_content as a number
        "1a020801",  # samples as a number
        "1a040a020801",  # text as a number
        "1a050a030a01ff",  # text that is not UTF-8
        "1a050a03120180",  # a token id without an end
        "1a090a07" + "11" + "000000",  # 64 bits that are not there
        "7b2261223a317d",  # JSON
    ],
)
def test_what_is_not_in_the_protocol(broken: str) -> None:
    with pytest.raises(BadAnswer):
        DOOR.read(bytes.fromhex(broken))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    try:
        piece = DOOR.read(payload)
    except BadAnswer:
        return
    assert piece.token_ids <= len(payload)


@given(st.integers(0, (1 << 64) - 1))
def test_numbers(value: int) -> None:
    assert list(fields(b"\x08" + varint(value))) == [(1, value)]


def test_what_the_door_cannot_do() -> None:
    with pytest.raises(Unsupported, match=r"^--stream-request is needed for "):
        DecodeDoor(Options())
    with pytest.raises(Unsupported, match="extra-body"):
        DecodeDoor(Options(stream=True, extra_body={"priority": 1}))
    with pytest.raises(Unsupported, match="ignore-eos"):
        DecodeDoor(Options(stream=True, ignore_eos=True))


def test_what_the_door_says_of_itself() -> None:
    assert DOOR.framing == "grpc"
    assert DOOR.here == "/jetstream_proto.Orchestrator/Decode"
