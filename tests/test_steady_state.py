"""Warm-ups and drifts of known size are found, stationary series are left alone, and the window follows."""

import time

import numpy as np
import pytest
import scipy.stats

from latency_profile import measures, records, steady_state
from latency_profile.records import Status
from latency_profile.report.rows import table_row
from latency_profile.results import point_result
from latency_profile.statistics import filled
from latency_profile.steady_state import drift, find_warmup
from latency_profile.verdict import Kind, Name, judge
from tests.make_records import SECOND, make_records
from tests.test_verdict import queue

MS = 1_000_000


def jittered(n, seed=0, level_ms=50.0):
    """Latencies in ns, uniform within 20 % of the level."""
    return np.random.default_rng(seed).uniform(0.8, 1.2, n) * level_ms * MS


def times(n, rate=10):
    return np.arange(n) * SECOND // rate


def waits(utilization, n, series, seed):
    """Waits in stationary M/M/1 queues in ns, mean service 100 ms, shape (series, n): Lindley's recursion."""
    rng = np.random.default_rng(seed)
    wait = np.zeros(series)
    found = np.empty((series, n))
    for i in range(-1000, n):
        if i >= 0:
            found[:, i] = wait
        wait = np.maximum(0, wait + rng.exponential(1, series) - rng.exponential(1 / utilization, series))
    return found * SECOND / 10


def served(first_s, rate=10.0, end_s=None, seed=0, **changes):
    """Records of a streamed open loop whose TTFTs are given, in s; each answer ends 0.1 s after its first token."""
    n = len(first_s)
    due = np.arange(n) / rate
    ends = due + first_s + np.random.default_rng(seed).uniform(0.09, 0.11, n)
    tokens = np.column_stack((due + first_s, ends))
    context = {"request_rate": rate, "duration_s": n / rate, **changes}
    return make_records(due, due + 0.0002, list(tokens), ends if end_s is None else end_s, **context)


# The finder


@pytest.mark.parametrize("n", [300, 2000])
def test_a_slow_beginning_is_cut_where_it_ends(n):
    series = [jittered(n, seed) * np.where(np.arange(n) < 40, 2, 1) for seed in range(20)]
    assert sum(35 <= find_warmup(values).values <= 70 for values in series) >= 19


def test_a_fast_beginning_is_cut_too():
    """The first answers of a point meet an empty server."""
    values = jittered(1000) * np.minimum(1, 0.5 + np.arange(1000) / 200)
    assert 50 <= find_warmup(values).values <= 120


def test_a_decaying_beginning_leaves_little_bias():
    n = 2000
    before, after = [], []
    for seed in range(20):
        values = jittered(n, seed) * (1 + np.exp(-np.arange(n) / (n / 10)))
        level = jittered(n, seed).mean()
        before.append(values.mean() / level - 1)
        after.append(values[find_warmup(values).values :].mean() / level - 1)
    assert np.mean(before) == pytest.approx(0.1, abs=0.01)
    assert 0 < np.mean(after) < 0.025


def test_stationary_series_are_not_cut():
    rng = np.random.default_rng(1)
    for name, series in {
        "uniform": rng.uniform(0.8, 1.2, (200, 600)),
        "log-normal": rng.lognormal(0, 0.5, (200, 600)),
        "Pareto, no variance": 1 + rng.pareto(1.5, (200, 600)),
        "two kinds of request": rng.choice([1.0, 30.0], (200, 600)) * rng.uniform(0.8, 1.2, (200, 600)),
    }.items():
        found = [find_warmup(values) for values in series * 50 * MS]
        assert sum(cut.values > 0 or cut.beyond_half for cut in found) <= 2, name


@pytest.mark.parametrize("utilization", [0.6, 0.8])
def test_stationary_queues_are_seldom_cut_and_keep_their_numbers(utilization):
    series = waits(utilization, 2000, 200, seed=2)
    found = [find_warmup(values) for values in series]
    assert sum(cut.values > 0 for cut in found) <= 6
    assert sum(cut.beyond_half for cut in found) <= 2
    for number in (np.mean, np.median, lambda values: np.percentile(values, 99)):
        kept = np.mean([number(values[cut.values :]) for values, cut in zip(series, found, strict=True)])
        assert kept == pytest.approx(np.mean([number(values) for values in series]), rel=0.02)


