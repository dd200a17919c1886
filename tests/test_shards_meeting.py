"""Shards that meet through a store: who leads, when all start, who is waited for, and what is said of it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest

from latency_profile import point_run
from latency_profile.errors import Exit, ServerUnavailable, UsageError
from latency_profile.interrupt import Interrupt
from latency_profile.points import PlannedPoint
from latency_profile.records import load
from latency_profile.settings import load as settings
from latency_profile.shards import documents, meeting
from latency_profile.shards.command import command
from latency_profile.shards.documents import Start
from latency_profile.shards.meeting import START_LEAD_S, Begin, Meeting, Reopened
from latency_profile.shards.merging import merge_shards
from latency_profile.shards.rounds import Left, left_of
from latency_profile.shards.whole import joined as rejoined
from latency_profile.shards.whole import whole_of
from latency_profile.storage import NotAllowed, Store, open_bucket, open_folder
from latency_profile.storage.folder import Folder
from tests.make_records import uniform_records
from tests.shard_records import cut
from tests.test_shards import assert_same

NS = 1_000_000_000
T = TypeVar("T")
PLAN = {"plan": "ab", "seed": 0}
POINT = PlannedPoint(0, 1.0, None, np.arange(90) * NS, 0, 90, None)


def shard(store: Store, index: int, shards: int = 2, timeout_s: float = 10, **agreement: Any) -> Meeting:
    one = Meeting(store, "run/", index=index, shards=shards, timeout_s=timeout_s)
    one.agreement = {**PLAN, **agreement}
    return one


def together(*calls: Callable[[], T]) -> list[T]:
    """What each gives, called at the same time; raises what the first one raised that raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(60) for future in [pool.submit(call) for call in calls]]


def joined(store: Store, shards: int = 2, **more: Any) -> list[Meeting]:
    found = [shard(store, index, shards, **more) for index in range(shards)]
    together(*(lambda one=one: one.join(f"{one.index:02x}") for one in found))  # type: ignore[misc]
    return found


def hurry(timeout_s: float, *shards: Meeting) -> None:
    """From now on. Who has to be in time for a meeting gets more."""
    for one in shards:
        one.timeout_s = timeout_s


def begun(begin: Begin | None) -> Begin:
    assert begin is not None
    return begin


def test_all_take_the_nonce_of_shard_0_and_keep_it(tmp_path: Path) -> None:
    store = open_folder(tmp_path)
    leader, other = shard(store, 0), shard(store, 1)
    assert together(lambda: other.join("aa"), lambda: leader.join("bb")) == ["bb", "bb"]
    again = shard(store, 0)
    assert again.join("cc") == "bb"
    assert (leader.card.attempt, again.card.attempt, other.card.attempt) == (1, 2, 1)
    assert len({leader.attempt, again.attempt, other.attempt}) == 3


def test_all_start_at_one_moment(tmp_path: Path) -> None:
    store = open_folder(tmp_path)
    before = time.monotonic_ns()
    begins = together(*(lambda one=one: begun(one.meet(0)) for one in joined(store, 3)))  # type: ignore[misc]
    assert max(begin.at_ns for begin in begins) - min(begin.at_ns for begin in begins) < NS // 100
    assert all(begin.late_s == 0 and begin.clock_s is not None for begin in begins)
    assert min(begin.at_ns for begin in begins) > before + (START_LEAD_S - 0.1) * NS
    for begin in begins:
        assert begin.clock_s is not None and begin.clock_s[0] <= 0 <= begin.clock_s[1], "one machine, one clock"


@pytest.mark.parametrize("ahead_s", [-20, 20])
def test_a_clock_that_is_off_is_found_and_taken_into_account(tmp_path: Path, ahead_s: int) -> None:
    """Shard 0's clock is 20 s ahead, or behind."""
    store = open_folder(tmp_path)
    _, other = joined(store)

    def lead() -> int:
        while not store.list("run/point-0/ready-1"):
            time.sleep(0.01)
        now, monotonic = time.time_ns() + ahead_s * NS, time.monotonic_ns()
        start = Start(start_unix_ns=now + 3 * NS, unix_ns=now, seen_ns={0: now, 1: now}, agreement=other.agreement)
        store.create("run/point-0/start.json", msgspec.json.encode(start))
        return monotonic + 3 * NS

    at_ns, begin = together(lead, lambda: begun(other.meet(0)))
    assert isinstance(begin, Begin) and isinstance(at_ns, int)
    assert begin.clock_s is not None and begin.clock_s[0] <= 0 <= begin.clock_s[1]
    width_s = begin.clock_s[1] - begin.clock_s[0]
    assert abs(begin.at_ns - at_ns) / NS <= width_s / 2 + 1e-3 < 5
    assert begin.late_s == 0


