"""How values are shown: in error lines, in results and in tables. Secrets stay out of all three."""

import math
import re
from pathlib import Path
from typing import Any

from latency_profile.settings.rows import Setting

HIDDEN = "(not shown)"
_UNSHOWN = "a value that is not shown"
_LONGEST = 80  # characters of a value that an error line repeats
_SECRET_NAME = re.compile(r"api[_-]?key|access[_-]?token|auth|bearer|password|secret", re.IGNORECASE)
_SECRET = re.compile(_SECRET_NAME.pattern + r"|://[^/\s]*@|[?&][^=\s]+=", re.IGNORECASE)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value)


def shown(row: Setting, value: object) -> str:
    """What an error line says the setting got."""
    return _UNSHOWN if row.secret else shown_value(value)


def shown_value(value: object) -> str:
    """A value in an error line: at most 80 characters, on one line, quoted where it is text; not shown where it looks
    like a secret, or like a URL that holds one."""
    if _SECRET.search(str(value)):
        return _UNSHOWN
    spelled = repr(str(value)) if isinstance(value, str | Path) else repr(_text(value))[1:-1]
    return spelled if len(spelled) <= _LONGEST else spelled[: _LONGEST - 1] + "…"


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: HIDDEN if _SECRET_NAME.search(key) else _without_secrets(inner) for key, inner in value.items()}
    return [_without_secrets(inner) for inner in value] if isinstance(value, list) else value


def plain(row: Setting, value: Any) -> Any:
    """The value as JSON has it: "inf" for an unlimited rate, lists for tuples, header names without their values."""
    if row.name == "header":
        return [f"{name}: {HIDDEN}" for name, _ in value]
    if isinstance(value, tuple):
        return [plain(row, part) for part in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    return str(value) if isinstance(value, Path) else _without_secrets(value)


def default_text(row: Setting) -> str:
    """The default as help and tables show it; "" where there is none."""
    if row.required or row.default in (None, (), {}):
        return ""
    if isinstance(row.default, bool):
        return str(row.default).lower()
    if isinstance(row.default, tuple):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in row.default)
    return str(row.default)
