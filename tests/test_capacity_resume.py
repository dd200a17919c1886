"""A search for the capacity that was interrupted goes on: its probes are there, and tell the search what they told."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.truth import simulator
from latency_profile.errors import Exit
from latency_profile.records import load
from tests.servers.fake_gcs import objects
from tests.test_resume import begun, kill_in_point, read
from tests.tool import benchmark

ASKED = ["--tokenizer=bundled", "--input-len=16", "--output-len=2", "--ignore-eos", "--stream-request"]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with simulator("--fixed-timing", "30,20") as number:
        yield number


def search(port: int, folder: Path, *more: str) -> list[str]:
    """Which every rate keeps: 20 and 40 req/s."""
    asked = [*ASKED, "--host=127.0.0.1", f"--port={port}", "--find-capacity", "--slo=e2e:p50<20s"]
    asked += ["--request-rate=20", "--max-rate=40", "--save-json-results", "--run-id=night"]
    return [*asked, f"--output-dir={folder}", *more]


def in_second(folder: Path) -> Callable[[], bool]:
    path = folder / "night" / "index.json"
    return lambda: path.exists() and len(read(folder)["points"]) > 1 and begun(folder, 1)


def gave_up(profile: dict[str, Any]) -> bool:
    return "CLIENT_LIMITED 3 times" in profile["capacity"]["reason"]


def whole(done: Any, folder: Path) -> dict[str, Any]:
    """The profile of a search that has found out, by its two probes. One that the client spoiled is sent again; on a
    machine that spoils each of three, the search gives up."""
    index = read(folder)
    assert {point["state"] for point in index["points"]} == {"done"}, done.stderr + done.stdout
    profile: dict[str, Any] = json.loads((folder / "night" / index["profile"]).read_text())
    assert len(profile["points"]) == len(index["points"])
    if gave_up(profile):
        assert done.returncode == Exit.UNUSABLE, done.stderr + done.stdout
        return profile
    assert done.returncode == Exit.DONE, done.stderr + done.stdout
    assert {point["request_rate"] for point in profile["points"]} == {20.0, 40.0}
    assert profile["capacity"]["ended"] == "max-rate kept" and profile["capacity"]["probes"] == 2
    return profile


def test_a_search_that_was_killed_goes_on(port: int, tmp_path: Path) -> None:
    kill_in_point(1, search(port, tmp_path), in_second(tmp_path))
    before = read(tmp_path)["points"]
    assert [point["state"] for point in before] == ["done", "begun"]
    done = benchmark(*search(port, tmp_path))
    profile = whole(done, tmp_path)
    assert done.stderr.count("not measured again") == 1
    after = read(tmp_path)["points"]
    assert after[0] == before[0]
    assert [len(point["attempts"]) for point in after[:2]] == [1, 2]
    sent_s = [load(tmp_path / "night" / point["records"]).context.duration_s or 0.0 for point in after]
    assert gave_up(profile) or profile["capacity"]["seconds"] == pytest.approx(sum(sent_s)), "of both attempts"
    again = benchmark(*search(port, tmp_path))
    assert again.stderr.count("not measured again") == len(after)
    assert whole(again, tmp_path)["capacity"] == profile["capacity"]


def test_a_search_goes_on_from_a_bucket(port: int, gcs: str, bucket: str, tmp_path: Path) -> None:
    """On another machine, where none of its files are."""
    there = f"--output-bucket={bucket}"
    first, second = tmp_path / "first", tmp_path / "second"
    kill_in_point(1, search(port, first, there), in_second(first), STORAGE_EMULATOR_HOST=gcs)
    done = benchmark(*search(port, second, there), STORAGE_EMULATOR_HOST=gcs)
    whole(done, second)
    assert done.stderr.count("not measured again") == 1
    records = [name for name in objects(gcs, bucket) if name.endswith(".records.npz")]
    assert len(records) == len(read(second)["points"]), "the first probe's are those of the first machine"


def test_a_probe_whose_records_are_lost_is_measured_again(port: int, tmp_path: Path) -> None:
    kill_in_point(1, search(port, tmp_path), in_second(tmp_path))
    (tmp_path / "night" / read(tmp_path)["points"][0]["records"]).unlink()
    done = benchmark(*search(port, tmp_path))
    whole(done, tmp_path)
    assert "not measured again" not in done.stderr
    assert "point 1 is done by the index, and its records cannot be read: measured again" in done.stderr


def test_a_search_is_no_profile_of_the_same_name(port: int, tmp_path: Path) -> None:
    kill_in_point(1, search(port, tmp_path), in_second(tmp_path))
    of_search = ("--find-capacity", "--max-rate=40")
    other = benchmark(*(flag for flag in search(port, tmp_path) if flag not in of_search), "--num-prompts=20")
    assert other.returncode == Exit.USAGE
    assert "find_capacity: true, false" in other.stderr
