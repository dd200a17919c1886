"""The tables of all points: the console's own columns, and so its very numbers."""

from collections.abc import Mapping, Sequence

from latency_profile.page.html import element, frame, text
from latency_profile.page.seen import Seen
from latency_profile.report.console import (
    ALONE_COLUMNS,
    COST_COLUMN,
    DIVIDED_COLUMNS,
    LATENCY_COLUMNS,
    LOAD_COLUMNS,
    SERVER_COLUMNS,
    SLO_COLUMN,
    VERDICT_COLUMN,
    Column,
    grouped,
    legend,
)

_TABLES = (
    ("Load and latency", (VERDICT_COLUMN, SLO_COLUMN, *LOAD_COLUMNS, COST_COLUMN, *LATENCY_COLUMNS)),
    ("What the server and its GPUs told", SERVER_COLUMNS),
    ("What tokens cost", (*ALONE_COLUMNS, *DIVIDED_COLUMNS)),
)


def points_tables(points: Sequence[Seen], names: Mapping[tuple[str, str | None], str]) -> str:
    """Columns without any figure are left out, and so are tables."""
    made = []
    for caption, columns in _TABLES:
        shown = [column for column in columns if any(column.cell(point.row) for point in points)]
        if any(not column.left for column in shown):
            made.append(_table(caption, shown, points, names))
    told = legend(LATENCY_COLUMNS, [point.row for point in points])
    return "".join([*made, *(element("p", text(line), class_="small") for line in told)])


def load_heading(points: Sequence[Seen]) -> tuple[str, str]:
    """Of the column of loads: its group and its name, as the console's."""
    kinds = {point.closed for point in points}
    if len(kinds) > 1:
        return "", "load"
    return ("in", "flight") if kinds == {True} else ("req/s", "rate")


def _table(
    caption: str, columns: Sequence[Column], points: Sequence[Seen], names: Mapping[tuple[str, str | None], str]
) -> str:
    several = len(names) > 1
    group, heading = load_heading(points)
    above = [element("th", scope="col")] if several else []
    above.append(element("th", text(group), scope="col"))
    for places in grouped(columns):
        name = columns[places[0]].group
        span = str(len(places)) if len(places) > 1 else None
        above.append(element("th", text(name), scope="colgroup" if span else "col", colspan=span))
    below = [element("th", "profile", scope="col")] if several else []
    below.append(element("th", text(heading), scope="col"))
    below += [element("th", text(each.heading), scope="col", class_="words" if each.left else None) for each in columns]
    rows = []
    for point in points:
        load = point.load if group else point.load_name
        cells = [element("th", text(names[point.profile, point.model]), scope="row")] if several else []
        cells.append(element("td" if several else "th", text(load), scope=None if several else "row"))
        cells += [
            element("td", text(column.cell(point.row) or "–"), class_="words" if column.left else None)
            for column in columns
        ]
        rows.append(element("tr", *cells, class_="barred" if point.barred else None))
    made = element(
        "table",
        element("caption", text(caption)),
        element("thead", element("tr", *above), element("tr", *below)),
        element("tbody", *rows),
    )
    return frame(made, caption)
