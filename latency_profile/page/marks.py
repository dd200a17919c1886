"""What specifications of several figures have in common. Colours are the config's `range.category`, in the order of
each scale's domain, so that the page (light, dark) and the pictures each have their own."""

from collections.abc import Sequence
from typing import Any

Spec = dict[str, Any]

GREY = "#808080"  # half way between black and white: seen on both
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3])  # lines are told apart without colours, too
COLOURS = 8  # that a config has at least
HEIGHT = 200


def quantitative(field: str, title: str, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, **more}


def named(field: str, names: Sequence[str], **more: Any) -> Spec:
    """A nominal channel with a place of its own for each name, whichever of them the data has."""
    return {"field": field, "type": "nominal", "title": None, "scale": {"domain": list(names), **more}}


def lines(names: Sequence[str], y_title: str) -> Spec:
    """A line for each column of a table of one row an x. Of several, each has its name in the legend; one alone is
    named by its figure's title."""
    if len(names) == 1:
        alone = {"color": {"datum": names[0], "legend": None}}
        return {"mark": "line", "encoding": {"y": quantitative(names[0], y_title), **alone}}
    transform, encoding = folded(names)
    return {"transform": transform, "mark": "line", "encoding": {"y": quantitative("value", y_title), **encoding}}


def folded(names: Sequence[str]) -> tuple[list[Spec], Spec]:
    """Columns as rows of `series` and `value`, and how the series are told apart."""
    dashes = [DASHES[place % len(DASHES)] for place in range(len(names))]
    colour = {**named("series", names), "legend": {"symbolType": "stroke"}}
    encoding = {"color": colour, "strokeDash": named("series", names, range=dashes)}
    return [{"fold": list(names), "as": ["series", "value"]}], encoding


def tooltips(fields: Sequence[tuple[str, str]]) -> list[Spec]:
    """Of (field, title)."""
    return [{"field": field, "title": title} for field, title in fields]
