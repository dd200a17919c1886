"""The files of a run in several stores, one of which may be down: nothing is lost, and the exit code tells."""

from pathlib import Path
from typing import Any

import pytest

from latency_profile.errors import StorageError
from latency_profile.results.index import new_index, read_index
from latency_profile.resume import Ledger
from latency_profile.storage import NotAllowed, Store, open_folder
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


def test_prompts_that_were_sent_before_under_one_fixed_nonce_are_said(tmp_path: Path) -> None:
    said: list[str] = []
    point = planned(0, 0)
    for _ in range(2):
        ledger = Ledger([open_folder(tmp_path)], "run", said.append)
        ledger.begin(new_index("run", MARK, ["http://h"], [point]), resume=True)
        ledger.begun(point, "aa", None)
    assert len(said) == 1
    assert "begun before with the same --nonce" in said[0]
