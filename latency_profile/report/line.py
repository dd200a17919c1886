"""A line for the terminal or the log, and the marks by which verdicts are known in it."""

from typing import NamedTuple, TextIO

# verdict: (mark, style). Only a point that the client bent is drawn hollow.
VERDICTS: dict[str, tuple[str, str]] = {
    "VALID": ("●", "green"),
    "CLIENT_LIMITED": ("○", "not dim magenta"),
    "SATURATED": ("▲", "yellow"),
    "TOO_FEW_SAMPLES": ("◐", "cyan"),
    "CONTAMINATED": ("✗", "not dim red"),
    "FAILED": ("✗", "not dim bold red"),
}
# What a point says of objectives: mark, style.
OBJECTIVES: dict[str, tuple[str, str]] = {
    "kept": ("✓", "green"),
    "broken": ("✗", "red"),
    "unresolved": ("?", "cyan"),
    "not judged": ("·", ""),
}
UNUSABLE = {"CLIENT_LIMITED", "CONTAMINATED", "FAILED"}  # drawn faint
ASCII = str.maketrans(
    {"●": "*", "○": "o", "▲": "^", "◐": "~", "✗": "x", "✓": "+", "≥": ">", "─": "-", "·": "-", "→": ">"}
    | {"│": "|", "┤": "+", "└": "+", "┬": "+", "↑": "'", "∙": ".", "…": "...", "±": "+-", "×": "x", "−": "-", "–": "-"}
)


class Line(NamedTuple):
    """One line of the layout: its text, and where in it which style holds."""

    text: str
    style: str = ""
    marked: tuple[tuple[int, int, str], ...] = ()  # from, to, style


def spelled(text: str, stream: TextIO) -> str:
    """The text as the stream can take it: where that is not UTF, in ASCII, with ? for what has no likeness there."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if "utf" in encoding.lower():
        return text
    return text.translate(ASCII).encode("ascii", "replace").decode()


def verdict_text(verdict: str) -> str:
    """The verdict with its mark."""
    mark, _ = VERDICTS.get(verdict, ("·", ""))
    return f"{mark} {verdict}"


def slo_text(outcome: str) -> str:
    """What became of objectives, with its mark; nothing where there are none."""
    return f"{OBJECTIVES[outcome][0]} {outcome}" if outcome else ""


def style_of(verdict: str) -> str:
    """Colour of a verdict, as rich spells it."""
    return VERDICTS.get(verdict, ("", ""))[1]