def test_one_slow_answer_is_no_warmup():
    values = jittered(600)
    values[[0, 40, 100]] *= 200
    assert find_warmup(values) == steady_state.NO_CUT


@pytest.mark.parametrize("at", [0.6, 0.8])
def test_a_change_in_the_second_half_means_that_there_was_no_steady_state(at):
    found = [find_warmup(jittered(2000, seed) * np.where(np.arange(2000) < at * 2000, 1, 2)) for seed in range(20)]
    assert sum(cut.beyond_half for cut in found) >= 18
    assert all(cut.values == 0 for cut in found)


def test_few_or_equal_values_are_not_cut():
    slow_first = np.where(np.arange(99) < 20, 10 * MS, MS)
    assert find_warmup(slow_first) == steady_state.NO_CUT
    assert find_warmup(np.append(slow_first, MS)).values == 20
    assert find_warmup(np.full(1000, 50 * MS)) == steady_state.NO_CUT


# The drift


@pytest.mark.parametrize(("to", "n"), [(1.2, 600), (2.0, 600), (0.8, 600), (2.0, 300)])
def test_drifts_are_found_with_their_size(to, n):
    found = [drift(jittered(n, seed) * np.linspace(1, to, n), times(n)) for seed in range(40)]
    assert sum(one.drifted for one in found) >= 39
    sizes = np.array([one.shift_s for one in found]) * 1e3
    assert np.median(sizes) == pytest.approx(50 * (to - 1), rel=0.08)
    assert np.median([one.share for one in found]) == pytest.approx(2 * (to - 1) / (to + 1), rel=0.08)


def test_stationary_series_do_not_drift():
    """1,000 series; the promise is one in a hundred."""
    rng = np.random.default_rng(3)
    alarms = {
        "independent": sum(drift(v, times(600)).drifted for v in rng.lognormal(0, 0.5, (400, 600)) * 50 * MS),
        "0.6": sum(drift(v, times(600)).drifted for v in waits(0.6, 600, 300, seed=4) + 1),
        "0.8": sum(drift(v, times(600)).drifted for v in waits(0.8, 600, 300, seed=5) + 1),
    }
    assert alarms["independent"] == 0
    assert alarms["0.6"] <= 1
    assert alarms["0.8"] <= 5
    assert sum(alarms.values()) <= 6


def test_a_drift_that_changes_nothing_is_told_but_not_called_one():
    found = drift(jittered(5000) * np.linspace(1, 1.04, 5000), times(5000))
    assert found.p_value < 1e-4
    assert found.share == pytest.approx(0.04, abs=0.01)
    assert not found.drifted
    small = drift(jittered(5000, level_ms=1) * np.linspace(1, 1.3, 5000), times(5000))
    assert small.share > 0.2
    assert not small.drifted  # 0.3 ms


def test_no_drift_of_few_values_or_values_that_came_at_once():
    assert drift(jittered(299), times(299)) is None
    assert drift(jittered(300), np.zeros(300, dtype=np.int64)) is None
    assert drift(np.zeros(300), times(300)) is None
    two_moments = np.repeat([0, 5 * SECOND], [400, 10])
    assert drift(jittered(410), two_moments) is None
    flat = drift(np.full(300, 50 * MS), times(300))
    assert (flat.shift_s, flat.p_value, flat.drifted) == (0, 1, False)


def test_students_t():
    for freedom in (6, 10, 50, 1000):
        for p_value in (0.05, 1e-3, 1e-5):
            found = steady_state.two_sided(-scipy.stats.t.isf(p_value / 2, freedom), freedom)
            assert p_value * 0.99 <= found <= p_value * 1.25


# Unfinished requests


def test_unfinished_values_stand_in_the_middle_of_those_that_are_larger():
    values = np.array([10, 20, 30, 40, 5, 25, 90])
    unfinished = np.array([0, 0, 0, 0, 1, 1, 1], dtype=bool)
    assert filled(values, None) is values
    # Of seven at risk: P(X > 10) = 5/6, P(X > 20) = 2/3, then of the three left (30, 40, 90): 4/9, 2/9.
    assert filled(values, unfinished).tolist() == [10, 20, 30, 40, 30, 40, 90]
    assert filled(values[:2], np.array([True, True])).tolist() == [10, 20]


