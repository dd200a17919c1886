"""The table and the curve at the end of a profile. It lays out what it is given and computes nothing."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TextIO

from latency_profile.cost import digits
from latency_profile.report.curve import curve
from latency_profile.report.line import OBJECTIVES, UNUSABLE, Line, slo_text, spelled, style_of, verdict_text
from latency_profile.report.table_row import TableRow, milliseconds, number

PLAIN_WIDTH = 80  # where the output is no terminal: logs are read in narrow windows
WIDEST = 120
GAP = "  "  # between groups of columns; inside one group it is a single space


class Column(NamedTuple):
    """One column: its group (heading shared with its neighbours), its own heading, and how a row's cell reads."""

    group: str
    heading: str
    cell: Callable[[TableRow], str]
    left: bool = False  # flush left: words


def _usd(value: float | None) -> str:
    return "" if value is None else digits(value)


LOAD_COLUMNS = (
    Column("req/s", "sent", lambda row: number(row.sent_per_s)),
    Column("req/s", "done", lambda row: number(row.completed_per_s)),
    Column("answers", "ok/fail", lambda row: f"{row.ok}/{row.failed}"),
    Column("output", "tok/s", lambda row: number(row.output_tokens_per_s)),
)
LATENCY_COLUMNS = (
    Column("TTFT ms", "p50", lambda row: milliseconds(row.ttft_p50_ms)),
    Column("TTFT ms", "p99", lambda row: milliseconds(row.ttft_p99_ms)),
    Column("TPOT ms", "p50", lambda row: milliseconds(row.tpot_p50_ms)),
    Column("TPOT ms", "p99", lambda row: milliseconds(row.tpot_p99_ms)),
    Column("ITL ms", "p99", lambda row: milliseconds(row.itl_p99_ms)),
    Column("E2E ms", "p50", lambda row: milliseconds(row.e2e_p50_ms)),
    Column("E2E ms", "p99", lambda row: milliseconds(row.e2e_p99_ms)),
    Column("E2E ms", "due99", lambda row: milliseconds(row.response_e2e_p99_ms)),
)
SERVER_COLUMNS = (
    Column("running", "mean", lambda row: number(row.server.running)),
    Column("waiting", "mean", lambda row: number(row.server.waiting)),
    Column("waiting", "max", lambda row: "" if row.server.most_waiting is None else f"{row.server.most_waiting:.0f}"),
    Column("KV cache", "max %", lambda row: number(row.server.kv_percent)),
    Column("of the mean TTFT, ms", "outside", lambda row: number(row.server.outside_ms)),
    Column("of the mean TTFT, ms", "queue", lambda row: number(row.server.queue_ms)),
    Column("of the mean TTFT, ms", "prefill", lambda row: number(row.server.prefill_ms)),
    Column("GPU", "busy %", lambda row: number(row.server.gpu_percent)),
    Column("GPU", "W", lambda row: number(row.server.watts)),
    Column("GPU", "J/tok", lambda row: number(row.server.joules_per_token)),
)
COST_COLUMN = Column("output", "$/Mtok", lambda row: _usd(row.cost.alone.output))
ALONE_COLUMNS = (
    Column("$/Mtok, each alone", "input", lambda row: _usd(row.cost.alone.input)),
    Column("$/Mtok, each alone", "output", lambda row: _usd(row.cost.alone.output)),
    Column("$/Mtok, each alone", "total", lambda row: _usd(row.cost.alone.total)),
    Column("with idle time", "input", lambda row: _usd(row.cost.with_idle.input)),
    Column("with idle time", "output", lambda row: _usd(row.cost.with_idle.output)),
    Column("with idle time", "total", lambda row: _usd(row.cost.with_idle.total)),
)
DIVIDED_COLUMNS = (
    Column("by measured", "input", lambda row: _usd(row.cost.measured.input)),
    Column("by measured", "output", lambda row: _usd(row.cost.measured.output)),
    Column("by gaps", "input", lambda row: _usd(row.cost.gaps.input)),
    Column("by gaps", "output", lambda row: _usd(row.cost.gaps.output)),
    Column("by convention-1:4", "input", lambda row: _usd(row.cost.convention.input)),
    Column("by convention-1:4", "output", lambda row: _usd(row.cost.convention.output)),
)
SLO_COLUMN = Column("", "slo", lambda row: slo_text(row.slo), left=True)
VERDICT_COLUMN = Column("", "verdict", lambda row: verdict_text(row.verdict), left=True)


def render_table(
    rows: Sequence[TableRow],
    stream: TextIO,
    *,
    load: tuple[str, str] = ("req/s", "rate"),
    files: Sequence[str] = (),
    terminal: bool | None = None,
    width: int | None = None,
) -> None:
    """Writes the table, notes on single points, the curve, why points are not VALID or keep no objective, and where the
    files went.

    `load` heads the first column: its group and its name (("in", "flight") for a closed loop). Columns without any
    figure are left out; what the server told stands in a table of its own. Where all other columns do not fit into the
    width (80 when the stream is no terminal), they come in two parts.
    `terminal` and `width` None ask the stream.
    """
    if terminal is None:
        terminal = stream.isatty()
    if not terminal:
        width = width or PLAIN_WIDTH
        for line in layout(rows, load, files, width):
            stream.write(spelled(line.text, stream) + "\n")
        stream.flush()
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, force_terminal=True, width=width)
    for line in layout(rows, load, files, min(console.width, WIDEST)):
        text = Text(line.text, style=line.style)
        for start, end, style in line.marked:
            text.stylize(style, start, end)
        console.print(text, soft_wrap=True)


