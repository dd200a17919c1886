"""Goodput and the window's rates with their intervals, on records small enough to reckon by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from latency_profile import measures
from latency_profile.goodput import goodput, judged
from latency_profile.rates import STEPS, bounded_rates, bounds, rates_in, steps
from latency_profile.records import NONE, Records, Status
from latency_profile.report.rows import table_row
from latency_profile.results import point_result
from latency_profile.settings import load
from tests.make_records import SECOND, make_records

DUMMY = ["--tokenizer=t", "--use-dummy-text"]


def of(records: Records):
    return goodput(records, measures.all_rows(records), measures.window(records))


def settings(**objectives: float):
    return {"file_prefix": "benchmark", "find_warmup": False, "goodput": objectives}


def five(**context) -> Records:
    """Due a second apart, the third sent 0.3 s late; TTFT from sent 0.1 s; gaps of 0.1 s, the fourth's 0.2 s."""
    sent = [0.0, 1.0, 2.3, 3.0, 4.0]
    gaps = [0.1, 0.1, 0.1, 0.2, 0.1]
    tokens = [[at + 0.1 + gap * i for i in range(5)] for at, gap in zip(sent, gaps, strict=True)]
    return make_records(range(5), sent, tokens, duration_s=5.0, **context)


def test_each_objective_by_itself_and_all_together():
    for objectives, kept in (
        ({"ttft": 150}, [1, 1, 0, 1, 1]),  # from due: the third waited 0.4 s
        ({"tpot": 150}, [1, 1, 1, 0, 1]),
        ({"e2e": 600}, [1, 1, 0, 0, 1]),
        ({"e2e": 850}, [1, 1, 1, 0, 1]),  # 0.3 + 0.1 + 4 * 0.1 s; the fourth 0.1 + 4 * 0.2 s
        ({"ttft": 150, "tpot": 150}, [1, 1, 0, 0, 1]),
    ):
        records = five(settings=settings(**objectives))
        found, broken = judged(records, objectives)
        assert found.tolist() == [bool(one) for one in kept], objectives
        assert (found ^ broken).all()
        told = of(records)
        assert told.requests_per_s == sum(kept) / 5 and told.share == sum(kept) / 5
        assert told.objectives == objectives


def test_a_closed_loop_counts_from_sent():
    records = five(settings=settings(ttft=150), concurrency=1, request_rate=None)
    assert of(records).share == 1


def test_failed_requests_keep_nothing():
    status = np.array([Status.OK, Status.RESET, Status.OK, Status.OK, Status.OK])
    records = five(settings=settings(e2e=10_000), columns={"status": status})
    assert of(records).share == pytest.approx(0.8)


def test_an_answer_of_one_token_has_no_gap_to_be_slow():
    records = make_records([0.0], None, [[5.0]], duration_s=6.0, settings=settings(tpot=1))
    assert of(records).share == 1


def test_an_answer_without_a_count_has_that_of_its_events():
    """Five tokens 0.1 s apart; reported is nothing, or one."""
    times = [[0.1 * i for i in range(1, 6)]] * 2
    records = make_records([0.0, 0.0], None, times, duration_s=6.0, columns={"output_tokens": np.array([NONE, 1])})
    assert judged(records, {"tpot": 101})[0].tolist() == [True, True]
    assert judged(records, {"tpot": 99})[1].tolist() == [True, True]


def test_unfinished_requests_are_broken_once_they_waited_too_long():
    """Stopped at 5 s: the first waits since 5 s, the last since 1 s; the limit is 2 s."""
    status = np.array([Status.CANCELLED, Status.OK, Status.OK, Status.OK, Status.CANCELLED])
    ends = np.array([5.0, 1.5, 2.5, 3.5, 5.0])
    records = make_records(
        range(5),
        None,
        None,
        ends,
        duration_s=5.0,
        cut_short="SIGINT",
        measured_ns=5 * SECOND,
        settings=settings(e2e=2000),
        columns={"status": status},
    )
    kept, broken = judged(records, {"e2e": 2000})
    assert kept.tolist() == [False, True, True, True, False]
    assert broken.tolist() == [True, False, False, False, False]
    told = of(records)
    assert told.share == 0.75 and told.requests_per_s == 3 / 5
    assert told.requests_per_s_low < 0.6 < told.requests_per_s_high


def test_without_objectives_there_is_none():
    assert of(five()) is None
    assert point_result(five()).goodput is None


def poisson(n: int = 2000, rate: float = 20.0, **context) -> Records:
    """About n Poisson arrivals at `rate`, each answered after 0.2 s of ten tokens."""
    due = np.cumsum(np.random.default_rng(5).exponential(1 / rate, 2 * n))
    due = due[due < n / rate]
    tokens = [[at + 0.02 * i for i in range(1, 11)] for at in due]
    return make_records(due, None, tokens, **{"duration_s": n / rate, "request_rate": rate, **context})


def test_intervals_of_the_rates_are_those_of_poisson_counts():
    records = poisson(settings=settings(ttft=1000))
    everything, span = measures.all_rows(records), measures.window(records)
    rates, known = bounded_rates(records, everything, span)
    assert rates == rates_in(records, everything, span)
    half = 1.98 * math.sqrt(rates.requests / span.length_s)
    for rate, (low, high), unit in (
        (rates.requests, known.requests, 1),
        (rates.input_tokens, known.input_tokens, 10),
        (rates.output_tokens, known.output_tokens, 10),
        (rates.input_tokens + rates.output_tokens, known.total_tokens, 20),
    ):
        assert rate - low == pytest.approx(unit * half, rel=0.2)
        assert high - rate == pytest.approx(unit * half, rel=0.2)
    told = of(records)
    assert told.requests_per_s - told.requests_per_s_low == pytest.approx(half, rel=0.2)


