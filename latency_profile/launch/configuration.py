"""The servers' settings: a YAML file with a section for each, and the defaults."""

from pathlib import Path
from typing import Any

import msgspec

from latency_profile.errors import UsageError
from latency_profile.launch import SERVERS
from latency_profile.launch.server_settings import ServerSettings
from latency_profile.settings.flags import nearest
from latency_profile.settings.load import entries

_FLAG = "--config"


def server_settings(path: Path | None) -> dict[str, ServerSettings]:
    """The settings of every server, by its name. Raises UsageError, one line that names the section and the key, and
    repeats no value."""
    sections = {} if path is None else entries(path, _FLAG)
    for name in sections:
        if name not in SERVERS:
            raise UsageError(f"{_FLAG}: got the section {name!r} in {path}, no such server{nearest(name, SERVERS)}")
    return {name: _read(name, kind, sections.get(name), path) for name, kind in SERVERS.items()}


def _read(name: str, kind: type[ServerSettings], section: Any, path: Path | None) -> ServerSettings:
    if section is None:
        return kind()  # type: ignore[call-arg]  # the servers' own classes have a port
    if not isinstance(section, dict):
        raise UsageError(f"{_FLAG}: got {name} in {path}, takes settings by name below it")
    known = kind.__struct_fields__
    given: dict[str, Any] = {}
    for key, value in section.items():
        field = str(key).replace("-", "_")
        if field not in known:
            raise UsageError(f"{_FLAG}: got {name}.{key} in {path}, no such setting{nearest(field, known)}")
        if field in given:
            raise UsageError(f"{_FLAG}: got {name}.{field} in {path} twice, with - and with _")
        given[field] = value
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = where.partition("`$.")[2].rstrip("`")
        at = f"{name}.{place}" if place else name
        raise UsageError(f"{_FLAG}: {at} in {path}: {what[:1].lower()}{what[1:]}") from None
