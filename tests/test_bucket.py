"""Results in a bucket: against a real fake-gcs-server, and a proxy that answers what that server never does."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from latency_profile.errors import Exit, ServerUnavailable, StorageError, UsageError
from latency_profile.storage import NotAllowed, open_bucket
from tests.servers.fake_gcs import fake_gcs, flaky, listed, make_bucket, objects
from tests.servers.process import free_port


@pytest.mark.parametrize(
    ("form", "prefix", "expected"),
    [("{}", None, "a.json"), ("gs://{}", "/x/y/", "x/y/a.json"), ("gs://{}/top/", "sub", "top/sub/a.json")],
)
def test_a_bucket_keeps_the_bytes_under_the_prefix(
    gcs: str, bucket: str, form: str, prefix: str | None, expected: str
) -> None:
    data = b'{"metrics": {}}\n'
    assert open_bucket(form.format(bucket), prefix).put("a.json", data) == f"gs://{bucket}/{expected}"
    assert objects(gcs, bucket) == {expected: data}
    assert listed(gcs, bucket)[expected]["contentType"] == "application/json"


def test_a_large_file_goes_up_in_a_resumable_upload(gcs: str, bucket: str) -> None:
    data = bytes(range(256)) * 4 * 9000  # 9.2 MB, above the 8 MB of a single request
    open_bucket(bucket).put("records.npz", data)
    assert objects(gcs, bucket) == {"records.npz": data}


def test_a_bucket_that_is_not_there_is_told_before_the_run(gcs: str) -> None:
    with pytest.raises(UsageError, match="there is no bucket gs://no-such-bucket") as caught:
        open_bucket("no-such-bucket").check()
    assert caught.value.exit_code == Exit.USAGE


def test_a_bucket_that_vanishes_is_an_error_of_storage(gcs: str) -> None:
    with pytest.raises(StorageError, match=r"cannot store gs://no-such-bucket/a.json: HTTP status 404"):
        open_bucket("no-such-bucket", patience_s=1).put("a.json", b"one")


@pytest.mark.parametrize("name", ["", "gs://", "ab", "Upper-Case", "s3://name", "white space", "-x-"])
def test_what_is_no_bucket_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"--output-bucket: .* is no bucket; it takes NAME or gs://NAME"):
        open_bucket(name)


def test_transient_errors_are_tried_again(gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with flaky(gcs, lambda method, path, number: "before" if number <= 2 else None) as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        open_bucket(bucket).put("a.json", b"one")
        assert len(seen) == 3
        assert all("ifGenerationMatch=0" in line for line in seen)
    assert objects(gcs, bucket) == {"a.json": b"one"}


def test_an_upload_whose_answer_got_lost_is_not_stored_twice(
    gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flaky(gcs, lambda method, path, number: "after" if number == 1 else None) as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert open_bucket(bucket).put("a.json", b"one") == f"gs://{bucket}/a.json"
        assert [line.split()[0] for line in seen] == ["POST", "POST", "GET"]  # lost, then 412, then a look at it
    assert objects(gcs, bucket) == {"a.json": b"one"}


def writer_role(gcs: str) -> AbstractContextManager[tuple[str, list[str]]]:
    """A proxy that grants what roles/storage.objectCreator does, and no more: as Google answers it."""

    def answer(method: str, path: str, number: int) -> str | tuple[int, str] | None:
        if "/iam/testPermissions" in path:
            return 200, json.dumps({"permissions": ["storage.objects.create"]})
        if method == "PUT" or (method == "POST" and "ifGenerationMatch=0" in path):
            return None
        right = {"GET": "storage.objects.get", "DELETE": "storage.objects.delete", "POST": "storage.objects.delete"}
        return 403, json.dumps({"error": {"code": 403, "message": f"x does not have {right[method]} access"}})

    return flaky(gcs, answer)


def test_who_may_only_create_objects_is_asked_nothing_else_and_leaves_nothing(
    gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer_role(gcs) as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        open_bucket(bucket, "folder").check()
        assert [line.split("?")[0] for line in seen] == [f"GET /storage/v1/b/{bucket}/iam/testPermissions"]
    assert objects(gcs, bucket) == {}


def test_who_may_only_create_objects_can_still_store(gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with writer_role(gcs) as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        store = open_bucket(bucket)
        assert store.put("a.json", b"one") == f"gs://{bucket}/a.json"
        assert store.put("a.json", b"two") == f"gs://{bucket}/a-2.json"
        assert store.create("b.json", b"one")
        assert not store.create("b.json", b"one")
        assert not store.delete("a.json")
        for refused in (lambda: store.get("a.json"), store.list, lambda: store.replace("a.json", b"x")):
            with pytest.raises(NotAllowed, match=r"no permission \(403\)"):
                refused()
    assert objects(gcs, bucket) == {"a.json": b"one", "a-2.json": b"two", "b.json": b"one"}


def test_who_may_not_look_knows_a_name_of_its_own_for_stored(
    gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer_role(gcs) as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        store = open_bucket(bucket)
        for _ in range(2):
            assert store.put("attempt/part-0001", b"one", own=True) == f"gs://{bucket}/attempt/part-0001"
    assert objects(gcs, bucket) == {"attempt/part-0001": b"one"}


def test_an_endpoint_that_knows_no_permissions_is_written_to_once(
    gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As does an account whose right holds for a folder only: the bucket as a whole grants it nothing."""
    for granted in ((404, "{}"), (200, "{}")):
        with flaky(gcs, lambda m, path, n, granted=granted: granted if "/iam/" in path else None) as (url, _):
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
            for _ in range(3):
                open_bucket(bucket, "folder").check()
    assert list(objects(gcs, bucket)) == ["folder/.latency-profile-was-here"]


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (
            403,
            UsageError,
            r"no object can be created in gs://.*/: no permission \(403\); it takes an account",
        ),
        (401, UsageError, "cannot use gs://.*: Google did not accept the credentials"),
        (404, UsageError, "there is no bucket gs://"),
        (503, ServerUnavailable, "cannot reach the bucket gs://.*: HTTP status 503"),
        (429, ServerUnavailable, "cannot reach the bucket gs://.*: HTTP status 429"),
    ],
)
def test_a_bucket_that_takes_nothing_is_told_in_one_line_before_the_run(
    status: int, kind: type[Exception], words: str, gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flaky(gcs, lambda method, path, number: "before", status, "its own words") as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with pytest.raises(kind, match=words) as caught:
            open_bucket(bucket, patience_s=1).check()
    assert "\n" not in str(caught.value)
    assert "its own words" not in str(caught.value)


def test_a_name_that_is_taken_is_known_by_the_right_that_is_missing(
    gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an object is in the way, Google may name the right to delete it in place of the precondition."""
    taken = 403, json.dumps({"error": {"code": 403, "message": "x does not have storage.objects.delete access to a"}})
    with flaky(gcs, lambda m, path, n: taken if m == "GET" or n == 1 else None) as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert open_bucket(bucket).put("a.json", b"two") == f"gs://{bucket}/a-2.json"


def test_who_created_a_name_is_known_although_the_answer_got_lost(
    gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flaky(gcs, lambda method, path, number: "after" if number == 1 else None) as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        store = open_bucket(bucket)
        assert store.create("start.json", b"the same")  # stored, lost, 412: by this call
        assert not store.create("start.json", b"the same")  # by an earlier one, of the same bytes
    assert objects(gcs, bucket) == {"start.json": b"the same"}


def test_where_one_may_not_look_a_doubtful_name_is_never_taken_for_ones_own(
    gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_bucket(bucket).put("a.json", b"another's")

    def lost_and_blind(method: str, path: str, number: int) -> str | tuple[int, str] | None:
        return (403, "{}") if method == "GET" else "before" if number == 1 else None

    with flaky(gcs, lost_and_blind) as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert open_bucket(bucket).put("a.json", b"ours") == f"gs://{bucket}/a-2.json"
    with flaky(gcs, lost_and_blind) as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with pytest.raises(NotAllowed, match="cannot tell who created"):
            open_bucket(bucket).create("a.json", b"ours")
    assert objects(gcs, bucket) == {"a.json": b"another's", "a-2.json": b"ours"}


def test_bytes_that_changed_on_their_way_are_stored_again(
    gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's answer has another CRC32C than ours: the object is not taken for the file."""
    wrong = 200, json.dumps({"name": "a.json", "bucket": bucket, "size": "3", "crc32c": "AAAAAA==", "generation": "1"})
    with flaky(gcs, lambda method, path, number: wrong if number == 1 else None) as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert open_bucket(bucket).put("a.json", b"one") == f"gs://{bucket}/a-2.json"
    assert objects(gcs, bucket)["a-2.json"] == b"one"


def big(path: Path, megabytes: int) -> str:
    """A file of pseudo-random bytes, and its SHA-256."""
    digest, block = hashlib.sha256(), bytes(1 << 20)
    with path.open("wb") as file:
        for number in range(megabytes):
            block = hashlib.shake_256(number.to_bytes(4, "big")).digest(1 << 16) * 16
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


def outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The server is killed in the middle of a large upload, and comes back with its objects but without the upload."""
    digest, port, third = big(tmp_path / "f", 40), free_port(), threading.Event()
    (tmp_path / "objects").mkdir()

    def count(method: str, path: str, number: int) -> None:
        if method == "PUT" and number > 3:
            third.set()

    url = f"http://127.0.0.1:{port}"
    with ThreadPoolExecutor(1) as pool, flaky(url, count) as (proxy, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy)
        with fake_gcs(tmp_path, port, tmp_path / "objects"):
            make_bucket(url, "nightly")
            store = open_bucket("nightly", patience_s=seconds + 30)
            assert store.put("earlier.json", b"kept")
            upload = pool.submit(store.put_file, "p.records.npz", tmp_path / "f")
            assert third.wait(30), seen
        time.sleep(seconds)
        with fake_gcs(tmp_path, port, tmp_path / "objects"):
            assert upload.result(90) == "gs://nightly/p.records.npz"
            there = objects(url, "nightly")
    assert hashlib.sha256(there.pop("p.records.npz")).hexdigest() == digest
    assert there == {"earlier.json": b"kept"}


def test_a_server_that_is_away_for_20_s_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outage(tmp_path, monkeypatch, 20)


@pytest.mark.slow
def test_a_server_that_is_away_for_60_s_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outage(tmp_path, monkeypatch, 60)


@pytest.mark.slow
def test_a_record_file_of_500_mb_needs_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = big(tmp_path / "f", 500)
    (tmp_path / "objects").mkdir()
    with fake_gcs(tmp_path, objects=tmp_path / "objects") as url:
        make_bucket(url, "nightly")
        script = (
            "import resource, sys; from pathlib import Path; from latency_profile.storage import open_bucket\n"
            "store = open_bucket('nightly')\n"
            "store.put('a', b'x')\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "print(store.put_file('p.records.npz', Path(sys.argv[1])))\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "f")],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "STORAGE_EMULATOR_HOST": url},
        )
        place, grown = done.stdout.split()
        stored = next(path for path in (tmp_path / "objects").rglob("*p.records.npz*") if path.is_file())
        with stored.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    assert place == "gs://nightly/p.records.npz"
    assert int(grown) < 64 * 1024  # KiB


def test_a_refused_upload_is_not_tried_again(gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with flaky(gcs, lambda method, path, number: "before", 403) as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with pytest.raises(StorageError, match=r"no permission \(403\); the file stays on disk") as caught:
            open_bucket(bucket).put("a.json", b"one")
        assert len(seen) == 1
    assert caught.value.exit_code == Exit.NOT_STORED


def test_a_server_that_stays_broken_ends_within_its_patience(
    gcs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flaky(gcs, lambda method, path, number: "before") as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        started = time.monotonic()
        with pytest.raises(StorageError, match="HTTP status 503") as caught:
            open_bucket(bucket, patience_s=5).put("a.json", b"one")
        assert time.monotonic() - started < 30
        assert len(seen) >= 2
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)


def test_the_chunks_of_a_large_file_share_one_patience(
    gcs: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is stored by its second try, within its own 2 s; all together they take many times as long."""
    monkeypatch.setattr("latency_profile.storage.bucket.CHUNK_BYTES", 256 << 10)
    big(tmp_path / "f", 10)
    tries: dict[str, int] = {}

    def every_second(method: str, path: str, number: int) -> str | None:
        tries[method] = tries.get(method, 0) + 1
        return "before" if method == "PUT" and tries[method] % 2 else None

    with flaky(gcs, every_second) as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        began = time.monotonic()
        with pytest.raises(StorageError, match="HTTP status 503"):
            open_bucket(bucket, patience_s=2).put_file("p.records.npz", tmp_path / "f")
        assert time.monotonic() - began < 30
    assert objects(gcs, bucket) == {}


def test_a_server_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    store = open_bucket("some-bucket", patience_s=1)
    started = time.monotonic()
    with pytest.raises(ServerUnavailable, match="cannot reach the bucket gs://some-bucket: no connection"):
        store.check()
    with pytest.raises(StorageError, match=r"cannot store gs://some-bucket/a.json: no connection"):
        store.put("a.json", b"one")
    assert time.monotonic() - started < 30, "a check has a minute"


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latency_profile.storage.bucket.ATTEMPT_TIMEOUT_S", (0.5, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(StorageError, match="no answer in time"):
            open_bucket("some-bucket", patience_s=1).put("a.json", b"one")
        assert time.monotonic() - started < 25, "by itself an attempt has half a minute"


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
