"""Results in a folder, and in a bucket of a real fake-gcs-server."""

import errno
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_profile.errors import Exit, ServerUnavailable, StorageError, UsageError
from latency_profile.storage import Store, names, open_bucket, open_folder
from tests.servers.fake_gcs import fake_gcs, flaky
from tests.servers.process import free_port


def fetch(url: str, method: str = "GET", body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        content: bytes = response.read()
    return content


def objects(server: str, bucket: str) -> dict[str, bytes]:
    """Names and contents of a bucket, by plain HTTP."""
    listed = json.loads(fetch(f"{server}/storage/v1/b/{bucket}/o")).get("items", [])
    quoted = {item["name"]: item["name"].replace("/", "%2F") for item in listed}
    return {name: fetch(f"{server}/storage/v1/b/{bucket}/o/{quote}?alt=media") for name, quote in quoted.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with fake_gcs(tmp_path_factory.mktemp("gcs")) as url:
        yield url


@pytest.fixture
def bucket(server: str, request: pytest.FixtureRequest) -> str:
    """A new bucket for this test."""
    name = "b-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[-50:].strip("-")
    fetch(f"{server}/storage/v1/b", "POST", json.dumps({"name": name}).encode())
    return name


@pytest.fixture(autouse=True)
def _emulator(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> Store:
    return open_folder(tmp_path / "new" / "results") if request.param == "folder" else open_bucket(bucket, "results")


def test_names_number_themselves_before_the_suffix() -> None:
    produced = names("run/a.b.json")
    assert [next(produced) for _ in range(3)] == ["run/a.b.json", "run/a.b-2.json", "run/a.b-3.json"]


def test_both_stores_never_overwrite(store: Store) -> None:
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
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
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


@pytest.mark.parametrize(
    ("form", "prefix", "expected"),
    [("{}", None, "a.json"), ("gs://{}", "/x/y/", "x/y/a.json"), ("gs://{}/top/", "sub", "top/sub/a.json")],
)
def test_a_bucket_keeps_the_bytes_under_the_prefix(
    server: str, bucket: str, form: str, prefix: str | None, expected: str
) -> None:
    data = b'{"metrics": {}}\n'
    assert open_bucket(form.format(bucket), prefix).put("a.json", data) == f"gs://{bucket}/{expected}"
    assert objects(server, bucket) == {expected: data}
    item = json.loads(fetch(f"{server}/storage/v1/b/{bucket}/o"))["items"][0]
    assert item["contentType"] == "application/json"


def test_a_large_file_goes_up_in_a_resumable_upload(server: str, bucket: str) -> None:
    data = bytes(range(256)) * 4 * 9000  # 9.2 MB, above the 8 MB of a single request
    open_bucket(bucket).put("records.npz", data)
    assert objects(server, bucket) == {"records.npz": data}


def test_a_bucket_that_is_not_there_is_told_before_the_run() -> None:
    with pytest.raises(UsageError, match="there is no bucket gs://no-such-bucket") as caught:
        open_bucket("no-such-bucket").check()
    assert caught.value.exit_code == Exit.USAGE


def test_a_bucket_that_vanishes_is_an_error_of_storage() -> None:
    with pytest.raises(StorageError, match=r"cannot store gs://no-such-bucket/a.json: HTTP status 404"):
        open_bucket("no-such-bucket", patience_s=1).put("a.json", b"one")


@pytest.mark.parametrize("name", ["", "gs://", "ab", "Upper-Case", "s3://name", "white space", "-x-"])
def test_what_is_no_bucket_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"--output-bucket: .* is no bucket; it takes NAME or gs://NAME"):
        open_bucket(name)


def test_transient_errors_are_tried_again(server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with flaky(server, lambda method, path, number: "before" if number <= 2 else None) as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        open_bucket(bucket).put("a.json", b"one")
        assert len(seen) == 3
        assert all("ifGenerationMatch=0" in line for line in seen)
    assert objects(server, bucket) == {"a.json": b"one"}


def test_an_upload_whose_answer_got_lost_is_not_stored_twice(
    server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flaky(server, lambda method, path, number: "after" if number == 1 else None) as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert open_bucket(bucket).put("a.json", b"one") == f"gs://{bucket}/a.json"
        assert [line.split()[0] for line in seen] == ["POST", "POST", "GET"]  # lost, then 412, then a look at it
    assert objects(server, bucket) == {"a.json": b"one"}


def test_who_may_only_create_objects_can_still_store(server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with flaky(server, lambda method, path, number: "before" if method == "GET" else None, 403) as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        store = open_bucket(bucket)
        store.check()
        assert seen[0].startswith(f"GET /storage/v1/b/{bucket}")
        assert store.put("a.json", b"one") == f"gs://{bucket}/a.json"
        assert store.put("a.json", b"two") == f"gs://{bucket}/a-2.json"
    assert objects(server, bucket) == {"a.json": b"one", "a-2.json": b"two"}


def test_a_refused_upload_is_not_tried_again(server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with flaky(server, lambda method, path, number: "before", 403) as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with pytest.raises(StorageError, match=r"no permission \(403\); the file stays on disk") as caught:
            open_bucket(bucket).put("a.json", b"one")
        assert len(seen) == 1
    assert caught.value.exit_code == Exit.NOT_STORED


def test_a_server_that_stays_broken_ends_within_its_patience(
    server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flaky(server, lambda method, path, number: "before") as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        started = time.monotonic()
        with pytest.raises(StorageError, match="HTTP status 503") as caught:
            open_bucket(bucket, patience_s=2).put("a.json", b"one")
        assert time.monotonic() - started < 8
        assert len(seen) >= 2
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)


def test_a_server_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    store = open_bucket("some-bucket", patience_s=1)
    started = time.monotonic()
    with pytest.raises(ServerUnavailable, match="cannot reach the bucket gs://some-bucket: no connection"):
        store.check()
    with pytest.raises(StorageError, match=r"cannot store gs://some-bucket/a.json: no connection"):
        store.put("a.json", b"one")
    assert time.monotonic() - started < 8


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latency_profile.storage.ATTEMPT_TIMEOUT_S", (0.5, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(StorageError, match="no answer in time"):
            open_bucket("some-bucket", patience_s=1).put("a.json", b"one")
        assert time.monotonic() - started < 8


def test_without_credentials_the_user_is_told_how_to_get_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(UsageError, match="no Google Cloud credentials for gs://some-bucket"):
        open_bucket("some-bucket")


def test_the_google_library_is_loaded_for_buckets_only() -> None:
    code = (
        "import sys, latency_profile.storage as s; s.open_folder(s.Path('.')); sys.exit('google.cloud' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
