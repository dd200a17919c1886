"""How well percentiles are known, what the results say of it, and what is read of a running point."""

from pathlib import Path

import numpy as np
import pytest

from latency_profile.records import NONE, Status, Stopping
from latency_profile.report.rows import table_row
from latency_profile.results import point_result
from latency_profile.sender.fleet import Fleet
from latency_profile.sender.spool import HEADER, Kind
from latency_profile.statistics import Distribution, Sample, describe
from latency_profile.until_ci.precision import (
    ONE_BY_ONE,
    describe_anytime,
    needed_share,
    precision,
    reached,
    relative_half_width,
    shared_effective_size,
)
from latency_profile.until_ci.result import UntilCi
from latency_profile.until_ci.tail import Order, Tail
from latency_profile.until_ci.text import short_text
from tests.driving import MS, SECOND, Load, send
from tests.make_records import make_records
from tests.servers import odd
from tests.servers.odd import Call, Odd


def lognormal(n: int, seed: int = 0) -> Sample:
    return Sample(1e9 * np.exp(np.random.default_rng(seed).normal(size=n)))


def queue(n: int, seed: int) -> Sample:
    """Times in an M/M/1 queue of utilization 0.8, in mean service times."""
    rng = np.random.default_rng(seed)
    service, gaps = rng.exponential(1, n), rng.exponential(1.25, n)
    walk = np.concatenate(([0.0], np.cumsum(service - gaps)))[:n]
    first = rng.exponential(5) if rng.random() < 0.8 else 0.0
    return Sample(1e9 * (np.maximum(first + walk, walk - np.minimum.accumulate(walk)) + service))


def test_independent_values_count_nearly_all_and_a_queues_a_twentieth() -> None:
    free, busy = lognormal(5000), queue(5000, 0)
    assert shared_effective_size(free, np.sort(free.values)) > 4000
    assert shared_effective_size(busy, np.sort(busy.values)) < 500


def test_a_queue_looked_at_again_and_again_is_missed_by_few() -> None:
    """p99 = ln 100 / (1 - 0.8). Of a hundred streams at most ten may be missed at any of their looks."""
    truths = {"p50": np.log(2) * 5, "p95": np.log(20) * 5, "p99": np.log(100) * 5}
    missed = dict.fromkeys(truths, 0)
    fixed = 0
    for seed in range(60):
        values = queue(4000, seed).values
        seen: set[str] = set()
        for n in range(200, 4001, 200):
            found = describe_anytime(Sample(values[:n]))
            seen |= {name for name, truth in truths.items() if outside(found, name, truth)}
            if outside(describe(Sample(values[:n])), "p50", truths["p50"]):
                seen.add("fixed")
        fixed += "fixed" in seen
        for name in truths:
            missed[name] += name in seen
    assert max(missed.values()) <= 6, missed
    assert fixed > missed["p50"]


def outside(found: Distribution, name: str, truth: float) -> bool:
    percentile = getattr(found, name)
    low, high = percentile.low_s, percentile.high_s
    return bool((low is not None and low > truth) or (high is not None and high < truth))


def test_an_interval_that_may_be_looked_at_holds_the_one_that_may_not() -> None:
    sample = lognormal(5000)
    loose, tight = describe_anytime(sample), describe(sample)
    for name in ("p50", "p90", "p95", "p99"):
        wide, narrow = getattr(loose, name), getattr(tight, name)
        assert wide.value_s == narrow.value_s
        assert wide.low_s < narrow.low_s < narrow.high_s < wide.high_s
    assert (loose.mean_s, loose.n) == (tight.mean_s, tight.n)


def test_known_to_five_percent_means_the_whole_interval_within_it() -> None:
    sample = lognormal(20_000)
    known = precision({"e2e": sample}, 0.05)["e2e"]
    width = known["p50"].relative_half_width
    assert width is not None
    # The median of a lognormal of sd 1 moves by sqrt(pi / 2 / n) of itself a standard error; 3.7 of them together.
    assert width == pytest.approx(3.7 * np.sqrt(np.pi / 2 / known["p50"].effective_n), rel=0.2)
    alone = describe_anytime(sample).p50
    assert (relative_half_width(alone) or 1) < width, "all together are known less well than each by itself"


def test_it_is_reached_when_the_widest_is_narrow_enough() -> None:
    known = precision({"ttft": lognormal(20_000), "e2e": lognormal(20_000, 1)}, 0.05)
    widths = [one.relative_half_width or 0 for levels in known.values() for one in levels.values()]
    assert reached(known, max(widths))
    assert not reached(known, max(widths) * 0.999)
    assert not reached(precision({"e2e": lognormal(300)}, 0.9), 0.9), "p99 of 300 has no upper end"


