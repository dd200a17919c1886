"""Prepared workloads: what a request of an index is, whoever asks and whenever."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from latency_profile.errors import UsageError
from latency_profile.workload import Lengths, WorkloadSpec, prepare
from latency_profile.workload.sharing import BLOCK
from tests.workload_tokenizers import BUNDLED, FAMILIES, content

TEXT = "Write a short note about the module, its classes and every exception that a caller has to handle. "


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("workload") / "prompts.jsonl"
    lines = [{"prompt": f"{i}. {TEXT * (i % 4 + 1)}", "output_len": 10 + i % 90} for i in range(300)]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


def spec(dataset: Path | None = None, **more: Any) -> WorkloadSpec:
    defaults: dict[str, Any] = {"tokenizer": "bundled", "models": ("m",), "nonce": "ab"}
    if dataset is not None:
        defaults |= {"dataset": dataset, "cache_dir": dataset.parent / "cache"}
    return WorkloadSpec(**(defaults | more))


def shapes(**more: Any) -> WorkloadSpec:
    lengths = {"input_lengths": Lengths(mean=60, stddev=25, low=10, high=150), "output_lengths": Lengths.fixed(9)}
    return spec(**(lengths | more))


def specs(dataset: Path) -> dict[str, WorkloadSpec]:
    return {
        "dataset": spec(dataset),
        "synthetic": shapes(),
        "dummy": spec(dummy_text=True, max_input_length=40, max_output_length=30),
    }


@given(
    kind=st.sampled_from(["dataset", "synthetic", "dummy"]),
    cuts=st.sets(st.integers(1, 299), max_size=4),
    ahead=st.integers(0, 400),
)
@settings(max_examples=10)
def test_slices_in_any_run_equal_the_whole(dataset: Path, kind: str, cuts: set[int], ahead: int) -> None:
    chosen = specs(dataset)[kind]
    whole = list(prepare(chosen, 300).requests(0, 300))
    assert [request.index for request in whole] == list(range(300))
    edges = [0, *sorted(cuts), 300]
    sliced = prepare(chosen, ahead)
    parts = [list(sliced.requests(a, b - a)) for a, b in reversed(list(itertools.pairwise(edges)))]
    assert [request for part in reversed(parts) for request in part] == whole


@pytest.mark.parametrize("kind", ["dataset", "synthetic", "dummy"])
def test_lengths_are_exact_and_first_blocks_differ_within_and_between_runs(dataset: Path, kind: str) -> None:
    backend = Backend.from_file(str(BUNDLED))
    blocks: Counter[tuple[int, ...]] = Counter()
    runs = []
    for nonce in ("01", "02"):
        chosen = spec_with(specs(dataset)[kind], nonce=nonce)
        requests = list(prepare(chosen, 900).requests(0, 900))
        encoded = [encoding.ids for encoding in backend.encode_batch([request.prompt for request in requests])]
        assert [len(ids) for ids in encoded] == [request.input_length for request in requests]
        blocks.update(tuple(ids[:BLOCK]) for ids in encoded)
        # Radix caches share single tokens: among 900 prompts and 1024 words few begin alike.
        assert max(Counter(ids[0] for ids in encoded).values()) < 12
        runs.append(requests)
    assert max(blocks.values()) == 1
    first, second = runs
    assert [r.input_length for r in first] == [r.input_length for r in second]
    assert [r.output_length for r in first] == [r.output_length for r in second]
    assert [r.prompt.split("\n", 1)[1] for r in first] == [r.prompt.split("\n", 1)[1] for r in second]


def spec_with(chosen: WorkloadSpec, **more: Any) -> WorkloadSpec:
    return WorkloadSpec(**(vars(chosen) | more))


def test_the_same_workload_for_other_models_is_that_specs_workload(dataset: Path) -> None:
    for chosen in specs(dataset).values():
        other = prepare(chosen, 20).for_models(("other",))
        expected = prepare(spec_with(chosen, models=("other",)), 20)
        assert list(other.requests(0, 20)) == list(expected.requests(0, 20))
        assert other.description == expected.description


def test_texts_that_may_not_be_changed_go_as_they_are(dataset: Path) -> None:
    sent = {request.prompt for request in prepare(spec(dataset, unique=False), 300).requests(0, 300)}
    assert sent == {json.loads(line)["prompt"] for line in dataset.read_text().splitlines()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unique", [True, False])
def test_synthetic_lengths_are_exact_with_every_tokenizer(tmp_path: Path, family: str, unique: bool) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content(family))
    backend = Backend.from_file(str(file))
    lengths = Lengths(mean=64, stddev=30, low=17, high=200)
    workload = prepare(shapes(tokenizer=str(file), input_lengths=lengths, unique=unique), 100)
    requests = list(workload.requests(0, 100))
    assert [len(backend.encode(request.prompt).ids) for request in requests] == [r.input_length for r in requests]
    assert len({request.input_length for request in requests}) > 30
    assert len({request.prompt for request in requests}) == 100
    dummy = prepare(spec(tokenizer=str(file), dummy_text=True, max_input_length=77, unique=unique), 3)
    assert [len(backend.encode(request.prompt).ids) for request in dummy.requests(0, 3)] == [77] * 3


def test_fixed_shapes(tmp_path: Path) -> None:
    workload = prepare(shapes(input_lengths=Lengths.fixed(512), output_lengths=Lengths.fixed(128)), 10)
    assert {(r.input_length, r.output_length) for r in workload.requests(0, 10)} == {(512, 128)}


def test_synthetic_lengths_have_their_mean_and_spread() -> None:
    lengths = Lengths(mean=60, stddev=10, low=10, high=110)
    outputs = Lengths(mean=200, stddev=50, low=1, high=400)
    requests = list(prepare(shapes(input_lengths=lengths, output_lengths=outputs), 2000).requests(0, 2000))
    drawn = [request.output_length for request in requests]
    mean = sum(drawn) / 2000
    assert mean == pytest.approx(200, abs=4 * 50 / 2000**0.5)
    assert (sum((x - mean) ** 2 for x in drawn) / 2000) ** 0.5 == pytest.approx(50, rel=0.07)
    assert sum(r.input_length for r in requests) / 2000 == pytest.approx(60, abs=4 * 10 / 2000**0.5)


def test_dummy_text_repeats_one_word_and_fills_the_limits() -> None:
    workload = prepare(spec(dummy_text=True, max_input_length=40, max_output_length=30, unique=False), 2)
    first, second = workload.requests(0, 2)
    assert first.prompt == second.prompt
    assert len(first.prompt.split()) == 40 and len(set(first.prompt.split())) == 1
    assert (first.input_length, first.output_length) == (40, 30)
    assert len(workload.notices) == 1
    assert workload.description["kind"] == "dummy"


def test_models_follow_the_split_and_the_seed_alone() -> None:
    split = shapes(models=("big", "small"), traffic_split=(0.8, 0.2), input_lengths=Lengths.fixed(20))
    models = [request.model for request in prepare(split, 1500).requests(0, 1500)]
    assert models.count("small") == pytest.approx(300, abs=62)  # four standard deviations
    again = prepare(spec_with(split, nonce="other"), 10).requests(1000, 500)
    assert [request.model for request in again] == models[1000:]
    evenly = prepare(spec_with(split, traffic_split=None), 1500).requests(0, 1500)
    assert sum(request.model == "small" for request in evenly) == pytest.approx(750, abs=78)


def test_the_description_is_json_and_names_its_sources(dataset: Path) -> None:
    told = json.loads(json.dumps(prepare(spec(dataset), 100).description))
    assert told["kind"] == "prompts" and told["dataset"] == "prompts.jsonl"
    assert told["items"] == 300 and told["prompts_available"] == told["items_examined"] == 100
    assert told["nonce"] == "ab" and told["times_gone_through"] == 1
    assert len(told["dataset_sha256"]) == len(told["tokenizer_sha256"]) == 64
    prompt = next(prepare(spec(dataset), 1).requests(0, 1)).prompt
    head = prompt[: prompt.index("\n") + 1]
    assert told["prefix_tokens"] == len(Backend.from_file(str(BUNDLED)).encode(head).ids)
    assert prepare(spec(dataset, unique=False), 1).description["prefix_tokens"] == 0


def test_answers_count_without_special_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content("wordpiece"))
    workload = prepare(shapes(tokenizer=str(file)), 1)
    assert workload.count_tokens(["", "the class", "the class is"]) == [0, 2, 3]
    assert workload.count_tokens([]) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"input_lengths": None}, ["--input-len", "--output-len"]),
        ({"dummy_text": True}, ["--use-dummy-text and --input-len"]),
        ({"input_lengths": None, "output_lengths": None}, ["--dataset", "none of them"]),
        ({"input_lengths": Lengths.fixed(6)}, ["--input-len 6", "7 tokens", "--no-unique-prompts"]),
        ({"input_lengths": Lengths.fixed(0), "unique": False}, ["--input-len 0", "1 tokens or more"]),
        ({"output_lengths": Lengths.fixed(0)}, ["--output-len 0"]),
        ({"input_lengths": Lengths(mean=20, stddev=10, low=1, high=90)}, ["--input-len 20", "under 7 tokens"]),
        ({"input_lengths": Lengths(mean=20, stddev=1, low=80, high=90)}, ["--input-len 20", "80 to 90"]),
        ({"input_lengths": Lengths(mean=20, stddev=-1, low=1, high=90)}, ["--input-len 20", "deviation"]),
        ({"input_lengths": Lengths(mean=20, stddev=1, low=30, high=10)}, ["--input-len 20", "ordered bounds"]),
        ({"input_lengths": Lengths(mean=20, low=1, high=10)}, ["--input-len 20", "outside its own bounds"]),
        ({"models": ()}, ["--models"]),
        ({"traffic_split": (0.5, 0.5)}, ["--traffic-split 0.5,0.5", "1 models"]),
        ({"traffic_split": (0.5,)}, ["--traffic-split 0.5", "sum to 1"]),
        ({"models": ("a", "b"), "traffic_split": (1.5, -0.5)}, ["--traffic-split"]),
        ({"max_output_length": 0}, ["--max-output-length 0"]),
    ],
)
def test_a_spec_that_cannot_be_is_refused_in_one_line(more: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(shapes(**more), 1)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_dummy_text_shorter_than_its_head_is_refused() -> None:
    with pytest.raises(UsageError, match="--max-input-length 6"):
        prepare(spec(dummy_text=True, max_input_length=6), 1)
    assert next(prepare(spec(dummy_text=True, max_input_length=7), 1).requests(0, 1)).input_length == 7


def test_indexes_out_of_range_are_a_callers_mistake() -> None:
    workload = prepare(shapes(), 1)
    for start, count in ((-1, 1), (0, -1), (2**44, 1)):
        with pytest.raises(ValueError, match="no requests"):
            workload.requests(start, count)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, latency_profile.workload as w; w.WorkloadSpec; print([m for m in sys.modules if m in H])"
    heavy = "H = {'numpy', 'tokenizers', 'transformers', 'torch', 'huggingface_hub', 'msgspec'};"
    assert subprocess.check_output([sys.executable, "-c", heavy + code], text=True).strip() == "[]"


def test_preparing_loads_neither_transformers_nor_torch() -> None:
    code = (
        "import sys; from latency_profile.workload import *;"
        "s = WorkloadSpec(tokenizer='bundled', models=('m',), nonce='a', dummy_text=True, max_input_length=20);"
        "next(prepare(s, 1).requests(0, 1));"
        "print([m for m in ('transformers', 'torch', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_memory_stays_flat_in_the_number_of_requests(dataset: Path) -> None:
    code = (
        "import pathlib, sys; from latency_profile.workload import *;"
        "peak = lambda: int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]);"
        "s = WorkloadSpec(tokenizer='bundled', models=('m',), nonce='a', dataset=pathlib.Path(sys.argv[1]),"
        "cache_dir=pathlib.Path(sys.argv[2])); w = prepare(s, 20000);"
        "n = sum(1 for _ in w.requests(0, 2000)); before = peak();"
        "n += sum(1 for _ in w.requests(2000, 18000)); print(n, peak() - before)"
    )
    command = [sys.executable, "-c", code, str(dataset), str(dataset.parent / "cache")]
    made, grown_kib = subprocess.check_output(command, text=True).split()
    assert int(made) == 20_000
    assert int(grown_kib) < 8_000  # their prompts alone are 5 MB as Python strings, and 20,000 objects another 5
