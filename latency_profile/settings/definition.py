"""Every setting, once: the groups together, and what a profile has of them.

Each field's `setting(...)` in groups/ holds its kind, default and help; flags, environment variables, configuration
keys, help and table are made from these rows, and attribute types are held against them by the type checker.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from latency_profile.errors import UsageError
from latency_profile.settings.groups.load import Arrival, Load
from latency_profile.settings.groups.results import Files, Pod, Results
from latency_profile.settings.groups.server import Answers, Server, ServerMetrics
from latency_profile.settings.groups.workload import Workload
from latency_profile.settings.rows import Setting, Source, rows_of
from latency_profile.settings.shown import plain

__all__ = ["BY_NAME", "GROUPS", "ROWS", "Arrival", "Settings"]

GROUPS: tuple[tuple[str, type[Any]], ...] = (
    ("Server", Server),
    ("Answers", Answers),
    ("Workload", Workload),
    ("Load", Load),
    ("Results", Results),
    ("Server metrics", ServerMetrics),
    ("Pod", Pod),
    ("Configuration", Files),
)
ROWS: tuple[Setting, ...] = tuple(row for group, of in GROUPS for row in rows_of(group, fields(of)))
BY_NAME: Mapping[str, Setting] = {row.name: row for row in ROWS}


@dataclass(frozen=True, kw_only=True)
class Settings(Server, Answers, Workload, Load, Results, ServerMetrics, Pod, Files):
    """One profile's settings, checked. Lengths are in tokens, times in seconds, rates in requests/s."""

    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, compare=False)

    def source(self, name: str) -> Source:
        """Where the setting's value came from."""
        return self.sources.get(name, Source("default"))

    def given(self, name: str) -> bool:
        """Whether somebody chose the setting's value."""
        return self.source(name).level != "default"

    def spelled(self, name: str) -> str:
        """The setting's flag and where its value came from, as error lines begin."""
        return BY_NAME[name].spelled(self.source(name))

    @property
    def rates(self) -> tuple[float, ...]:
        """Rates of the open-loop points in order, as far as they are given; empty in a closed loop."""
        return () if self.concurrencies else self.request_rates or (self.request_rate,)

    def api_key(self, environ: Mapping[str, str]) -> str | None:
        """The server's API key: from its file, else from its environment variable; None where there is none. Raises
        UsageError where the file cannot be read, or where the key cannot stand in a header."""
        name = "api_key_env" if self.api_key_file is None else "api_key_file"
        if self.api_key_file is None:
            key = environ.get(self.api_key_env, "").strip()
            if not key:
                return None
        else:
            try:
                key = self.api_key_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
                takes = f"takes {BY_NAME[name].kind.takes} ({reason})"
                raise UsageError(f"{self.spelled(name)}: got {str(self.api_key_file)!r}, {takes}") from None
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            raise UsageError(
                f"{self.spelled(name)}: got a key that is not shown, takes a key of printable ASCII characters"
            )
        return key

    def as_dict(self) -> dict[str, Any]:
        """Every setting by its name as JSON values, for results; values that are or may be secret are replaced."""
        return {row.name: plain(row, getattr(self, row.name)) for row in ROWS}
