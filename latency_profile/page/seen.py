"""The points of a page, and the profiles that they are of."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from latency_profile.export.points import ExportPoint
from latency_profile.report.rows import table_row
from latency_profile.report.table_row import TableRow
from latency_profile.results import PointResult
from latency_profile.results.found import barred, load_name
from latency_profile.results.point import ALL_MODELS


@dataclass(frozen=True)
class Seen:
    """A point, or what one of several models has of it.

    profile: equal for the points of one profile, and of no other: two that began in the same second have files of the
    same name in two folders."""

    profile: str
    file: str  # the name of its JSON
    path: Path  # of what was read of it: that, or its records
    result: PointResult  # of all models, or of one

    @property
    def profile_name(self) -> str:
        """The name of its profile's file, which lies beside it; where there is none, that of its folder, and more."""
        return Path(self.profile).name

    @property
    def load(self) -> str:
        """The rate or concurrency, as the table has it; inf: a burst."""
        level = self.level
        return "inf" if level is None else f"{level:.12g}"

    @cached_property
    def row(self) -> TableRow:
        """Its line of the console's table."""
        return table_row(self.load, self.result)

    @property
    def verdict(self) -> str:
        return self.result.verdict.verdict.value

    @property
    def barred(self) -> str | None:
        """Why its numbers must not be used; None where they may."""
        return barred(self.verdict, self.result.cut_short)

    @property
    def model(self) -> str | None:
        """Which of several models; None: all that there are."""
        of = self.result.config
        return None if of.num_models == 1 or of.model == ALL_MODELS else of.model

    @property
    def started_ns(self) -> int:
        """Unix time."""
        at = self.result.config.start_time
        return at.seconds * 1_000_000_000 + at.nanos

    @property
    def load_name(self) -> str:
        return load_name(self.result.load.request_rate, self.result.load.concurrency)

    @property
    def closed(self) -> bool:
        """Whether its load is a concurrency."""
        return self.result.load.concurrency is not None

    @property
    def level(self) -> float | None:
        """Its place on an axis of loads, requests/s or requests in flight; None for a burst, which has none."""
        load = self.result.load
        return load.request_rate if load.concurrency is None else float(load.concurrency)


@dataclass(frozen=True)
class Unread:
    """A point of which the page can show no more than its name."""

    file: str
    schema_version: str
    why: str


def seen_of(points: Iterable[ExportPoint]) -> tuple[list[Seen], list[Unread]]:
    """Those that this version can read, in their order, and the others."""
    seen: list[Seen] = []
    unread: list[Unread] = []
    for point in points:
        try:
            result = _read(point)
        except msgspec.ValidationError as error:
            unread.append(Unread(point.found.name, point.found.result.schema_version, str(error)))
        else:
            seen.append(Seen(point.profile, point.found.name, point.found.path, result))
    return seen, unread


def _read(point: ExportPoint) -> PointResult:
    """An earlier version's file lacks what was added since: that is not known of it, which null says."""
    known = {field.name: None for field in msgspec.structs.fields(PointResult)}
    return msgspec.convert({**known, **point.tree}, PointResult)


def profiles_of(points: Sequence[Seen]) -> Iterator[tuple[str, list[Seen]]]:
    """The points by profile, in order of first mention."""
    grouped: dict[str, list[Seen]] = {}
    for point in points:
        grouped.setdefault(point.profile, []).append(point)
    yield from grouped.items()


def whole(points: Sequence[Seen]) -> list[Seen]:
    """Those of all models together, as the console's table has them."""
    return [point for point in points if point.model is None]