def test_who_comes_late_is_told_since_when(tmp_path: Path) -> None:
    store = open_folder(tmp_path)
    leader, other = joined(store)
    hurry(0.5, leader, other)
    said: list[str] = []
    leader.say = said.append
    first = begun(leader.meet(0))
    assert said == ["waiting for shard 1", "shard 1 not there after 0.5 s: the point starts without"]
    time.sleep(START_LEAD_S + 0.3)
    late = begun(other.meet(0))
    assert 0.2 < late.late_s < 10 and late.clock_s is None
    assert abs(late.at_ns - first.at_ns) < NS // 100
    again = shard(store, 0)
    again.join("dd")
    assert abs(begun(again.meet(0)).at_ns - first.at_ns) < NS // 100, "shard 0 that comes back finds its own start"


def test_shards_that_differ_start_nothing(tmp_path: Path) -> None:
    store = open_folder(tmp_path)
    leader, other = joined(store)
    other.agreement = {**PLAN, "seed": 9, "arrival": "gamma"}
    errors = together(*(lambda one=one: refusal(lambda: one.meet(0)) for one in (other, leader)))  # type: ignore[misc]
    for error in errors:
        assert error == ('--shards: shards 1 and 0 are not of one plan: seed: 9 and 0; arrival: "gamma" and nothing')


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    return str(caught.value)


def test_a_shard_without_shard_0_gives_up(tmp_path: Path) -> None:
    lost = shard(open_folder(tmp_path), 1, timeout_s=0.1)
    with pytest.raises(ServerUnavailable, match=r"waited 0\.3 s for shard 0 to come"):
        lost.join("aa")


def test_a_run_id_of_other_shards_is_refused(tmp_path: Path) -> None:
    store = open_folder(tmp_path)
    shard(store, 0, 3).join("aa")
    with pytest.raises(UsageError, match="--shards: got 2, takes the 3 that this run id was begun with"):
        shard(store, 1).join("aa")


def test_a_store_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    class WriteOnly(Folder):
        def get(self, name: str) -> bytes | None:
            raise NotAllowed("cannot read gs://b/x: no permission (403)")

    with pytest.raises(UsageError, match=r"may not read or list there .*roles/storage\.objectUser"):
        shard(WriteOnly(tmp_path), 0).join("aa")


def test_a_signal_ends_the_waiting(tmp_path: Path) -> None:
    leader, _ = joined(open_folder(tmp_path))
    leader.stopped = lambda: True
    assert leader.meet(0) is None


def hand_over(store: Store, folder: Path) -> None:
    """A point of three shards, of which each hands in its records, and shard 0 makes the whole."""
    whole = uniform_records(90)
    shards = joined(store, 3)
    together(*(lambda one=one: begun(one.meet(0)) for one in shards))  # type: ignore[misc]
    parts = cut(whole, 3)
    assert not any(one.handed_in(0) for one in shards)
    found = together(*(lambda one=one: whole_of(one, parts[one.index], folder) for one in shards))  # type: ignore[misc]
    assert found[1:] == [None, None]
    assert found[0] is not None
    assert_same(found[0], whole)
    left = [left_of(one, POINT, folder) for one in shards]
    assert left == [Left.JOIN, Left.NOTHING, Left.NOTHING], "shard 0 has still to judge it"
    shards[0].merged(0, Start(start_unix_ns=0, unix_ns=0, seen_ns={}, agreement={}))
    assert shards[0].judged(0) and not shards[0].judged(1)
    assert not list(folder.rglob("*.npz")) or folder == Path(store.place(""))


def stopped(one: Meeting) -> Meeting:
    one.stopped = lambda: True
    return one


def test_what_was_not_stored_is_handed_in_by_the_next_attempt(tmp_path: Path) -> None:
    store = open_folder(tmp_path / "store")
    shards = joined(store, 2)
    nonce = shards[1].nonce(0)
    together(*(lambda one=one: begun(one.meet(0)) for one in shards))  # type: ignore[misc]
    whole = uniform_records(90)
    whole.context.nonce = nonce
    stump, complete = cut(whole, 2)[1], cut(whole, 2)[1]
    stump.context.cut_short = "SIGTERM"
    again = shard(store, 1)
    again.join("ee")
    stump.save(tmp_path / "shard-1-a.records.npz")
    assert left_of(again, POINT, tmp_path) is Left.SEND, "a stump is no reason not to send the rest"
    complete.context.point = 1
    complete.save(tmp_path / "shard-1-b.records.npz")
    assert left_of(again, POINT, tmp_path) is Left.SEND
    complete.context.point = 0
    complete.save(tmp_path / "shard-1-b.records.npz")
    assert left_of(again, POINT, tmp_path) is Left.NOTHING
    assert_same(load(tmp_path / "store" / "run" / documents.records_name(0, 1)), complete)
    assert [path.name for path in tmp_path.glob("*.npz")] == ["shard-1-a.records.npz"]