def test_evenly_spaced_completions_are_known_better():
    due = np.arange(2000) / 20
    ends = due + 0.2 + np.random.default_rng(6).uniform(0, 0.01, 2000)
    records = make_records(due, None, None, ends, duration_s=100.0, request_rate=20.0)
    rates, known = bounded_rates(records, measures.all_rows(records), measures.window(records))
    assert known.requests[1] - known.requests[0] < 0.2 * rates.requests * 2 * 1.96 / math.sqrt(2000)


@pytest.mark.parametrize("length", [7, 11, 13, 49, 333_333_333, 999_999_937])
def test_rounding_leaves_a_rate_inside_its_interval(length):
    """As many in each step: nothing varies, and the interval is the rate."""
    span = measures.Window(0, length, np.zeros(0, dtype=np.bool_))
    for count in range(1, 50):
        low, high = bounds(span, np.full(STEPS, float(count)))
        assert low <= count * STEPS / span.length_s <= high


def test_a_burst_has_rates_without_intervals():
    records = make_records(
        np.zeros(50), None, None, np.linspace(1, 5, 50), duration_s=None, request_rate=None, settings=settings(e2e=3000)
    )
    result = point_result(records)
    assert result.throughput.requests_per_s == 10
    assert result.throughput.requests_per_s_low is result.throughput.requests_per_s_high is None
    assert result.goodput.requests_per_s > 0 and result.goodput.requests_per_s_low is None
    assert result.goodput.share == pytest.approx(0.5)


def test_steps_cover_the_window_and_put_its_end_into_the_last():
    span = measures.Window(10, 1010, np.zeros(0, dtype=np.bool_))
    found = steps(span, np.array([10, 19, 20, 1009, 1010]), np.array([1, 2, 4, 8, 16]))
    assert len(found) == STEPS
    assert (found[0], found[1], found[-1], found.sum()) == (3, 4, 24, 31)


def test_the_results_have_the_intervals_in_keys_of_their_own():
    result = point_result(poisson())
    told = result.throughput
    for name in ("requests", "input_tokens", "output_tokens", "total_tokens"):
        low, rate, high = (getattr(told, f"{name}_per_s{end}") for end in ("_low", "", "_high"))
        assert low < rate < high
    assert result.latency.service.e2e.mean_low_s <= result.latency.service.e2e.mean_s


def test_the_table_says_goodput_in_a_note():
    row = table_row("20", point_result(poisson(settings=settings(ttft=100, e2e=150))))
    [note] = [note for note in row.notes if "goodput" in note]
    assert note == "goodput 0.00 req/s: 0.0% of requests within TTFT 100 ms, E2E 150 ms"
    row = table_row("20", point_result(poisson(settings=settings(ttft=100))))
    [note] = [note for note in row.notes if "goodput" in note]
    assert note.startswith("goodput 20.") and note.endswith("): 100.0% of requests within TTFT 100 ms")
    assert not [note for note in table_row("20", point_result(poisson())).notes if "goodput" in note]


def test_a_p99_of_sixty_requests_is_at_least_so_long_in_the_table(capsys):
    from latency_profile.report.console import render_table

    due = np.cumsum(np.random.default_rng(7).exponential(0.1, 60))
    ends = due + np.random.default_rng(8).uniform(0.3, 0.412, 60)
    result = point_result(make_records(due, None, None, ends, streaming=False, duration_s=10.0))
    p99 = result.latency.service.e2e.p99
    assert not p99.resolved and p99.high_s is None
    row = table_row("10", result)
    import sys

    render_table([row], sys.stdout, width=120)
    assert f"≥ {p99.value_s * 1000:.0f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "spelled",
    [
        "ttft:500 tpot:50 e2e:10000",
        "e2el:10000,ttft:500, tpot:50",
        "TTFT:500 tpot:50.0 e2e:1e4",
        "ttft<500ms, tpot<.05s e2el<1e4ms",
    ],
)
def test_objectives_as_people_spell_them(spelled):
    found = load([*DUMMY, "--stream-request", f"--goodput={spelled}"], {})
    assert found.goodput == {"ttft": 500, "tpot": 50, "e2e": 10000}
    assert list(found.goodput) == ["ttft", "tpot", "e2e"]
    assert found.as_dict()["goodput"] == found.goodput


def test_objectives_from_repeated_flags_the_environment_and_a_file(tmp_path: Path):
    assert load([*DUMMY, "--goodput", "e2e:9", "--stream-request", "--goodput", "ttft:5"], {}).goodput["ttft"] == 5
    assert load(DUMMY, {"LATENCY_PROFILE_GOODPUT": "e2e:900"}).goodput == {"e2e": 900}
    file = tmp_path / "c.yaml"
    file.write_text("goodput: {e2e: 900}\n")
    assert load([*DUMMY, f"--config={file}"], {}).goodput == {"e2e": 900}
    assert load(DUMMY, {}).goodput == {}
