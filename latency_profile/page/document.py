"""The page: one HTML file that needs nothing else. Pure: the same points give the same bytes."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from latency_profile import __version__
from latency_profile.capacity.structure import Capacity
from latency_profile.page import bundle
from latency_profile.page.each_point import told
from latency_profile.page.figure import Figure
from latency_profile.page.headline import headline
from latency_profile.page.html import element, island, packed, table, text
from latency_profile.page.names import profile_name, series_names, server_of, started
from latency_profile.page.origin import different, origins
from latency_profile.page.overview import overview
from latency_profile.page.points_table import points_tables
from latency_profile.page.section import Section
from latency_profile.page.seen import Seen, Unread, profiles_of
from latency_profile.page.theme import config
from latency_profile.page.toolbar import toolbar
from latency_profile.report.line import verdict_text

_ASIDE = Path(__file__).parent


@cache
def _file(name: str) -> str:
    return (_ASIDE / name).read_text(encoding="utf-8")


def document(
    points: Sequence[Seen],
    unread: Sequence[Unread] = (),
    more: Sequence[Sequence[Section]] = (),
    notices: Sequence[str] = (),
    comparisons: Sequence[Section] = (),
    capacities: Mapping[str, Capacity] | None = None,
) -> bytes:
    """points: in the order in which the tables have them. more: further sections of each point, if of any; names
    of their figures are unique in the page. notices: what else is to be said at the top. comparisons: with earlier
    nights. capacities: what searches came to, by profile."""
    page = _Page(points, unread, more, notices, comparisons, capacities or {})
    scripts = [bundle.script(), _file("page.js")]
    body = page.body()
    head = [
        '<meta charset="utf-8">',
        element_alone("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        element_alone("meta", name="generator", content=f"latency-profile {__version__}"),
        element("title", text(page.title)),
        f"<style>{_file('page.css')}</style>",
    ]
    tail = [
        packed(page.figures, "figures"),
        island({theme: config(theme) for theme in ("light", "dark")}, "themes"),
        f'<script type="text/plain" id="licences">{text(_file("vega-licences.txt"))}</script>',
        *(f"<script>{script}</script>" for script in scripts),
    ]
    made = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        *head,
        "</head>",
        "<body>",
        body,
        *tail,
        "</body>",
        "</html>",
    ]
    return ("\n".join(made) + "\n").encode()


def element_alone(tag: str, /, **attributes: str) -> str:
    """Without an end."""
    return element(tag, **attributes).removesuffix(f"</{tag}>")


def _policy(scripts: Sequence[str]) -> str:
    """Nothing may be fetched, and no other script runs than these. Vega compiles its expressions, which is eval."""
    sums = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-eval' {sums}"


class _Page:
    def __init__(
        self,
        points: Sequence[Seen],
        unread: Sequence[Unread],
        more: Sequence[Sequence[Section]],
        notices: Sequence[str],
        comparisons: Sequence[Section],
        capacities: Mapping[str, Capacity],
    ) -> None:
        self._points, self._unread, self._more, self._notices = points, unread, more, notices
        self._comparisons, self._capacities = comparisons, capacities
        self._names = series_names(points)
        self.figures: dict[str, Any] = {}  # what the script draws, by the name of the place

    @property
    def title(self) -> str:
        models = dict.fromkeys(point.result.config.model for point in self._points)
        servers = dict.fromkeys(server_of(point) for point in self._points)
        return f"Latency profile: {', '.join(models)} by {', '.join(servers)}" if models else "Latency profile"

    def body(self) -> str:
        parts = [
            '<a class="skip" href="#main">Skip to the content</a>',
            self._header(),
            element("main", *self._main(), id="main"),
            element("footer", element("p", text(self._footer()))),
        ]
        return "\n".join(parts)

    def _header(self) -> str:
        nights = {"nights": "Earlier nights"} if self._comparisons else {}
        links = {"curves": "Curves", "points": "Points", **nights, "origin": "Provenance", "each": "Each point"}
        nav = "".join(element("a", name, href=f"#{key}") for key, name in links.items()) if self._points else ""
        buttons = [
            element("button", "Dark", type="button", id="theme", aria_pressed="false"),
            element("button", "Print", type="button", id="print"),
        ]
        return element(
            "header",
            element("div", element("nav", nav, aria_label="Sections"), *buttons, class_="bar"),
            element("h1", text(self.title)),
            *self._subtitle(),
        )

    def _subtitle(self) -> Iterator[str]:
        if self._points:
            begun = sorted({started(point) for point in self._points})
            when = begun[0] if len(begun) == 1 else f"{begun[0]} to {begun[-1]}"
            yield element("p", text(f"Measured {when} UTC"), class_="small")

    def _main(self) -> Iterator[str]:
        yield element("section", element("h2", "Result", id="result"), *self._top(), aria_labelledby="result")
        if not self._points:
            return
        found = overview(self._points, self._names)
        yield element(
            "section",
            element("h2", "Curves", id="curves"),
            element(
                "noscript", element("p", "Figures are drawn by a script, which is off here: their numbers are below.")
            ),
            toolbar(self._points, list(self._names.values()), found.figures),
            element(
                "div", *(self._figure(figure, f"overview-{figure.name}") for figure in found.figures), class_="grid"
            ),
            *(element("p", text(f"Not drawn. {line}"), class_="small") for line in found.absent),
            aria_labelledby="curves",
        )
        yield element(
            "section",
            element("h2", "Points", id="points"),
            points_tables(self._points, self._names),
            *self._reasons(),
            aria_labelledby="points",
        )
        if self._comparisons:
            compared = [self._section(section, f"nights-{k}") for k, section in enumerate(self._comparisons)]
            yield element("section", element("h2", "Earlier nights", id="nights"), *compared, aria_labelledby="nights")
        yield element("section", element("h2", "Provenance", id="origin"), *self._origin(), aria_labelledby="origin")
        yield element("section", element("h2", "Each point", id="each"), *self._each(), aria_labelledby="each")

    def _top(self) -> Iterator[str]:
        for profile, of in profiles_of(self._points):
            name = profile_name(of, self._names)
            label = element("strong", text(f"{name}: ")) if self._several else ""
            yield element(
                "p", label, text(headline(of, self._capacities.get(profile))), class_="headline", data_profile=profile
            )
        if not self._points:
            yield element("p", "There is no point to show.", class_="headline")
        notes = [
            *self._mixed(),
            *self._notices,
            *(
                f"{of.file}, of schema {of.schema_version}, cannot be read by this "
                f"version and is left out: {of.why}. `latency-profile reanalyze` makes it anew from its records."
                for of in self._unread
            ),
        ]
        if self._points and all(point.barred for point in self._points):
            notes.insert(0, "No point may be used: every mark below is hollow.")
        if notes:
            yield element("ul", *(element("li", text(note)) for note in notes), class_="notes", aria_label="Notes")

    @property
    def _several(self) -> bool:
        return len(self._names) > 1

    def _mixed(self) -> Iterator[str]:
        apart = different(self._points, self._names)
        if apart is not None:
            yield (
                f"The profiles' fingerprints differ in {', '.join(row[0] for row in apart.rows)}: what is drawn here "
                "side by side was not asked, or not measured, alike (values under Provenance)."
            )

    def _figure(self, figure: Figure, place: str) -> str:
        self.figures[place] = {"spec": figure.spec, "data": figure.data}
        made = table(figure.table, f"{figure.title}: numbers", hidden=True) if figure.table else ""
        of = None if figure.table else place  # the script makes it of the figure's data, once somebody asks
        numbers = element("details", element("summary", "Numbers"), made, data_numbers=of)
        return element(
            "figure",
            element(
                "figcaption", element("h3", text(figure.title)), element("p", text(figure.reading), class_="small")
            ),
            element(
                "div", class_="plot", role="img", aria_label=f"{figure.title}. {figure.reading}", data_figure=place
            ),
            numbers,
        )

    def _section(self, section: Section, place: str, level: str = "h3") -> str:
        return element(
            "div",
            element(level, text(section.heading)),
            *(element("p", text(sentence)) for sentence in section.sentences),
            *(table(named.table, named.caption) for named in section.tables),
            element(
                "div", *(self._figure(figure, f"{place}-{figure.name}") for figure in section.figures), class_="grid"
            )
            if section.figures
            else "",
            class_="part",
        )

    def _reasons(self) -> Iterator[str]:
        """Why points are not VALID, and which objectives they do not keep."""
        said = []
        for point in self._points:
            name = f"{self._names[point.profile, point.model]}, " if self._several else ""
            where = f"{name}{point.load_name}"
            if point.result.cut_short:
                said.append(f"{where}: cut short by {point.result.cut_short}.")
            if point.verdict != "VALID":
                said += [f"{where}: {verdict_text(point.verdict)}: {reason}" for reason in point.row.reasons]
            said += [f"{where}: {objective} {outcome}: {why}" for outcome, objective, why in point.row.not_kept]
        if said:
            yield element("h3", "Why points are not VALID, or keep no objective")
            yield element("ul", *(element("li", text(line)) for line in said))

    def _origin(self) -> Iterator[str]:
        apart = different(self._points, self._names)
        if apart is not None:
            yield element("div", table(apart, "Where the fingerprints differ"), class_="part")
        for number, section in enumerate(origins(self._points, self._names)):
            yield self._section(section, f"origin-{number}")

    def _each(self) -> Iterator[str]:
        for number, point in enumerate(self._points):
            name = f"{self._names[point.profile, point.model]}: " if self._several else ""
            summary = element(
                "summary",
                text(f"{name}{point.load_name} "),
                element("span", text(verdict_text(point.verdict)), class_="verdict"),
            )
            parts = [
                self._section(section, f"point-{number}-{place}")
                for place, section in enumerate((told(point), *(self._more[number] if self._more else ())))
            ]
            yield element("details", summary, *parts, class_="point", id=f"point-{number}")

    def _footer(self) -> str:
        versions = sorted({str(point.result.provenance.get("latency_profile")) for point in self._points})
        by = f"Measured by latency-profile {', '.join(versions)}. " if versions else ""
        return f"{by}Page made by latency-profile {__version__}. Drawn with Vega-Lite; its licences are in this file."
