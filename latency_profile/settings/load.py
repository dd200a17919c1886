"""From flags, environment and file to checked settings. A flag goes before the environment, that before the file."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latency_profile.errors import UsageError
from latency_profile.settings.checks import check
from latency_profile.settings.definition import BY_NAME, ROWS, Settings
from latency_profile.settings.flags import Given, from_flags, nearest
from latency_profile.settings.rows import ENVIRONMENT_PREFIX, Setting, Source
from latency_profile.settings.shown import shown

COMPLETION_INDEX = "JOB_COMPLETION_INDEX"  # set by an Indexed Job of Kubernetes


def _from_environment(environ: Mapping[str, str]) -> Given:
    """What the environment gives; an empty variable gives nothing. A name that is nearly a setting's is a slip of the
    pen and refused; other names with the prefix may be somebody else's (Kubernetes makes some for a service)."""
    variables = {row.variable: row for row in ROWS}
    given: Given = {}
    for name, value in environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or not value.strip():
            continue
        if name in variables:
            given[variables[name].name] = (value, Source("environment", name))
        elif close := difflib.get_close_matches(name, list(variables), n=1, cutoff=0.95):
            raise UsageError(f"environment variable {name}: no such setting; did you mean {close[0]}?")
    return given


def entries(path: Path, spelled: str) -> dict[str, Any]:
    """The file's top-level mapping. Error lines give places in the file and none of its text."""
    import yaml

    where = f"{spelled}: got {str(path)!r}, takes a readable YAML file"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise UsageError(f"{where} ({reason})") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise UsageError(f"{where} (no YAML{f' in line {mark.line + 1}' if mark else ''})") from None
    if node is None or content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{where} of settings by name (it is no mapping of names)")
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise UsageError(f"{where} (line {key.start_mark.line + 1} gives {key.value} again)")
        seen.add(key.value)
    return content


def _from_file(path: Path, spelled: str) -> Given:
    """What the configuration file gives; a key without a value gives nothing."""
    names = {flag[2:].replace("-", "_"): row for row in ROWS for flag in (row.flag, *row.aliases)}
    given: Given = {}
    for key, value in entries(path, spelled).items():
        row = names.get(key.replace("-", "_"))
        if row is None:
            known = [flag[2:] for row in ROWS for flag in (row.flag, *row.aliases)]
            raise UsageError(f"{spelled}: got {key!r} in {path}, no such setting" + nearest(key, known))
        if row.name == "config":
            raise UsageError(f"{spelled}: got 'config' in {path}, takes a file that names no other file")
        if row.name in given:
            raise UsageError(f"{spelled}: got {row.name} twice in {path}, takes each setting once")
        if value is not None:
            given[row.name] = (value, Source("file", str(path)))
    return given


def _read(row: Setting, value: object, source: Source) -> object:
    try:
        return row.kind.read(value)
    except ValueError as error:
        detail = f" ({error})" if str(error) else ""
        close = difflib.get_close_matches(str(value), row.kind.choices, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(
            f"{row.spelled(source)}: got {shown(row, value)}{detail}, takes {row.kind.takes}{hint}"
        ) from None


def load(argv: Sequence[str], environ: Mapping[str, str], recorded: Given | None = None) -> Settings:
    """The settings of a run from its arguments (without the program's name) and environment; those of an earlier run,
    where `recorded` has them, come in between.

    Prints the help and raises SystemExit at --help. Raises UsageError, one line that names the flag, what it got and
    what it takes, where a value or a combination is wrong.
    """
    levels = [from_flags(argv), recorded or {}, _from_environment(environ)]
    config = BY_NAME["config"]
    for level in levels:
        if config.name in level:
            value, source = level[config.name]
            path = _read(config, value, source)
            assert isinstance(path, Path)
            levels.append(_from_file(path, config.spelled(source)))
            break
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for row in ROWS:
        found = next((level[row.name] for level in levels if row.name in level), None)
        if found is not None:
            values[row.name], sources[row.name] = _read(row, *found), found[1]
        elif row.required:
            raise UsageError(f"{row.flag}: got nothing, takes {row.kind.takes}; also as {row.variable} or in --config")
        else:
            sources[row.name] = Source("default")
    index = BY_NAME["shard_index"]
    completion = environ.get(COMPLETION_INDEX, "").strip()
    if values.get("shards", 1) > 1 and index.name not in values and completion:
        sources[index.name] = Source("environment", COMPLETION_INDEX)
        values[index.name] = _read(index, completion, sources[index.name])
    if values.get("burstiness", 1.0) != 1.0 and "arrival" not in values:
        values["arrival"] = "gamma"
    settings = Settings(**values, sources=sources)
    check(settings, environ)
    return settings
