"""One plan over many pods: its slices, the clocks, the join of the records, and what the verdict makes of shards."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_profile import measures, results
from latency_profile.cli import main
from latency_profile.client_health import turnaround_ns
from latency_profile.errors import Exit
from latency_profile.plan import NS
from latency_profile.points import PlannedPoint
from latency_profile.records import Records, Status, load
from latency_profile.sender.job import Point
from latency_profile.sender.shard import Shard
from latency_profile.shards.clock import bounds_s, correction_s, error_s
from latency_profile.shards.meeting import Begin
from latency_profile.shards.merging import NotOnePoint, merge_shards
from latency_profile.shards.parts import alone
from latency_profile.shards.slicing import first_of
from latency_profile.verdict import Kind, judge
from latency_profile.verdict.kinds import Name
from tests.make_records import make_records, uniform_records
from tests.shard_records import chosen, cut

LENGTH = 900  # requests


def whole_records(**context: Any) -> Records:
    """Steady, of answers with 0 to 6 events each, from a client of one process that told of itself."""
    rng = np.random.default_rng(7)
    due = np.arange(LENGTH) / 10
    counts = rng.integers(0, 7, LENGTH)
    times = [at + 0.1 + np.sort(rng.uniform(0, 0.2, count)) for at, count in zip(due, counts, strict=True)]
    client = {"processes": 1, "reads": 100, "longest_turn_s": 0.001, "cpu_s": 0.5, "error_samples": {}}
    return make_records(due, due + 0.0005, times, due + 0.4, client=client, duration_s=LENGTH / 10, **context)


# -- slicing --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 60), st.integers(0, 70))
def test_pods_and_their_processes_have_every_request_once(pods: int, processes: int, prompts: int, first: int) -> None:
    """Request k belongs to pod k mod P, whatever number of processes each pod has."""
    taken: list[int] = []
    for pod in range(pods):
        point = PlannedPoint(0, 1.0, None, None, 0, prompts, None, pod, pods)
        own: list[int] = []
        for number in range(point.shards(processes, 0, 1)):
            whole = point.shards(processes, 0, 1) * pods
            indexes = range(pod + number * pods, prompts, whole)
            own += indexes[len(range(pod + number * pods, first, whole)) :]
        assert all(index % pods == pod for index in own)
        taken += own
    assert sorted(taken) == list(range(min(first, prompts), prompts))


def test_a_sender_begins_with_the_first_request_that_it_is_given(tmp_path: Path) -> None:
    np.arange(0, 44, 4, dtype=np.int64).tofile(tmp_path / "bounds")
    (np.arange(10, dtype=np.int64) * 7).tofile(tmp_path / "plan")
    (tmp_path / "bodies").write_bytes(b"".join(b"%04d" % number for number in range(10)))
    point = Point(
        targets=[],
        paths=[],
        bodies=str(tmp_path / "bodies"),
        bounds=str(tmp_path / "bounds"),
        plan=str(tmp_path / "plan"),
        spool="",
        request_id="",
        shard=1,
        shards=3,
        first=5,
        timeout_ns=1,
        ahead=1,
    )
    shard = Shard(point)
    assert shard.next_due_ns == 7 * 7, "of 1, 4, 7 the first from 5 on"
    assert shard.due_ns(4) == 4 * 7


@pytest.mark.parametrize(
    ("concurrency", "prompts", "limit", "urls", "processes"),
    [
        (None, 100, 0, 1, 4),
        (7, 100, 0, 1, 2),  # 7 clients for 3 pods: 2 for the last
        (3, 100, 0, 1, 1),
        (None, 4, 0, 1, 1),
        (None, 100, 6, 1, 2),  # 6 connections for 3 pods
        (None, 100, 6, 2, 2),  # each process has requests for one of two URLs
        (None, 100, 6, 4, 1),  # for two of four
    ],
)
def test_no_process_of_a_pod_without_something_to_send(
    concurrency: int | None, prompts: int, limit: int, urls: int, processes: int
) -> None:
    point = PlannedPoint(0, None, concurrency, None, 0, prompts, None, 1, 3)
    assert point.shards(4, limit, urls) == processes


def test_a_late_shard_goes_on_where_the_plan_is() -> None:
    due = np.arange(100, dtype=np.int64) * NS // 10
    rate = PlannedPoint(0, 10.0, None, due, 0, 100, None, 1, 3)
    assert first_of(rate, Begin(0, 0.0, None)) == 0
    assert first_of(rate, Begin(0, 0.4, None)) == 0, "sent late, and measured"
    assert first_of(rate, Begin(0, 4.0, None)) == 50, "and what falls due while it opens connections"
    assert first_of(rate, Begin(0, 60.0, None)) == 100
    burst = PlannedPoint(0, math.inf, None, np.zeros(100, dtype=np.int64), 0, 100, None, 1, 3)
    closed = PlannedPoint(0, None, 8, None, 0, 100, None, 1, 3)
    assert [first_of(point, Begin(0, 4.0, None)) for point in (burst, closed)] == [100, 100]
    assert [first_of(point, Begin(0, 0.4, None)) for point in (burst, closed)] == [0, 0]


# -- clocks ---------------------------------------------------------------------------------------------------------


@given(st.floats(-5, 5), st.floats(0, 2), st.floats(0, 2))
def test_clocks_lie_within_what_documents_tell(ahead_s: float, first_delay_s: float, second_delay_s: float) -> None:
    """Shard 0's clock is `ahead_s` ahead; each document takes its time until it is seen."""
    ahead, first, second = (round(value * NS) for value in (ahead_s, first_delay_s, second_delay_s))
    written = 1_700_000_000 * NS
    seen = written + first + ahead
    started = seen + NS
    read = written + first + NS + second
    known = bounds_s(written, seen, started, read)
    assert known[0] - 1e-6 <= ahead / NS <= known[1] + 1e-6
    assert known[1] - known[0] == pytest.approx((first + second) / NS, abs=1e-6), "as wide as both ways together"
    corrected = correction_s(known)
    assert abs(ahead / NS - corrected) <= error_s((known[0] - corrected, known[1] - corrected)) + 1e-6
    if known[0] > 1e-6 or known[1] < -1e-6:
        assert abs(ahead / NS - corrected) <= (known[1] - known[0]) / 2 + 1e-6
    elif known[0] < -1e-6 and known[1] > 1e-6:  # at the ends a nanosecond decides
        assert corrected == 0, "clocks that may agree are left alone"


