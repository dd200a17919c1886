"""Progress and the table at the end: what a reader sees, on a terminal and in a log."""

import io
import re
import subprocess
import sys

import pytest

from latency_profile.report.console import render_table
from latency_profile.report.line import spelled
from latency_profile.report.progress import PLAIN_INTERVAL_S, LiveProgress, PlainProgress, Snapshot, make_progress
from latency_profile.report.table_row import (
    NO_FIGURE,
    CostFigures,
    Dollars,
    Figure,
    ServerFigures,
    TableRow,
    milliseconds,
    number,
)

ESCAPE = "\x1b"


def row(load: str, verdict: str = "VALID", **changes: object) -> TableRow:
    values: dict[str, object] = {
        "sent_per_s": 4.02,
        "completed_per_s": 3.98,
        "ok": 119,
        "failed": 1,
        "output_tokens_per_s": 512.4,
        "ttft_p50_ms": Figure(22.41),
        "ttft_p99_ms": Figure(412.3, at_least=True),
        "tpot_p50_ms": Figure(7.914),
        "tpot_p99_ms": Figure(9.02),
        "itl_p99_ms": Figure(12.34),
        "e2e_p50_ms": Figure(1034.4),
        "e2e_p99_ms": Figure(1500.2),
        "response_e2e_p99_ms": Figure(1501.7),
    }
    return TableRow(load, verdict, **(values | changes))  # type: ignore[arg-type]


