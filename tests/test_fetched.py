"""Results in a bucket, given to the commands that read results: against a real fake-gcs-server."""

import json
import socketserver
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from latency_profile.cli import main
from latency_profile.errors import Exit
from latency_profile.results import fetched
from latency_profile.storage import open_bucket
from tests.make_nights import make_point, make_profile, write_profile
from tests.page_profiles import Page, steady, written
from tests.servers.fake_gcs import flaky
from tests.servers.process import free_port

Told = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens, no copy stays. (A proxy has nothing to say of connections that its client lets go.)"""
    monkeypatch.setattr(socketserver.BaseServer, "handle_error", lambda *_: None)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())


@pytest.fixture(name="told")
def runs(capsys: pytest.CaptureFixture[str]) -> Told:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(list(map(str, arguments)))
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture(scope="module", name="run_folder")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: two points with records, and their profile."""
    slo = {"slo": ["e2e:p50<10s"]}
    return written(tmp_path_factory.mktemp("results") / "run-1", [steady(5, settings=slo), steady(20, settings=slo)])


def stored(bucket: str, folder: Path, prefix: str = "nightly/run-1", records: bool = True) -> str:
    """The folder's files under the prefix, whose URL it gives."""
    store = open_bucket(bucket, prefix)
    for path in sorted(folder.iterdir()):
        if records or path.suffix == ".json":
            store.put(path.name, path.read_bytes())
    return f"gs://{bucket}/{prefix}"


@pytest.mark.parametrize(
    "command",
    [
        ("cost",),
        ("export", "--format=csv"),
        ("export", "--format=markdown"),
        ("export", "--format=csv", "--of=requests"),
        ("replicas", "--target-rate=60"),
        ("replicas", "--target-rate=60", "--slo=ttft:p50<1s, errors<1%", "--json=-"),
    ],
    ids=" ".join,
)
def test_a_bucket_is_read_as_its_folder_is(command: tuple[str, ...], bucket: str, run_folder: Path, told: Told) -> None:
    url = stored(bucket, run_folder)
    name, *flags = command
    code, out, err = told(name, run_folder, *flags)
    assert (code, err) == (Exit.DONE, "")
    assert told(name, url, *flags) == (code, out.replace(str(run_folder), url), err)
    assert told(name, f"{url}/", *flags)[1] == told(name, f"gs://{bucket}", *flags)[1] == told(name, url, *flags)[1]


def test_a_page_of_a_bucket_has_all_that_one_of_the_folder_has(
    bucket: str, run_folder: Path, told: Told, tmp_path: Path
) -> None:
    url = stored(bucket, run_folder)
    [profile] = run_folder.glob("*-profile-*.json")
    for place in (url, f"{url}/{profile.name}"):
        local, remote = tmp_path / f"{len(place)}-local.html", tmp_path / f"{len(place)}-remote.html"
        assert told("report", run_folder, "-o", local)[0] == Exit.DONE
        assert told("report", place, "-o", remote)[0] == Exit.DONE
        assert remote.read_bytes() == local.read_bytes()


def test_places_of_all_kinds_at_once(bucket: str, run_folder: Path, told: Told, tmp_path: Path) -> None:
    other = written(tmp_path / "other", [steady(10)], day=1)
    url = stored(bucket, run_folder)
    first, _ = sorted(path.name for path in run_folder.glob("*qps*.json"))
    code, out, _ = told("export", other, f"{url}/{first}", "--format=csv")
    assert code == Exit.DONE and len(out.splitlines()) == 3
    code, out, _ = told("export", url, f"{url}/{first}", run_folder, other, "--format=csv")
    assert code == Exit.DONE and len(out.splitlines()) == 4, "a point that lies in two places comes once"


def test_a_file_alone_finds_what_lies_beside_it(bucket: str, run_folder: Path, told: Told, tmp_path: Path) -> None:
    url = stored(bucket, run_folder)
    point = sorted(run_folder.glob("*qps*.json"))[0]
    code, out, _ = told("export", f"{url}/{point.name}", "--format=csv", "--of=requests")
    assert code == Exit.DONE and len(out.splitlines()) == 401
    told("report", f"{url}/{point.name}", "-o", tmp_path / "page.html")
    assert "no profile's file beside them" not in Page(tmp_path / "page.html").text
    [records] = run_folder.glob("*5.0qps*.records.npz")
    local = told("export", records, "--format=csv")[1].replace(str(run_folder), url)
    assert told("export", f"{url}/{records.name}", "--format=csv")[1] == local


def test_without_records_it_is_said_as_of_a_folder(bucket: str, run_folder: Path, told: Told, tmp_path: Path) -> None:
    url = stored(bucket, run_folder, records=False)
    code, _, err = told("export", url, "--format=csv", "--of=requests")
    assert code == Exit.USAGE and err.startswith(f"error: {url}/benchmark-vllm-") and err.count("\n") == 1
    assert told("report", url, "-o", tmp_path / "page.html")[0] == Exit.DONE


def test_records_alone_are_points_and_those_of_shards_are_not(bucket: str, run_folder: Path, told: Told) -> None:
    store = open_bucket(bucket, "run")
    for path in run_folder.glob("*.npz"):
        store.put(path.name, path.read_bytes())
        store.put("point-0/shard-0.records.npz", path.read_bytes())
    assert len(told("export", f"gs://{bucket}/run", "--format=csv")[1].splitlines()) == 3


