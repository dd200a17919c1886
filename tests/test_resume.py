"""A run that was started before goes on: what it has is kept, what it has by halves is measured again."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.truth import simulator
from latency_profile import records
from latency_profile.cli import profile
from latency_profile.errors import Exit
from latency_profile.fingerprint import Fingerprint
from latency_profile.points import PlannedPoint
from latency_profile.results.index import Index, changes, new_index, read_index
from latency_profile.workload.sharing import intended_hits
from tests.servers.fake_gcs import flaky, objects
from tests.tool import ROOT, benchmark, called, command, environment, latency_profile_command, point_files

KILLED = "20,8"  # of a run that is killed in its second point, which lasts for some 4 s
MARK = Fingerprint(sha256="0" * 16, of={"backend": "vllm", "top_k": None})


def planned(number: int, first: int, rate: float = 4.0, seed: int = 0) -> PlannedPoint:
    due = np.random.default_rng(seed + number).integers(0, 10**9, 5)
    return PlannedPoint(number, rate, None, np.sort(due), first, 5, None)


def index(points: list[PlannedPoint], mark: Fingerprint = MARK) -> Index:
    return read_index(new_index("run", mark, ["http://h"], points).encoded())


def test_an_index_is_its_own_bytes() -> None:
    made = index([planned(0, 0), planned(1, 5)])
    assert read_index(made.encoded()) == made
    done = made.with_point(1, state="done", files=["a.json"])
    assert [point.state for point in done.points] == ["planned", "done"]
    with pytest.raises(ValueError, match="no index of this version"):
        read_index(b"{}")


def test_what_differs_is_named_point_by_point() -> None:
    points = [planned(0, 0), planned(1, 5)]
    there = index(points)
    assert changes(there, index(points)) == []
    assert changes(there, index([points[0], planned(1, 5, rate=8.0)])) == ['point 2, load: "4", "8"']
    other_draws = changes(there, index([points[0], planned(1, 5, seed=9)]))
    assert len(other_draws) == 1
    assert other_draws[0].startswith("point 2, due times: ")
    assert changes(there, index(points[:1])) == ["points: 2, 1"]
    elsewhere = new_index("run", MARK, ["http://h", "http://i"], points)
    assert changes(there, elsewhere) == ['servers: ["http://h"], ["http://h","http://i"]']
    other = Fingerprint(sha256="1" * 16, of={"backend": "vllm", "top_k": 5})
    assert changes(there, index(points, other)) == ["top_k: null, 5"]


def test_prompts_of_an_earlier_attempt_have_warmed_nothing() -> None:
    """Groups 0 and 1 in turn, and a point that begins at prompt 6: both are warm where this attempt began at 4."""
    prompts, tokens = np.arange(6, 10), np.full(4, 100)
    warm = intended_hits(prompts, tokens, shared=32, groups=2, touched=6, untouched=4)
    assert warm.tolist() == [32, 32, 32, 32]
    half = intended_hits(prompts, tokens, shared=32, groups=2, touched=6, untouched=5)
    assert half.tolist() == [0, 32, 32, 32]
    cold = intended_hits(prompts, tokens, shared=32, groups=2, touched=6, untouched=6)
    assert cold.tolist() == [0, 0, 32, 32]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with simulator("--fixed-timing", "5,1") as number:
        yield number


def flags(port: int, folder: Path, *more: str, rates: str = "20,40") -> list[str]:
    asked = ["--host=127.0.0.1", f"--port={port}", "--tokenizer=bundled", "--input-len=24", "--output-len=5"]
    asked += [
        "--stream-request",
        f"--request-rates={rates}",
        "--num-prompts=30",
        "--save-json-results",
        "--run-id=night",
    ]
    return [*asked, f"--output-dir={folder}", *more]


def read(folder: Path) -> Any:
    return json.loads((folder / "night" / "index.json").read_text())


def started(arguments: list[str], **env: str) -> subprocess.Popen[bytes]:
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command(*arguments), env=environment(**env), stderr=nowhere, stdout=nowhere)


def kill_in_point(number: int, arguments: list[str], seen: Any, **env: str) -> None:
    """Starts a run, and kills it, as a node that goes away does, when `seen()` says that this point has begun."""
    process = subprocess.Popen(
        command(*arguments), env=environment(**env), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 60
        while not seen():
            assert time.monotonic() < until, f"point {number} never began"
            time.sleep(0.02)
        time.sleep(0.3)
    finally:
        process.kill()
        process.wait()


def begun(folder: Path, number: int) -> bool:
    path = folder / "night" / "index.json"
    return path.exists() and read(folder)["points"][number]["state"] == "begun"


def test_a_run_that_was_killed_goes_on(port: int, tmp_path: Path) -> None:
    kill_in_point(1, flags(port, tmp_path, rates=KILLED), lambda: begun(tmp_path, 1))
    before = read(tmp_path)
    assert [point["state"] for point in before["points"]] == ["done", "begun"]
    kept = tmp_path / "night" / before["points"][0]["files"][0]
    stamp = kept.stat().st_mtime_ns

    done = benchmark(*flags(port, tmp_path, rates=KILLED))
    assert "point 1, 20 req/s: in the index of this run, and not measured again" in done.stderr
    assert kept.stat().st_mtime_ns == stamp
    after = read(tmp_path)
    assert [point["state"] for point in after["points"]] == ["done", "done"]
    assert [len(point["attempts"]) for point in after["points"]] == [1, 2]
    assert after["points"][1]["attempts"][0] == before["points"][1]["attempts"][0]
    assert len({attempt for point in after["points"] for attempt in point["attempts"]}) == 2  # one a start
    assert len([path for path in point_files(tmp_path / "night") if path.name != "index.json"]) == 2
    loaded = {path.name: records.load(path) for path in (tmp_path / "night").glob("*.records.npz")}
    second = loaded[after["points"][1]["records"]].context
    assert (second.first_prompt, second.first_sent, second.nonce) == (30, 30, after["points"][1]["attempts"][1])
    profile = json.loads((tmp_path / "night" / after["profile"]).read_text())
    assert [point["request_rate"] for point in profile["points"]] == [20.0, 8.0]
    assert [point["files"] for point in profile["points"]] == [point["files"] for point in after["points"]]
    table = [line.split()[0] for line in done.stdout.splitlines() if line.lstrip().startswith(("20 ", "8 "))]
    assert sorted(table[:2]) == ["20", "8"]  # a wide table comes in blocks


def test_a_run_that_is_done_measures_nothing_and_says_the_same(port: int, tmp_path: Path) -> None:
    first = benchmark(*flags(port, tmp_path))
    again = benchmark(*flags(port, tmp_path))
    assert again.returncode == first.returncode
    rows = [line for line in first.stdout.splitlines() if line.lstrip().startswith(("20", "40"))]
    assert rows
    assert rows == [line for line in again.stdout.splitlines() if line.lstrip().startswith(("20", "40"))]
    assert again.stderr.count("not measured again") == 2
    assert len(list((tmp_path / "night").glob("*.records.npz"))) == 2


def test_another_plan_under_the_same_name_is_refused_with_the_difference(port: int, tmp_path: Path) -> None:
    benchmark(*flags(port, tmp_path, rates="20"))
    other = called(profile, *flags(port, tmp_path, rates="25"))
    assert other.returncode == Exit.USAGE
    assert 'point 1, load: "20", "25"' in other.stderr
    longer = called(profile, *flags(port, tmp_path, "--ignore-eos", rates="20"))
    assert longer.returncode == Exit.USAGE
    assert "ignore_eos: false, true" in longer.stderr
    server = [flag.replace("127.0.0.1", "localhost") for flag in flags(port, tmp_path, rates="20")]
    elsewhere = called(profile, *server)
    assert elsewhere.returncode == Exit.USAGE
    assert f'servers: ["http://127.0.0.1:{port}"], ["http://localhost:{port}"]' in elsewhere.stderr
    anew = benchmark(*flags(port, tmp_path, "--no-resume", rates="25"))
    assert anew.returncode in (Exit.DONE, Exit.UNUSABLE), anew.stderr
    assert [point["plan"]["load"] for point in read(tmp_path)["points"]] == ["25"]
    earlier = json.loads((tmp_path / "night" / "index.before.json").read_text())
    assert [point["plan"]["load"] for point in earlier["points"]] == ["20"]


def test_a_point_that_a_signal_ended_is_measured_again(port: int, tmp_path: Path) -> None:
    long = flags(port, tmp_path, "--benchmark-time-seconds=20", rates="5")
    long.remove("--num-prompts=30")
    process = started(long)
    until = time.monotonic() + 60
    while not begun(tmp_path, 0) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == Exit.SIGTERM
    (point,) = read(tmp_path)["points"]
    assert point["state"] == "cut_short"
    kill_in_point(0, long, lambda: len(read(tmp_path)["points"][0]["attempts"]) == 2)


def test_without_a_name_there_is_no_resume_and_who_asked_is_told(port: int, tmp_path: Path) -> None:
    nameless = [flag for flag in flags(port, tmp_path, "--resume", rates="20") if flag != "--run-id=night"]
    done = benchmark(*nameless)
    assert "resume is off: it takes --run-id" in done.stderr
    assert not list(tmp_path.rglob("index.json"))
    assert len(point_files(tmp_path)) == 1


def test_in_a_pod_without_bucket_or_volume_resume_is_off_and_says_so(port: int, tmp_path: Path) -> None:
    if tmp_path.stat().st_dev != Path("/").stat().st_dev:
        pytest.skip("the temporary folder is a volume here")
    done = benchmark(*flags(port, tmp_path, rates="20"), KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert "resume is off: there is neither a bucket nor a volume under --output-dir" in done.stderr


def test_a_pod_that_comes_back_elsewhere_goes_on_from_the_bucket(
    port: int, tmp_path: Path, gcs: str, bucket: str
) -> None:
    def stored() -> Any:
        found = objects(gcs, bucket).get("night/index.json")
        return json.loads(found) if found else None

    def has_begun() -> bool:
        seen = stored()
        return seen is not None and seen["points"][1]["state"] == "begun"

    kill_in_point(1, flags(port, tmp_path / "a", f"--output-bucket={bucket}", rates=KILLED), has_begun)
    done = benchmark(
        *flags(port, tmp_path / "b", f"--output-bucket={bucket}", rates=KILLED), KUBERNETES_SERVICE_HOST="10.0.0.1"
    )
    assert "point 1, 20 req/s: in the index of this run" in done.stderr, done.stderr
    after = stored()
    assert [point["state"] for point in after["points"]] == ["done", "done"]
    there = objects(gcs, bucket)
    for point in after["points"]:
        assert set(point["files"]) | {point["records"]} <= {name.removeprefix("night/") for name in there}
    assert (
        there["night/" + after["points"][1]["records"]]
        == (tmp_path / "b/night" / after["points"][1]["records"]).read_bytes()
    )


def test_who_may_only_create_objects_stores_and_is_told_that_resume_is_off(
    port: int, tmp_path: Path, gcs: str, bucket: str
) -> None:
    def writer(method: str, path: str, number: int) -> Any:
        if "testPermissions" in path:
            return 200, '{"permissions": ["storage.objects.create"]}'
        if method in ("GET", "DELETE"):
            return "before"
        return None if "ifGenerationMatch=0" in path or method == "PUT" else "before"

    with flaky(gcs, writer, 403) as (url, _):
        done = benchmark(*flags(port, tmp_path, f"--output-bucket={bucket}", rates="20"), STORAGE_EMULATOR_HOST=url)
    assert done.returncode in (Exit.DONE, Exit.UNUSABLE), done.stderr
    assert f"resume is off for gs://{bucket}/: cannot read" in done.stderr
    there = objects(gcs, bucket)
    (point,) = read(tmp_path)["points"]
    assert {f"night/{name}" for name in [*point["files"], point["records"]]} <= set(there)
    copies = sorted(name for name in there if name.startswith("night/index"))
    assert copies[0] == "night/index-2.json"
    assert json.loads(there["night/index-3.json"])["points"][0]["state"] == "done"  # the first was begun


def test_a_bucket_that_takes_no_files_after_all_leaves_them_on_disk_and_exits_with_6(
    port: int, tmp_path: Path, gcs: str, bucket: str
) -> None:
    def refuse(method: str, path: str, number: int) -> Any:
        if "testPermissions" in path:
            return 200, '{"permissions": ["storage.objects.create"]}'
        return "before" if method in ("POST", "PUT") else None

    asked = flags(port, tmp_path, f"--output-bucket={bucket}", "--upload-patience-seconds=2", rates="20")
    with flaky(gcs, refuse, 403) as (url, _):
        done = benchmark(*asked, STORAGE_EMULATOR_HOST=url)
    assert done.returncode == Exit.NOT_STORED, done.stderr
    assert "no permission (403)" in done.stderr
    assert objects(gcs, bucket) == {}
    (point,) = read(tmp_path)["points"]
    assert point["state"] == "done"
    assert not point["parts_superseded"]
    for name in [*point["files"], point["records"]]:
        assert (tmp_path / "night" / name).stat().st_size > 0


def test_records_that_do_not_fit_on_the_disk_leave_the_spool_and_exit_with_6(port: int, tmp_path: Path) -> None:
    """As a disk that is full: the program itself, with a NumPy that cannot write records."""
    script = (
        "import errno, sys, numpy\n"
        "save = numpy.savez\n"
        "def full(file, **arrays):\n"
        "    if str(getattr(file, 'name', '')).endswith('.records.npz.part'):\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    save(file, **arrays)\n"
        "numpy.savez = full\n"
        "from latency_profile.cli import profile\n"
        "sys.exit(profile(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *flags(port, tmp_path, rates="20")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
        cwd=ROOT,
    )
    assert done.returncode == Exit.NOT_STORED, done.stderr
    (spool,) = (tmp_path / "night").glob(".point-0-*")
    assert "No space left on device" in done.stderr
    assert f"what was measured is in {spool}, for latency-profile recover" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "night").glob("*.part"))
    recovered = latency_profile_command("recover", str(spool), str(tmp_path / "there"))
    assert recovered.returncode in (Exit.DONE, Exit.UNUSABLE), recovered.stderr
    (path,) = (tmp_path / "there").glob("*.records.npz")
    assert len(records.load(path)) == 30


def test_a_bucket_that_is_busy_gets_everything_in_the_end(port: int, tmp_path: Path, gcs: str, bucket: str) -> None:
    """429 and 503 in turn to two of three requests."""
    busy = {1: (429, "{}"), 2: (503, "{}")}
    with flaky(gcs, lambda method, path, number: busy.get(number % 3)) as (url, _):
        done = benchmark(*flags(port, tmp_path, f"--output-bucket={bucket}", rates="20"), STORAGE_EMULATOR_HOST=url)
    assert done.returncode in (Exit.DONE, Exit.UNUSABLE), done.stderr
    there = objects(gcs, bucket)
    local = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {name: data for name, data in there.items() if not name.startswith(".")} == local
