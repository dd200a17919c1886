"""Which earlier nights a page shows: those that lie around a profile, in folders of other runs and in a bucket."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from latency_profile.cli import main
from latency_profile.compare.compared import Options, compare
from latency_profile.compare.earlier import MOST, MOST_READ, Remembered, newest_nights
from latency_profile.compare.nightly import comparison_files
from latency_profile.compare.nights import from_store, read
from latency_profile.compare.text import compared_line
from latency_profile.errors import Exit
from latency_profile.results import fetched
from latency_profile.storage import open_bucket, open_folder
from tests.make_nights import make_date, make_night, make_point, make_profile, profile_name
from tests.page_profiles import Page, Report, reporting, steady, written
from tests.servers.fake_gcs import flaky

NIGHTS = 7


@pytest.fixture(name="report")
def reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    return reporting(tmp_path, capsys)


@pytest.fixture(scope="module", name="nightly")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with names, one a night, each with a folder of its own; the last one is slower."""
    folder = tmp_path_factory.mktemp("nightly")
    for night in range(NIGHTS):
        run(folder, night)
    return folder


def run(folder: Path, night: int, **context: object) -> Path:
    tpot_s = 0.012 if night == NIGHTS - 1 else 0.01
    path = written(folder / f"run-{night}", [steady(10, n=60), steady(40, n=60, tpot_s=tpot_s)], day=night)
    (path / "index.json").write_text(json.dumps({"run_id": path.name}))
    return path


def with_comparison(folder: Path) -> str:
    """As --compare-with leaves one in the folder of the last run; its sentence."""
    nights = from_store(open_folder(folder))
    found = compare(nights[-1:], nights[:-1], Options(margin=0.01))
    for name, data in comparison_files(found).items():
        (folder / f"run-{NIGHTS - 1}" / name).write_bytes(data)
    return compared_line(found)


def copied(nightly: Path, folder: Path) -> Path:
    for path in nightly.rglob("*.*"):
        target = folder / path.relative_to(nightly)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def nights_drawn(page: Page) -> int:
    return len(set(page.figures["nights-0-nights-e2e-p50"]["data"]["nights"]["night"]))


def in_bucket(bucket: str, folder: Path, prefix: str = "nightly") -> str:
    store = open_bucket(bucket, prefix)
    for path in folder.rglob("*.*"):
        if path.is_file():
            store.put(path.relative_to(folder).as_posix(), path.read_bytes())
    return f"gs://{bucket}/{prefix}"


def test_a_folder_of_runs_shows_their_nights(nightly: Path, report: Report) -> None:
    code, page, err = report(nightly)
    assert (code, err) == (Exit.DONE, "")
    assert page.text.count("No comparison was stored with this profile") == 1
    assert nights_drawn(page) == NIGHTS and "are not there" not in page.text


def test_a_run_alone_finds_those_beside_it(nightly: Path, report: Report) -> None:
    _, page, _ = report(nightly / "run-5")
    assert nights_drawn(page) == 6, "none that is later"
    [profile] = (nightly / "run-5").glob("*-profile-*.json")
    assert report(profile)[1].figures.keys() == page.figures.keys()
    _, page, _ = report(nightly / "run-1")
    assert "nights-0-nights-e2e-p50" not in page.figures, "two profiles are no nights"


def test_what_lies_beside_a_folder_that_is_no_run_is_nobodys_business(
    nightly: Path, tmp_path: Path, report: Report
) -> None:
    folder = copied(nightly, tmp_path / "results")
    (folder / "run-5" / "index.json").unlink()
    assert not [name for name in report(folder / "run-5")[1].figures if name.startswith("nights-")]


def test_nights_of_another_fingerprint_are_left_out(nightly: Path, tmp_path: Path, report: Report) -> None:
    folder = copied(nightly, tmp_path / "results")
    for path in (folder / "run-3").glob("*-profile-*.json"):
        profile = json.loads(path.read_text())
        profile["fingerprint"]["of"]["ignore_eos"] = True
        path.write_text(json.dumps(profile))
    (folder / "run-2" / next((folder / "run-2").glob("*-profile-*.json")).name).write_text("{")
    assert nights_drawn(report(folder / "run-6")[1]) == NIGHTS - 2


def test_a_stored_comparison_finds_the_nights_that_it_names(nightly: Path, tmp_path: Path, report: Report) -> None:
    folder = copied(nightly, tmp_path / "results")
    line = with_comparison(folder)
    for place in (folder, folder / "run-6"):
        _, page, _ = report(place)
        assert line in page.text and "are not there" not in page.text and nights_drawn(page) == NIGHTS
    for path in (folder / "run-2").iterdir():
        path.unlink()
    assert "profiles of 1 of these nights are not there" in report(folder / "run-6")[1].text


def test_nights_that_are_elsewhere(nightly: Path, tmp_path: Path, bucket: str, report: Report) -> None:
    """As of a profile that was compared with what another place has (--compare-with=PLACE)."""
    elsewhere = copied(nightly, tmp_path / "elsewhere")
    line = with_comparison(elsewhere)
    alone = tmp_path / "alone"
    (elsewhere / "run-6").rename(alone)
    assert "profiles of 6 of these nights are not there" in report(alone)[1].text
    for place in (str(elsewhere), in_bucket(bucket, elsewhere)):
        code, page, err = report(alone, f"--nights={place}")
        assert (code, err) == (Exit.DONE, "")
        assert line in page.text and "are not there" not in page.text and nights_drawn(page) == NIGHTS


