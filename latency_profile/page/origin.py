"""Where the numbers come from: what ran, on what, with which settings, and whether profiles may be compared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from latency_profile.calibration.text import short_text
from latency_profile.page.figure import TextTable
from latency_profile.page.names import profile_name, server_of, started
from latency_profile.page.section import Named, Section
from latency_profile.page.seen import Seen, profiles_of


def different(points: Sequence[Seen], names: Mapping[tuple[str, str | None], str]) -> TextTable | None:
    """What keeps the profiles from being compared, a row each; None where nothing does."""
    profiles = [of for _, of in profiles_of(points)]
    prints = [of[0].result.fingerprint for of in profiles]
    if len({each.sha256 for each in prints}) < 2:
        return None
    told = sorted({key for each in prints for key in each.of})
    rows = []
    for key in told:
        values = [_shown(each.of.get(key)) for each in prints]
        if len(set(values)) > 1:
            rows.append((key, *values))
    return TextTable(header=("what", *(profile_name(of, names) for of in profiles)), rows=tuple(rows))


def origins(points: Sequence[Seen], names: Mapping[tuple[str, str | None], str]) -> Iterator[Section]:
    """A section a profile."""
    for _, of in profiles_of(points):
        yield _origin(profile_name(of, names), of)


def _origin(name: str, points: Sequence[Seen]) -> Section:
    first = points[0]
    of, dimensions = first.result.provenance, first.result.dimensions
    workload = of.get("workload") or {}
    client = [
        of.get("host"),
        of.get("processor"),
        f"{of['cores']} cores" if of.get("cores") else None,
        of.get("platform"),
    ]
    versions = of.get("packages") or {}
    rows = {
        "server": server_of(first),
        "model": ", ".join(dict.fromkeys(point.result.config.model for point in points)),
        "endpoint": first.result.fingerprint.of.get("endpoint"),
        "tokenizer": dimensions.get("tokenizer_id"),
        "started": f"{started(first)} UTC",
        "workload": ", ".join(f"{key} {_plain(value)}" for key, value in workload.items() if value is not None),
        "client": ", ".join(str(part) for part in client if part),
        "latency-profile": of.get("latency_profile"),
        "Python and packages": ", ".join(
            filter(None, (of.get("python"), *(f"{key} {value}" for key, value in versions.items())))
        ),
        "image": of.get("image"),
        "sender processes": of.get("sender_processes"),
        "fingerprint": first.result.fingerprint.sha256,
        "points' files": ", ".join(point.file for point in points),
    }
    tables = [
        Named(
            caption="What ran",
            table=TextTable(
                header=("what", "value"), rows=tuple((key, _plain(value)) for key, value in rows.items() if value)
            ),
        )
    ]
    settings = of.get("settings") or {}
    given = [(key, _plain(settings.get(key))) for key in of.get("given") or []]
    if given:
        tables.append(
            Named(caption="Settings that were given", table=TextTable(header=("setting", "value"), rows=tuple(given)))
        )
    calibrated = [(point.load_name, short_text(found)) for point in points if (found := point.result.calibration)]
    if calibrated:
        tables.append(
            Named(
                caption="Calibration of the client", table=TextTable(header=("load", "found"), rows=tuple(calibrated))
            )
        )
        return Section(heading=name, tables=tuple(tables))
    said = "The client was not calibrated (--calibrate): its own counts are what its verdicts rest on."
    return Section(heading=name, sentences=(said,), tables=tuple(tables))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _shown(value)


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
