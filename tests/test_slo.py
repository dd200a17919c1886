"""Objectives of a load: how they are spelled, what is judged, and how often the judgement is right."""

import io
import math
import sys
from typing import Any

import numpy as np
import pytest
import scipy.stats

from benchmarks import coverage
from latency_profile import measures, results
from latency_profile.errors import Exit
from latency_profile.records import NONE, Records, Status, Stopping
from latency_profile.report.closing import closing_line
from latency_profile.report.console import render_table
from latency_profile.report.rows import table_row
from latency_profile.results import PointResult, point_result
from latency_profile.results.index import changes, new_index
from latency_profile.shards.merging import merge_shards
from latency_profile.slo.grammar import parse, read
from latency_profile.slo.judge import slo
from latency_profile.slo.structure import Judged, Outcome, Slo
from latency_profile.statistics import binomial_ranks, share_known
from latency_profile.verdict import Kind, Verdict
from tests.make_records import SECOND, make_records, uniform_records
from tests.shard_records import cut

VALID = Verdict(verdict=Kind.VALID, reasons=[], remarks=[])
SATURATED = Verdict(verdict=Kind.SATURATED, reasons=["The backlog grew."], remarks=[])
KEPT, BROKEN, UNRESOLVED = Outcome.KEPT, Outcome.BROKEN, Outcome.UNRESOLVED


def of(records: Records, verdict: Verdict = VALID) -> Slo:
    """What the point's records say, were this their verdict."""
    span = measures.window(records)
    gaps = measures.gaps(records, span.rows) if records.context.streaming else None
    found = slo(records, measures.all_rows(records), span, verdict, {}, gaps)
    assert found is not None
    return found


def only(records: Records, verdict: Verdict = VALID) -> Judged:
    (judged,) = of(records, verdict).objectives
    return judged


def settings(*names: str) -> dict[str, Any]:
    return {"file_prefix": "benchmark", "find_warmup": False, "slo": list(names)}


def taking(took_s: Any, *names: str, rate: float = 10.0, **context: Any) -> Records:
    """Requests due at equal distances whose E2E is given; not streamed."""
    due = np.arange(len(took_s)) / rate
    known = {"streaming": False, "duration_s": len(due) / rate, "request_rate": rate, "settings": settings(*names)}
    return make_records(due, end_s=due + np.asarray(took_s), **(known | context))


@pytest.mark.parametrize(
    ("spelled", "name", "level", "limit_ms"),
    [
        ("ttft:p99<500ms", "ttft:p99<500ms", 0.99, 500.0),
        (" TTFT : P99.90 < 0.5 s ", "ttft:p99.9<0.5s", 0.999, 500.0),
        ("e2el:p90<10s", "e2e:p90<10s", 0.9, 10_000.0),
        ("itl:p50<1e2ms", "itl:p50<100ms", 0.5, 100.0),
        ("ntpot:mean<.3ms", "ntpot:mean<0.3ms", None, 0.3),
        ("errors<0.10%", "errors<0.1%", 0.999, None),
    ],
)
def test_objectives_as_people_spell_them(spelled: str, name: str, level: float | None, limit_ms: float | None) -> None:
    found = parse(spelled)
    assert (found.name, found.level, found.limit_ms) == (name, level, limit_ms)
    assert parse(found.name) == found


def test_lists_of_objectives() -> None:
    assert read("tpot:p95<50ms, errors<1%") == read(["tpot:p95<50ms", "errors<1%"]) == ("tpot:p95<50ms", "errors<1%")
    assert read(["tpot:p95<50ms,tpot:p99<90ms"]) == ("tpot:p95<50ms", "tpot:p99<90ms")


