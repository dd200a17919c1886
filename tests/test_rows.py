"""A result's line of the table and of the log."""

import numpy as np

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