def plain(rows: list[TableRow], **options: object) -> str:
    stream = io.StringIO()
    render_table(rows, stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def snapshot(elapsed: float, planned: float | None = 30.0, total: int | None = 120, **changes: object) -> Snapshot:
    values: dict[str, object] = {
        "sent": 56,
        "in_flight": 9,
        "completed": 47,
        "failed": 0,
        "tokens_per_s": 812.3,
        "lateness_p99_ms": 0.21,
    }
    return Snapshot(elapsed, planned, total, **(values | changes))  # type: ignore[arg-type]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (0.0043, "0.004"),  # not nothing
        (0.0052, "0.01"),
        (7.914, "7.91"),
        (9.996, "10.0"),
        (22.41, "22.4"),
        (99.96, "100"),
        (412.3, "412"),
        (29500.6, "29501"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_figure_without_upper_bound_says_so() -> None:
    assert milliseconds(Figure(412.3, at_least=True)) == "≥ 412"
    assert milliseconds(Figure(412.3)) == "412"
    assert milliseconds(NO_FIGURE) == ""


def test_every_cell_stands_under_its_heading() -> None:
    text = plain([row("4", cost=CostFigures(alone=Dollars(output=0.41)))], terminal=False, width=200)
    lines = text.splitlines()
    assert " ".join(lines[1].split()) == "rate sent done ok/fail tok/s $/Mtok p50 p99 p50 p99 p99 p50 p99 due99 verdict"
    expected = "4 4.02 3.98 119/1 512 0.41 22.4 ≥ 412 7.91 9.02 12.3 1034 1500 1502 ● VALID"
    assert " ".join(lines[3].split()) == expected
    ends = {match.end() for match in re.finditer(r"\S+", lines[1])} - {len(lines[1])}
    for match in re.finditer(r"(≥ )?[\d./]+", lines[3]):
        assert match.end() in ends, f"{match.group()} is not flush right under a heading"


def test_columns_without_a_figure_are_left_out() -> None:
    text = plain(
        [
            row(
                "32",
                ttft_p50_ms=NO_FIGURE,
                ttft_p99_ms=NO_FIGURE,
                response_e2e_p99_ms=NO_FIGURE,
            )
        ],
        load=("in", "flight"),
    )
    assert "TTFT" not in text
    assert "due99" not in text
    assert "$" not in text
    assert "flight" in text
    assert "TPOT ms" in text


def test_a_log_gets_eighty_columns_without_escapes() -> None:
    rows = [
        row("0.5"),
        row("inf", "CLIENT_LIMITED", e2e_p99_ms=Figure(123456.0, at_least=True), ok=100000, failed=2345),
    ]
    text = plain(rows)
    assert ESCAPE not in text
    table = text.split("due99: p99")[0]
    assert max(len(line) for line in table.splitlines()) <= 80
    assert table.count("inf") == 2  # in two parts, each with its load
    assert "○ CLIENT_LIMITED" in text
    assert "● VALID" in text


def test_a_usual_profile_fits_a_normal_terminal_in_one_part() -> None:
    stream = io.StringIO()
    render_table([row("1"), row("64", "SATURATED")], stream, terminal=True, width=110)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    table = bare.split("due99: p99")[0].splitlines()
    assert len(table) == 5
    assert max(len(line) for line in table) <= 110


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    render_table([row("1"), row("2", "FAILED")], stream, terminal=True, width=110)
    assert re.search(r"\x1b\[[0-9;]*32m● VALID", stream.getvalue())
    assert re.search(r"\x1b\[[0-9;]*31m✗ FAILED", stream.getvalue())


def test_reasons_and_files_follow_the_table() -> None:
    rows = [row("1", reasons=("never shown",)), row("8", "SATURATED", reasons=("the backlog grew by 2.1 requests/s",))]
    text = plain(rows, files=["results/a.json", "gs://bucket/a.json"])
    assert "never shown" not in text
    assert "▲ SATURATED at 8: the backlog grew by 2.1 requests/s\n" in text
    assert text.endswith("→ results/a.json\n→ gs://bucket/a.json\n")


def test_a_note_is_one_line_under_the_table() -> None:
    rows = [row("1"), row("8", notes=("2 requests tried again (5 more attempts)", "1 answer without a visible token"))]
    noted, silent = plain(rows).splitlines(), plain([row("1"), row("8")]).splitlines()
    assert noted[-1] == "at 8: 2 requests tried again (5 more attempts); 1 answer without a visible token"
    assert noted[:-1] == silent


def test_what_the_server_told_has_a_table_of_its_own() -> None:
    told = ServerFigures(
        running=3.2, waiting=0.0, most_waiting=2, kv_percent=31.4, outside_ms=2.2, queue_ms=0.04, prefill_ms=24.6
    )
    gpu = ServerFigures(gpu_percent=97.1, watts=456.3, joules_per_token=0.931)
    text = plain([row("4", server=told), row("8"), row("inf", server=gpu)])
    assert [line.rstrip() for line in text.splitlines()[-7:-1]] == [
        "req/s  running  waiting   KV cache   of the mean TTFT, ms        GPU",
        " rate     mean  mean max     max %  outside queue prefill  busy %   W J/tok",
        "─────  ───────  ────────  ────────  ─────────────────────  ────────────────",
        "    4     3.20  0.00   2      31.4     2.20  0.04    24.6",
        "    8",
        "  inf                                                        97.1 456  0.93",
    ]
    assert max(map(len, text.splitlines()[:-1])) <= 80
    assert "running" not in plain([row("4")])


def test_what_tokens_cost_has_a_table_of_its_own() -> None:
    costs = CostFigures(
        alone=Dollars(0.00521, 0.0834, 0.00491),
        with_idle=Dollars(0.013, 0.2085, 0.01228),
        utilization=0.4,
        gaps=Dollars(0.0031, 0.0334),
        convention=Dollars(0.00417, 1234.5),
    )
    text = plain([row("4", cost=costs), row("8")])
    assert [line.rstrip() for line in text.splitlines()[-15:]] == [
        "",
        "req/s    $/Mtok, each alone       with idle time",
        " rate    input output   total  input output  total",
        "─────  ──────────────────────  ───────────────────",
        "    4  0.00521 0.0834 0.00491  0.013  0.208 0.0123",
        "    8",
        "",
        "req/s     by gaps     by convention-1:4",
        " rate   input output       input output",
        "─────  ─────────────  ─────────────────",
        "    4  0.0031 0.0334     0.00417   1234",
        "    8",
        "due99: p99 from the time at which the plan wanted it sent · ≥: the sample has no upper bound",
        "alone: the whole price over each kind, not to be added; with idle time: / 0.4",
        "by …: the price divided between input and output, to be added; no idle time",
    ]
    assert "idle" not in plain([row("4", cost=CostFigures(alone=Dollars(0.1, 0.2, 0.3)))])
    assert "alone" not in plain([row("4")])


def test_notes_that_are_sentences_end_once() -> None:
    last = plain([row("8", notes=("FAILURES: one failed.", "sent late by 3 ms at p99"))]).splitlines()[-1]
    assert last == "at 8: FAILURES: one failed; sent late by 3 ms at p99"


def test_a_stream_that_knows_only_ascii_still_gets_its_table() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    render_table([row("4", "CLIENT_LIMITED")], stream)
    assert b"o CLIENT_LIMITED" in raw.getvalue()


def test_whatever_a_note_says_an_ascii_stream_gets_it() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    costs = CostFigures(gaps=Dollars(0.0031, 0.0334))
    render_table([row("4", cost=costs, notes=("calibrated: TTFT +0.02 ms ± 0.01", "modèle"))], stream)
    stream.seek(0)
    text = stream.read()
    assert "by ...: the price" in text
    assert "at 4: calibrated: TTFT +0.02 ms +- 0.01; mod?le" in text
    assert spelled("E2E p50 −8.1 % (−12 to –)", stream) == "E2E p50 -8.1 % (-12 to -)", "as a comparison's line is"


def test_plain_progress_writes_a_line_at_least_every_ten_seconds_and_not_more_often_than_five() -> None:
    clock = Clock()
    stream = io.StringIO()
    progress = PlainProgress(stream, clock)
    progress.point_started("4 req/s", 2, 5)
    times = []
    for step in range(300):  # a minute, five snapshots a second
        clock.now += 0.2
        before = stream.tell()
        progress.update(snapshot(step * 0.2))
        if stream.tell() != before:
            times.append(clock.now - 1000.0)
    gaps = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    assert 5.0 <= min(gaps) <= max(gaps) <= 10.0
    assert times[-1] > 50.0
    assert PLAIN_INTERVAL_S + 2.0 <= 10.0  # holds with a snapshot every 2 s too


def test_a_plain_line_says_everything_and_is_dated() -> None:
    clock = Clock()
    stream = io.StringIO()
    progress = PlainProgress(stream, clock)
    progress.point_started("4 req/s", 2, 5)
    clock.now += 9
    progress.update(snapshot(69.0, planned=3700.0, failed=3, lateness_p99_ms=1500.0))
    progress.point_finished("● VALID, 3.98 requests/s")
    progress.say("[bold]not markup[/]")
    lines = stream.getvalue().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)
    assert lines[1][21:] == (
        "[2/5] 4 req/s: 1:09/1:01:40  sent 56/120  in flight 9  done 47  failed 3  ~812 tokens/s  lateness p99 1.5 s"
    )
    assert lines[2][21:] == "[2/5] 4 req/s: ● VALID, 3.98 requests/s"
    assert lines[3][21:] == "[bold]not markup[/]"
    assert ESCAPE not in stream.getvalue()


def live(width: int = 100) -> tuple[LiveProgress, Clock, io.StringIO]:
    from rich.console import Console

    clock = Clock()
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system=None)
    return LiveProgress(console, clock), clock, stream


