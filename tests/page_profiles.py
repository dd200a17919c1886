"""Profiles for pages: made of synthetic records, in folders as a run leaves them."""

import base64
import zlib
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from latency_profile import results
from latency_profile.cli import main
from latency_profile.records import Records, Status
from tests.make_records import SECOND, make_records

START_NS = 1_767_323_045_000_000_000


def steady(rate: float | None, n: int = 400, tpot_s: float = 0.01, failed: float = 0.0, **context: Any) -> Records:
    """A point of `n` requests at a rate (None: `n` in flight at most), 8 tokens each; a share of them fails."""
    rng = np.random.default_rng(n)
    due = np.arange(n) / (rate or 20.0)
    first = due + rng.uniform(0.04, 0.06, n) * (1 + (rate or 1) / 20)
    times = first[:, None] + np.cumsum(rng.uniform(0.8, 1.2, (n, 8)) * tpot_s, axis=1)
    columns = {"status": np.where(np.arange(n) < failed * n, Status.HTTP_SERVER_ERROR, Status.OK)}
    settings = {"file_prefix": "benchmark", "machine_cost": 4.0} | context.pop("settings", {})
    at = {"request_rate": rate, "concurrency": None if rate else 8, "duration_s": float(due[-1]) + 1 / (rate or 20.0)}
    records = make_records(due, due + 0.0002, list(times), columns=columns, settings=settings, **(at | context))
    records.context.provenance = {
        "latency_profile": "0.1.0",
        "server_version": "0.9",
        "host": "client",
        "given": ["machine_cost"],
        "workload": {"kind": "synthetic"},
        "settings": settings,
    }
    return records


def written(folder: Path, points: Sequence[Records], day: int = 0, profile: bool = True) -> Path:
    """The folder, with the points' files, records and, where asked for, their profile's file."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for place, point in enumerate(points):
        point.context.started_ns = START_NS + (day * 86_400 + place * 60) * SECOND
        point.context.date = f"202601{2 + day:02}-0304{5 + place:02}"
        files = [results.write(folder, name, data).name for name, data in results.point_files(point).items()]
        point.save(folder / results.records_name(point.context))
        outcomes.append(results.Outcome(point.context, results.point_result(point), files))
    if profile:
        results.write(folder, *results.profile_file(outcomes))
    return folder


class Page(HTMLParser):
    """What stands in a page, read as a browser reads it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._rows: list[list[str]] = []
        self._cell = self._caption = self._script = None
        self._into: list[str] | None = None
        self.feed(self.source)
        self.close()

    @property
    def figures(self) -> dict[str, Any]:
        """Specification and data by place: of what is seen at once, and of what is folded."""
        both = [self.packed(name) for name in ("figures", "folded")]
        return {
            place: {"spec": of["specs"][spec], "data": data}
            for of in both
            for place, (spec, data) in of["figures"].items()
        }

    @property
    def folded(self) -> dict[str, str]:
        """HTML of what is folded, where the page is too large to have it as it is."""
        return self.packed("folded")["html"]

    def packed(self, name: str) -> Any:
        found = next(text for attributes, text in self.scripts if attributes.get("id") == name)
        return msgspec.json.decode(zlib.decompress(base64.b64decode(found)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th", "caption", "script", "style"):
            self._into = []

    def handle_endtag(self, tag: str) -> None:
        inside = "".join(self._into or [])
        if tag in ("td", "th"):
            self._rows[-1].append(inside)
        elif tag == "caption":
            self.tables.setdefault(inside, self._rows)
        elif tag == "script":
            self.scripts.append((self.tags[-1][1], inside))
        if tag in ("td", "th", "caption", "script", "style"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into.append(data)
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.text += data


Report = Callable[..., tuple[int, Page, str]]


def reporting(folder: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    """`latency-profile report` of any arguments: its exit code, the page that it leaves in `folder`, what it said."""

    def run(*arguments: object) -> tuple[int, Page, str]:
        code = main(["report", *map(str, arguments), "-o", str(folder / "page" / "report.html")])
        output = capsys.readouterr()
        return code, Page(Path(output.out.splitlines()[0])), output.err

    return run