def test_a_steady_point_that_was_cut_short_does_not_seem_to_become_faster():
    """Answers take 30 s of a point of 60 s: half of its requests are unfinished, the last had waited for moments."""
    n = 600
    rng = np.random.default_rng(6)
    due = np.arange(n) / 10
    took = rng.uniform(20, 40, n)
    over = due + took > 60
    made = make_records(
        due,
        end_s=np.minimum(due + took, 60),
        columns={"status": np.where(over, Status.CANCELLED, Status.OK)},
        duration_s=60.0,
        measured_ns=60 * SECOND,
        cut_short="SIGTERM",
        streaming=False,
    )
    span = measures.window(made)
    assert span.steadiness.steady
    assert span.start_ns == 0
    naive = drift(measures.end_to_end(made, span.rows, "due_ns").values, times(n))
    assert naive.drifted  # what lower bounds as such would say


def test_a_server_that_stops_answering_is_not_forgiven():
    """From 50 s on nothing is answered; the point is cut short at 60 s. Every request of the window counts."""
    due = np.arange(600) / 10
    stuck = due >= 50
    ends = np.where(stuck, 60.0, due + 0.1)
    made = make_records(
        due,
        token_times_s=[[] if lost else [at + 0.05] for at, lost in zip(due, stuck, strict=True)],
        end_s=ends,
        columns={"status": np.where(stuck, Status.CANCELLED, Status.OK)},
        duration_s=60.0,
        measured_ns=60 * SECOND,
        cut_short="SIGTERM",
    )
    rows = measures.window(made).rows
    assert rows.all()
    for sample in (
        measures.end_to_end(made, rows, "due_ns"),
        measures.time_to_first_token(made, rows, "due_ns"),
    ):
        assert (len(sample.values), sample.unfinished.sum()) == (600, 100)
        assert sorted(sample.values[sample.unfinished] / SECOND) == pytest.approx(np.arange(1, 101) / 10)
    response = point_result(made).latency.response
    assert (response.ttft.n, response.ttft.unfinished) == (500, 100)
    assert not response.ttft.p99.resolved
    assert response.ttft.p99.value_s > 9


def test_requests_due_in_the_window_count_though_they_end_after_it():
    due = np.arange(600) / 10
    took = np.where(due >= 59, 5.0, 0.1)
    made = make_records(due, end_s=due + took, duration_s=60.0, streaming=False)
    span = measures.window(made)
    values = measures.end_to_end(made, span.rows, "due_ns").values
    assert (span.end_ns, len(values), (values == 5 * SECOND).sum()) == (60 * SECOND, 600, 10)


# Points


def test_the_window_begins_where_the_warmup_ends():
    first = jittered(1000, 7) / SECOND
    first[:100] *= 3
    made = served(first)
    span = measures.window(made)
    assert 9.9 <= span.start_ns / SECOND <= 12
    assert span.rows.sum() == pytest.approx(1000 - 10 * span.start_ns / SECOND, abs=1)
    window = point_result(made).window
    assert (window.warmup_found_s, window.steady) == (window.start_s, True)
    assert window.drift.ttft.drifted is window.drift.e2e.drifted is False
    assert judge(made).remarks == []
    unfound = {"settings": {"find_warmup": False}}
    assert measures.window(served(first, **unfound)).start_ns == 0
    assert point_result(served(first, **unfound)).window.warmup_found_s is None


def test_a_fixed_warmup_goes_first_and_the_found_one_on_top():
    first = jittered(1000, 8) / SECOND
    first[:100] *= 3
    assert measures.window(served(first, warmup_s=20.0)).start_ns == 20 * SECOND
    assert measures.window(served(first, warmup_s=5.0)).start_ns / SECOND == pytest.approx(10.5, abs=1)