@pytest.mark.parametrize(("kept", "n", "level"), [(990, 1000, 0.95), (37, 40, 0.9), (40, 40, 0.99), (0, 30, 0.5)])
def test_the_interval_of_a_share_is_clopper_and_pearsons(kept: int, n: int, level: float) -> None:
    known = share_known(kept / n, kept / n, n, level, binomial_ranks)
    low = scipy.stats.beta.ppf(0.025, kept, n - kept + 1) if kept else 0.0
    high = scipy.stats.beta.ppf(0.975, kept + 1, n - kept) if kept < n else 1.0
    assert (known.low, known.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert (known.above, known.below) == (known.low >= level, known.high < level)


def test_how_many_values_would_tell() -> None:
    """When all keep it: the first n at which 0.99^n is at most 2.5 %."""
    enough = math.ceil(math.log(0.025) / math.log(0.99))
    assert share_known(1.0, 1.0, 100, 0.99, binomial_ranks).needed == enough
    assert share_known(1.0, 1.0, enough, 0.99, binomial_ranks).above
    assert not share_known(1.0, 1.0, enough - 1, 0.99, binomial_ranks).above
    assert share_known(0.99, 0.99, 1000, 0.99, binomial_ranks).needed is None, "at the level no number tells"
    assert share_known(0.0, 1.0, 0, 0.99, binomial_ranks)[:3] == (0.0, 1.0, False)


@pytest.mark.parametrize(
    ("name", "n", "samples", "most"), [("exponential", 400, 200, 16), ("AR(1) lognormal, 0.9", 1000, 60, 7)]
)
def test_the_interval_misses_a_share_that_is_just_at_the_level_in_one_of_twenty(
    name: str, n: int, samples: int, most: int
) -> None:
    """More misses than `most` come by chance in 2 % of such tests."""
    law = next(each for each in coverage.LAWS if each.name == name)
    rng = np.random.default_rng(11)
    level, limit_ms = 0.9, law.quantile(0.9) * 1000
    missed = 0
    for _ in range(samples):
        judged = only(taking(law.draw(rng, n), f"e2e:p90<{limit_ms:.9f}ms"))
        assert judged.attainment is not None
        missed += not judged.attainment.low <= level <= judged.attainment.high
        assert judged.outcome in (UNRESOLVED, KEPT if judged.attainment.low >= level else BROKEN)
    assert missed <= most


def test_that_waits_of_a_queue_would_be_taken_for_independent() -> None:
    """The same waits in another order have an interval that is much narrower: the order is what tells."""
    rng = np.random.default_rng(2)
    waits = coverage.waits(rng, 2000, 0.8)
    objective = f"e2e:p90<{math.log(8) / 0.2 * 1000:.0f}ms"
    ordered, shuffled = (only(taking(each, objective)).attainment for each in (waits, rng.permutation(waits)))
    assert ordered is not None and shuffled is not None and ordered.share == shuffled.share
    assert ordered.effective_n < shuffled.effective_n / 5
    assert ordered.high - ordered.low > 2 * (shuffled.high - shuffled.low)


def test_kept_broken_and_unresolved() -> None:
    took = np.random.default_rng(3).exponential(0.1, 2000)  # p99 460 ms
    objectives = [only(taking(took, f"e2e:p99<{limit}ms")) for limit in (600, 460, 350)]
    assert [each.outcome for each in objectives] == [KEPT, UNRESOLVED, BROKEN]
    for each in objectives:
        assert each.attainment is not None and each.attainment.share is not None and each.limit_s is not None
        assert each.attainment.share == (took <= each.limit_s).mean()
        assert each.needed_requests is None or each.needed_requests > 2000
    assert objectives[0].reason.startswith("99.8% of 2000 requests kept 600 ms (99.44% to 99.966%), 99% are to; p99 ")
    few = only(taking(took[:120], "e2e:p99<2s"))
    assert few.outcome is UNRESOLVED and few.needed_requests == 370
    assert few.reason.endswith("; about 370 requests would tell")


def test_figures_are_those_of_the_results() -> None:
    names = [f"{metric}:p{level}<9s" for metric in ("ttft", "tpot", "itl", "e2e") for level in (50, 90, 95, 99)]
    result = point_result(uniform_records(900, settings=settings(*names, "ttft:p99.5<9s", "e2e:mean<9s")))
    assert result.slo is not None and result.latency.response is not None
    *standard, between, mean = result.slo.objectives
    for each in standard:
        of_metric = result.latency.response if each.metric in ("ttft", "e2e") else result.latency.service
        figure = getattr(getattr(of_metric, each.metric), each.statistic)
        assert (each.measured_s, each.measured_low_s, each.measured_high_s) == (
            figure.value_s,
            figure.low_s,
            figure.high_s,
        )
    known = result.latency.response.ttft
    assert known is not None and known.p99.value_s is not None and known.max_s is not None
    assert between.measured_s is not None and known.p99.value_s < between.measured_s < known.max_s
    e2e = result.latency.response.e2e
    assert (mean.measured_s, mean.measured_high_s, mean.attainment) == (e2e.mean_s, e2e.mean_high_s, None)


def test_latencies_count_from_due_and_in_a_closed_loop_from_sent() -> None:
    """Each sent 0.3 s late and answered 0.1 s later, ten tokens."""
    due = np.arange(500) / 10
    late = {"sent_s": due + 0.3, "end_s": due + 0.4, "streaming": False, "duration_s": 50.0}
    names = ("e2e:p90<200ms", "ntpot:p90<20ms")
    opened = of(make_records(due, **late, settings=settings(*names)))
    assert [each.outcome for each in opened.objectives] == [BROKEN, BROKEN]
    assert opened.objectives[1].measured_s == pytest.approx(0.04)
    closed = make_records(due, **late, settings=settings(*names), concurrency=1, request_rate=None)
    assert [each.outcome for each in of(closed).objectives] == [KEPT, KEPT]
    assert of(closed).objectives[1].measured_s == pytest.approx(0.01)


def with_failures(count: int, *names: str, n: int = 1000, status: Status = Status.HTTP_UNAVAILABLE) -> Records:
    """Answers of 0.05 to 0.25 s, of which `count`, evenly spread, are failures."""
    records = uniform_records(n, settings=settings(*names))
    records.columns["status"][np.linspace(0, n - 1, count).astype(int)] = status
    return records


def test_failed_requests_are_misses_and_in_no_figure() -> None:
    names = ("ttft:p99<2s", "tpot:p99<2s", "itl:p99<2s", "ntpot:p99<2s", "e2e:p99<2s", "errors<1%")
    found = of(with_failures(40, *names))
    assert found.outcome is BROKEN
    for each in found.objectives:
        assert each.outcome is BROKEN
        assert each.attainment is not None and each.attainment.share == pytest.approx(0.96, abs=1e-3)
        assert each.attainment.failed == 40
        assert each.measured_s is None if each.metric == "errors" else each.measured_s < 0.3
        assert each.metric == "errors" or "; 40 failed" in each.reason
    assert of(with_failures(0, *names)).outcome is KEPT
    assert found.objectives[0].attainment is not None and found.objectives[0].attainment.broken == 40


def test_unfinished_requests_are_misses_once_they_waited_too_long() -> None:
    """Stopped at 50 s; the last 30 requests, due from 47 s on, are unfinished."""
    n, left = 500, 30
    status = np.array([Status.OK] * (n - left) + [Status.CANCELLED] * left)
    ends = np.where(status == Status.OK, np.arange(n) / 10 + 0.1, 50.0)
    for limit, missed in ((1, 20), (10, 0)):
        records = make_records(
            np.arange(n) / 10,
            end_s=ends,
            streaming=False,
            duration_s=50.0,
            cut_short="SIGINT",
            measured_ns=50 * SECOND,
            settings=settings(f"e2e:p95<{limit}s"),
            columns={"status": status},
        )
        attained = only(records).attainment
        assert attained is not None
        assert (attained.kept, attained.broken, attained.open) == (n - left, missed, left - missed)
        assert attained.high > attained.kept / n > attained.low


def test_a_growing_backlog_breaks_what_waits_and_leaves_the_pace_open() -> None:
    names = ("ttft:p99<9s", "e2e:mean<9s", "ntpot:p99<9s", "tpot:p99<9s", "itl:p99<9s", "errors<9%", "tpot:p50<1ms")
    assert of(uniform_records(900, settings=settings(*names[:-1]))).outcome is KEPT
    found = of(uniform_records(900, settings=settings(*names)), SATURATED)
    assert [each.outcome for each in found.objectives] == [BROKEN] * 3 + [UNRESOLVED] * 3 + [BROKEN]
    assert all("the backlog grows" in each.reason for each in found.objectives[:-1])
    assert all(each.needed_requests is None for each in found.objectives)


def test_a_window_that_is_over_before_the_first_answers_shows_nothing() -> None:
    due = np.arange(500) / 100
    records = make_records(due, end_s=due + 8, streaming=False, duration_s=5.0, settings=settings("e2e:p90<9s"))
    assert only(records).outcome is UNRESOLVED and "the window ends before" in only(records).reason
    records = make_records(due, end_s=due + 8, streaming=False, duration_s=5.0, settings=settings("e2e:p90<7s"))
    assert only(records).outcome is BROKEN


def test_a_burst_and_what_the_client_bent_are_not_judged() -> None:
    burst = make_records(
        np.zeros(500), end_s=np.linspace(1, 5, 500), duration_s=None, request_rate=None, settings=settings("e2e:p50<9s")
    )
    for records, verdict, why in (
        (burst, VALID, "a burst has no steady state"),
        (taking([0.1] * 500, "e2e:p50<9s"), Verdict(verdict=Kind.CLIENT_LIMITED, reasons=[], remarks=[]), "CLIENT"),
        (taking([0.1] * 500, "e2e:p50<9s"), Verdict(verdict=Kind.CONTAMINATED, reasons=[], remarks=[]), "CONTAM"),
        (
            with_failures(100, "e2e:p50<9s"),
            Verdict(verdict=Kind.FAILED, reasons=["…", "CLIENT_LIMITED: …"], remarks=[]),
            "CLIENT_LIMITED",
        ),
    ):
        found = of(records, verdict)
        assert found.outcome is found.objectives[0].outcome is found.objectives[0].measured_s is None
        assert found.reason.startswith("not judged: ") and why in found.reason == found.objectives[0].reason


def test_a_server_that_fails_under_the_load_is_judged_and_one_that_refuses_the_request_is_not() -> None:
    result = point_result(with_failures(100, "errors<1%", "e2e:p50<9s"))
    assert result.verdict.verdict is Kind.FAILED and result.slo is not None
    assert [each.outcome for each in result.slo.objectives] == [BROKEN, KEPT]
    result = point_result(with_failures(100, "errors<50%", "e2e:p50<9s"))
    assert result.slo is not None and result.slo.outcome is None, "its numbers must not be used for a good word"
    assert result.slo.reason == result.slo.objectives[0].reason == "not judged: FAILED"
    result = point_result(with_failures(100, "errors<1%", status=Status.HTTP_UNAUTHORIZED))
    assert result.slo is not None and result.slo.outcome is None and "not judged: FAILED" in result.slo.reason


def test_where_the_data_stopped_the_point_the_interval_allows_for_that() -> None:
    took = np.random.default_rng(4).exponential(0.1, 3000)
    fixed = only(taking(took, "e2e:p99<500ms"))
    looked = only(taking(took, "e2e:p99<500ms", until_ci=Stopping(target=0.05, looks=9, stopped_after_s=300.0)))
    assert fixed.attainment is not None and looked.attainment is not None
    assert fixed.attainment.share == looked.attainment.share
    assert looked.attainment.low < fixed.attainment.low < fixed.attainment.high < looked.attainment.high


def test_each_model_is_judged_by_its_own_requests() -> None:
    """Every second request went to the model that takes 1 s."""
    took = np.tile([0.1, 1.0], 500)
    records = taking(took, "e2e:p95<0.5s", models=["quick", "slow"], columns={"model": np.tile([0, 1], 500)})
    outcomes = [point_result(records, model).slo for model in ("quick", "slow", None)]
    assert [found.outcome for found in outcomes if found] == [KEPT, BROKEN, BROKEN]


def test_records_of_shards_are_judged_as_the_whole() -> None:
    records = with_failures(9, "ttft:p99<2s", "itl:mean<2s", "errors<2%")
    merged = merge_shards(cut(records, 3))
    assert of(merged) == of(records)


def test_without_objectives_there_is_nothing() -> None:
    result = point_result(uniform_records(60))
    assert result.slo is None and results.slo_of([result]) is None
    assert table_row("10", result).slo == ""


def sweep(*tooks: tuple[float, float], names: tuple[str, ...] = ("e2e:p90<500ms",), n: int = 400) -> list[PointResult]:
    """Points of (rate, E2E in s)."""
    return [point_result(taking(np.full(n, took), *names, rate=rate)) for rate, took in tooks]


@pytest.mark.parametrize(
    ("points", "text", "highest", "following"),
    [
        (
            [(1, 0.1), (8, 0.2), (16, 0.7), (32, 0.9)],
            "All objectives are kept up to 8 req/s; at 16 e2e:p90<500ms is broken (p90 700 ms).",
            8,
            16,
        ),
        ([(16, 0.1), (8, 0.2)], "All objectives are kept up to 16 req/s, the highest measured load.", 16, None),
        ([(4, 0.1)], "All objectives are kept at 4 req/s.", 4, None),
        (
            [(4, 0.8), (8, 0.9)],
            "No measured load keeps all objectives; at 4 req/s e2e:p90<500ms is broken (p90 800 ms).",
            None,
            4,
        ),
        ([(4, 0.8)], "At 4 req/s e2e:p90<500ms is broken (p90 800 ms).", None, 4),
        (
            [(2, 0.9), (4, 0.1), (8, 0.6)],
            "All objectives are kept at 4 req/s, but not at 2 (broken); at 8 e2e:p90<500ms is broken (p90 600 ms).",
            4,
            8,
        ),
    ],
)
def test_up_to_which_load_they_are_kept(
    points: list[tuple[float, float]], text: str, highest: float | None, following: float | None
) -> None:
    found = results.slo_of(sweep(*points))
    assert found is not None and found.text == text
    assert (found.highest_kept.request_rate if found.highest_kept else None) == highest
    assert (found.next_load.request_rate if found.next_load else None) == following


def test_a_load_that_was_not_judged_is_named() -> None:
    good, bad = sweep((4, 0.1)), point_result(with_failures(200, "e2e:p90<500ms", status=Status.HTTP_UNAUTHORIZED))
    found = results.slo_of([*good, bad])
    assert found is not None and found.next_load is not None and found.next_load.outcome is None
    assert found.text.startswith("All objectives are kept up to 4 req/s; at 10 not judged: FAILED")


def test_a_burst_beside_rates_is_no_load_level() -> None:
    burst = make_records(
        np.zeros(500), end_s=np.full(500, 0.2), duration_s=None, request_rate=None, settings=settings("e2e:p90<500ms")
    )
    found = results.slo_of([*sweep((4, 0.1)), point_result(burst)])
    assert found is not None and found.text == "All objectives are kept at 4 req/s."
    assert table_row("inf", point_result(burst)).slo == "not judged"
    alone = results.slo_of([point_result(burst)])
    assert alone is not None and alone.highest_kept is None
    assert alone.text.startswith("Objectives not judged: a burst has no steady state")


def test_only_what_stayed_unresolved_is_exit_code_4() -> None:
    kept, broken = sweep((4, 0.1), (8, 0.9))
    (open_one,) = sweep((2, 0.1), names=("e2e:p99.9<500ms",))
    assert open_one.slo is not None and open_one.slo.outcome is UNRESOLVED
    assert results.exit_code([kept, broken]) is Exit.DONE
    assert results.exit_code([kept, open_one]) is Exit.UNUSABLE
    (both,) = sweep((2, 0.9), names=("e2e:p90<500ms", "e2e:p99.9<2s"))
    assert both.slo is not None and both.slo.outcome is BROKEN and results.exit_code([both]) is Exit.DONE


def test_the_table_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("e2e:p90<500ms", "e2e:p99.9<700ms")
    points = [*sweep((4, 0.1), names=names, n=4000), *sweep((8, 0.2), (16, 0.7), names=names)]
    rows = [table_row(f"{point.load.request_rate:g}", point) for point in points]
    render_table(rows, sys.stdout)
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.split("\n\n")[0].splitlines())
    table = text.splitlines()[3:6]
    assert [line.split()[-4:-2] for line in table] == [["✓", "kept"], ["?", "unresolved"], ["✗", "broken"]]
    assert "✗ e2e:p90<500ms at 16, broken: 0% of 400 requests kept 500 ms (0% to " in text
    assert "? e2e:p99.9<700ms at 8, unresolved: 100% of 400 requests kept 700 ms (99.08% to 100%), 99.9% are to" in text
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    render_table(rows, stream)
    stream.seek(0)
    assert [line.split()[-4:-2] for line in stream.readlines()[3:6]] == [
        ["+", "kept"],
        ["?", "unresolved"],
        ["x", "broken"],
    ]
    line = closing_line(rows, Exit.UNUSABLE, results.slo_of(points))
    assert line == (
        "3 points: 3 VALID. All objectives are kept up to 4 req/s; at 8 e2e:p99.9<700ms is unresolved (99.08% to 100% "
        "kept it; about 3700 requests would tell). Exit code 4."
    )


