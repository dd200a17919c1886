"""Text as HTML. Whatever comes from results goes through here."""

import base64
import html
import json
import zlib
from collections.abc import Sequence
from typing import Any

from latency_profile.page.figure import TextTable

ODD = "replace"  # of a name of a file that is no UTF-8: a ? stands for what no text can hold
LONG = 40  # characters from which a cell has several lines


def text(value: object) -> str:
    """Safe between tags and inside quoted attributes."""
    return html.escape(str(value), quote=True)


def element(tag: str, /, *inside: str, **attributes: str | bool | None) -> str:
    """inside is HTML already, attributes are not. `class_` is class, `aria_label` is aria-label; True has no value."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return f"<{tag}{written}>{''.join(inside)}</{tag}>"


def table(of: TextTable, caption: str, hidden: bool = False) -> str:
    """A table, read aloud with its headings, in a frame that scrolls by itself and can be reached by keyboard."""
    head = "".join(element("th", text(name), scope="col") for name in of.header)
    rows = "".join(element("tr", *_cells(row)) for row in of.rows)
    made = element(
        "table",
        element("caption", text(caption), class_="unseen" if hidden else None),
        element("thead", element("tr", head)),
        element("tbody", rows),
    )
    return frame(made, caption)


def frame(made: str, label: str) -> str:
    return element("div", made, class_="frame", role="region", aria_label=label, tabindex="0")


def _cells(row: Sequence[str]) -> list[str]:
    first, *rest = row
    cells = [element("td", text(cell), class_="long" if len(cell) > LONG else None) for cell in rest]
    return [element("th", text(first), scope="row"), *cells]


def island(value: Any, name: str) -> str:
    """JSON inside a page: nothing in it can end the script that it stands in, or begin a comment."""
    written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        written = written.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="{text(name)}">{written}</script>'


def packed(value: Any, name: str) -> str:
    """The same at a tenth of its length: JSON, by zlib, in base 64. It is what most of a page would be."""
    return packed_text(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")), name)


def packed_text(written: str, name: str) -> str:
    """Text likewise."""
    data = base64.b64encode(zlib.compress(written.encode(errors=ODD), 9)).decode()
    return f'<script type="application/octet-stream" id="{text(name)}">{data}</script>'
