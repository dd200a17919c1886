"""What a point has measured is stored while it runs, and records are made of it where the client is lost."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest

from benchmarks.truth import simulator
from latency_profile import records
from latency_profile.chunks import follow
from latency_profile.chunks.blot import SHORTEST_BEGINNING
from latency_profile.chunks.follow import Growing
from latency_profile.chunks.recover import LOST, secrets_again
from latency_profile.chunks.structure import ASKED, NOTE, Note, part_name, part_of_name
from latency_profile.cli import main
from latency_profile.errors import UsageError
from latency_profile.records import NONE, Records, Status
from latency_profile.sender.spool import HEADER, Kind, replay
from tests.make_records import uniform_records
from tests.servers.fake_gcs import flaky, listed, objects
from tests.tool import benchmark, called, command, environment, point_files, read_point

SECRET = "sk-abc-secret"
SECRETS = (f"Bearer {SECRET}", SECRET, "other-secret")  # the longest first


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_the_spool_without_its_secrets(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever reads, the writer and the parts are cut, and whoever is read in between."""
    random = Random(seed)
    monkeypatch.setattr(follow, "LARGEST_PART", random.randint(64 + HEADER.size, 400))
    answers = {request: answer(random) for request in range(5)}
    entries, sent = [], dict.fromkeys(answers, 0)
    while open_requests := [request for request, text in answers.items() if sent[request] < len(text)]:
        request = random.choice(open_requests)
        at = sent[request]
        read = answers[request][at : at + random.randint(16, 64)]
        sent[request] += len(read)
        entries.append(HEADER.pack(Kind.READ, 0, 0, request, 1, 2, len(read)) + read)
    whole = b"".join(entries)
    path, stored, at = tmp_path / "spool-0", b"", 0
    growing = Growing(path, list(SECRETS))
    while at < len(whole):
        step = random.randint(1, 300)
        with path.open("ab") as file:
            file.write(whole[at : at + step])
        at += step
        while data := growing.next():
            with path.open("ab") as file:  # a try that failed, and the senders went on
                file.write(whole[at : at + 1])
            at += 1
            assert growing.next() == data  # until it is taken
            assert len(data) <= follow.LARGEST_PART
            growing.taken()
            stored += data
    assert growing.next() == b""
    assert len(stored) == len(whole)
    (tmp_path / "stored").write_bytes(stored)
    for request, text in answers.items():
        found = b"".join(e.data for e in replay(tmp_path / "stored") if e.kind == Kind.READ and e.request == request)
        assert len(found) == len(text)
        assert all(ours in (theirs, ord("*")) for ours, theirs in zip(found, text, strict=True))
        for secret in SECRETS[1:]:
            pieces = {secret[at : at + SHORTEST_BEGINNING].encode() for at in range(len(secret) - 3)}
            assert not [piece for piece in pieces if piece in found]
        secrets = re.findall("|".join(SECRETS), text.decode())
        assert found.count(b"*") <= sum(map(len, secrets))


def answer(random: Random) -> bytes:
    words = [*SECRETS, "The quick, brown. ", "0123 ", "{}"]
    return "".join(random.choice(words) for _ in range(30)).encode()


def test_what_only_began_like_a_secret_is_blotted_no_further(tmp_path: Path) -> None:
    path = tmp_path / "spool-0"
    reads = [(1, b"a sk-ab"), (2, b"c-secret"), (1, b"solute"), (1, b"c-secret")]
    path.write_bytes(b"".join(HEADER.pack(Kind.READ, 0, 0, request, 1, 2, len(r)) + r for request, r in reads))
    data = Growing(path, [SECRET]).next()
    (tmp_path / "stored").write_bytes(data)
    assert [e.data for e in replay(tmp_path / "stored")] == [b"a *****", b"c-secret", b"solute", b"c-secret"]


def test_an_entry_that_is_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "spool-0"
    entry = HEADER.pack(Kind.READ, 0, 0, 1, 1, 2, 5) + b"hello"
    path.write_bytes(entry + entry[:-1])
    growing = Growing(path, [])
    assert growing.next() == entry
    growing.taken()
    assert growing.next() == b""
    with path.open("ab") as file:
        file.write(entry[-1:])
    assert growing.next() == entry


