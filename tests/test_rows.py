"""A result's line of the table and of the log."""

import numpy as np

from latency_profile.records import NONE
from latency_profile.report.rows import log_line, table_row
from latency_profile.results import point_result
from tests.make_records import make_records


def test_a_point_in_one_line_and_in_one_row() -> None:
    due = np.arange(500) / 10
    records = make_records(due, end_s=due + 0.25, streaming=False, duration_s=50.0)
    row = table_row("10", point_result(records))
    assert (row.load, row.ok, row.failed) == ("10", 500, 0)
    assert row.e2e_p50_ms.value == 250.0
    assert row.ttft_p50_ms.value is None
    line = log_line(row)
    assert line.startswith(f"{row.verdict}: 500 ok, 0 failed")
    assert "E2E 250 ms" in line
    assert "TTFT" not in line


def test_a_percentile_without_an_upper_bound_says_so() -> None:
    due = np.arange(40) / 10
    row = table_row("10", point_result(make_records(due, end_s=due + 0.25, streaming=False, duration_s=4.0)))
    assert row.e2e_p99_ms.at_least
    assert not row.e2e_p50_ms.at_least


def test_a_point_is_noted_only_for_what_happened() -> None:
    def notes(**columns: object) -> tuple[str, ...]:
        records = make_records([0, 1, 2], token_times_s=[[0.5], [1.5], [2.5]], columns=columns)
        return table_row("1", point_result(records)).notes

    assert notes() == ()
    assert notes(retries=[0, 1, 0]) == ("1 request tried again (1 more attempt)",)
    assert notes(retries=[0, 2, 3], first_visible_ns=[NONE, NONE, 2_500_000_000]) == (
        "2 requests tried again (5 more attempts)",
        "2 answers without a visible token",
    )


def test_the_tables_ttft_is_to_any_token() -> None:
    records = make_records([0], token_times_s=[[0.5, 0.75]], columns={"first_visible_ns": [750_000_000]})
    assert table_row("1", point_result(records)).ttft_p50_ms.value == 500.0


def test_a_figures_interval_is_the_results_own() -> None:
    due = np.arange(500) / 10
    token_times = [[second + 0.1 + 0.001 * (number % 97)] for number, second in enumerate(due)]
    result = point_result(make_records(due, token_times_s=token_times, duration_s=50.0))
    ttft, row = result.latency.service.ttft, table_row("10", result)
    assert ttft is not None
    assert ttft.p50.low_s is not None
    assert ttft.p50.high_s is not None
    assert (row.ttft_p50_ms.low, row.ttft_p50_ms.high) == (ttft.p50.low_s * 1000, ttft.p50.high_s * 1000)
    assert row.ttft_p50_ms.low < row.ttft_p50_ms.value < row.ttft_p50_ms.high
