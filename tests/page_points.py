"""What tests of a point's sections look at: its figures by name, and their specifications with the data in them."""

import json
from typing import Any

import msgspec

from latency_profile import results
from latency_profile.page.figure import Figure, rows_of
from latency_profile.page.points import point_sections
from latency_profile.page.section import Section
from latency_profile.records import Records

NAME = "point-1"


class Shown:
    """The sections of one point."""

    def __init__(self, tree: dict[str, Any], records: Records | None) -> None:
        self.tree = tree
        self.sections = point_sections(NAME, tree, records)
        self.figures = {figure.name.removeprefix(f"{NAME}-"): figure for one in self.sections for figure in one.figures}

    def __getitem__(self, heading: str) -> Section:
        return next(section for section in self.sections if section.heading == heading)

    def said(self, heading: str) -> str:
        return " ".join(self[heading].sentences)

    def data(self, name: str, table: str) -> dict[str, list[Any]]:
        return {key: list(values) for key, values in self.figures[name].data[table].items()}


def shown(records: Records, model: str | None = None) -> Shown:
    """Of the JSON that these records give."""
    return Shown(json.loads(msgspec.json.encode(results.point_result(records, model))), records)


def whole_spec(figure: Figure) -> dict[str, Any]:
    """As the page draws it: with a width and its data."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": 600,
        **figure.spec,
        "datasets": {name: rows_of(columns) for name, columns in figure.data.items()},
    }


def step_s(figure: Figure) -> float:
    """The length of the steps of a figure over time, as its specification has it."""
    return float(figure.spec["transform"][1]["calculate"].rpartition("* ")[2])