# -- joining --------------------------------------------------------------------------------------------------------


def assert_same(one: Records, other: Records) -> None:
    for name in other.columns:
        assert np.array_equal(one[name], other[name]), name
        assert one[name].dtype == other[name].dtype, name
    assert np.array_equal(one.event_start, other.event_start)
    assert np.array_equal(one.event_ns, other.event_ns)
    assert np.array_equal(one.event_tokens, other.event_tokens)


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_the_whole_is_the_union_of_its_shards(shards: int, tmp_path: Path) -> None:
    whole = whole_records()
    parts = cut(whole, shards)[::-1]
    for number, one in enumerate(parts):
        one.save(tmp_path / f"{number}.npz")
    merged = merge_shards([load(tmp_path / f"{number}.npz") for number in range(shards)])
    assert_same(merged, whole)
    assert [part.index for part in merged.context.parts] == list(range(shards))
    assert merged.context.client["reads"] == 100 * shards
    assert merged.context.client["longest_turn_s"] == 0.001
    one, other = results.point_result(merged), results.point_result(whole)
    for name in ("metrics", "summary_stats", "window", "throughput", "latency", "stalls", "tokens"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.load.shards is not None and one.load.shards.missing == [] and other.load.shards is None
    assert msgspec.structs.replace(one.load, shards=None) == other.load
    again = results.point_files(merged)
    merged.save(tmp_path / "merged.npz")
    assert results.point_files(load(tmp_path / "merged.npz")) == again, "a pure function of the merged records"


def test_the_shards_that_are_there_are_joined_without_the_others() -> None:
    whole = whole_records()
    merged = merge_shards([one for index, one in enumerate(cut(whole, 3)) if index != 1])
    assert_same(merged, chosen(whole, whole["index"] % 3 != 1))


def test_what_is_of_other_points_is_not_joined() -> None:
    parts = cut(whole_records(), 2)
    with pytest.raises(NotOnePoint, match="nonce abc, dd"):
        merge_shards([parts[0], *cut(whole_records(nonce="dd"), 2)[1:]])
    with pytest.raises(NotOnePoint, match="not of one plan"):
        merge_shards([parts[0], cut(whole_records(), 3)[1]])
    with pytest.raises(NotOnePoint, match="there twice: 0, 0"):
        merge_shards([parts[0], parts[0]])
    with pytest.raises(NotOnePoint, match="no records of one shard"):
        merge_shards([whole_records()])


# -- the verdict ----------------------------------------------------------------------------------------------------


def test_all_shards_there_and_healthy_is_no_reason() -> None:
    verdict = judge(merge_shards(cut(whole_records(), 3)))
    assert verdict.verdict is Kind.VALID, verdict.reasons
    assert not [remark for remark in verdict.remarks if remark.name is Name.SHARDS]


def test_a_missing_shard_is_a_share_that_was_not_offered() -> None:
    merged = merge_shards(cut(whole_records(), 3)[:2])
    verdict = judge(merged)
    assert verdict.verdict is Kind.CLIENT_LIMITED
    assert verdict.reasons[0].startswith("Shard 2 of 3 is missing: 33.3% of the plan")
    found = results.point_result(merged).load.shards
    assert found is not None and (found.present, found.missing) == ([0, 1], [2])
    assert found.missing_share == pytest.approx(1 / 3)


@pytest.mark.parametrize(("left", "kind"), [(6, Kind.VALID), (30, Kind.CLIENT_LIMITED)])
def test_a_shard_that_came_back_is_named(left: int, kind: Kind) -> None:
    """It left out the first `left` of its 300 requests, of 900: under a hundredth of the plan is a remark."""
    whole = whole_records()
    out = (whole["index"] % 3 == 1) & (whole["index"] < 3 * left)
    whole.columns["status"][out] = Status.NOT_SENT
    for name in ("sent_ns", "end_ns", "first_token_ns", "last_token_ns"):
        whole.columns[name][out] = -1
    merged = merge_shards(cut(whole, 3, {1: {"attempt": 2, "late_s": 3.0, "left_out": left}}))
    found = results.point_result(merged).load.shards
    assert found is not None and found.not_sent == {1: left} and found.restarted == {1: 2} and found.late == {1: 3.0}
    verdict, load = judge(merged), results.point_result(merged).load
    assert load.lateness is not None and load.lateness.max_s < 0.001
    assert load.counts.not_sent == left
    assert not any("sent late" in reason for reason in verdict.reasons), "nobody was to send these any more"
    words = f"Shard 1 of 3 was restarted (attempt 2) and went on 3.0 s after the start{{}} {left} of its 300 requests"
    if kind is Kind.VALID:
        assert next(remark.text for remark in verdict.remarks if remark.name is Name.SHARDS).startswith(
            words.format(";")
        )
        assert not any("Shard" in reason for reason in verdict.reasons)
    else:
        assert verdict.verdict is Kind.CLIENT_LIMITED
        assert verdict.reasons[0].startswith(words.format(":"))


def test_one_bad_client_of_three_is_enough() -> None:
    """Its requests are 13 ms late in 1 of 50: 1 of 150 of the whole, which its percentiles do not show."""
    whole = whole_records()
    late = (whole["index"] % 3 == 1) & (whole["index"] // 3 % 50 == 0)
    whole.columns["sent_ns"][late] += 13_000_000
    verdict = judge(merge_shards(cut(whole, 3)))
    assert verdict.verdict is Kind.CLIENT_LIMITED
    assert [reason.partition(": ")[0] for reason in verdict.reasons] == ["Shard 1 of 3"]
    assert "the p99 of its lateness is 13.5 ms" in verdict.reasons[0]
    assert judge(whole).verdict is Kind.VALID, "one client with as many late requests"


def test_a_client_without_cpu_is_judged_by_its_own_machine() -> None:
    use = {"seconds": 90.0, "cpus": 2, "cgroup": None, "limit_cores": None, "periods": 0, "throttled_periods": 0}
    use |= {"throttled_s": 0.0, "cgroup_cpu_s": None, "parent_cpu_s": 0.1, "waited_s": None, "stolen_s": None}
    use |= {"machine_cpu_s": None, "machine_cpus": None}
    parts = cut(closed_records(), 3)
    for number, one in enumerate(parts):
        share = 0.95 if number == 2 else 0.2
        one.context.client = {"cpu_s": 90 * share, "sender_core_shares": [share], "processor": use}
    verdict = judge(merge_shards(parts))
    assert verdict.verdict is Kind.CLIENT_LIMITED
    assert verdict.reasons[0].startswith(
        "Shard 2 of 3: The client had no CPU left: a sender process used 95% of a core"
    )
    assert len(verdict.reasons) == 1


def closed_records() -> Records:
    """A closed loop of 7 clients, each of whose requests takes 1 s; the next goes 2 ms later."""
    turns = np.arange(60)
    sent = np.concatenate([1.002 * turns + 0.01 * client for client in range(7)])
    order = np.argsort(sent)
    client = np.repeat(np.arange(7), 60)[order]
    # Client c's k-th request has an index of c's shard: c mod 3, in the order in which that shard sends.
    index = np.empty(len(order), dtype=np.int64)
    for shard in range(3):
        own = client % 3 == shard
        index[own] = shard + 3 * np.arange(own.sum())
    by_index = np.argsort(index)
    times = sent[order][by_index]
    return make_records(
        np.full(len(times), -1.0),
        times,
        [[at + 0.5] for at in times],
        times + 1,
        columns={"index": index[by_index], "worker": index[by_index] % 3},
        concurrency=7,
        request_rate=None,
        duration_s=60.0,
    )


def test_turnaround_is_of_each_pods_own_places() -> None:
    """7 clients over 3 pods of one process each: 3, 2 and 2 places, of the whole as of each shard."""
    merged = merge_shards(cut(closed_records(), 3))
    span = measures.window(merged)
    assert np.unique(turnaround_ns(merged, span)).tolist() == pytest.approx([2_000_000], abs=2)
    for shard in merged.context.parts:
        only, own = alone(merged, span, shard)
        found = turnaround_ns(only, own)
        assert len(found) and np.allclose(found, 2_000_000, atol=2)


def test_a_whole_is_cut_short_only_where_all_of_it_is() -> None:
    """Shard 0 went; what it left unsent is not excused by that."""
    whole = whole_records()
    parts = cut(whole, 3, {0: {"cut_short": "SIGTERM"}})
    parts[0] = chosen(parts[0], parts[0]["due_ns"] < 60 * NS, parts[0].context.parts)
    parts[0].context.cut_short = "SIGTERM"
    merged = merge_shards(parts)
    assert merged.context.cut_short is None
    verdict = judge(merged)
    assert verdict.verdict is Kind.CLIENT_LIMITED
    assert "Shard 0 of 3 was cut short by SIGTERM: 100 of its 300 requests were not sent" in verdict.reasons[0]
    for part in parts:
        part.context.cut_short = "SIGTERM"
    merged = merge_shards(parts)
    assert merged.context.cut_short == "SIGTERM"
    verdict = judge(merged)
    assert verdict.verdict is Kind.CLIENT_LIMITED
    assert verdict.reasons[0].startswith("The point was cut short by SIGTERM")


def test_a_shard_that_was_stopped_in_a_closed_loop_has_taken_its_clients_away() -> None:
    parts = cut(closed_records(), 3, {1: {"cut_short": "SIGTERM"}})
    verdict = judge(merge_shards(parts))
    assert verdict.verdict is Kind.CLIENT_LIMITED
    assert verdict.reasons[0].startswith(
        "Shard 1 of 3 was cut short by SIGTERM: 2 of its 2 clients were not sent, 28.6% of the whole"
    )


def test_a_shard_that_was_stopped_alone_is_named() -> None:
    whole = whole_records()
    parts = cut(whole, 3, {2: {"cut_short": "SIGTERM"}})
    parts[2] = chosen(parts[2], parts[2]["due_ns"] < 60 * NS, parts[2].context.parts)
    verdict = judge(merge_shards(parts))
    assert verdict.verdict is Kind.CLIENT_LIMITED
    assert "Shard 2 of 3 was cut short by SIGTERM: 100 of its 300 requests were not sent" in verdict.reasons[0]


def test_a_folder_that_takes_no_results_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = uniform_records(40)
    whole.save(tmp_path / "whole.records.npz")
    files = [tmp_path / f"shard-{index}.records.npz" for index in range(2)]
    for path, one in zip(files, cut(whole, 2), strict=True):
        one.save(path)
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "in-it")
    for arguments in (
        ["reanalyze", str(tmp_path / "whole.records.npz"), nowhere],
        ["merge", *map(str, files), "-o", nowhere],
    ):
        assert main(arguments) == Exit.NOT_STORED
        assert capsys.readouterr().err == f"error: cannot write to {nowhere}: Not a directory\n"


@pytest.mark.parametrize(("name", "value"), [("settings", {"run_id": "b"}), ("models", ["b"]), ("endpoint", "chat")])
def test_points_of_two_runs_are_joined_to_no_profile(
    name: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for point in range(2):
        whole = uniform_records(40)
        whole.context.point = point
        if point:
            setattr(whole.context, name, value)
        for index, one in enumerate(cut(whole, 2)):
            files.append(tmp_path / str(point) / f"shard-{index}.records.npz")
            files[-1].parent.mkdir(exist_ok=True)
            one.save(files[-1])
    assert main(["merge", *map(str, files), "-o", str(tmp_path / "to")]) == Exit.USAGE
    assert "these are points of several runs" in capsys.readouterr().err and not (tmp_path / "to").exists()
