"""`latency-profile compare` and --compare-with, as users run them."""

import json
import os
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchmarks.truth import simulator
from latency_profile.cli import main, profile
from latency_profile.compare.nightly import place_of_nights
from latency_profile.compare.nights import from_store
from latency_profile.errors import Exit, UsageError
from latency_profile.settings import Settings
from latency_profile.storage import NotAllowed, open_bucket, open_folder
from tests.make_nights import LATENCIES, make_date, make_point, make_profile, write_profile
from tests.page_profiles import Page
from tests.tool import benchmark, called, schema


def nights(folder: Path, count: int, factor: float = 1.0, first: int = 0, seed: int = 4, **changes: Any) -> list[Path]:
    rng = random.Random(seed)
    points = [make_point(rate=None, concurrency=8, tokens=factor * rng.gauss(1000, 10)) for _ in range(count)]
    return [write_profile(folder, make_profile(first + k, point, **changes)) for k, point in enumerate(points)]


def compared(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["compare", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.mark.parametrize("content", [b'{"a":', b'{"date": "\xff"}'])
def test_a_newest_profile_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    nights(tmp_path / "base", 5)
    (tmp_path / "new").mkdir()
    broken = tmp_path / "new" / nights(tmp_path / "other", 1, first=9)[0].name
    broken.write_bytes(content)
    code, _, err = compared(capsys, tmp_path / "base", "--margin=3%", tmp_path / "new")
    assert code == Exit.USAGE
    assert err.count("\n") == 1 and f"{broken.name} is no profile of latency-profile" in err


def test_a_regression_has_its_exit_code_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path / "runs", 12)
    tonight = nights(tmp_path / "runs" / "tonight", 1, 0.7, first=12)[0]
    code, out, _ = compared(capsys, f"--output={tmp_path / 'out'}", tmp_path / "runs", tonight)
    assert code == Exit.REGRESSION == 5
    assert out.startswith("Compared with earlier nights: regressed: output_tokens_per_s at 8 in flight: −")
    [file] = (tmp_path / "out").glob("*.json")
    assert file.name == f"nightly-vllm-comparison-{make_date(12)}.json"
    found = json.loads(file.read_text())
    jsonschema.validate(found, schema("comparison"))
    assert (found["word"], found["exit_code"], found["primary"]["base_nights"]) == ("regressed", 5, 9)
    summary = file.with_suffix(".md").read_text()
    assert summary.startswith(f"# {make_date(12)}: regressed\n")
    row = next(line for line in summary.splitlines() if line.startswith("| **output_tokens_per_s** | 8 in flight |"))
    assert row.endswith("| regressed |") and "interval" in row
    assert str(file) in out


@pytest.mark.parametrize(
    ("flag", "value"), [("--since", ""), ("--since", "2026-13-01"), ("--since", "20260132"), ("--output", "")]
)
def test_a_flag_without_a_value_or_day_is_refused(
    flag: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights(tmp_path, 6)
    code, out, err = compared(capsys, tmp_path, tmp_path, flag, value)
    assert (code, out) == (Exit.USAGE, "") and err.startswith(f"error: {flag}: got") and err.count("\n") == 1


def test_nights_in_a_folder_that_may_not_be_read_are_not_left_out_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nights(tmp_path / "results" / "closed", 3)
    *_, new = nights(tmp_path / "results", 6, first=3)
    list_folder = os.scandir

    def scan(path: Any) -> Any:
        if Path(path).name in ("closed", "lost+found"):  # root may read all
            raise PermissionError(13, "Permission denied", str(path))
        return list_folder(path)

    monkeypatch.setattr("os.scandir", scan)
    code, out, err = compared(capsys, tmp_path / "results", new)
    assert (code, out) == (Exit.USAGE, "")
    assert err == f"error: {tmp_path / 'results' / 'closed'}: Permission denied\n"
    (tmp_path / "results" / "closed").rename(tmp_path / "results" / "lost+found")
    assert compared(capsys, tmp_path / "results", new)[0] == Exit.DONE


def test_names_that_are_no_text_are_told_with_a_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *earlier, new = nights(tmp_path / "results", 6)
    odd = [path.rename(path.with_name(os.fsdecode(b"odd-\xff-") + path.name)) for path in (*earlier[:1], new)]
    earlier[0].with_name(os.fsdecode(b"\xff-profile-20250101-000000.json")).write_text("{")
    code, _, _ = compared(capsys, tmp_path / "results", odd[1], "--output", tmp_path / "found")
    assert code == Exit.DONE
    [path] = (tmp_path / "found").glob("*.json")
    found = json.loads(path.read_text())
    assert found["file"].endswith(f"odd-?-{new.name}") and found["base"][0]["file"] == f"odd-?-{earlier[0].name}"
    assert [left["file"] for left in found["left_out"]] == ["?-profile-20250101-000000.json"]


def test_equal_runs_and_the_whole_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = nights(tmp_path, 9)
    code, out, _ = compared(capsys, "--markdown", *paths)
    assert code == 0 and out.startswith(f"# {make_date(8)}: equivalent")
    code, out, _ = compared(capsys, paths[0], paths[1])
    assert code == 0 and "one earlier night tells nothing of how nights differ" in out


def test_several_new_ones_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path / "old", 5)
    nights(tmp_path / "new", 3, 0.9, first=5)
    code, out, _ = compared(capsys, tmp_path / "old", tmp_path / "new")
    assert code == 5 and "over the last 3 nights against 5 base nights" in out


def test_another_fingerprint_is_refused_with_the_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = nights(tmp_path / "old", 5)
    [new] = nights(tmp_path / "new", 1, first=19, of={"ignore_eos": True})
    for base in (old[0], tmp_path / "old"):
        code, _, error = compared(capsys, base, new)
        assert code == 2 and "ignore_eos: null, true" in error and error.count("\n") == 1
    nights(tmp_path / "old", 5, first=6, of={"ignore_eos": True})
    code, out, _ = compared(capsys, tmp_path / "old", new)
    assert code == 0 and "5 nights left out" in out  # a folder may hold other profiles too


def test_what_is_no_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = nights(tmp_path, 6)
    (tmp_path / "a-profile-20260101-000000.json").write_text("{")
    (tmp_path / "b-profile-20260102-000000.txt").write_text("{")
    code, out, _ = compared(capsys, tmp_path, paths[-1])
    assert code == 0 and "1 night left out, such as 20260101-000000" in out
    bad = tmp_path / "a-profile-20260101-000000.json"
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments in ((paths[0],), (), (paths[0], bad), (paths[0], tmp_path / "none.json"), (paths[0], empty)):
        code, _, error = compared(capsys, *arguments)
        assert code == 2 and error.count("\n") == 1, arguments
    for flag in ("--margin=2", "--since=yesterday", "--measure=speed"):
        code, _, error = compared(capsys, flag, paths[0], paths[1])
        assert code == 2 and flag.partition("=")[0] in error


def test_flags_reach_the_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 12)
    last = nights(tmp_path, 8, 0.9, first=12)[-1]
    assert compared(capsys, tmp_path, last)[0] == 5
    assert compared(capsys, "--margin=15%", tmp_path, last)[0] == 0
    assert compared(capsys, f"--since={make_date(12)[:8]}", tmp_path, last)[0] == 0
    assert compared(capsys, "--since=2026-01-13", tmp_path, last)[0] == 0
    assert compared(capsys, "--measure=e2e_p50", tmp_path, last)[0] == 0
    assert compared(capsys, "--base=latest", tmp_path, last)[0] == 5


