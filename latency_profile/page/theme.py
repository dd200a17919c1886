"""How figures look: Vega's config for light and dark, the same for the page and for pictures."""

from typing import Any, Literal

Theme = Literal["light", "dark"]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# Eight colours that people who do not tell red from green can tell apart, after Okabe & Ito (Color Universal Design,
# 2008), each darkened or lightened until it stands out 3:1 from its ground (WCAG 2.2, 1.4.11).
LIGHT = ("#0072b2", "#c94f00", "#00805c", "#a8478a", "#8a6d00", "#2f86b8", "#5b5b5b", "#7a3fb0")
DARK = ("#56b4e9", "#f28e4b", "#2fc69a", "#e59ac8", "#e6b422", "#9ccfee", "#b4b8bf", "#bfa0f0")
_INKS = {"light": ("#1b1f24", "#57606a", "#dfe3e8"), "dark": ("#e6e8eb", "#a3abb5", "#343a42")}
_COLOURS = {"light": LIGHT, "dark": DARK}


def config(theme: Theme) -> dict[str, Any]:
    """Vega-Lite's `config`. The ground is the page's."""
    ink, faint, rule = _INKS[theme]
    return {
        "background": "transparent",
        "font": FONT,
        "aria": False,  # the page names each figure as a whole, and has its numbers as a table
        "view": {"stroke": None},
        "range": {"category": list(_COLOURS[theme])},
        "axis": {
            "labelColor": faint,
            "titleColor": ink,
            "gridColor": rule,
            "domainColor": faint,
            "tickColor": faint,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "titlePadding": 8,
            "labelOverlap": "greedy",
            "labelSeparation": 6,
        },
        "axisX": {"grid": False},
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "labelColor": ink,
            "titleColor": faint,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "labelLimit": 320,
            "symbolStrokeColor": ink,
        },
        "title": {"color": ink, "anchor": "start", "fontSize": 15, "subtitleColor": faint, "subtitleFontSize": 12},
        "text": {"color": faint, "fontSize": 11},
        "rule": {"color": faint},
        "mark": {"tooltip": None},
    }