def test_a_run_goes_on_with_the_same_objectives_only() -> None:
    mark = point_result(uniform_records(60)).fingerprint
    one, other = (new_index("r", mark, ["http://a"], [], names) for names in (["ttft:p99<1s"], []))
    assert changes(one, one) == [] and changes(one, other) == ['slo: ["ttft:p99<1s"], []']


def test_requests_that_never_had_their_turn_are_open() -> None:
    status = np.array([Status.OK] * 400 + [Status.NOT_SENT] * 100)
    sent = np.where(status == Status.OK, np.arange(500) / 10, NONE)
    records = make_records(
        np.arange(500) / 10,
        sent,
        end_s=np.where(status == Status.OK, sent + 0.1, NONE),
        streaming=False,
        duration_s=50.0,
        measured_ns=50 * SECOND,
        settings=settings("errors<1%"),
        columns={"status": status},
    )
    attained = only(records).attainment
    assert attained is not None and (attained.kept, attained.open) == (400, 100)


def test_the_sentence_names_two_objectives_of_a_point() -> None:
    (point,) = sweep((4, 0.8), names=("e2e:p50<0.1s", "e2e:p90<0.5s", "ntpot:mean<1ms"))
    found = results.slo_of([point])
    assert found is not None
    assert (
        found.text
        == "At 4 req/s e2e:p50<0.1s is broken (p50 800 ms) and e2e:p90<0.5s is broken (p90 800 ms), and 1 more."
    )


def test_failures_hang_together_as_they_come_and_not_as_latencies_do() -> None:
    """Latencies that stay high or low for hundreds of requests; ten failures, in a row or spread."""
    took = coverage.waits(np.random.default_rng(6), 2000, 0.95) + 0.1
    spread, together = np.linspace(0, 1999, 10).astype(int), np.arange(700, 710)
    for failures, enough in ((spread, 1900), (together, 0)):
        status = np.full(2000, Status.OK)
        status[failures] = Status.RESET
        attained = only(taking(took, "errors<2%", columns={"status": status})).attainment
        assert attained is not None and attained.broken == 10
        assert enough <= attained.effective_n <= 2000
        assert enough or attained.effective_n < 500
