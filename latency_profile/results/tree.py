"""Looking into a point's JSON, whichever version of this program wrote it."""

from collections.abc import Mapping
from typing import Any


def at(tree: Mapping[str, Any], *path: str) -> Any:
    """What stands at a place in it; None where there is none."""
    value: Any = tree
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