def test_what_is_extrapolated_comes_about() -> None:
    """From 20,000 values, how many it takes to know all to 8 %; with so many, they are known about so well."""
    share = needed_share(precision({"e2e": lognormal(20_000)}, 0.08))
    assert share is not None and share > 1
    there = precision({"e2e": lognormal(round(20_000 * share), 5)}, 0.08)["e2e"]
    widths = [one.relative_half_width or 0 for one in there.values()]
    assert max(widths) == pytest.approx(0.08, rel=0.25)


def steady(n: int, stopped_s: float | None, target: float = 0.05) -> UntilCi:
    due = np.arange(n) / 10
    took = np.exp(np.random.default_rng(3).normal(size=n) / 10)
    stopping = Stopping(target=target, looks=7, stopped_after_s=stopped_s)
    result = point_result(
        make_records(due, end_s=due + took, streaming=False, duration_s=stopped_s or n / 10, until_ci=stopping)
    )
    found = result.until_ci
    assert found is not None
    assert result.latency.response is not None
    sample = Sample(np.rint(took * 1e9))
    assert result.latency.response.e2e.p50 == describe_anytime(sample).p50
    [note] = [note for note in table_row("10", result).notes if "known" in note or "interval" in note]
    assert note == short_text(found, result.window.end_s)
    return found


def test_the_results_say_that_it_was_reached() -> None:
    found = steady(3000, 300.0)
    assert (found.reached, found.looks, found.requests, found.estimate_needed_s) == (True, 7, 3000, None)
    assert short_text(found, 300.0) == "stopped after 5 min: p50, p95, p99 known to 5 %"
    assert short_text(steady(3000, None), 300.0) == "p50, p95, p99 known to 5 % after 5 min"
    assert short_text(steady(3000, None, 0.9999), 300.0) == "p50, p95, p99 known to 100 % after 5 min"


def test_the_results_say_by_when_it_would_have_been() -> None:
    found = steady(1000, None, target=0.02)
    assert not found.reached
    width = found.known["e2e"]["p99"].relative_half_width
    assert width is not None and 0.02 < width < 0.3
    needed = found.estimate_needed_s
    assert needed is not None
    assert needed == pytest.approx(
        100 * found.known["e2e"]["p99"].needed_n / found.known["e2e"]["p99"].effective_n, 0.1
    )
    text = short_text(found, 100.0)
    assert text == f"p99 E2E known to {width * 100:.2g} % after 100 s; 2 % would take about {needed / 60:.0f} min"
    assert "p99 E2E has no interval after 30 s; 2 % would take more than" in short_text(steady(300, None, 0.02), 30.0)


def test_what_is_extrapolated_allows_for_the_warmup_that_was_found() -> None:
    due = np.arange(1000) / 10
    took = np.random.default_rng(3).uniform(1, 2, 1000) * np.where(due < 10, 5, 1)
    stopping = Stopping(target=0.001, looks=1, stopped_after_s=None)
    result = point_result(make_records(due, end_s=due + took, streaming=False, duration_s=100.0, until_ci=stopping))
    start, end, found = result.window.start_s, result.window.end_s, result.until_ci
    assert 9 < start < 15 and found is not None
    share = needed_share(found.known)
    assert share is not None
    assert found.estimate_needed_s == pytest.approx((end - start) * share + start, abs=0.06)


def test_unfinished_requests_are_no_answers_that_it_rests_on() -> None:
    due = np.arange(1000) / 10
    status = np.where(np.arange(1000) % 100 == 7, Status.CANCELLED, Status.OK)
    stopping = Stopping(target=0.05, looks=1, stopped_after_s=None)
    took = np.random.default_rng(3).uniform(1, 2, 1000)
    records = make_records(
        due, end_s=due + took, streaming=False, duration_s=100.0, until_ci=stopping, columns={"status": status}
    )
    found = point_result(records).until_ci
    assert found is not None
    assert found.requests == 990


def test_without_the_setting_there_is_nothing_of_it() -> None:
    assert point_result(make_records([0, 1])).until_ci is None


def test_a_p99_without_an_end_names_the_number_that_it_takes() -> None:
    due = np.arange(400) / 10
    took = np.random.default_rng(3).uniform(1, 2, 400)
    stopping = Stopping(target=0.05, looks=1, stopped_after_s=None)
    plain = point_result(make_records(due, end_s=due + took, streaming=False, duration_s=40.0))
    looked = point_result(make_records(due, end_s=due + took, streaming=False, duration_s=40.0, until_ci=stopping))
    assert not [reason for reason in plain.verdict.reasons if "p99" in reason]
    [reason] = [reason for reason in looked.verdict.reasons if "p99" in reason]
    assert f"it takes {ONE_BY_ONE.smallest(0.99)} and more" in reason


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_followed_is_what_the_records_say(tmp_path: Path, streaming: bool, processes: int) -> None:
    """Index by index: TTFT and E2E from due, without those that failed."""

    def answer(call: Call) -> None:
        if call.index % 7 == 3:
            call.send(odd.plain(b"no", status="500 Internal Server Error"))
        elif streaming:
            call.send(odd.whole(5))
        else:
            call.send(odd.plain(b'{"choices":[{"text":"a b","finish_reason":"stop"}],"usage":{"completion_tokens":2}}'))

    with Odd(answer) as server, Fleet(processes) as fleet:
        driven = send(fleet, server, tmp_path, Load(due_ms=[10 * k for k in range(40)], streaming=streaming))
    records = driven.records
    good = records["http_status"] == 200
    tail = following(tmp_path, driven.ran.start_ns, processes, streaming)
    while tail.read():
        pass
    samples = tail.samples()
    assert list(samples["e2e"].values) == list((records["end_ns"] - records["due_ns"])[good])
    assert ("ttft" in samples) is streaming
    if streaming:
        assert list(samples["ttft"].values) == list((records["first_token_ns"] - records["due_ns"])[good])
    tail.thin()
    half = good & (records["index"] % 2 == 0)
    assert list(tail.samples()["e2e"].values) == list((records["end_ns"] - records["due_ns"])[half])
    tail.close()


