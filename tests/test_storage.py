"""Results in a folder, in a bucket of a real fake-gcs-server, and through fsspec: what all three promise."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from latency_profile.errors import StorageError, UsageError
from latency_profile.storage import Store, names, open_bucket, open_folder, open_url


@pytest.fixture(params=["folder", "bucket", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> Store:
    match request.param:
        case "folder":
            return open_folder(tmp_path / "new" / "results")
        case "bucket":
            return open_bucket(bucket, "results")
    return open_url(f"memory://{bucket}/results", patience_s=1)


def refuse_links(source: Path, target: Path) -> None:
    """As some FUSE mounts do."""
    raise OSError(errno.EPERM, "Operation not permitted")


def test_names_number_themselves_before_the_suffix() -> None:
    produced = names("run/a.b.json")
    assert [next(produced) for _ in range(3)] == ["run/a.b.json", "run/a.b-2.json", "run/a.b-3.json"]


def test_no_store_ever_overwrites(store: Store) -> None:
    store.check()
    first = store.put("a.json", b"one")
    assert first.endswith("results/a.json")
    assert store.put("a.json", b"one") == first
    assert store.put("a.json", b"two") == first.replace("a.json", "a-2.json")
    assert store.put("a.json", b"three") == first.replace("a.json", "a-3.json")
    assert store.put("a.json", b"two") == first.replace("a.json", "a-2.json")


def test_a_folder_holds_whole_files_and_nothing_else(tmp_path: Path) -> None:
    store = open_folder(tmp_path)
    store.check()
    for data in (b"one", b"two", b"one"):
        store.put("a.json", data)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.json": b"one", "a-2.json": b"two"}


def test_a_file_system_without_links_does_not_overwrite_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    store = open_folder(tmp_path)
    assert [store.put("a.json", data) for data in (b"one", b"two")] == [
        str(tmp_path / "a.json"),
        str(tmp_path / "a-2.json"),
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.json": b"one", "a-2.json": b"two"}


def test_a_folder_that_takes_no_files_is_told_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = open_folder(tmp_path / "file" / "sub")
    with pytest.raises(UsageError, match=r"--output-dir: cannot write to .*file/sub: Not a directory"):
        store.check()
    with pytest.raises(StorageError, match="Not a directory"):
        store.put("a.json", b"one")
    with pytest.raises(UsageError, match=r"--output-url: cannot write to"):
        open_url(f"file://{tmp_path}/file/sub").check()


def test_a_stored_file_is_read_back_and_one_that_is_not_there_is_none(store: Store) -> None:
    store.put("run/point-0/a.json", b"one")
    assert store.get("run/point-0/a.json") == b"one"
    assert store.get("run/point-0/b.json") is None
    assert store.get("elsewhere/b.json") is None


def test_names_are_listed_by_their_beginning_and_in_order(store: Store) -> None:
    assert store.list("run/") == []
    for name in ("run/b", "run/a/c", "run/ab", "other/a", "run/.hidden", "run/.h/x", "top"):
        store.put(name, b"x")
    assert store.list("run/") == ["run/a/c", "run/ab", "run/b"]
    assert store.list("run/a") == ["run/a/c", "run/ab"]
    assert store.list() == ["other/a", "run/a/c", "run/ab", "run/b", "top"]


def test_what_is_put_from_a_file_is_that_file(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(range(256)) * 4 * 9000)  # 9.2 MB: more than one request of a bucket, one buffer of a folder
    first = store.put_file("p.records.npz", path)
    assert store.put_file("p.records.npz", path) == first
    assert store.get("p.records.npz") == path.read_bytes()
    path.write_bytes(b"other")
    assert store.put_file("p.records.npz", path) == first.replace("p.records.npz", "p-2.records.npz")
    assert store.get("p-2.records.npz") == b"other"


def test_a_name_is_created_once(store: Store) -> None:
    assert store.create("start.json", b"mine")
    assert not store.create("start.json", b"mine")
    assert not store.create("start.json", b"theirs")
    assert store.get("start.json") == b"mine"


@pytest.mark.parametrize("kind", ["folder", "folder without links", "bucket"])
def test_of_many_who_create_one_name_exactly_one_wins(
    kind: str, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """memory:// is left out: fsspec's own fallback looks first and then writes, as its documentation says."""
    if kind == "folder without links":
        monkeypatch.setattr(os, "link", refuse_links)
    together = threading.Barrier(8)

    def race(number: int) -> list[bool]:
        store = open_bucket(bucket) if kind == "bucket" else open_folder(tmp_path)
        together.wait(30)
        return [store.create(f"round-{turn}", b"the same bytes") for turn in range(20)]

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert [sum(turn) for turn in zip(*won, strict=True)] == [1] * 20


def test_only_replace_puts_a_file_in_place_of_another(store: Store) -> None:
    store.replace("index.json", b"one")
    store.replace("index.json", b"two")
    assert store.get("index.json") == b"two"
    assert store.list() == ["index.json"]


def test_a_file_of_ones_own_is_removed(store: Store) -> None:
    store.put("part", b"one")
    assert store.delete("part")
    assert not store.delete("part")
    assert store.list() == []


def test_what_is_put_again_under_a_name_of_ones_own_is_there_once(store: Store) -> None:
    for _ in range(2):
        assert store.put("attempt/part-0001", b"one", own=True) == store.place("attempt/part-0001")
    assert store.list() == ["attempt/part-0001"]


def test_two_pods_that_check_one_volume_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one image: with the same process id. The second looks while the first does."""
    touch, store = Path.touch, open_folder(tmp_path)

    def with_another_pod_between(path: Path) -> None:
        touch(path)
        monkeypatch.setattr(Path, "touch", touch)
        store.check()

    monkeypatch.setattr(Path, "touch", with_another_pod_between)
    store.check()
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_was_made_although_it_is_said_to_be_there_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS: the first answer got lost, and the request was sent again."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", twice)
    assert open_folder(tmp_path).create("start.json", b"mine")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"start.json": b"mine"}


def test_a_disk_that_fails_is_not_taken_for_one_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", fail)
    store = open_folder(tmp_path)
    for write in (store.create, store.put):
        with pytest.raises(StorageError, match="Input/output error"):
            write("a.json", b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_somebody_claimed_and_died_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    (tmp_path / ".a.json.claim").touch()
    store, source = open_folder(tmp_path), tmp_path / "source"
    source.write_bytes(b"two")
    assert store.put("a.json", b"one", own=True) == str(tmp_path / "a-2.json")
    assert store.put_file("a.json", source) == str(tmp_path / "a-3.json")
    assert not (tmp_path / "a.json").exists()


def test_a_folder_that_cannot_be_listed_is_an_error_of_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()

    def stale(path: Path) -> bool:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "is_file", stale)
    with pytest.raises(StorageError, match=r"cannot list .*: Stale file handle"):
        open_folder(tmp_path).list()


def test_a_url_of_a_file_is_a_folder(tmp_path: Path) -> None:
    assert open_url(f"file://{tmp_path}/a%20b").put("x", b"one") == f"{tmp_path}/a b/x"


def test_a_url_without_its_package_says_which_one() -> None:
    with pytest.raises(UsageError, match=r"--output-url: s3://b/f takes a package that is not installed: s3fs"):
        open_url("s3://b/f")
    with pytest.raises(UsageError, match="--output-url: nonsense://b is no URL that fsspec knows"):
        open_url("nonsense://b")