def test_the_longer_of_two_warmups_counts():
    """Answers are slow for longer than first tokens are."""
    first = jittered(1000, 9) / SECOND
    first[:40] *= 3
    due = np.arange(1000) / 10
    ends = due + first + np.where(due < 12, 3.0, 1.0) * np.random.default_rng(10).uniform(0.8, 1.2, 1000)
    assert measures.window(served(first, end_s=ends)).start_ns / SECOND == pytest.approx(12.5, abs=1)
    assert measures.window(served(first)).start_ns / SECOND == pytest.approx(4.5, abs=1)


def test_a_drifting_server_is_named():
    made = served(jittered(600, 11) / SECOND * np.linspace(1, 1.2, 600))
    span = measures.window(made)
    assert span.start_ns == 0
    found = judge(made)
    assert found.verdict is Kind.TOO_FEW_SAMPLES  # as neighbours are alike; the remark changes nothing in it
    (remark,) = (remark for remark in found.remarks if "TTFT" in remark.text)
    assert remark.name is Name.UNSTEADY
    assert remark.text.startswith("The response TTFT rose by ")
    assert remark.text.endswith("over the 60 s of the window (p < 0.0001): percentiles describe the run's length.")
    assert float(remark.text.split("rose by ")[1].split()[0]) == pytest.approx(10, rel=0.4)
    result = point_result(made)
    assert result.window.steady is False
    assert f"UNSTEADY: {remark.text}" in table_row("10", result).notes


def test_a_change_in_the_second_half_is_named_and_nothing_is_cut():
    made = served(jittered(600, 12) / SECOND * np.where(np.arange(600) < 360, 1, 2))
    assert measures.window(made).start_ns == 0
    texts = [remark.text for remark in judge(made).remarks]
    assert any("The response TTFT came to its level in the second half of the 60 s of the window" in t for t in texts)


def test_a_cut_does_not_hide_saturation():
    for seed in range(10):
        overloaded = queue(rate=50, capacity=40, duration_s=60, seed=seed)
        assert judge(overloaded).verdict is Kind.SATURATED
        assert measures.window(overloaded).steadiness.steady is False


def test_a_closed_loop_goes_by_sends_and_service_latency():
    sent = np.arange(600) / 10
    took = jittered(600, 13, 1000) / SECOND * np.linspace(1, 1.5, 600)
    closed = {"request_rate": None, "concurrency": 10, "streaming": False, "duration_s": 60.0}
    (remark,) = judge(make_records(np.full(600, -1.0), sent, end_s=sent + took, **closed)).remarks
    assert remark.text.startswith("The service E2E rose by ")


def test_bursts_and_few_requests_have_no_steady_state_to_be_found():
    ends = np.arange(1000) / 100 + 1
    burst = make_records(np.zeros(1000), end_s=ends, request_rate=None, duration_s=None, streaming=False)
    window = point_result(burst).window
    assert (window.warmup_found_s, window.steady, window.drift) == (None, None, None)
    assert judge(burst).remarks == []
    few = point_result(served(jittered(200) / SECOND)).window
    assert (few.warmup_found_s, few.steady, few.drift.ttft, few.drift.e2e) == (None, None, None, None)


def test_failed_requests_say_nothing_of_the_warmup():
    first = jittered(1000, 14) / SECOND
    made = served(np.where(np.arange(1000) < 100, 5.0, first))
    made.columns["status"][:100] = Status.TIMEOUT
    assert measures.window(made).start_ns == 0


def test_the_file_gives_the_same_window_again(tmp_path):
    first = jittered(1000, 15) / SECOND
    first[:100] *= 3
    made = served(first)
    made.save(tmp_path / "records.npz")
    assert point_result(records.load(tmp_path / "records.npz")) == point_result(made)


def test_a_million_requests_take_well_under_a_second():
    n = 1_000_000
    made = served(jittered(100) / SECOND)
    due = times(n, 1000)
    first = due + jittered(n, 16).astype(np.int64)
    columns = {name: np.resize(column, n) for name, column in made.columns.items()}
    columns |= {"due_ns": due, "sent_ns": due, "first_token_ns": first, "end_ns": first + MS}
    made.columns = columns
    made.context.duration_s = 1000.0
    began = time.process_time()
    assert measures.window(made).steadiness.steady
    assert time.process_time() - began < 0.8