def test_nothing_behind_a_request_that_has_not_ended_is_counted(tmp_path: Path) -> None:
    """Else those that take long would be missing from every look: the sample would be of the quick ones."""

    def answer(call: Call) -> None:
        call.send(odd.whole(3)[:-20], odd.whole(3)[-20:], gap_s=0.4 if call.index == 5 else 0.0)

    with Odd(answer) as server, Fleet(1) as fleet:
        driven = send(fleet, server, tmp_path, Load(due_ms=[10 * k for k in range(20)]))
    spool = tmp_path / "spool-0"
    whole = spool.read_bytes()
    before = end_of(whole, 5)
    spool.write_bytes(whole[: before + 5])  # broken off inside that entry
    tail = following(tmp_path, driven.ran.start_ns, 1, True)
    tail.read()
    assert tail.requests == 5
    with spool.open("ab") as file:
        file.write(whole[before + 5 :])
    tail.read()
    assert tail.requests == 20
    assert list(tail.samples()["e2e"].values) == list(driven.records["end_ns"] - driven.records["due_ns"])
    tail.close()


def end_of(spool: bytes, request: int) -> int:
    """Where the entry begins that says that the request has ended."""
    at = 0
    while True:
        kind, _, _, index, _, _, length = HEADER.unpack_from(spool, at)
        if kind == Kind.END and index == request:
            return at
        at += HEADER.size + length


def test_warm_up_and_cool_down_are_left_out(tmp_path: Path) -> None:
    with Odd(lambda call: call.send(odd.whole(3))) as server, Fleet(1) as fleet:
        driven = send(fleet, server, tmp_path, Load(due_ms=[10 * k for k in range(20)]))
    tail = following(tmp_path, driven.ran.start_ns, 1, True, warmup_ns=50 * MS, cooldown_ns=100 * MS)
    tail.read()
    due = driven.records["due_ns"]
    kept = (due >= 50 * MS) & (due <= 90 * MS)
    assert list(tail.samples()["e2e"].values) == list((driven.records["end_ns"] - due)[kept])
    tail.close()


def following(
    folder: Path,
    start_ns: int,
    processes: int,
    streaming: bool,
    warmup_ns: int = 0,
    cooldown_ns: int = 0,
    tokens: bool = False,
) -> Tail:
    return Tail(
        Order(
            spools=[str(folder / f"spool-{shard}") for shard in range(processes)],
            plan=str(folder / "plan") if (folder / "plan").exists() else None,
            start_ns=start_ns,
            backend="vllm",
            endpoint="completions",
            streaming=streaming,
            warmup_ns=warmup_ns,
            cooldown_ns=cooldown_ns,
            tokens=tokens,
        )
    )


def test_a_drained_point_finishes_what_was_due_and_sends_nothing_more(tmp_path: Path) -> None:
    def slow(call: Call) -> None:
        call.send(odd.whole(3)[:-20], odd.whole(3)[-20:], gap_s=0.5)

    polled = iter([False] * 3)
    with Odd(slow) as server, Fleet(2) as fleet:
        load = Load(due_ms=[20 * k for k in range(1000)], enough=lambda: next(polled, True))
        driven = send(fleet, server, tmp_path, load)
        assert driven.ran.drained_ns is not None
        stopped_ns = driven.ran.drained_ns - driven.ran.start_ns
        again = send(fleet, server, tmp_path, Load(due_ms=[0, 10, 20]))
    sent = driven.records["sent_ns"] != NONE
    due = driven.records["due_ns"]
    assert sent[due < stopped_ns].all() and (due < stopped_ns).sum() >= 5
    # A busy machine's sender hears of it a little later; there is a plan for 20 s.
    assert (due[sent] < stopped_ns + 5 * SECOND).all(), "what was due later is not sent"
    assert set(driven.records["status"][sent]) == {Status.OK}
    assert again.ran.drained_ns is None and len(again.records) == 3, "the next point is not drained"
