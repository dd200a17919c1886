"""Data sets whose items call the length of their answers `max_tokens`: a JSON list of {"prompt", "category", …}."""

import json
from pathlib import Path

from latency_profile.workload.cache import Cache
from latency_profile.workload.dataset import open_dataset


def size_of(path: Path) -> int:
    """How many items a data set has. Raises UsageError where it cannot be read."""
    return len(open_dataset(path, Cache(None, [])))


def with_output_lengths(path: Path, folder: Path) -> Path:
    """The data set with each `max_tokens` under the name by which the workload knows it (`output_len`), as a file in
    `folder`; the same file where no item has one. Raises UsageError where it cannot be read."""
    if open_dataset(path, Cache(None, [])).kind != "prompts":
        return path
    try:
        items = json.loads(path.read_bytes())
    except ValueError:  # JSON Lines
        return path
    if not isinstance(items, list) or not any("max_tokens" in item for item in items):
        return path
    named = [{"output_len": item.get("max_tokens"), **item} for item in items]
    converted = folder / path.name
    converted.write_text(json.dumps(named), encoding="utf-8")
    return converted
