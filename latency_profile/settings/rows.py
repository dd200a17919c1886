"""One row a setting, and how a dataclass field carries it."""

from dataclasses import MISSING, dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar, cast

from latency_profile.settings.kinds import Kind

T = TypeVar("T")
D = TypeVar("D")

ENVIRONMENT_PREFIX = "LATENCY_PROFILE_"


class Source(NamedTuple):
    """Where a value came from. `spelled` is the flag as it was typed, the variable, or the file; "" for a default."""

    level: Literal["flag", "environment", "file", "default"]
    spelled: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """What there is to know of one setting; flag, variables, help and table are all made from it."""

    name: str  # snake_case: the attribute of Settings, the key of a configuration file
    group: str
    kind: Kind[object]
    default: object  # meaningless where required
    help: str
    unit: str
    aliases: tuple[str, ...]  # further flags
    script: str  # variable that latency_throughput_curve.sh reads
    required: bool
    secret: bool  # its value is never shown, and the script hands it on in the environment

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.upper()

    def spelled(self, source: Source) -> str:
        """The setting and where its value came from, as error lines begin."""
        if source.level == "flag":
            return source.spelled
        if source.level == "environment":
            return f"{self.flag} (environment variable {source.spelled})"
        if source.level == "file":
            return f"{self.flag} (file {source.spelled})"
        return self.flag


def setting(
    kind: Kind[T],
    default: D,
    help: str,
    *,
    unit: str = "",
    aliases: tuple[str, ...] = (),
    script: str = "",
    secret: bool = False,
) -> T | D:
    """A dataclass field with all that `Setting` holds of it; name and group come with its place. For the type checker
    it is what the attribute may be: a value of the kind, or the default."""
    row = {"kind": kind, "help": help, "unit": unit, "aliases": aliases, "script": script, "secret": secret}
    if isinstance(default, dict):
        return cast(D, field(default_factory=default.copy, repr=not secret, metadata=row))
    return field(default=default, repr=not secret, metadata=row)


def required(kind: Kind[T], help: str) -> T:
    """A dataclass field of a setting that has no default."""
    return cast(T, field(default=MISSING, metadata={"kind": kind, "help": help, "required": True}))


def rows_of(group: str, fields: tuple[Any, ...]) -> list[Setting]:
    """The rows of one group, from the fields of its dataclass."""
    rows = []
    for each in fields:
        default = each.default if each.default_factory is MISSING else each.default_factory()
        optional = {"unit": "", "aliases": (), "script": "", "secret": False, "required": False}
        row = {**optional, **each.metadata, "name": each.name, "group": group, "default": default}
        row["script"] = row["script"] or each.name.upper()
        rows.append(Setting(**row))
    return rows