def test_a_page_fetches_records_and_the_costs_do_not(
    gcs: str, bucket: str, run_folder: Path, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = stored(bucket, run_folder)
    with flaky(gcs, lambda method, path, number: None) as (proxy, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy)
        told("cost", url)
        assert not [line for line in seen if ".npz" in line and "alt=media" in line]
        told("report", url, "-o", tmp_path / "page.html")
        assert len([line for line in seen if ".npz" in line and "alt=media" in line]) == 2


COMMANDS: dict[str, list[str]] = {  # with a second place, where they take two
    "report": ["{}"],
    "export": ["{}", "--format=csv"],
    "cost": ["{}"],
    "replicas": ["{}", "--target-rate=9"],
    "comparable": ["{}", "{}"],
    "compare": ["{}", "{}"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_there_is_said_in_a_line(command: str, bucket: str, told: Told) -> None:
    nothing = "there is no profile in it" if command == "compare" else "there is nothing under it"
    for place, says in (
        ("gs://no-such-bucket/folder", "there is no such bucket"),
        (f"gs://{bucket}/empty", nothing),
        (f"gs://{bucket}/folder/one.json", "there is no such object"),
        ("gs://no-such-bucket/one.json", "there is no such object"),
        ("gs://Wrong_/x", "is no bucket"),
    ):
        code, out, err = told(command, *(argument.format(place) for argument in COMMANDS[command]))
        assert (code, out) == (Exit.USAGE, ""), (place, err)
        assert err.startswith(f"error: {place}: ") and says in err and err.count("\n") == 1, err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("status", "says"), [(403, "no permission (403)"), (503, "HTTP status 503")])
def test_a_bucket_that_cannot_be_read(
    command: str, status: int, says: str, gcs: str, bucket: str, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched, "PATIENCE_S", 0.5)
    with flaky(gcs, lambda method, path, number: "before", status, "its own words") as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        for place in (f"gs://{bucket}/folder", f"gs://{bucket}/folder/one.json"):
            code, _, err = told(command, *(argument.format(place) for argument in COMMANDS[command]))
            assert code == Exit.UNAVAILABLE
            assert f"gs://{bucket}/folder/" in err and says in err and err.count("\n") == 1 and "own words" not in err


def test_a_server_that_is_gone(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "PATIENCE_S", 0.5)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    code, _, err = told("cost", "gs://some-bucket/folder")
    assert (code, err) == (Exit.UNAVAILABLE, "error: cannot list gs://some-bucket/folder/: no connection\n")


def test_a_folder_of_a_bucket_without_points(bucket: str, told: Told, tmp_path: Path) -> None:
    open_bucket(bucket).put("run/index.json", b"{}")
    code, _, err = told("cost", f"gs://{bucket}/run")
    assert code == Exit.USAGE and err.startswith(f"error: gs://{bucket}/run: there is no point in it")
    code, _, err = told("report", f"gs://{bucket}/run", "-o", tmp_path / "page.html")
    assert code == Exit.UNUSABLE and f"gs://{bucket}/run: there is no point in it" in err
    assert f"gs://{bucket}/run: there is no point in it" in Page(tmp_path / "page.html").text


@pytest.mark.parametrize(
    "place", ["gs://", "gs://b/../c", "s3://key:secret@bucket/folder", "gs://bucket/x?token=secret"]
)
def test_what_is_no_place(place: str, told: Told) -> None:
    code, _, err = told("cost", place)
    assert code == Exit.USAGE and err.startswith("error: RESULTS: got ") and err.count("\n") == 1


def test_names_that_lead_out_of_the_folder_are_no_files(
    bucket: str, run_folder: Path, told: Told, tmp_path: Path
) -> None:
    url = stored(bucket, run_folder, "run")
    for name in (f"{tmp_path}/outside.json", "run/../../outside.json", "run//outside.json"):
        open_bucket(bucket)._bucket.blob(name).upload_from_string(b"{}")  # type: ignore[attr-defined]
    for place in (url, f"gs://{bucket}"):
        code, out, _ = told("export", place, "--format=csv")
        assert code == Exit.DONE and len(out.splitlines()) == 3
    assert not list(tmp_path.rglob("outside.json"))


def test_files_of_this_machine_take_no_room_for_copies(
    run_folder: Path, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert told("cost", run_folder)[0] == told("comparable", *run_folder.glob("*qps*.json"))[0] == Exit.DONE


def test_a_url_of_a_file_system_is_a_place_too(run_folder: Path, told: Told) -> None:
    assert told("cost", f"file://{run_folder}") == told("cost", run_folder)


def test_profiles_in_a_bucket_are_compared(bucket: str, told: Told, tmp_path: Path) -> None:
    nights = [write_profile(tmp_path, make_profile(night, make_point(tokens=1000.0 + night))) for night in range(6)]
    store = open_bucket(bucket, "nightly")
    for night, path in enumerate(nights):
        store.put(f"run-{night}/{path.name}", path.read_bytes())
    other = make_profile(7, make_point(), of={"ignore_eos": True})
    store.put("other.json", json.dumps(other).encode())
    first, last = (f"gs://{bucket}/nightly/run-{night}/{nights[night].name}" for night in (0, 5))
    assert told("comparable", first, last)[0] == told("comparable", first, nights[5])[0] == Exit.DONE
    code, out, _ = told("comparable", first, f"gs://{bucket}/nightly/other.json")
    assert code == Exit.UNUSABLE and "ignore_eos: null, true" in out
    code, out, err = told("compare", f"gs://{bucket}/nightly", last)
    assert code == Exit.DONE and out.startswith("Compared with earlier nights: "), err
    code, _, err = told("compare", f"gs://{bucket}/nightly/other.json", last)
    assert code == Exit.USAGE and "may not be compared: ignore_eos" in err, "one that is named is refused"
