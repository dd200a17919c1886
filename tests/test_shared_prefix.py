"""--shared-prefix: what prompts of a group share, exactly that, and lengths as exact as without."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend

from latency_profile.errors import UsageError
from latency_profile.settings import load
from latency_profile.workload import Lengths, Workload, WorkloadSpec, prepare
from tests.workload_tokenizers import BUNDLED, FAMILIES, content

SHARED, GROUPS, COUNT = 40, 3, 60


def spec(**more: Any) -> WorkloadSpec:
    defaults: dict[str, Any] = {"tokenizer": "bundled", "models": ("m",), "nonce": "ab"}
    sharing = {"shared_prefix": SHARED, "shared_prefix_groups": GROUPS}
    lengths = {"input_lengths": Lengths.fixed(100), "output_lengths": Lengths.fixed(9)}
    return WorkloadSpec(**(defaults | sharing | ({} if "dataset" in more or "dummy_text" in more else lengths) | more))


def encoded(workload: Workload, backend: Backend) -> list[list[int]]:
    requests = list(workload.requests(0, COUNT))
    ids = [backend.encode(request.prompt).ids for request in requests]
    assert [len(each) for each in ids] == [request.input_length for request in requests], "lengths are exact"
    return ids


def check(ids: list[list[int]], lead: int = 0) -> None:
    """Prompts share the prefix within their group, nothing more, and next to nothing between groups."""
    shared = SHARED + lead
    prefixes = [{tuple(each[:shared]) for each in ids[group::GROUPS]} for group in range(GROUPS)]
    assert [len(of_group) for of_group in prefixes] == [1] * GROUPS
    assert len(set.union(*prefixes)) == GROUPS
    assert len({tuple(each[: lead + 4]) for each in ids}) == GROUPS
    assert len({tuple(each[: shared + 12]) for each in ids}) == COUNT


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    lines = [{"prompt": "Tell me of " + "things and " * (i % 9 + 1), "output_len": 8} for i in range(COUNT)]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


@pytest.mark.parametrize("kind", ["synthetic", "dummy", "dataset"])
def test_groups_share_the_prefix_and_runs_share_nothing(kind: str, dataset: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "synthetic": {},
        "dummy": {"dummy_text": True, "max_input_length": 90},
        "dataset": {"dataset": dataset, "cache_dir": dataset.parent / "cache"},
    }
    backend = Backend.from_file(str(BUNDLED))
    runs = [encoded(prepare(spec(nonce=nonce, **kinds[kind]), COUNT), backend) for nonce in ("01", "02")]
    for ids in runs:
        check(ids)
    assert not {tuple(each[:4]) for each in runs[0]} & {tuple(each[:4]) for each in runs[1]}
    plain = prepare(spec(shared_prefix=0, **kinds[kind]), COUNT)
    lengths = [request.input_length for request in plain.requests(0, COUNT)]
    more = SHARED if kind == "dataset" else 0
    assert [len(each) for each in runs[0]] == [length + more for length in lengths]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_tokenizers(family: str, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content(family))
    backend = Backend.from_file(str(file))
    ids = encoded(prepare(spec(tokenizer=str(file)), COUNT), backend)
    bare = backend.encode("", add_special_tokens=True).ids
    lead = next(size for size in range(len(bare), -1, -1) if ids[0][:size] == bare[:size])
    check(ids, lead)


def test_a_shared_prefix_leaves_the_rest_of_synthetic_prompts_as_it_was() -> None:
    """The same seed gives the same words behind the head, as many as fit."""
    one = [request.prompt.partition("\n")[2] for request in prepare(spec(), COUNT).requests(0, COUNT)]
    two = [request.prompt.partition("\n")[2] for request in prepare(spec(nonce="cd"), COUNT).requests(0, COUNT)]
    assert one == two


def test_intended_hit_rates_of_the_workload() -> None:
    """40 tokens have two whole blocks of 16 in them; of 60 prompts of 100 tokens, three touch them first."""
    workload = prepare(spec(), COUNT)
    assert workload.intended_hit_rate(0, COUNT) == pytest.approx(32 * 57 / 6000)
    assert workload.intended_hit_rate(30, 30, touched=30) == pytest.approx(0.32)
    assert workload.intended_hit_rate(30, 30) == pytest.approx(32 * 27 / 3000)
    assert workload.description["intended_hit_rate"] == workload.intended_hit_rate(0, COUNT)
    assert (workload.description["shared_prefix_tokens"], workload.description["shared_prefix_groups"]) == (40, 3)
    plain = prepare(spec(shared_prefix=0), COUNT)
    assert plain.description["intended_hit_rate"] == 0
    assert plain.description["shared_prefix_groups"] is None


def test_a_search_may_need_more_prompts_than_memory_has_room_for() -> None:
    """Of which most are never sent; what is meant to be shared is told by the first ones."""
    assert prepare(spec(), 1 << 40).description["intended_hit_rate"] == pytest.approx(0.32, abs=1e-5)
    assert prepare(spec(shared_prefix=0), 1 << 40).description["intended_hit_rate"] == 0


def test_too_short_prompts_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^--input-len 42: .* --shared-prefix, take 4\d tokens"):
        prepare(spec(input_lengths=Lengths.fixed(42)), 1)


SYNTHETIC = ["--tokenizer=t", "--input-len=100", "--output-len=10"]
DUMMY = ["--tokenizer=t", "--use-dummy-text", "--max-input-length=64"]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([*SYNTHETIC, "--shared-prefix=100"], "--shared-prefix: got 100, takes less than the 100 tokens of --input-"),
        ([*DUMMY, "--shared-prefix=64"], "--shared-prefix: got 64, takes less than the 64 tokens of --max-input"),
        ([*SYNTHETIC, "--shared-prefix=8", "--no-unique-prompts"], "--shared-prefix: got 8, takes no --no-unique"),
        ([*SYNTHETIC, "--shared-prefix-groups=2"], "--shared-prefix-groups: got 2, takes effect only with --shared"),
        ([*SYNTHETIC, "--shared-prefix=-1"], "--shared-prefix: got '-1', takes a whole number, 0 or more"),
        ([*SYNTHETIC, "--reset-cache", "--backend=tgi"], "--reset-cache: got True, takes --backend vllm or sglang: t"),
        ([*SYNTHETIC, "--reset-cache", "--backend=llamacpp"], "--reset-cache: got True, takes --backend vllm or "),
    ],
)  # fmt: skip
def test_combinations_that_cannot_be(argv: list[str], line: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(argv, {})
    assert str(refused.value).startswith(line)