def test_nights_in_a_bucket(gcs: str, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_bucket(f"gs://{bucket}/nightly")
    for path in nights(tmp_path, 8):
        store.put(f"run-{path.name[21:29]}/{path.name}", path.read_bytes())
    [tonight] = nights(tmp_path, 1, 0.6, first=9)
    code, out, _ = compared(capsys, f"--output=gs://{bucket}/nightly", f"gs://{bucket}/nightly", tonight)
    assert code == 5 and f"gs://{bucket}/nightly/nightly-vllm-comparison-{make_date(9)}.md" in out
    assert len(from_store(store)) == 8 and len(from_store(store, make_date(5)[:8])) == 3
    assert len(from_store(store, make_date(5))) == 3


FLAGS = ("--tokenizer=bundled", "--input-len=24", "--output-len=5", "--stream-request", "--concurrencies=2")
MORE = ("--num-prompts=40", "--save-json-results", "--host=127.0.0.1", "--file-prefix=nightly")


def earlier_nights(folder: Path, factor: float) -> None:
    """Eight nights in place of the one profile in the folder, with its figures times `factor`, give or take 1 %."""
    [path] = folder.glob("*-profile-*.json")
    profile = json.loads(path.read_text())
    path.unlink()
    rng = random.Random(6)
    for night in range(8):
        [point] = json.loads(json.dumps(profile["points"]))
        point["verdict"] = {"verdict": "VALID", "reasons": [], "remarks": []}
        point["output_tokens_per_s"] *= factor * rng.gauss(1, 0.01)
        for name in LATENCIES:
            known = point[name]["p50"]
            known["value_s"] *= rng.gauss(1, 0.01)
            known["resolved"] = True  # which 40 requests of a machine with pauses need not be
        write_profile(folder / f"run-{night}", profile | {"date": make_date(night), "points": [point]})


@pytest.mark.parametrize("with_run_id", [False, True])
def test_a_profile_is_compared_at_its_end(tmp_path: Path, with_run_id: bool) -> None:
    """Against nights in its store that were four times as fast."""
    flags = [*FLAGS, *MORE, f"--output-dir={tmp_path}"]
    with simulator("--fixed-timing", "20,4") as port:
        first = benchmark(*flags, f"--port={port}", "--compare-with=latest")
        assert "there is no earlier night of this fingerprint: 4 nights more" in first.stdout, first.stderr
        assert first.returncode != Exit.REGRESSION
        earlier_nights(tmp_path, 4.0)
        named = ["--run-id=tonight"] if with_run_id else []
        done = benchmark(*flags, *named, f"--port={port}", "--compare-with=latest")
    folder = tmp_path / "tonight" if with_run_id else tmp_path
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("nightly-vllm-comparison-*.json"))][-1]
    jsonschema.validate(found, schema("comparison"))
    if done.returncode != Exit.UNUSABLE:  # a busy machine's verdict goes first
        assert done.returncode == Exit.REGRESSION, done.stderr
        assert found["word"] == "regressed" and found["primary"]["load"] == "2 in flight"
        assert "Compared with earlier nights: regressed" in done.stdout and "Exit code 5" in done.stdout
    assert len(list(folder.glob("nightly-vllm-comparison-*.md"))) >= 1
    page = Page(sorted(folder.glob("nightly-vllm-report-*.html"))[-1])
    if done.returncode != Exit.UNUSABLE:  # a night that must not be used is in no figure
        assert "nights-0-nights-output-tokens-per-s" in page.figures
    assert "are not there" not in page.text, "the page has the nights that the comparison read, wherever they lie"