def test_a_start_that_cannot_be_read_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the slice of shard 0 would be published as the point."""
    monkeypatch.setattr(point_run, "spell", lambda *_: None)
    monkeypatch.setattr(point_run, "note_taker", lambda *_: None)
    monkeypatch.setattr(point_run, "_looker", lambda *_: None)
    workload = SimpleNamespace(requests=lambda *_: [])
    bench: Any = SimpleNamespace(
        folder=tmp_path, chunks=None, workload=workload, chosen=None, models=(), when_spelled=lambda: None
    )
    nobody: Any = SimpleNamespace(meet=lambda _: None)
    none: Any = None
    run = point_run.run_point(bench, POINT, none, Interrupt(), none, none, nobody)
    with pytest.raises(ServerUnavailable, match="the start of point 1 is not to be read"), run:
        pass


def test_of_two_pods_of_one_shard_the_first_goes(tmp_path: Path) -> None:
    store = open_folder(tmp_path)
    shards = joined(store)
    said: list[str] = []
    shards[1].say = said.append
    again = shard(store, 1)
    again.join("ee")
    with pytest.raises(ServerUnavailable, match="--shard-index: shard 1 was started again"):
        left_of(shards[1], POINT, tmp_path)
    assert left_of(again, POINT, tmp_path) is Left.SEND
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    again.hand_in(0, tmp_path / "a")
    assert not said
    shards[1].hand_in(0, tmp_path / "b")
    assert len(said) == 1 and said[0].startswith("another pod has handed in records of shard 1: these are ")


def test_a_signal_while_records_are_on_their_way_judges_nothing(tmp_path: Path) -> None:
    """The restart gathers them."""
    store = open_folder(tmp_path / "store")
    shards = joined(store, 2)
    together(*(lambda one=one: begun(one.meet(0)) for one in shards))  # type: ignore[misc]
    hurry(0.2, *shards)
    parts = cut(uniform_records(90), 2)
    assert whole_of(stopped(shards[0]), parts[0], tmp_path) is None
    assert whole_of(shards[1], parts[1], tmp_path) is None
    again = shard(store, 0)
    again.join("ee")
    assert left_of(again, POINT, tmp_path) is Left.JOIN
    whole = rejoined(again, 0, tmp_path)
    assert whole is not None
    assert_same(whole, uniform_records(90))
    again.merged(0, Start(start_unix_ns=0, unix_ns=0, seen_ns={}, agreement={}))
    assert left_of(again, POINT, tmp_path) is Left.JOIN, "judged, and not in the index: judged again"


def test_a_shard_0_that_comes_back_too_late_begins_the_point_again(tmp_path: Path) -> None:
    store = open_folder(tmp_path)
    shards = joined(store)
    together(*(lambda one=one: begun(one.meet(0)) for one in shards))  # type: ignore[misc]
    again = shard(store, 0)
    again.join("ee")
    assert left_of(again, POINT, tmp_path) is Left.SEND
    assert again.round(0) == 1, "there is something left to send"
    past = PlannedPoint(0, 1.0, None, np.zeros(90, dtype=np.int64), 0, 90, None)
    time.sleep(START_LEAD_S + 0.6)
    assert left_of(again, past, tmp_path) is Left.SEND
    assert again.round(0) == 2 and again.nonce(0) != shards[1].nonce(0)
    with pytest.raises(Reopened) as caught:
        shards[1].meet(1)  # as it waits for the next point
    assert caught.value.point == 0
    assert left_of(shards[1], past, tmp_path) is Left.SEND
    assert shards[1].nonce(0) == again.nonce(0)
    begins = together(*(lambda one=one: begun(one.meet(0)) for one in (again, shards[1])))  # type: ignore[misc]
    assert all(begin.late_s == 0 for begin in begins)


def test_documents_are_looked_for_in_their_folder_first(tmp_path: Path) -> None:
    """On NFS a name that was looked for in vain stays absent; and one may be there before its bytes are."""
    asked: list[str] = []

    class Nfs(Folder):
        def get(self, name: str) -> bytes | None:
            assert name in self.list(name), "a look in vain would be remembered"
            asked.append(name)
            data = super().get(name)
            return data[:-20] if data and len(asked) == 1 else data

    shards = [shard(Nfs(tmp_path), index) for index in range(2)]
    together(*(lambda one=one: one.join("ab") for one in shards[::-1]))  # type: ignore[misc]
    assert len(asked) >= 3, "the first one was half a document"
    together(*(lambda one=one: begun(one.meet(0)) for one in shards))  # type: ignore[misc]


def test_records_are_handed_in_through_a_folder(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    hand_over(open_folder(tmp_path / "store"), tmp_path / "own")
    parts = [load(tmp_path / "store" / "run" / documents.records_name(0, index)) for index in range(3)]
    assert_same(merge_shards(parts), uniform_records(90))


def test_records_are_handed_in_through_a_bucket(bucket: str, tmp_path: Path) -> None:
    hand_over(open_bucket(bucket, "nightly"), tmp_path)
    assert command([f"gs://{bucket}/nightly/run/point-0", "-o", str(tmp_path / "hand")]) == Exit.DONE
    (path,) = (tmp_path / "hand").glob("*.records.npz")
    assert_same(load(path), uniform_records(90))


def test_a_shard_whose_records_do_not_come_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_folder(tmp_path)
    shards = joined(store, 3)
    together(*(lambda one=one: begun(one.meet(0)) for one in shards))  # type: ignore[misc]
    hurry(0.3, *shards)
    parts = cut(uniform_records(90), 3)
    said: list[str] = []
    shards[0].say = said.append
    assert whole_of(shards[1], parts[1], tmp_path) is None
    whole = whole_of(shards[0], parts[0], tmp_path)
    assert whole is not None and [part.index for part in whole.context.parts] == [0, 1]
    assert said == ["no records of shard 2 after 0.3 s: merged without"]
    hurry(30, *shards)
    began = time.monotonic()
    begun(shards[0].meet(1) if _ready(shards[1], 1) else None)
    assert time.monotonic() - began < 15, "who was lost is not waited for again"
    monkeypatch.setattr(meeting, "PATIENCE_AFTER_SIGNAL_S", 0.1)
    slow = shard(store, 0, 3, timeout_s=60)
    slow.stopped = lambda: True
    began = time.monotonic()
    slow.gather(0, tmp_path)
    assert time.monotonic() - began < 20, "after a signal there is no time to wait"


def _ready(one: Meeting, point: int) -> bool:
    """The shard waits for that point to start, in a thread."""
    threading.Thread(target=lambda: one.meet(point), daemon=True).start()
    while not one._papers.there(documents.ready_name(point, one.index)):
        time.sleep(0.01)
    return True


COMMON = ["--host=h", "--use-dummy-text", "--tokenizer=bundled", "--models=m", "--save-json-results"]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--shards=3"], "--shards: got 3, takes --shard-index (or JOB_COMPLETION_INDEX) beside it"),
        (["--shards=3", "--shard-index=3"], "--shard-index: got 3, takes a number below the 3 of --shards"),
        (["--shard-index=1"], "--shard-index: got 1, takes a number below the 1 of --shards"),
        (
            ["--shards=3", "--shard-index=0"],
            "--shards: got 3, takes --run-id beside it: shards meet in the results' store",
        ),
        (["--shards=3", "--shard-index=0", "--run-id=a", "--calibrate"], "--calibrate: got True, takes no --shards"),
        (
            ["--shards=3", "--shard-index=0", "--run-id=a", "--concurrencies=4,2"],
            "--shards: got 3, takes at most the 2",
        ),
        (["--shards=3", "--shard-index=0", "--run-id=a", "--tcp-conn-limit=2"], "--tcp-conn-limit: got 2, takes 3 or"),
        (["--shards=3", "--shard-index=0", "--run-id=a", "--no-resume"], "--no-resume: got False, takes no --shards"),
        (
            ["--shards=3", "--shard-index=0", "--run-id=a", "--output-url=sftp://h/a"],
            "--output-url: got 'sftp://h/a', takes gs:// or s3:// or a folder beside --shards",
        ),
        (["--shard-timeout=5"], "--shard-timeout: got 5, takes effect only with --shards of 2 or more"),
    ],
)
def test_what_shards_take(flags: list[str], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings([*COMMON, *flags], {})
    assert str(caught.value).startswith(line)


def test_the_index_is_the_pods_own() -> None:
    flags = [*COMMON, "--shards=3", "--run-id=a"]
    assert settings(flags, {"JOB_COMPLETION_INDEX": "2"}).shard_index == 2
    assert settings([*flags, "--shard-index=1"], {"JOB_COMPLETION_INDEX": "2"}).shard_index == 1
    assert settings(COMMON, {"JOB_COMPLETION_INDEX": "2"}).shard_index is None, "an Indexed Job of one"
    with pytest.raises(UsageError, match=r"--shard-index \(environment variable JOB_COMPLETION_INDEX\): got 'x'"):
        settings(flags, {"JOB_COMPLETION_INDEX": "x"})
