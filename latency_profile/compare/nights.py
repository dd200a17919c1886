"""Nights: the profiles' files, read from bytes, files, folders and stores.

Only what a comparison needs of a file is read, so that profiles of older and newer versions of this program compare as
long as their fingerprints are equal.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec

from latency_profile.errors import UsageError
from latency_profile.fingerprint import Fingerprint
from latency_profile.local_path import readable
from latency_profile.results.found import barred, load_name
from latency_profile.storage import Readable
from latency_profile.verdict import Kind

PROFILE = "-profile-"  # in the name of a profile's file, between its prefix and backend, and its date
_NAME = re.compile(PROFILE + r"(\d{8}-\d{6})(-\d+)?\.json$")


class _Percentile(msgspec.Struct, frozen=True):
    value_s: float | None
    resolved: bool


class Latency(msgspec.Struct, frozen=True):
    p50: _Percentile
    p99: _Percentile


class _Cost(msgspec.Struct, frozen=True):
    usd_per_million_output_tokens: float | None = None


class _Verdict(msgspec.Struct, frozen=True):
    verdict: str


class Point(msgspec.Struct, frozen=True):
    """A point of a night, with the keys that the profile's file has."""

    request_rate: float | None
    concurrency: int | None
    verdict: _Verdict
    completed_requests_per_s: float | None = None
    output_tokens_per_s: float | None = None
    ttft: Latency | None = None
    tpot: Latency | None = None
    e2e: Latency | None = None
    cost: _Cost | None = None
    cut_short: str | None = None

    @property
    def load(self) -> str:
        return load_name(self.request_rate, self.concurrency)

    @property
    def barred(self) -> str | None:
        """Why the point's numbers must not be used; None where they may."""
        return barred(self.verdict.verdict, self.cut_short)

    @property
    def saturated(self) -> bool:
        return self.verdict.verdict == Kind.SATURATED.value


class _Profile(msgspec.Struct, frozen=True):
    date: str
    backend: str
    fingerprint: Fingerprint
    points: list[Point]


class Night(msgspec.Struct, frozen=True):
    """One profile."""

    date: str
    backend: str
    file: str
    fingerprint: Fingerprint
    points: dict[str, Point]  # by load, in the order in which they ran; of several the last that may be used
    problem: str = ""  # why it cannot be used at all


def read(data: bytes, file: str) -> Night:
    """The night of a profile's file. Raises UsageError where it is none."""
    try:
        profile = msgspec.json.decode(data, type=_Profile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UsageError(f"{readable(file)} is no profile of latency-profile (…{PROFILE}….json)") from None
    points: dict[str, Point] = {}
    for point in profile.points:  # a load may have been measured twice, as by a search
        if point.barred is None or point.load not in points or points[point.load].barred is not None:
            points[point.load] = point
    return Night(profile.date, profile.backend, readable(file), profile.fingerprint, points)


def from_store(store: Readable, since: str = "") -> list[Night]:
    """The profiles in a store from a date on, oldest first. Raises StorageError."""
    wanted = [name for name in store.list("") if (date := date_of(name)) is not None and date >= since]
    there = ((name, store.get(name)) for name in wanted)
    return in_order([read_or_named(data, name) for name, data in there if data is not None])


def from_file(path: Path) -> Night:
    """Raises UsageError."""
    try:
        return read(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None


def read_or_named(data: bytes, file: str) -> Night:
    """As `read`, or a night of which no more is known than its problem: one bad file among many must not stand in the
    way of all nights to come."""
    try:
        return read(data, file)
    except UsageError as error:
        return Night(date_of(file) or "", "", readable(file), Fingerprint(sha256="0" * 16, of={}), {}, str(error))


def date_of(name: str) -> str | None:
    """The date in the name of a profile's file; None where it is none."""
    found = _NAME.search(PurePosixPath(name).name)
    return found[1] if found else None


def in_order(nights: Sequence[Night]) -> list[Night]:
    """By date, each run once: a file may lie in two places, and a run that was interrupted and went on has two."""
    kept: list[Night] = []
    for night in sorted(nights, key=lambda night: (night.date, -_usable_points(night), night.file)):
        if not any(of_one_run(night, other) for other in reversed(kept)):
            kept.append(night)
    return kept


def _usable_points(night: Night) -> int:
    return sum(point.barred is None for point in night.points.values())


def of_one_run(one: Night, other: Night) -> bool:
    """No two runs that begin in one second measure the same to the last digit; points of which nothing was measured are
    alike in all."""
    if one.date != other.date:
        return False
    measured = [point for point in one.points.values() if point.completed_requests_per_s]
    return one.points == other.points or any(point in other.points.values() for point in measured)


def of_date(date: str) -> str:
    """A date as profiles have it: 20261122 for 2026-11-22; 20261122-010203 as it is."""
    return date.replace("-", "") if date.count("-") == 2 else date