class Closed:
    """A store that this account may only write to."""

    def list(self, prefix: str) -> list[str]:
        raise NotAllowed("cannot list gs://bucket: no permission (403)")

    def get(self, name: str) -> bytes | None:
        raise NotAllowed(f"cannot read {name}")


def test_a_store_that_cannot_be_read_is_told_before_anything_is_measured() -> None:
    settings = Settings(tokenizer="bundled", compare_with="latest")
    with pytest.raises(UsageError, match=r"--compare-with.*latest.*no permission \(403\)"):
        place_of_nights(settings, [Closed()])
    assert place_of_nights(Settings(tokenizer="bundled"), [Closed()]) is None


def test_the_last_store_is_read_or_the_place_that_is_named(tmp_path: Path) -> None:
    """A pod's folder is empty; its bucket is not."""
    for number, name in enumerate(("pod", "bucket", "elsewhere")):
        nights(tmp_path / name, number + 5)
    stores = [open_folder(tmp_path / "pod"), open_folder(tmp_path / "bucket")]
    for where, count in (("latest", 6), ("all", 6), (str(tmp_path / "elsewhere"), 7), (f"file://{tmp_path}/pod", 5)):
        place = place_of_nights(Settings(tokenizer="bundled", compare_with=where), stores)
        assert place is not None and len(from_store(place)) == count


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    flags = [*FLAGS, "--host=127.0.0.1", f"--output-dir={tmp_path}"]
    for wrong, named in (
        (["--compare-with=latest"], "--save-json-results"),
        (["--compare-margin=3%"], "--compare-with"),
        (["--save-json-results", f"--compare-with={tmp_path / 'none'}"], "no such folder"),
        (["--save-json-results", "--compare-with=all", "--compare-since=yesterday"], "--compare-since"),
    ):
        done = called(profile, *flags, *wrong)
        assert done.returncode == 2 and named in done.stderr and done.stderr.count("\n") == 1, done.stderr
