"""The page: one HTML file that needs nothing else. Pure: the same points give the same bytes."""

import base64
import bisect
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from latency_profile import __version__
from latency_profile.capacity.structure import Capacity
from latency_profile.errors import UsageError
from latency_profile.page import bundle
from latency_profile.page.each_point import told
from latency_profile.page.form import FORMS, LIMIT_BYTES, Form
from latency_profile.page.headline import headline
from latency_profile.page.html import ODD, element, island, packed_text, table, text
from latency_profile.page.in_depth import InDepth
from latency_profile.page.names import profile_name, series_names, server_of, started
from latency_profile.page.origin import different, origins
from latency_profile.page.overview import overview
from latency_profile.page.parts import Parts
from latency_profile.page.points_table import points_tables
from latency_profile.page.section import Section
from latency_profile.page.seen import Seen, Unread, profiles_of
from latency_profile.page.theme import config
from latency_profile.page.toolbar import toolbar
from latency_profile.report.line import verdict_text

_ASIDE = Path(__file__).parent


@cache
def _library() -> str:
    """The plotting library, which is most of a small page."""
    return packed_text(bundle.script(), "library")


@cache
def _file(name: str) -> str:
    return (_ASIDE / name).read_text(encoding="utf-8")


def document(
    points: Sequence[Seen],
    unread: Sequence[Unread] = (),
    more: InDepth | None = None,
    notices: Sequence[str] = (),
    comparisons: Sequence[Section] = (),
    capacities: Mapping[str, Capacity] | None = None,
) -> bytes:
    """The page, in the richest form that LIMIT_BYTES holds; it says what it has not.

    points: in the order in which the tables have them. more: further sections of each point, if of any; names of
    their figures are unique in the page. notices: what else is to be said at the top. comparisons: with earlier nights.
    capacities: what searches came to, by profile. Raises UsageError where not even the tables fit."""

    @cache
    def made(form: Form) -> bytes:
        return _Page(points, unread, more or InDepth(), notices, comparisons, capacities or {}, form).written()

    richest, *others = FORMS
    if len(made(richest)) <= LIMIT_BYTES:
        return made(richest)
    place = bisect.bisect_left(others, True, key=lambda form: len(made(form)) <= LIMIT_BYTES)  # ever smaller ones
    if place < len(others):
        return made(others[place])
    raise UsageError(
        f"RESULTS: got {len(points):,} points, whose tables alone make a page of {len(made(FORMS[-1])):,} bytes; takes "
        f"what fits in {LIMIT_BYTES:,}"
    )


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
        more: InDepth,
        notices: Sequence[str],
        comparisons: Sequence[Section],
        capacities: Mapping[str, Capacity],
        form: Form,
    ) -> None:
        self._points, self._unread, self._more, self._notices = points, unread, more, notices
        self._comparisons, self._capacities, self._form = comparisons, capacities, form
        self._names = series_names(points)
        self._parts = Parts(form)

    def written(self) -> bytes:
        script = _file("page.js")
        head = [
            '<meta charset="utf-8">',
            element_alone("meta", http_equiv="Content-Security-Policy", content=_policy([bundle.script(), script])),
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            element_alone("meta", name="generator", content=f"latency-profile {__version__}"),
            element("title", text(self.title)),
            f"<style>{_file('page.css')}</style>",
        ]
        body = self._body()  # before what it has collected
        tail = [
            *self._parts.islands(),
            island({theme: config(theme) for theme in ("light", "dark")}, "themes"),
            _library(),
            f'<script type="text/plain" id="licences">{text(_file("vega-licences.txt"))}</script>',
            f"<script>{script}</script>",
        ]
        made = ["<!doctype html>", '<html lang="en">', "<head>", *head, "</head>", "<body>", body, *tail, "</body>"]
        return ("\n".join([*made, "</html>"]) + "\n").encode(errors=ODD)

    @property
    def title(self) -> str:
        models = dict.fromkeys(point.result.config.model for point in self._points)
        servers = dict.fromkeys(server_of(point) for point in self._points)
        return f"Latency profile: {', '.join(models)} by {', '.join(servers)}" if models else "Latency profile"

    def _body(self) -> str:
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
                "div",
                *(self._parts.figure(figure, f"overview-{figure.name}") for figure in found.figures),
                class_="grid",
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
            compared = [
                self._parts.section(section, f"nights-{k}", drawn=self._form.nights)
                for k, section in enumerate(self._comparisons)
            ]
            yield element("section", element("h2", "Earlier nights", id="nights"), *compared, aria_labelledby="nights")
        yield element("section", element("h2", "Provenance", id="origin"), *self._origin(), aria_labelledby="origin")
        yield element("section", element("h2", "Each point", id="each"), *self._each(), aria_labelledby="each")

    def _top(self) -> Iterator[str]:
        for profile, of in profiles_of(self._points):
            name = profile_name(of, self._names)
            label = element("strong", text(f"{name}: ")) if self._several else ""
            told = text(headline(of, self._capacities.get(profile)))
            yield element("p", label, told, class_="headline", data_profile=of[0].profile_name)
        if not self._points:
            yield element("p", "There is no point to show.", class_="headline")
        notes = [
            *self._mixed(),
            *self._notices,
            *self._more.unread,
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
            made = self._parts.section(section, f"origin-{number}")
            many = self._form.packed and self._several
            yield self._parts.fold(f"origin-{number}", text(section.heading), made, class_="point") if many else made

    def _each(self) -> Iterator[str]:
        for said in (*(self._more.said if self._form.each else ()), *self._form.said):
            yield element("p", text(said))
        if not self._form.each:
            return
        if self._form.packed:
            yield element("noscript", element("p", "Points are unfolded by a script, which is off here."))
        for number, point in enumerate(self._points):
            name = f"{self._names[point.profile, point.model]}: " if self._several else ""
            verdict = element("span", text(verdict_text(point.verdict)), class_="verdict")
            parts = [
                self._parts.section(
                    section, f"point-{number}-{place}", later=True, drawn=section.heading not in self._form.undrawn
                )
                for place, section in enumerate((told(point), *self._more.of(number)))
            ]
            key, summary = f"point-{number}", text(f"{name}{point.load_name} ") + verdict
            yield self._parts.fold(key, summary, "".join(parts), class_="point", id=key)

    def _footer(self) -> str:
        told = (point.result.provenance.get("latency_profile") for point in self._points)
        versions = sorted({str(version) for version in told if version is not None})
        by = f"Measured by latency-profile {', '.join(versions)}. " if versions else ""
        return f"{by}Page made by latency-profile {__version__}. Drawn with Vega-Lite; its licences are in this file."