def test_live_progress_shows_the_counts() -> None:
    progress, clock, stream = live()
    progress.start()
    progress.point_started("unlimited", 1, 1)
    clock.now += 1
    progress.update(snapshot(14.2, planned=None, total=None, failed=3))
    progress.stop()
    text = stream.getvalue()
    for part in (
        "unlimited",
        "0:14",
        "sent 56",
        "in flight 9",
        "done 47",
        "failed 3",
        "tokens/s ~812",
        "lateness p99 0.2",
    ):
        assert part in text


def test_live_progress_draws_at_most_five_times_a_second() -> None:
    progress, clock, stream = live()
    progress.start()
    progress.point_started("4 req/s", 1, 2)
    for step in range(100):
        clock.now += 0.01
        progress.update(snapshot(step * 0.01))
    progress.stop()
    assert 4 <= stream.getvalue().count("lateness") <= 7


def test_live_results_and_notices_stay_above_the_bar() -> None:
    progress, clock, stream = live(width=60)
    progress.start()
    progress.point_started("4 req/s", 1, 2)
    clock.now += 1
    progress.update(snapshot(1.0))
    progress.say("a notice with [brackets] and a long tail " + "x" * 80)
    progress.point_finished("● VALID, 3.98 requests/s")
    progress.stop()
    text = stream.getvalue()
    assert "\x1b[2K4 req/s  point 1 of 2  ● VALID, 3.98 requests/s\n" in text  # a line of its own, not redrawn over
    assert "[brackets]" in text
    assert "x" * 80 in text


def test_the_cursor_comes_back_when_the_run_breaks() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), make_progress(stream, interactive=True) as progress:
        progress.point_started("4 req/s", 1, 1)
        raise KeyboardInterrupt
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_a_stream_that_is_no_terminal_gets_plain_lines() -> None:
    stream = io.StringIO()
    with make_progress(stream) as progress:
        progress.point_started("4 req/s", 1, 1)
        assert isinstance(progress, PlainProgress)
    assert ESCAPE not in stream.getvalue()


def test_plain_output_does_not_import_rich() -> None:
    code = (
        "import sys\n"
        "from latency_profile.report import console, progress\n"
        "with progress.make_progress(sys.stderr, False) as p: p.point_started('4 req/s', 1, 1)\n"
        "console.render_table([], sys.stdout, terminal=False)\n"
        "sys.exit('rich' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
