"""Runs a profile again from the file of one of its points: the same settings, plan and lengths, prompts of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from latency_profile.errors import Exit, UsageError
from latency_profile.fingerprint import Fingerprint, differences
from latency_profile.settings import Settings, load
from latency_profile.settings.definition import BY_NAME, ROWS
from latency_profile.settings.flags import Given, from_flags
from latency_profile.settings.rows import Source
from latency_profile.settings.shown import HIDDEN, plain

_T = TypeVar("_T")

# The nonce is drawn anew: with the old one a server that is still up would have every prompt in its prefix cache. Under
# the old run's name nothing would be measured, as its points are there. What the configuration file said is among the
# other settings.
_EXCLUSIVE = (frozenset({"request_rate", "request_rates", "concurrencies"}),)
_NOT_AGAIN = frozenset(
    {
        *("nonce", "run_id", "resume", "config", "dry_run", "metrics_port", "termination_log", "stay"),
        *("shards", "shard_index", "shard_timeout"),
    }
)


class _Provenance(msgspec.Struct, kw_only=True):
    settings: dict[str, Any]
    given: list[str]
    workload: dict[str, Any]


class _Point(msgspec.Struct, kw_only=True):
    """What a point's file must have to be run again."""

    provenance: _Provenance


class _Marked(msgspec.Struct, kw_only=True):
    """A point's file or a profile's."""

    fingerprint: Fingerprint


def rerun(path: Path, flags: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Runs the whole profile again that the point at `path` is of. `flags` go before what is recorded, but for data set
    and tokenizer; the environment gives what never is recorded: secrets. Raises UsageError where the file, the data set
    or the tokenizer is not what it was."""
    point = _read(path, _Point, "the file of a point").provenance
    settings, missing = recorded_settings(path, point.settings, point.given, flags, environ)
    if missing:
        raise UsageError(
            f"{path} does not have the values of {', '.join(BY_NAME[name].flag for name in missing)}, which may be "
            f"secret: give them again, as flags or in the environment"
        )
    _same_inputs(settings, point.workload, path)
    from latency_profile.profile import run

    return run(settings, environ)


def recorded_settings(
    path: Path, recorded: Mapping[str, Any], names: Sequence[str], flags: Sequence[str], environ: Mapping[str, str]
) -> tuple[Settings, list[str]]:
    """The settings of a run again, and the names of those whose values were not recorded and are not given now."""
    source = Source("file", str(path))
    source_now = from_flags(flags)
    beside = {name for group in _EXCLUSIVE if group & source_now.keys() for name in group}
    # What was a default then counts as given where the default is another one now.
    changed = (row.name for row in ROWS if row.name in recorded and recorded[row.name] != plain(row, row.default))
    known = [name for name in {**dict.fromkeys(names), **dict.fromkeys(changed)} if name in BY_NAME]
    known = [name for name in known if name not in _NOT_AGAIN | beside]
    lost = [BY_NAME[name].flag for name in known if name not in recorded]
    if lost:
        raise UsageError(f"{path} says that {', '.join(lost)} was given, and not as what")
    hidden = [name for name in known if _hides(recorded[name])]
    again: Given = {name: (recorded[name], source) for name in known if name not in hidden}
    secrets = {BY_NAME[name].variable for name in BY_NAME if BY_NAME[name].secret or name in hidden}
    settings = load(flags, {name: value for name, value in environ.items() if _allowed(name, secrets)}, again)
    return settings, [name for name in hidden if not settings.given(name)]


def _allowed(name: str, secrets: set[str]) -> bool:
    """Other settings in the environment are those of another run."""
    return not name.startswith("LATENCY_PROFILE_") or name in secrets


def _hides(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_hides(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_hides(inner) for inner in value)
    return isinstance(value, str) and HIDDEN in value


def _same_inputs(settings: Settings, workload: Mapping[str, Any], path: Path) -> None:
    from latency_profile.parts import workload_spec
    from latency_profile.workload import prepare

    present = prepare(workload_spec(settings, settings.models or ("",), "00"), 1).description
    for name in ("tokenizer", "dataset"):
        now, then = present.get(f"{name}_sha256"), workload.get(f"{name}_sha256")
        if now != then:
            raise UsageError(
                f"{settings.spelled(name)}: got {str(getattr(settings, name))!r}, takes what {path} was measured with: "
                f"its SHA-256 was {then}, and is {now}"
            )


def comparable(one: Path, other: Path) -> Exit:
    """Says whether two profiles, or points, may be compared, and what differs. UNUSABLE where they may not."""
    this, that = (_read(path, _Marked, "the file of a point or a profile").fingerprint for path in (one, other))
    found = differences(this, that)
    if not found:
        print(f"may be compared: both are {this.sha256}")
        return Exit.DONE
    print(f"may not be compared ({this.sha256} and {that.sha256}):")
    for line in found:
        print(f"  {line}")
    return Exit.UNUSABLE


def _read(path: Path, kind: type[_T], wanted: str) -> _T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UsageError(f"{path} is not {wanted} (….json), as this version of latency-profile writes it") from None
