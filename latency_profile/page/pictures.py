"""The page's figures as PNG and SVG, from the very specifications that the page draws."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from latency_profile.errors import UsageError
from latency_profile.page.figure import Figure, rows_of
from latency_profile.page.theme import config

WIDTH, HEIGHT = 720, 400  # px of the axes, where the figure names none
SCALE = 2.0  # pixels of a PNG for each
GROUND = "#ffffff"
BESIDE = {"orient": "right", "direction": "vertical"}  # a picture has the room, and the page's own legend has not
_CONTROLS = [code for code in range(32) if chr(code) not in "\t\n\r"]
_NOT_IN_XML = dict.fromkeys([*_CONTROLS, *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], "\N{REPLACEMENT CHARACTER}")
FONT = "DejaVu Sans, Liberation Sans, sans-serif"  # what machines without a screen have


def drawer() -> Callable[[Iterable[Figure]], Iterator[tuple[str, bytes]]]:
    """What makes pictures. Raises UsageError where the package for it is not installed."""
    try:
        import vl_convert
    except ImportError:
        needs = "takes the package vl-convert-python (pip install 'latency-profile[plots]')"
        raise UsageError(f"--plots: {needs}") from None
    return lambda figures: _pictures(vl_convert, figures)


def _pictures(library: ModuleType, figures: Iterable[Figure]) -> Iterator[tuple[str, bytes]]:
    """Names and bytes: NAME.png and NAME.svg of each figure."""
    for figure in figures:
        spec = json.dumps(_drawable(_spec(figure)))
        yield f"{figure.name}.png", library.vegalite_to_png(spec, scale=SCALE)
        yield f"{figure.name}.svg", library.vegalite_to_svg(spec).encode()


def svg(figure: Figure) -> bytes:
    """One figure. Raises ImportError where the package for it is not installed."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(json.dumps(_drawable(_spec(figure))))).encode()


def _spec(figure: Figure) -> dict[str, Any]:
    composed = any(key in figure.spec for key in ("facet", "repeat", "concat", "hconcat", "vconcat"))
    look = config("light")
    size = {} if composed else {"width": WIDTH, "height": HEIGHT}
    return {
        "title": {"text": figure.title, "subtitle": figure.reading},
        **size,
        **figure.spec,
        "datasets": {name: rows_of(columns) for name, columns in figure.data.items()},
        "config": {**look, "background": GROUND, "font": FONT, "legend": {**look["legend"], **BESIDE}},
        "padding": 12,
    }


def _drawable(value: Any) -> Any:
    """With a sign in place of what XML has no place for, as names from outside may have: the library ends the process
    at it."""
    if isinstance(value, str):
        return value.translate(_NOT_IN_XML)
    if isinstance(value, Mapping):
        return {key: _drawable(each) for key, each in value.items()}
    return [_drawable(each) for each in value] if isinstance(value, list | tuple) else value