@pytest.mark.usefixtures("gcs")
@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("", "--nights: got ''"),
        ("nowhere", "--nights: got 'nowhere', takes a folder that is there"),
        ("gs://no-such-bucket/nights", "gs://no-such-bucket/nights: there is no such bucket"),
    ],
)
def test_a_place_of_nights_that_is_none(
    place: str, says: str, nightly: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(nightly / "run-6"), f"--nights={place}"]) == Exit.USAGE
    assert says in capsys.readouterr().err


def test_a_bucket_of_runs_shows_their_nights(nightly: Path, tmp_path: Path, bucket: str, report: Report) -> None:
    url = in_bucket(bucket, nightly)
    for place in (url, f"{url}/run-6", f"gs://{bucket}"):
        code, page, err = report(place)
        assert (code, err) == (Exit.DONE, "") and nights_drawn(page) == NIGHTS
    [profile] = (nightly / "run-6").glob("*-profile-*.json")
    assert nights_drawn(report(f"{url}/run-6/{profile.name}")[1]) == NIGHTS
    line = with_comparison(copied(nightly, tmp_path / "results"))
    url = in_bucket(bucket, tmp_path / "results", "compared")
    _, page, _ = report(f"{url}/run-6")
    assert line in page.text and nights_drawn(page) == NIGHTS


def test_nights_that_are_left_out_are_named_as_they_are_known(
    nightly: Path, tmp_path: Path, bucket: str, report: Report
) -> None:
    folder = copied(nightly, tmp_path / "results")
    [path] = (folder / "run-3").glob("*-profile-*.json")
    profile = json.loads(path.read_text())
    for point in profile["points"]:
        point["verdict"]["verdict"] = "FAILED"
    path.write_text(json.dumps(profile))
    _, page, _ = report(in_bucket(bucket, folder))
    assert page.tables["Nights that were left out"][1][1] == f"run-3/{path.name}"


def test_nights_in_a_bucket_take_no_records(
    nightly: Path, gcs: str, bucket: str, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = in_bucket(bucket, nightly)
    with flaky(gcs, lambda method, path, number: None) as (proxy, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy)
        assert nights_drawn(report(f"{url}/run-6")[1]) == NIGHTS
    read = [line for line in seen if "alt=media" in line]
    assert not [line for line in read if "run-6" not in line and "-profile-" not in line]
    assert len([line for line in read if ".npz" in line]) == 2


def test_nights_that_cannot_be_read_are_said_and_cost_no_page(
    nightly: Path, gcs: str, bucket: str, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account may read this run's folder only."""
    url = in_bucket(bucket, nightly)
    monkeypatch.setattr(fetched, "PATIENCE_S", 0.5)

    def own(method: str, path: str, number: int) -> tuple[int, str] | None:
        return None if "run-6" in path else (403, "{}")

    with flaky(gcs, own) as (proxy, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy)
        code, page, err = report(f"{url}/run-6")
    assert code == Exit.DONE and "Each point" in page.text
    assert err == f"earlier nights are not on the page: cannot list {url}/: no permission (403)\n"


class Counted:
    """A store of profiles' files that counts what is read of it."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.lists, self.gets = files, 0, 0

    def list(self, prefix: str) -> Sequence[str]:
        self.lists += 1
        return list(self.files)

    def get(self, name: str) -> bytes | None:
        self.gets += 1
        return self.files.get(name)


def store_of(*nights: int, **changes: object) -> dict[str, bytes]:
    profiles = {night: make_profile(night, make_point(tokens=1000.0 + night), **changes) for night in nights}
    return {f"run-{night}/{profile_name(each)}": json.dumps(each).encode() for night, each in profiles.items()}


def test_the_newest_are_read_and_no_more() -> None:
    store = Counted(store_of(*range(100)))
    found = newest_nights(store, make_night(90, make_point()))
    assert [night.date for night in found] == [make_date(night) for night in range(90 - MOST, 90)]
    assert (store.lists, store.gets) == (1, MOST)


def test_others_of_the_same_name_do_not_make_it_long() -> None:
    store = Counted(store_of(*range(20)) | store_of(*range(20, 20 + MOST_READ + 5), of={"ignore_eos": True}))
    assert newest_nights(store, make_night(200, make_point())) == []
    assert store.gets == MOST_READ
    other = {name.replace("nightly-", "hourly-"): data for name, data in store_of(*range(9)).items()}
    store = Counted(other)
    assert newest_nights(store, make_night(200, make_point())) == [] and store.gets == 0


def test_a_store_is_read_once() -> None:
    store = Counted(store_of(*range(5)))
    remembered = Remembered(store)
    assert from_store(remembered) == from_store(remembered)
    assert newest_nights(remembered, make_night(9, make_point())) == from_store(remembered)
    assert (store.lists, store.gets) == (1, 5)
    [name, *_] = store.files
    assert read(remembered.get(name) or b"", name).date == make_date(0)
