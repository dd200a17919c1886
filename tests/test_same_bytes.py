"""The same seed and nonce send the same bytes at the same offsets, however many processes send them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from latency_profile import profile, records
from latency_profile.settings import load
from latency_profile.workload import tokenizer
from tests.servers import odd
from tests.servers.odd import Call, Odd

SOURCES = {
    "synthetic": ["--input-len", "40", "--input-len-stddev", "9", "--input-len-min", "10", "--output-len", "3"],
    "dummy": ["--use-dummy-text", "--max-input-length", "40", "--max-output-length", "3"],
}
PROMPTS = 30
BLOCK = 16  # tokens of a prefix cache's block


@dataclass
class Sent:
    """What came to the server in one run, by the index of the request in each point."""

    heads: dict[tuple[int, int], bytes]  # (point, index) → request line and headers, without the port
    bodies: dict[tuple[int, int], Any]
    raw: dict[tuple[int, int], bytes]
    due_ns: list[list[int]]
    input_tokens: list[list[int]]

    @property
    def prompts(self) -> list[str]:
        return [self.bodies[place]["prompt"] for place in sorted(self.bodies)]


def run(folder: Path, flags: list[str], *, workers: int = 1, nonce: str | None = "00ff", seed: int = 5) -> Sent:
    """One profile of two points against a server that answers at once."""
    folder.mkdir()

    def serve(call: Call) -> None:
        if call.head.startswith(b"GET /v1/models"):
            call.send(odd.plain(b'{"data":[{"id":"a"},{"id":"b"}]}'))
        elif call.head.startswith(b"GET"):
            call.send(odd.plain(b"", "", "404 Not Found"))
        else:
            call.send(odd.whole(3))

    argv = ["--host", "127.0.0.1", "--tokenizer", "bundled", "--models", "a,b", "--traffic-split", "0.7,0.3"]
    argv += ["--request-rates", "200,inf", "--num-prompts", str(PROMPTS), "--stream-request", "--save-json-results"]
    argv += ["--output-dir", str(folder), "--cache-dir", str(folder.parent / "cache"), "--workers", str(workers)]
    argv += ["--seed", str(seed), *(["--nonce", nonce] if nonce else []), *flags]
    with Odd(serve) as server:
        profile.run(load([*argv, "--port", str(server.port)], {}), {})  # a busy machine may be late: that is no matter
        calls = [call for call in server.calls if call.head.startswith(b"POST")]
    places = [(int(call.request_id.split("-")[-2]), call.index) for call in calls]
    assert len(set(places)) == len(places) == 2 * PROMPTS
    stored = [records.load(path) for path in folder.glob("*.records.npz")]
    stored.sort(key=lambda point: point.context.point)
    return Sent(
        heads={place: call.head.replace(b":%d" % server.port, b"") for place, call in zip(places, calls, strict=True)},
        bodies={place: msgspec.json.decode(call.body) for place, call in zip(places, calls, strict=True)},
        raw={place: call.body for place, call in zip(places, calls, strict=True)},
        due_ns=[point["due_ns"].tolist() for point in stored],
        input_tokens=[point["input_tokens"].tolist() for point in stored],
    )


def blocks(prompts: list[str]) -> list[tuple[int, ...]]:
    """The first cache block of each prompt."""
    return [tuple(ids[:BLOCK]) for ids in tokenizer.load("bundled", False).ids(prompts, special=True)]


@pytest.mark.parametrize("source", SOURCES)
def test_one_process_and_four_send_the_same(tmp_path: Path, source: str) -> None:
    one = run(tmp_path / "one", SOURCES[source], workers=1)
    four = run(tmp_path / "four", SOURCES[source], workers=4)
    assert four.raw == one.raw
    assert four.heads == one.heads
    assert four.due_ns == one.due_ns
    assert one.due_ns[0] != sorted(set(one.due_ns[1])), "a rate is no burst"
    assert four.input_tokens == one.input_tokens
    assert {body["model"] for body in one.bodies.values()} == {"a", "b"}


def test_another_nonce_gives_other_first_blocks_and_the_same_lengths(tmp_path: Path) -> None:
    first = run(tmp_path / "first", SOURCES["synthetic"], nonce="00ff")
    other = run(tmp_path / "other", SOURCES["synthetic"], nonce="01ff")
    assert other.due_ns == first.due_ns
    assert other.input_tokens == first.input_tokens
    assert len(set(blocks(first.prompts) + blocks(other.prompts))) == 4 * PROMPTS
    counts = tokenizer.load("bundled", False).counts(other.prompts, special=True)
    assert counts == [length for point in other.input_tokens for length in point]
    assert len(set(counts)) > 10
    for place, body in first.bodies.items():
        changed = {name for name in body if body[name] != other.bodies[place][name]}
        assert changed == {"prompt"}


def test_another_seed_gives_another_plan_and_other_prompts(tmp_path: Path) -> None:
    first = run(tmp_path / "first", SOURCES["synthetic"], seed=5)
    other = run(tmp_path / "other", SOURCES["synthetic"], seed=6)
    assert other.due_ns[0] != first.due_ns[0]
    assert other.input_tokens != first.input_tokens


def test_a_data_set_as_it_is(tmp_path: Path) -> None:
    """--no-unique-prompts: every prompt is a line of the file, none twice; unique ones have the text at their end."""
    texts = [f"Question {number}: how many legs have {number * 7} spiders?" for number in range(2 * PROMPTS)]
    lines = [json.dumps({"prompt": text, "output_len": 5 + number}) for number, text in enumerate(texts)]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    flags = ["--dataset", str(tmp_path / "questions.jsonl")]
    plain = run(tmp_path / "plain", [*flags, "--no-unique-prompts"], nonce=None)
    assert sorted(plain.prompts) == sorted(texts)
    assert plain.prompts != texts, "in seeded order"
    again = run(tmp_path / "again", [*flags, "--no-unique-prompts"], nonce=None, workers=2)
    assert again.raw == plain.raw
    for body in plain.bodies.values():
        assert body["max_tokens"] == 5 + texts.index(body["prompt"])
    unique = run(tmp_path / "unique", flags)
    assert all(
        longer.endswith(text) and longer != text for longer, text in zip(unique.prompts, plain.prompts, strict=True)
    )
    assert np.array_equal(unique.due_ns[0], plain.due_ns[0])
