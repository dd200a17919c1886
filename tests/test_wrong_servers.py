"""Servers that are wrong by construction, end to end: each is called by its name, in the JSON and on the terminal.

A sound server beside them shows that the names are not said of anybody.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from tests.servers.simulator import simulator
from tests.tool import benchmark, only_point

TOKENS = 20
REQUESTS = 120
QUICK = ("--fixed-timing", "10,2,0.2")
EXACT = ("--ignore-eos",)
STREAM = ("--stream-request",)
IDS = ("--extra-body", '{"return_token_ids":true}')
IDS_ALONE = ("--extra-body", '{"return_token_ids":true,"stream_options":{"continuous_usage_stats":null}}')
WITHOUT_IDS = ("--extra-body", '{"stream_options":{"continuous_usage_stats":null}}')
OFF_BY_ONE = ("--usage-off-by", "1")
TWO_AN_EVENT = ("--stream-interval", "2")
# Of all remarks those that these servers are about; a test machine may earn others.
OURS = {"TOKENS_DISAGREE", "SEVERAL_TOKENS_AN_EVENT", "FAILURES", "UNSTEADY"}


def slow(*case: object) -> ParameterSet:
    """One more way for a server to be wrong; `make test` has one of each kind."""
    return pytest.param(*case, marks=pytest.mark.slow)


@dataclass(frozen=True)
class Told:
    """What the tool said of a server."""

    remarks: dict[str, str]  # by name
    tokens: dict[str, object]  # the block of the results
    shown: str  # on the terminal, its lines joined


def told(folder: Path, server: tuple[str, ...], flags: tuple[str, ...], backend: str = "vllm", rate: int = 80) -> Told:
    out = folder / "out"
    with simulator(folder, "--backend", backend, *(QUICK if "--fixed-timing" not in server else ()), *server) as served:
        done = benchmark(
            f"--url={served.url}",
            f"--backend={backend}",
            "--tokenizer=bundled",
            "--input-len=16",
            *(() if any(flag.startswith("--output-len") for flag in flags) else (f"--output-len={TOKENS}",)),
            f"--request-rate={rate}",
            *(() if any(flag.startswith("--num-prompts") for flag in flags) else (f"--num-prompts={REQUESTS}",)),
            "--save-json-results",
            f"--output-dir={out}",
            *flags,
        )
    assert done.returncode in (0, 4), done.stderr  # 4: a busy test machine bends its own numbers
    point = only_point(out)
    remarks = {remark["name"]: remark["text"] for remark in point["verdict"]["remarks"] if remark["name"] in OURS}
    shown = " ".join((done.stdout + done.stderr).split())
    return Told(remarks, point["tokens"], shown)


def assert_named(found: Told, name: str, words: str) -> None:
    """In the JSON and on the terminal, and nothing else of these; a test machine may be unsteady by itself."""
    assert set(found.remarks) - {"UNSTEADY"} == {name}
    assert words in found.remarks[name]
    assert name in found.shown
    assert found.remarks[name].rstrip(".") in found.shown


@pytest.mark.parametrize(
    ("backend", "flags"),
    [
        ("openai", STREAM),
        slow("vllm", STREAM + EXACT),
        slow("vllm", STREAM + EXACT + IDS),
        slow("vllm", EXACT),
    ],
    ids=["usage at the end", "usage on every event", "ids", "whole answers"],
)
def test_a_sound_server_is_not_remarked_on(tmp_path: Path, backend: str, flags: tuple[str, ...]) -> None:
    found = told(tmp_path, (), flags, backend)
    assert set(found.remarks) <= {"UNSTEADY"}
    assert "TOKENS_DISAGREE" not in found.shown


@pytest.mark.parametrize(
    ("backend", "flags"),
    [slow("openai", STREAM), ("vllm", STREAM + EXACT), slow("vllm", STREAM + EXACT + IDS)],
    ids=["usage at the end", "usage on every event", "ids"],
)
def test_two_tokens_an_event(tmp_path: Path, backend: str, flags: tuple[str, ...]) -> None:
    """Its first event has one token, so that 21 of them make eleven."""
    found = told(tmp_path, TWO_AN_EVENT, (*flags, "--output-len=21"), backend)
    assert_named(found, "SEVERAL_TOKENS_AN_EVENT", "An event carries 1.91 tokens on average")


@pytest.mark.parametrize(
    ("backend", "flags", "against"),
    [
        ("openai", STREAM, "the events carried"),
        ("vllm", STREAM + EXACT, "was asked for"),
        slow("vllm", STREAM, "the text has"),
        slow("vllm", STREAM + EXACT + WITHOUT_IDS, "the events carried"),
        slow("vllm", STREAM + EXACT + IDS, "the events carried"),
        slow("vllm", STREAM + EXACT + IDS_ALONE, "the events carried"),
        ("openai", (), "the text has"),
        slow("vllm", EXACT, "was asked for"),
    ],
    ids=[
        "usage at the end",
        "usage on every event",
        "usage on every event, free length",
        "usage at the end, exact length",
        "usage on every event, ids",
        "usage at the end, ids",
        "whole answers",
        "whole answers, exact length",
    ],
)
def test_usage_off_by_one(tmp_path: Path, backend: str, flags: tuple[str, ...], against: str) -> None:
    found = told(tmp_path, OFF_BY_ONE, flags, backend)
    assert_named(found, "TOKENS_DISAGREE", f"Usage says one token more than {against} in 100% of ")
    assert "are off by up to 4.8%" in found.remarks["TOKENS_DISAGREE"]  # one in 21


def test_a_ttft_that_drifts_upward(tmp_path: Path) -> None:
    """From 10 to 90 ms over four seconds."""
    found = told(
        tmp_path, (*QUICK, "--ttft-drift", "20"), (*STREAM, *EXACT, "--num-prompts=320", "--output-len=5"), rate=80
    )
    assert "UNSTEADY" in found.remarks
    assert "UNSTEADY" in found.shown
    assert found.remarks["UNSTEADY"].rstrip(".") in found.shown


def test_one_answer_in_a_hundred_is_empty(tmp_path: Path) -> None:
    """A fixed nonce: always the same prompts, and so the same empty answers."""
    found = told(
        tmp_path,
        ("--fault", "empty:0.01"),
        (*STREAM, *EXACT, "--num-prompts=600", "--nonce=c0ffee", "--seed=1"),
        rate=150,
    )
    assert_named(found, "FAILURES", "× EMPTY.")
    share = float(found.remarks["FAILURES"].partition("%")[0])
    assert 0.3 <= share <= 2.0
