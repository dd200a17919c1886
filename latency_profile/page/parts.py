"""Sections and figures as HTML, and beside it what the script draws and unfolds."""

import json
from collections.abc import Mapping
from typing import Any

from latency_profile.page.figure import Columns, Figure
from latency_profile.page.form import Form
from latency_profile.page.html import element, packed, table, text
from latency_profile.page.section import Section

PLOT_HEIGHT = 280  # px of the axes, where the figure names none; page.js has the same
_AROUND = 53  # px of the axis below them
_LEGEND = 26

Drawn = Mapping[str, Any]  # a figure's specification and data


class Parts:
    """Collects while the page is written. `later`: of points, which are folded: it is read once the first screen is
    drawn."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._at_once: dict[str, Figure] = {}
        self._later: dict[str, Figure] = {}
        self._folded: dict[str, str] = {}  # HTML, by the name of the fold

    def figure(self, figure: Figure, place: str, later: bool = False, drawn: bool = True) -> str:
        """Not drawn, it is its table alone; nothing where it has none."""
        if not drawn and figure.table is None:
            return ""
        caption = element(
            "figcaption", element("h3", text(figure.title)), element("p", text(figure.reading), class_="small")
        )
        made = table(figure.table, f"{figure.title}: numbers", hidden=True) if figure.table else ""
        if not drawn:
            return element("figure", caption, made)
        (self._later if later else self._at_once)[place] = figure
        plot = element(
            "div",
            class_="plot",
            role="img",
            aria_label=f"{figure.title}. {figure.reading}",
            data_figure=place,
            style=f"min-height:{_height(figure, place)}px",
        )
        # Without a table the script makes one of the figure's data, once somebody asks.
        numbers = self.fold(f"{place}-numbers", "Numbers", made, data_numbers=None if made else place)
        return element("figure", caption, plot, numbers)

    def fold(self, name: str, summary: str, inside: str, **attributes: str | None) -> str:
        """A part that is folded until it is asked for. summary: HTML, as inside is."""
        if self._form.packed and inside:
            self._folded[name] = inside
            return element("details", element("summary", summary), **attributes, data_packed=name)
        return element("details", element("summary", summary), inside, **attributes)

    def section(self, section: Section, place: str, later: bool = False, drawn: bool = True) -> str:
        figures = [self.figure(figure, f"{place}-{figure.name}", later, drawn) for figure in section.figures]
        return element(
            "div",
            element("h3", text(section.heading)),
            *(element("p", text(sentence)) for sentence in section.sentences),
            *(table(named.table, named.caption) for named in section.tables),
            element("div", *figures, class_="grid") if figures else "",
            class_="part",
        )

    def islands(self) -> list[str]:
        """What the script reads, first of the parts that are seen at once, then of the folded ones."""
        later = {**_shared(self._later), "html": self._folded}
        return [packed(_shared(self._at_once), "figures"), packed(later, "folded")]


def _shared(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Data by place, and specifications, each once: points have the same ones."""
    specs: dict[str, int] = {}
    found: dict[str, tuple[int, Mapping[str, Columns]]] = {}
    for place, figure in figures.items():
        found[place] = specs.setdefault(json.dumps(figure.spec), len(specs)), figure.data
    return {"specs": [json.loads(spec) for spec in specs], "figures": found}


def _height(figure: Figure, place: str) -> int:
    """What is kept free for it, so that nothing jumps once it is drawn."""
    height = figure.spec.get("height", PLOT_HEIGHT)
    legend = "" if place.startswith("overview-") else json.dumps(figure.spec)
    return (height if isinstance(height, int) else PLOT_HEIGHT) + _AROUND + (_LEGEND if '"domain": [' in legend else 0)