def test_parts_are_known_by_their_names() -> None:
    assert part_of_name(part_name(3, 12)) == (3, 12)
    assert part_of_name(part_name(0, 123456)) == (0, 123456)
    assert part_of_name("spool-3") is None
    assert part_of_name("a/spool-3.part-0001") is None


def test_what_a_run_kept_out_of_its_messages_recover_keeps_out_too(tmp_path: Path) -> None:
    recorded = {"api_key_env": "KEY", "api_key_file": None, "header": ["X-Team: (not shown)", "X-Other: (not shown)"]}
    environ = {"KEY": "sk-abcdef", "LATENCY_PROFILE_HEADER": "x-team: Bearer team-secret"}
    secrets, missing = secrets_again(recorded, environ)
    assert secrets == ("Bearer team-secret", "team-secret", "sk-abcdef")
    assert missing == ["the header X-Other (LATENCY_PROFILE_HEADER)"]
    (tmp_path / "key").write_text("sk-of-a-file\n")
    recorded |= {"header": [], "api_key_file": str(tmp_path / "key")}
    assert secrets_again(recorded, {"KEY": "sk-abcdef"}) == (("sk-of-a-file",), [])
    (tmp_path / "key").unlink()
    assert secrets_again(recorded, {}) == ((), [f"--api-key-file={tmp_path / 'key'}"])
    with pytest.raises(UsageError, match="LATENCY_PROFILE_HEADER: got a value that is not shown"):
        secrets_again(recorded, {"LATENCY_PROFILE_HEADER": "nonsense"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with simulator("--fixed-timing", "50,10") as number:
        yield number


def flags(port: int, folder: Path, bucket: str, *more: str) -> list[str]:
    asked = ["--host=127.0.0.1", f"--port={port}", "--tokenizer=bundled", "--input-len=24", "--output-len=20"]
    asked += ["--stream-request", "--save-json-results", "--run-id=night", f"--output-bucket={bucket}"]
    return [*asked, f"--output-dir={folder}", *more]


def by_index(rows: Records) -> dict[int, dict[str, int]]:
    """Rows of requests that had been answered, without what is counted by a tokenizer afterwards."""
    good = np.flatnonzero(rows["status"] == Status.OK)
    return {
        int(rows["index"][row]): {
            name: int(column[row]) for name, column in rows.columns.items() if name != "text_tokens"
        }
        for row in good
    }


def recovered(where: str, folder: Path) -> Records:
    done = called(main, "recover", where, str(folder))
    assert done.returncode in (0, 4), done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"Exit code {done.returncode}.")
    (path,) = folder.glob("*.records.npz")
    return records.load(path)


def test_what_a_killed_run_had_stored_becomes_records(port: int, tmp_path: Path, gcs: str, bucket: str) -> None:
    arguments = flags(port, tmp_path, bucket, "--request-rate=40", "--benchmark-time-seconds=120")
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(
        command(*arguments), env=environment(), stdout=nowhere, stderr=nowhere, start_new_session=True
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and not any(name.endswith("0002") for name in listed(gcs, bucket)):
            time.sleep(0.2)
        time.sleep(1.0)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # as the node's end does: the process that stores parts dies with it
        process.wait()
    names = list(listed(gcs, bucket))
    (first,) = [name for name in names if name.endswith("spool-0.part-0001")]
    point = f"gs://{bucket}/{first.rpartition('/')[0]}"
    stored = recovered(point, tmp_path / "from-bucket")
    (left,) = (tmp_path / "night").glob(".point-0-*")
    whole = recovered(str(left), tmp_path / "from-disk")
    there, all_of_it = by_index(stored), by_index(whole)
    assert len(there) > 100
    assert there == {number: all_of_it[number] for number in there}
    assert len(there) > len(all_of_it) / 3  # without the last seconds: parts are five apart, and two were there
    for rows in (stored, whole):
        assert rows.context.cut_short == LOST
        assert set(rows["status"].tolist()) <= {Status.OK, Status.CANCELLED, Status.NOT_SENT}
        in_flight = rows["status"] == Status.CANCELLED
        assert (rows["sent_ns"][in_flight] != NONE).all()
        assert (rows["due_ns"] < rows.context.measured_ns).mean() > 0.99
    (made,) = point_files(tmp_path / "from-bucket")
    result = read_point(made)
    assert result["cut_short"] == LOST
    assert result["metrics"]["num_prompts_succeeded"] == len(there)


def test_the_records_of_a_whole_point_take_the_place_of_its_parts(
    port: int, tmp_path: Path, gcs: str, bucket: str
) -> None:
    with flaky(gcs, lambda method, path, number: None) as (url, seen):
        done = benchmark(
            *flags(port, tmp_path, bucket, "--request-rate=20", "--benchmark-time-seconds=12"),
            STORAGE_EMULATOR_HOST=url,
        )
    assert done.returncode in (0, 4), done.stderr
    assert any(line.startswith("DELETE") and "part-0001" in line for line in seen), seen
    there = objects(gcs, bucket)
    assert [name for name in there if "point-0/" in name] == []
    (kept,) = (tmp_path / "night").glob("*.records.npz")
    assert there[f"night/{kept.name}"] == kept.read_bytes()
    (point,) = json.loads(there["night/index.json"])["points"]
    assert (point["state"], point["parts"], point["parts_superseded"]) == ("done", None, True)


def test_where_parts_may_not_be_removed_the_index_says_that_they_are_superseded(
    port: int, tmp_path: Path, gcs: str, bucket: str
) -> None:
    with flaky(gcs, lambda method, path, number: "before" if method == "DELETE" else None, 403) as (url, _):
        done = benchmark(
            *flags(port, tmp_path, bucket, "--request-rate=20", "--benchmark-time-seconds=12"),
            STORAGE_EMULATOR_HOST=url,
        )
    assert done.returncode in (0, 4), done.stderr
    there = objects(gcs, bucket)
    (point,) = json.loads(there["night/index.json"])["points"]
    assert point["parts_superseded"]
    assert [name for name in there if name.startswith(point["parts"]) and "part-0001" in name]
    assert "could not be stored" not in done.stderr


def test_a_point_that_cannot_be_recovered_says_what_it_lacks(tmp_path: Path) -> None:
    done = called(main, "recover", str(tmp_path))
    assert done.returncode == 2
    assert "it has no point.json, asked.npz, bounds, bodies" in done.stderr
    (tmp_path / "night" / ".point-1-x").mkdir(parents=True)
    done = called(main, "recover", str(tmp_path))
    assert f"there are points in {tmp_path}/night/.point-1-x" in done.stderr


def test_what_a_lost_point_left_and_is_not_whole_is_named(tmp_path: Path) -> None:
    """A rate without its plan would be judged as a closed loop."""
    context = uniform_records(40).context
    context.concurrency = None
    note = msgspec.json.encode(Note(context=context, start_ns=0))
    left = tmp_path / "left"
    left.mkdir()
    for name in ("bounds", "bodies", "spool-0"):
        (left / name).touch()

    def refused(name: str, why: str) -> None:
        done = called(main, "recover", str(left), str(tmp_path / "to"))
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert f"its {name} is not whole" in done.stderr or f"it has no {name}" in done.stderr
        assert why in done.stderr and not (tmp_path / "to").exists()

    (left / ASKED).write_bytes(b"PK")
    for data in (b"", note[: len(note) // 2], note.replace(b'"urls"', b'"places"'), b"\xff" + note):
        (left / NOTE).write_bytes(data)
        refused(NOTE, "is not whole, or of another version")
    (left / NOTE).write_bytes(note)
    for data in (b"", b"PK", b"junk"):
        (left / ASKED).write_bytes(data)
        refused(ASKED, "is not whole, or of another version")
    np.savez(left / ASKED, allow_pickle=False, wanted_tokens=np.ones(3, dtype=np.int64))
    refused("plan", "it has no plan")
    np.zeros(2, dtype=np.int64).tofile(left / "plan")
    refused("plan", "is not whole, or of another version")
