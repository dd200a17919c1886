"""A warm prefix cache, from flags to verdict, against the embedded model server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.truth import simulator
from latency_profile import records
from tests.tool import benchmark, point_files, read_point

RATES = "20,25,30,35,40"
PROMPTS = 40


@pytest.fixture(scope="module")
def vllm() -> Iterator[int]:
    with simulator("--backend", "vllm", "--enable-prefix-caching") as port:
        yield port


@pytest.fixture(scope="module")
def sglang() -> Iterator[int]:
    with simulator("--backend", "sglang", "--enable-prefix-caching") as port:
        yield port


def sweep(port: int, folder: Path, *flags: str, backend: str = "vllm") -> list[dict[str, Any]]:
    """The points of a run, in order. What else a busy machine does to them (CLIENT_LIMITED) is no matter here."""
    folder.mkdir()
    workload = [] if any(flag.startswith("--dataset") for flag in flags) else ["--input-len=128", "--output-len=2"]
    done = benchmark(
        f"--backend={backend}",
        f"--url=http://127.0.0.1:{port}",
        f"--output-dir={folder}",
        "--save-json-results",
        "--tokenizer=bundled",
        "--stream-request",
        f"--num-prompts={PROMPTS}",
        *workload,
        *flags,
    )
    points = [read_point(path) for path in point_files(folder)]
    usable = all(point["verdict"]["verdict"] in ("VALID", "TOO_FEW_SAMPLES", "SATURATED") for point in points)
    assert done.returncode == (0 if usable else 4), done.stderr + done.stdout
    said = {note for point in points for note in point["verdict"]["reasons"]}
    assert all(" ".join(reason.split()) in " ".join(done.stdout.split()) for reason in said)
    return sorted(
        points, key=lambda point: (point["config"]["start_time"]["seconds"], point["config"]["start_time"]["nanos"])
    )


def contaminated(point: dict[str, Any]) -> bool:
    """Whether that is among the reasons, which makes the exit code 4."""
    verdict = point["verdict"]
    found = any("in its prefix cache already" in reason for reason in verdict["reasons"])
    assert not found or verdict["verdict"] in ("CONTAMINATED", "CLIENT_LIMITED")
    return found


@pytest.mark.slow
def test_the_tools_own_prompts_stay_clean_over_five_rates(vllm: int, tmp_path: Path) -> None:
    points = sweep(vllm, tmp_path / "own", f"--request-rates={RATES}")
    assert len(points) == 5
    assert not any(map(contaminated, points))
    for point in points:
        cache = point["cache"]
        assert (cache["source"], cache["queries_tokens"], cache["hits_tokens"]) == ("counters", PROMPTS * 128, 0)


@pytest.mark.parametrize("backend", ["vllm", pytest.param("sglang", marks=pytest.mark.slow)])
def test_a_nonce_used_twice_contaminates_and_a_reset_cleans(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    port: int = request.getfixturevalue(backend)
    flags = ("--request-rate=40", "--nonce=ab12")
    [first] = sweep(port, tmp_path / "first", *flags, backend=backend)
    [second] = sweep(port, tmp_path / "second", *flags, backend=backend)
    [third] = sweep(port, tmp_path / "third", *flags, "--reset-cache", backend=backend)
    assert first["cache"]["hits_tokens"] == third["cache"]["hits_tokens"] == 0
    # 127 of 128 tokens may come out of the cache, in blocks of 16
    assert second["cache"]["hit_rate"] == pytest.approx(112 / 128)
    assert second["cache"]["source"] == ("counters" if backend == "vllm" else "answers")
    assert [contaminated(point) for point in (first, second, third)] == [False, True, False]
    assert "in its prefix cache already (4480 of 5120" in " ".join(second["verdict"]["reasons"])


@pytest.mark.slow
def test_counters_of_sglangs_openai_doors(sglang: int, tmp_path: Path) -> None:
    flags = ("--endpoint=chat", "--request-rate=40", "--nonce=c4a7")
    sweep(sglang, tmp_path / "first", *flags, backend="sglang")
    [again] = sweep(sglang, tmp_path / "again", *flags, backend="sglang")
    assert contaminated(again)
    assert again["cache"]["source"] == "counters"
    assert again["cache"]["hit_rate"] > 0.8
    assert 0 < again["cache"]["unavoidable_hit_rate"] < 0.4


@pytest.mark.slow
def test_a_data_set_sent_as_it_is_twice_contaminates(vllm: int, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    lines = [{"prompt": f"{i} is the number of this prompt. " * 12, "output_len": 2} for i in range(PROMPTS)]
    file.write_text("\n".join(map(json.dumps, lines)))
    flags = (f"--dataset={file}", "--no-unique-prompts", "--request-rate=40", f"--cache-dir={tmp_path / 'cache'}")
    [first] = sweep(vllm, tmp_path / "first", *flags)
    [second] = sweep(vllm, tmp_path / "second", *flags)
    assert first["cache"]["hit_rate"] < 0.05
    assert contaminated(second)
    assert not contaminated(first)
    [unique] = sweep(vllm, tmp_path / "third", *[flag for flag in flags if flag != "--no-unique-prompts"])
    assert unique["cache"]["hits_tokens"] == 0


def test_a_shared_prefix_hits_as_it_is_meant_to(vllm: int, tmp_path: Path) -> None:
    sharing = ("--shared-prefix=64", "--shared-prefix-groups=3", "--request-rates=30,40")
    points = sweep(vllm, tmp_path / "shared", *sharing)
    assert not any(map(contaminated, points))
    meant = [64 * (PROMPTS - 3) / (128 * PROMPTS), 0.5]
    assert [point["cache"]["intended_hit_rate"] for point in points] == pytest.approx(meant)
    found = [point["cache"]["hit_rate"] for point in points]
    assert sure_hits(tmp_path / "shared") / (128 * PROMPTS) - 1e-9 <= found[0] <= meant[0] + 1e-9
    assert found[1] == pytest.approx(meant[1], abs=0.05)
    for point in points:
        assert point["provenance"]["workload"]["shared_prefix_tokens"] == 64
        assert point["provenance"]["workload"]["intended_hit_rate"] == pytest.approx(64 * 77 / (128 * 80))
    cold = sweep(vllm, tmp_path / "reset", *sharing, "--reset-cache")
    assert [point["cache"]["intended_hit_rate"] for point in cold] == pytest.approx([meant[0]] * 2)
    assert not any(map(contaminated, cold))


def sure_hits(folder: Path) -> int:
    """Tokens that the first point's requests must have found: a request that is sent while none of its group has been
    computed finds nothing, and how many those are is a matter of time."""
    [path] = folder.glob("*30.0qps*.records.npz")
    rows = records.load(path)
    group = rows["index"] % 3
    known_ns = np.array([rows["first_token_ns"][group == each].min() for each in range(3)])
    return 64 * int((rows["sent_ns"] > known_ns[group]).sum())


def test_a_dry_run_states_the_intended_hit_rates(tmp_path: Path) -> None:
    done = benchmark(
        "--tokenizer=bundled", "--input-len=128", "--output-len=2", f"--num-prompts={PROMPTS}", "--dry-run",
        "--request-rates=30,40", "--shared-prefix=64", "--shared-prefix-groups=3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "intended hit rate of the prefix cache, point by point: 46.2%, 50.0%" in done.stdout


def test_a_server_without_the_hook_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with simulator("--backend", "openai") as port:
        done = benchmark(
            f"--url=http://127.0.0.1:{port}", "--tokenizer=bundled", "--input-len=32", "--output-len=2",
            "--num-prompts=2", "--reset-cache",
        )  # fmt: skip
    assert done.returncode == 2
    assert "/reset_prefix_cache answered 404; vLLM has this door where it is started with VLLM_SERVER_DEV_MODE=1" in (
        done.stderr
    )


@pytest.mark.slow
def test_a_silent_server_is_remarked_only_where_it_matters(tmp_path: Path) -> None:
    with simulator("--backend", "tgi") as port:
        [plain] = sweep(port, tmp_path / "plain", "--request-rate=40", backend="tgi")
        [shared] = sweep(port, tmp_path / "shared", "--request-rate=40", "--shared-prefix=64", backend="tgi")
    assert plain["cache"] is None
    assert "CACHE_UNKNOWN" not in {remark["name"] for remark in plain["verdict"]["remarks"]}
    assert shared["cache"]["source"] is None
    assert shared["cache"]["intended_hit_rate"] == pytest.approx(64 * (PROMPTS - 1) / (128 * PROMPTS))
    assert "CACHE_UNKNOWN" in {remark["name"] for remark in shared["verdict"]["remarks"]}
