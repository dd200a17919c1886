"""The files of a run in several stores, one of which may be down: nothing is lost, and the exit code tells."""

import errno
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from latency_profile import results
from latency_profile.errors import Exit, StorageError
from latency_profile.parts import chunks_of
from latency_profile.results.index import IndexPoint, new_index, read_index
from latency_profile.resume import Ledger
from latency_profile.settings import load
from latency_profile.shards.meeting import Meeting
from latency_profile.shards.whole import joined
from latency_profile.storage import NotAllowed, Store, open_folder
from tests.make_records import uniform_records
from tests.test_resume import MARK, planned


class Down:
    """A store that takes nothing while it is `down`."""

    def __init__(self, inner: Store) -> None:
        self.inner, self.down, self.tries = inner, False, 0

    def __getattr__(self, name: str) -> Any:
        self.tries += 1
        if self.down:
            raise StorageError("it is down")
        return getattr(self.inner, name)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Store, Down]:
    return open_folder(tmp_path / "local"), Down(open_folder(tmp_path / "bucket"))


def test_what_a_store_did_not_take_it_gets_when_it_is_back(places: tuple[Store, Down], tmp_path: Path) -> None:
    local, bucket = places
    said: list[str] = []
    ledger = Ledger([local, bucket], "run", said.append)
    bucket.down = True
    assert ledger.put("a.json", b"one") == "a.json"
    tries = bucket.tries
    ledger.put("b.json", b"two")
    assert bucket.tries == tries  # nobody waits for it again with every file
    assert ledger.failure is not None
    assert said == ["it is down"]
    assert local.list() == ["run/a.json", "run/b.json"]
    ledger.settle()
    assert ledger.failure is not None
    bucket.down = False
    ledger.settle()
    assert ledger.failure is None
    assert bucket.list() == ["run/a.json", "run/b.json"]


def test_records_go_to_the_stores_in_which_they_do_not_lie_already(places: tuple[Store, Down], tmp_path: Path) -> None:
    local, bucket = places
    path = tmp_path / "p.records.npz"
    path.write_bytes(b"rows")
    Ledger([local, bucket], None, lambda _: None).put_records(path)
    assert (local.list(), bucket.list()) == ([], ["p.records.npz"])


def test_the_index_of_an_account_that_may_not_replace_it_is_written_beside_the_last_one(tmp_path: Path) -> None:
    class Writer:
        def __init__(self, inner: Store) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            if name in {"get", "list", "replace"}:

                def refuse(*_: object) -> None:
                    raise NotAllowed("no permission (403)")

                return refuse
            return getattr(self.inner, name)

    local, bucket = open_folder(tmp_path / "local"), open_folder(tmp_path / "bucket")
    said: list[str] = []
    point = planned(0, 0)
    ledger = Ledger([local, Writer(bucket)], "run", said.append)
    ledger.begin(new_index("run", MARK, ["http://h"], [point]), resume=True)
    ledger.begun(point, "aa", None)
    assert ledger.failure is None
    assert bucket.list() == ["run/index-2.json", "run/index.json"]
    newest = bucket.get("run/index-2.json")
    assert newest is not None
    assert newest == local.get("run/index.json")
    assert [p.attempts for p in read_index(newest).points] == [["aa"]]
    assert said[0].startswith("resume is off for ")


def test_the_index_of_the_store_that_outlives_the_pod_counts(tmp_path: Path) -> None:
    local, bucket = open_folder(tmp_path / "local"), open_folder(tmp_path / "bucket")
    points = [planned(0, 0), planned(1, 5)]
    index = new_index("run", MARK, ["http://h"], points)
    bucket.replace("run/index.json", index.with_point(0, state="begun", attempts=["aa"]).encoded())
    ledger = Ledger([local, bucket], "run", lambda _: None)
    ledger.begin(index, resume=True)
    assert ledger.to_measure(points) == points
    ledger.begun(points[0], "bb", None)
    kept = local.get("run/index.json")
    assert kept is not None
    assert read_index(kept).points[0].attempts == ["aa", "bb"]


def test_a_run_that_is_lost_while_it_removes_parts_has_them_done_in_its_index(tmp_path: Path) -> None:
    class Lost(Exception):
        """The node is gone."""

    class Leaving:
        def __init__(self, inner: Store) -> None:
            self.inner = inner

        def delete(self, name: str) -> bool:
            raise Lost

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    local, bucket, point = open_folder(tmp_path / "local"), open_folder(tmp_path / "bucket"), planned(0, 0)
    bucket.put("run/point-0/aa/spool-0.part-0001", b"x")
    result = results.point_result(uniform_records(30))

    def measured(store: Store) -> IndexPoint:
        ledger = Ledger([local, store], "run", lambda _: None)
        ledger.begin(new_index("run", MARK, ["http://h"], [point]), resume=True)
        ledger.begun(point, "aa", "run/point-0/aa/")
        with suppress(Lost):
            ledger.ended(point, ["a.json"], "a.records.npz", result, "20260101-000000")
        data = bucket.get("run/index.json")
        assert data is not None
        return read_index(data).points[0]

    lost = measured(Leaving(bucket))
    assert (lost.state, lost.parts, lost.parts_superseded) == ("done", "run/point-0/aa/", True)
    assert "run/point-0/aa/spool-0.part-0001" in bucket.list()
    whole = measured(bucket)
    assert (whole.state, whole.parts, whole.parts_superseded) == ("done", None, True)
    assert bucket.list("run/point-0/") == []


@pytest.mark.parametrize("failure", [None, OSError(errno.ENOSPC, "No space left on device")])
def test_records_of_shards_that_cannot_be_read_are_an_error_of_storage(failure: OSError | None, tmp_path: Path) -> None:
    (tmp_path / "part.npz").write_bytes(b"half of it")

    def gather(point: int, folder: Path) -> tuple[list[Path], set[int]]:
        if failure:
            raise failure
        return [folder / "part.npz"], set()

    meeting = cast(Meeting, SimpleNamespace(gather=gather))
    with pytest.raises(StorageError, match="cannot read the shards' records: ") as caught:
        joined(meeting, 0, tmp_path)
    assert caught.value.exit_code == Exit.NOT_STORED


def test_each_attempt_has_a_folder_of_parts_of_its_own_although_its_nonce_is_fixed() -> None:
    stored = ["--save-json-results", "--output-url=memory://x"]
    settings = load(["--tokenizer=bundled", "--input-len=1", "--output-len=1", *stored], {})
    attempts = [chunks_of(settings, "aa", (), lambda _: None) for _ in range(2)]
    folders = {chunks.folder(0) for chunks in attempts if chunks}
    assert len(folders) == 2
    assert all(folder.startswith("parts/point-0/aa-") and folder.endswith("/") for folder in folders)


def test_prompts_that_were_sent_before_under_one_fixed_nonce_are_said(tmp_path: Path) -> None:
    said: list[str] = []
    point = planned(0, 0)
    for _ in range(2):
        ledger = Ledger([open_folder(tmp_path)], "run", said.append)
        ledger.begin(new_index("run", MARK, ["http://h"], [point]), resume=True)
        ledger.begun(point, "aa", None)
    assert len(said) == 1
    assert "begun before with the same --nonce" in said[0]
