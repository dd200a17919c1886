"""The last line of the log."""

from latency_profile.errors import Exit
from latency_profile.report.closing import closing_line
from tests.test_console import row


def test_it_counts_verdicts_and_says_why_a_point_must_not_be_used() -> None:
    rows = [
        row(load="1", verdict="VALID"),
        row(load="2", verdict="SATURATED", reasons=("The backlog grew.",)),
        row(load="4", verdict="VALID"),
        row(load="8", verdict="CLIENT_LIMITED", reasons=("It was late by 12 ms; the limit is 3 ms.", "It stalled.")),
    ]
    assert closing_line(rows, Exit.UNUSABLE) == (
        "4 points: 2 VALID, 1 SATURATED, 1 CLIENT_LIMITED. At 8: It was late by 12 ms; the limit is 3 ms. It stalled. "
        "Exit code 4."
    )


def test_one_good_point() -> None:
    assert closing_line([row(load="1", verdict="VALID")], Exit.DONE) == "1 point: 1 VALID. Exit code 0."
    assert closing_line([], Exit.SIGTERM) == "0 points: none measured. Exit code 143."


def test_a_point_that_was_cut_short_must_not_be_used_whatever_its_verdict() -> None:
    rows = [row(load="1", verdict="VALID"), row(load="2", verdict="VALID", cut_short="SIGTERM")]
    assert closing_line(rows, Exit.SIGTERM) == "2 points: 2 VALID. At 2: Cut short by SIGTERM. Exit code 143."