def layout(rows: Sequence[TableRow], load: tuple[str, str], files: Sequence[str], width: int) -> list[Line]:
    """All lines, in the order in which they are written."""
    load_column = Column(load[0], load[1], lambda row: row.load)
    money = [COST_COLUMN] if any(COST_COLUMN.cell(row) for row in rows) else []
    latency = [column for column in LATENCY_COLUMNS if any(column.cell(row) for row in rows)]
    judged = [*([SLO_COLUMN] if any(row.slo for row in rows) else []), VERDICT_COLUMN]
    lines = grid([load_column, *LOAD_COLUMNS, *money, *latency, *judged], rows)
    if max(len(line.text) for line in lines) > width:
        lines = grid([load_column, *LOAD_COLUMNS, *money, *judged], rows)
        if latency:
            lines += [Line(""), *grid([load_column, *latency], rows)]
    for columns in (SERVER_COLUMNS, ALONE_COLUMNS, DIVIDED_COLUMNS):
        filled = [column for column in columns if any(column.cell(row) for row in rows)]
        if filled:
            lines += [Line(""), *grid([load_column, *filled], rows)]
    lines += [Line(text, "dim") for text in legend(latency, rows)]
    lines += [
        Line(f"at {row.load}: {'; '.join(note.rstrip('.') for note in row.notes)}", "dim") for row in rows if row.notes
    ]
    lines += curve(rows, width)
    reasons = [(row, reason) for row in rows if row.verdict != "VALID" for reason in row.reasons]
    if reasons:
        lines.append(Line(""))
    for row, reason in reasons:
        head = f"{verdict_text(row.verdict)} at {row.load}: "
        lines.append(Line(head + reason, "", ((0, len(head), style_of(row.verdict)),)))
    if any(row.not_kept for row in rows):
        lines.append(Line(""))
    for row in rows:
        for outcome, name, reason in row.not_kept:
            mark, style = OBJECTIVES[outcome]
            head = f"{mark} {name} at {row.load}, {outcome}: "
            lines.append(Line(head + reason, "", ((0, len(head), style),)))
    if files:
        lines += [Line(""), *(Line(f"→ {place}", "dim") for place in files)]
    return lines


def legend(latency: Sequence[Column], rows: Sequence[TableRow]) -> list[str]:
    """What the table's abbreviations mean, where it has them."""
    notes = []
    if any(row.response_e2e_p99_ms.value is not None for row in rows):
        notes.append("due99: p99 from the time at which the plan wanted it sent")
    if any("≥" in column.cell(row) for column in latency for row in rows):
        notes.append("≥: the sample has no upper bound")
    lines = [" · ".join(notes)] if notes else []
    if any(column.cell(row) for column in ALONE_COLUMNS for row in rows):
        shares = sorted({row.cost.utilization for row in rows if row.cost.utilization})
        idle = f"; with idle time: / {', '.join(f'{share:g}' for share in shares)}" if shares else ""
        lines.append(f"alone: the whole price over each kind, not to be added{idle}")
    if any(column.cell(row) for column in DIVIDED_COLUMNS for row in rows):
        lines.append("by …: the price divided between input and output, to be added; no idle time")
    return lines


def grid(columns: Sequence[Column], rows: Sequence[TableRow]) -> list[Line]:
    """Two lines of headings, a rule, and a line a row; numbers flush right, the verdict flush left."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    widths = [max([len(column.heading), *(len(row[i]) for row in cells)]) for i, column in enumerate(columns)]
    groups = grouped(columns)
    for group in groups:
        widths[group[0]] += max(0, len(columns[group[0]].group) - span(group, widths))

    def aligned(texts: Sequence[str]) -> str:
        padded = [
            text.ljust(width) if column.left else text.rjust(width)
            for text, column, width in zip(texts, columns, widths, strict=True)
        ]
        return GAP.join(" ".join(padded[i] for i in group) for group in groups).rstrip()

    def above(group: Sequence[int]) -> str:
        text, room = columns[group[0]].group, span(group, widths)
        return text.center(room) if len(group) > 1 else text.rjust(room)

    lines = [
        Line(GAP.join(above(group) for group in groups).rstrip(), "bold"),
        Line(aligned([column.heading for column in columns]), "dim"),
        Line(GAP.join("─" * span(group, widths) for group in groups), "dim"),
    ]
    for row, texts in zip(rows, cells, strict=True):
        text = aligned(texts)
        mark = verdict_text(row.verdict)
        start = text.rfind(mark)
        marked = ((start, start + len(mark), style_of(row.verdict)),) if start >= 0 else ()
        lines.append(Line(text, "dim" if row.cut_short or row.verdict in UNUSABLE else "", marked))
    return lines


def grouped(columns: Sequence[Column]) -> list[list[int]]:
    """Indices of neighbouring columns that share a group's heading."""
    groups: list[list[int]] = []
    for i, column in enumerate(columns):
        if groups and columns[groups[-1][0]].group == column.group:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def span(group: Sequence[int], widths: Sequence[int]) -> int:
    """Characters that a group takes, with the spaces inside it."""
    return sum(widths[i] for i in group) + len(group) - 1
