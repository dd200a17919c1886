"""`--find-capacity` as users run it, against the embedded server; what its looks at a running probe see; and what the
settings let through. The search itself: tests/test_capacity.py."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.truth import simulator
from latency_profile.capacity.answers import answers_of, answers_so_far
from latency_profile.capacity.asked import search_of
from latency_profile.capacity.probe import Probe
from latency_profile.capacity.scores import Answers
from latency_profile.capacity.source import CapacitySearch
from latency_profile.capacity.structure import Capacity, Ended
from latency_profile.errors import Exit, UsageError
from latency_profile.outcome import Status
from latency_profile.points import plan_points
from latency_profile.results import exit_code, point_result
from latency_profile.sender.fleet import Fleet
from latency_profile.settings import load
from tests.driving import Load, send
from tests.make_records import uniform_records
from tests.servers import odd
from tests.servers.odd import Call, Odd
from tests.test_until_ci import following
from tests.tool import benchmark

SLO = "ttft:p90<400ms, errors<1%"


ASKED = ["--tokenizer=bundled", "--input-len=16", "--output-len=4", "--ignore-eos", "--stream-request"]


def flags(*more: str) -> list[str]:
    return [*ASKED, "--find-capacity", "--request-rate=20", "--max-rate=40", *more]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "--find-capacity: got True, takes --slo beside it"),
        (["--slo=itl:p99<50ms"], "--slo: got"),
        ([f"--slo={SLO}", "--max-rate=20"], "--max-rate: got 20, takes more than --request-rate, 20"),
        (
            [f"--slo={SLO}", "--max-rate=1e300", "--max-duration=1e300"],
            "--max-rate: got 1e+300, takes at most",
        ),
        ([f"--slo={SLO}", "--concurrencies=4"], "--concurrencies"),
        ([f"--slo={SLO}", "--request-rate=inf", "--concurrencies=4,2"], "--concurrencies"),
        ([f"--slo={SLO}", "--benchmark-time-seconds=30"], "takes no --find-capacity beside it: each point is as long"),
        ([f"--slo={SLO}", "--num-prompts=30"], "takes no --find-capacity beside it: each point is as long"),
        ([f"--slo={SLO}", "--calibrate"], "--calibrate: got True, takes no --find-capacity beside it"),
        ([f"--slo={SLO}", "--adaptive-rates=5"], "--adaptive-rates"),
    ],
)
def test_what_does_not_go_together(more: Sequence[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        load([*flags(), *more], {})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("loads", "says"),
    [
        (["--request-rate=20", "--max-rate=40"], ["point 1: 20 req/s, at most ", "takes, up to 40 req/s"]),
        (["--concurrencies=2,64"], ["point 1: 2 in flight, at most ", "takes, up to 64 in flight"]),
    ],
)
def test_a_dry_run_says_where_a_search_begins_and_what_bounds_it(loads: Sequence[str], says: Sequence[str]) -> None:
    with Odd(lambda _: None) as server:
        where = [f"--url=http://{server.host}:{server.port}", "--dry-run", "--max-duration=90"]
        done = benchmark(*ASKED, "--find-capacity", f"--slo={SLO}", *loads, *where)
    assert done.returncode == Exit.DONE, done.stderr
    for said in (*says, "sending takes at most 1:30", "prompts: at most "):
        assert said in done.stdout


def test_limits_of_a_search_without_one_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        load(["--tokenizer=bundled", "--input-len=16", "--output-len=4", "--max-rate=40"], {})
    assert "--max-rate: got 40, takes effect only with --find-capacity" in str(caught.value)


def test_a_look_sees_what_the_records_say(tmp_path: Path) -> None:
    """Of a probe with answers that fail, once all of them have ended."""

    turns = itertools.count()

    def some_fail(call: Call) -> None:
        call.send(odd.whole(3) if next(turns) % 3 else b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")

    with Odd(some_fail) as server, Fleet(2) as fleet:
        driven = send(fleet, server, tmp_path, Load(due_ms=[10 * k for k in range(40)]))
    start_ns = driven.ran.start_ns
    tail = following(tmp_path, start_ns, 2, True)
    while tail.read():
        pass
    seen = answers_so_far(tail, start_ns)
    known = driven.records
    ok = known["status"] == Status.OK
    assert list(seen.due_s) == list(known["due_ns"] / 1e9)
    assert list(seen.failed) == list(~ok) and 0 < seen.failed.sum() < 40
    assert np.allclose(seen.end_s[ok], known["end_ns"][ok] / 1e9) and not np.isnan(seen.end_s).any()
    assert np.allclose(seen.first_s[ok], known["first_token_ns"][ok] / 1e9)
    tail.close()
    context = msgspec.structs.replace(uniform_records(40).context, duration_s=0.4)
    whole = answers_of(replace(known, context=context))
    assert list(whole.failed) == list(seen.failed) and np.allclose(whole.end_s[ok], seen.end_s[ok])


@pytest.mark.parametrize("tokens", [True, False])
def test_a_look_at_a_closed_loop_sees_what_the_records_say(tmp_path: Path, tokens: bool) -> None:
    """In the order in which its requests were sent; and how many tokens they have where that is asked for."""
    turns = itertools.count()

    def answer(call: Call) -> None:
        turn = next(turns)
        fails = turn % 5 == 4
        call.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n" if fails else odd.whole(2 + turn % 2))

    with Odd(answer) as server, Fleet(2) as fleet:
        driven = send(fleet, server, tmp_path, Load(concurrency=4, count=40))
    tail = following(tmp_path, driven.ran.start_ns, 2, True, tokens=tokens)
    while tail.read():
        pass
    seen = answers_so_far(tail, driven.ran.start_ns)
    tail.close()
    known = driven.records
    context = msgspec.structs.replace(uniform_records(40).context, duration_s=60.0, concurrency=4)
    whole = answers_of(replace(known, context=context))
    assert list(seen.due_s) == list(whole.due_s) == sorted(known["sent_ns"] / 1e9)
    assert list(seen.failed) == list(whole.failed) and 0 < seen.failed.sum() < 40
    ok = ~seen.failed
    assert np.allclose(seen.end_s, whole.end_s) and np.allclose(seen.first_s[ok], whole.first_s[ok])
    assert whole.now_s == pytest.approx(whole.end_s.max())
    assert set(whole.tokens[ok]) == {2, 3}
    assert list(seen.tokens[ok]) == list(whole.tokens[ok]) if tokens else np.isnan(seen.tokens).all()


def half_way(folder: Path, start_ns: int) -> Answers:
    """What a look in the middle of a point saw."""
    spool = folder / "spool-0"
    spool.write_bytes(spool.read_bytes()[: spool.stat().st_size // 2])
    tail = following(folder, start_ns, 1, True)
    tail.read()
    seen = answers_so_far(tail, start_ns)
    tail.close()
    return seen


def test_a_look_at_a_closed_loop_sees_who_waits(tmp_path: Path) -> None:
    with Odd(lambda call: call.send(odd.whole(3)[:-20], odd.whole(3)[-20:], gap_s=0.3)) as server, Fleet(1) as fleet:
        driven = send(fleet, server, tmp_path, Load(concurrency=4, count=12))
    seen = half_way(tmp_path, driven.ran.start_ns)
    waiting = np.isnan(seen.end_s)
    assert 0 < waiting.sum() <= 4 and (~waiting).any() and list(seen.due_s) == sorted(seen.due_s)
    assert not np.isnan(seen.first_s[waiting]).all()


def test_a_look_at_a_closed_loop_sees_who_finds_no_connection(tmp_path: Path) -> None:
    """They were never sent, and yet the server failed them."""

    def leave(call: Call) -> None:
        server.refuse()
        call.send(odd.whole(3))
        call.hang_up()

    with Odd(leave) as server, Fleet(1) as fleet:
        driven = send(fleet, server, tmp_path, Load(concurrency=2, count=20, ahead=2))
    tail = following(tmp_path, driven.ran.start_ns, 1, True)
    tail.read()
    seen = answers_so_far(tail, driven.ran.start_ns)
    tail.close()
    unsent = int((driven.records["sent_ns"] < 0).sum())
    assert unsent >= 10 and len(seen.failed) == 20 and unsent <= seen.failed.sum() < 20


def test_a_look_sees_requests_that_have_not_ended(tmp_path: Path) -> None:
    """Nothing is known of them but when they were due, and their first tokens: a rate that a server does not keep up
    with shows by them."""
    with Odd(lambda call: call.send(odd.whole(3)[:-20], odd.whole(3)[-20:], gap_s=0.3)) as server, Fleet(1) as fleet:
        driven = send(fleet, server, tmp_path, Load(due_ms=[50 * k for k in range(40)]))
    seen = half_way(tmp_path, driven.ran.start_ns)
    assert seen.now_s >= float(seen.due_s[-1]) and len(seen.due_s) <= 40
    known = driven.records
    is_open = np.isnan(seen.end_s)
    assert 0 < is_open.sum() < len(is_open)
    assert np.allclose(seen.end_s[~is_open], known["end_ns"][: len(is_open)][~is_open] / 1e9)
    begun = is_open & ~np.isnan(seen.first_s)
    assert begun.any()
    assert np.allclose(seen.first_s[begun], known["first_token_ns"][: len(begun)][begun] / 1e9)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with simulator("--engine", "h100-8b") as number:
        yield number


def searched(port: int, folder: Path, *more: str) -> tuple[Any, dict[str, Any]]:
    return found(folder, *flags("--host=127.0.0.1", f"--port={port}", *more))


def found(folder: Path, *asked: str) -> tuple[Any, dict[str, Any]]:
    done = benchmark(*asked, "--save-json-results", f"--output-dir={folder}", timeout=600)
    if "CLIENT_LIMITED 3 times" in done.stdout:
        pytest.skip("this machine is too busy to send a few dozen requests a second in time")
    (path,) = folder.glob("*-profile-*.json")
    profile: dict[str, Any] = json.loads(path.read_text())
    return done, profile


def test_all_is_kept_up_to_the_highest_rate(port: int, tmp_path: Path) -> None:
    done, profile = searched(port, tmp_path, "--slo=e2e:p50<20s")
    assert done.returncode == Exit.DONE, done.stdout
    capacity = profile["capacity"]
    assert capacity["ended"] == "max-rate kept" and capacity["highest_kept"] == 40
    assert capacity["low"] is None and capacity["high"] is None
    assert "Capacity: at least 40 req/s, which keeps all objectives" in done.stdout
    assert [point["request_rate"] for point in profile["points"]][-1] == 40


def test_a_first_rate_that_breaks_is_over_within_seconds(port: int, tmp_path: Path) -> None:
    done, profile = searched(port, tmp_path, "--slo=ttft:p50<0.001ms")
    assert done.returncode == Exit.DONE, done.stdout
    capacity = profile["capacity"]
    assert capacity["ended"] == "first rate already broken" and capacity["lowest_broken"] == 20
    assert capacity["seconds"] < 40, "its whole length is 75 s and more"
    assert "Capacity: below 20 req/s" in done.stdout


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (Ended.CONFIRMED, Exit.DONE),
        (Ended.MAX_DURATION, Exit.DONE),
        (Ended.SERVER_SUFFERS, Exit.UNUSABLE),
        (Ended.CUT_SHORT, Exit.UNUSABLE),
    ],
)
def test_the_exit_code_of_a_search_with_an_interval(ended: Ended, code: Exit) -> None:
    found = search_of(load([*flags(f"--slo={SLO}")], {})).gave_up("")
    assert exit_code([], found) == Exit.UNUSABLE, "without an interval"
    assert exit_code([], msgspec.structs.replace(found, low=9.0, high=10.0, ended=ended)) == code


def test_what_had_to_be_sent_again_counts() -> None:
    search = search_of(load([*flags(f"--slo={SLO}", "--max-duration=100")], {}))
    probe = search.next()
    assert isinstance(probe, Probe)
    again = search.again(60.0)
    assert again == Probe(probe.load, 40.0)
    over = search.again(40.0)
    assert isinstance(over, Capacity) and over.ended is Ended.MAX_DURATION and over.seconds == 100


def test_time_that_is_left_for_no_request_is_not_sent() -> None:
    """A probe of a millisecond: there would be nothing to send, and the search is over as if there were no time."""
    settings = load([*flags(f"--slo={SLO}", "--max-duration=100.001")], {})
    source, known = CapacitySearch(settings), uniform_records(1000)
    assert source.after(plan_points(settings), [point_result(known)], known) is None
    found = source.capacity
    assert (found.ended, found.probes, found.seconds) == (Ended.MAX_DURATION, 1, 100)


def test_a_search_out_of_time_says_so(port: int, tmp_path: Path) -> None:
    done, profile = searched(port, tmp_path, f"--slo={SLO}", "--max-duration=3")
    assert done.returncode == Exit.UNUSABLE
    assert profile["capacity"]["ended"] in ("max-duration", "cut short") and "No capacity" in done.stdout
    assert profile["capacity"]["seconds"] <= 3


def users(*more: str) -> list[str]:
    return [*ASKED, "--find-capacity", "--slo=e2e:mean<45ms", *more]


def test_users_of_a_queue_whose_capacity_is_known(tmp_path: Path) -> None:
    """One place, 10 ms for each: N users wait N times as long. Four keep 45 ms, five do not; on a machine that was busy
    meanwhile, four of them may not either."""
    with simulator("--slot=10") as number:
        asked = users("--host=127.0.0.1", f"--port={number}", "--concurrencies=1,16")
        done, profile = found(tmp_path, *asked)
    capacity = profile["capacity"]
    assert capacity["of"] == "concurrency"
    waited_s: dict[int, list[float]] = {}
    for point in profile["points"]:
        waited_s.setdefault(point["concurrency"], []).append(point["e2e"]["mean_s"])
    if max(waited_s[4]) >= 0.0445:
        assert capacity["high"] is None or capacity["high"] <= 4
        return
    assert done.returncode == Exit.DONE, done.stdout
    assert capacity["ended"] == "confirmed"
    assert (capacity["low"], capacity["estimate"], capacity["high"]) == (4, 4, 4)
    assert "Capacity: 4 in flight (4 to 4, 95%); e2e:mean<45ms breaks first" in done.stdout
    assert list(waited_s)[:4] == [1, 2, 4, 8]


@pytest.mark.slow
def test_users_of_a_real_llamacpp(llamacpp_server: str, smollm2_tokenizer: Path, tmp_path: Path) -> None:
    """It computes one prompt after another: twice as many users wait about twice as long. The objective is three times
    what one of them waits, on this machine now."""
    asked = [f"--url={llamacpp_server}", "--backend=llamacpp", f"--tokenizer={smollm2_tokenizer}"]
    asked += ["--input-len=8", "--output-len=1", "--ignore-eos", "--stream-request"]
    (tmp_path / "alone").mkdir()
    _, alone = found(tmp_path / "alone", *asked, "--concurrencies=1", "--num-prompts=60")
    mean_ms = 1000 * alone["points"][0]["e2e"]["mean_s"]
    objective = f"--slo=e2e:mean<{3 * mean_ms:.0f}ms"
    done, profile = found(tmp_path, *asked, "--find-capacity", "--concurrencies=1,16", objective)
    assert done.returncode == Exit.DONE, done.stdout
    capacity = profile["capacity"]
    assert capacity["low"] is not None, capacity
    assert 1 <= capacity["low"] <= capacity["estimate"] <= capacity["high"] <= 7
