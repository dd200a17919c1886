"""Where commands find points: their files, profiles' files, records, and folders of all these.

Only what is asked for is read of a file, so that those of older and newer versions of this program do as well.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from latency_profile import records
from latency_profile.errors import Exit, UsageError
from latency_profile.local_path import files_below, local_path
from latency_profile.results.files import point_files
from latency_profile.results.point import ALL_MODELS
from latency_profile.shards.documents import SHARD_RECORDS
from latency_profile.verdict import UNUSABLE, Kind

RECORDS = ".records.npz"


def load_name(request_rate: float | None, concurrency: int | None) -> str:
    """A point's load, as it is told."""
    if concurrency is not None:
        return f"{concurrency} in flight"
    return "unlimited rate" if request_rate is None else f"{request_rate:.12g} req/s"


def barred(verdict: str, cut_short: str | None) -> str | None:
    """Why a point's numbers must not be used; None where they may. A verdict that only another version knows lets
    nobody use them."""
    if verdict not in {kind.value for kind in Kind if kind not in UNUSABLE}:
        return verdict
    return None if cut_short is None else f"cut short by {cut_short}"


class PointVerdict(msgspec.Struct, frozen=True):
    verdict: str


class PointLoad(msgspec.Struct, frozen=True):
    request_rate: float | None
    concurrency: int | None


class _StartTime(msgspec.Struct, frozen=True):
    seconds: int
    nanos: int


class _Config(msgspec.Struct, frozen=True):
    model: str
    num_models: int
    start_time: _StartTime


class PointHead(msgspec.Struct, frozen=True):
    """What the JSON of every point says of which point it is, and whether it may be used."""

    verdict: PointVerdict
    load: PointLoad
    config: _Config
    cut_short: str | None

    @property
    def load_name(self) -> str:
        return load_name(self.load.request_rate, self.load.concurrency)

    @property
    def barred(self) -> str | None:
        return barred(self.verdict.verdict, self.cut_short)

    @property
    def saturated(self) -> bool:
        return self.verdict.verdict == Kind.SATURATED.value

    @property
    def started_ns(self) -> int:
        """Unix time."""
        return self.config.start_time.seconds * 1_000_000_000 + self.config.start_time.nanos

    @property
    def of_all_models(self) -> bool:
        """Machines that serve several models are shared by them."""
        return self.config.num_models == 1 or self.config.model == ALL_MODELS

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for the same point in two places, or analysed twice."""
        of = self.config
        model = of.model if of.num_models > 1 else None  # one model's file and that of all are the same then
        return of.start_time, self.load_name, model


Known = TypeVar("Known", bound=PointHead)


@dataclass(frozen=True, slots=True)
class Found(Generic[Known]):
    """A point, or what one of several models has of it."""

    path: Path  # of the file that was read: its JSON, or its records
    place: str  # of that file, as its owner knows it
    name: str  # of its JSON
    data: bytes  # its JSON
    result: Known


class NoPoints(UsageError):
    """A folder without any."""


def say_barred(points: Sequence[tuple[str, str | None, str | None]]) -> Exit:
    """Tells on standard error which must not be used. points: the load, which of several models, and why, None where it
    may. The exit code: UNUSABLE where none may."""
    told = [f"{load}{f' of {model}' if model else ''} ({why})" for load, model, why in points if why is not None]
    if told:
        print(f"{len(told)} of {len(points)} points must not be used: {', '.join(told)}", file=sys.stderr)
    return Exit.UNUSABLE if len(told) == len(points) else Exit.DONE


class _ProfilePoint(msgspec.Struct, frozen=True):
    files: list[str]


class _Profile(msgspec.Struct, frozen=True):
    points: list[_ProfilePoint]


def found_at(place: str, kind: type[Known], named: Callable[[Path], str] = str) -> Sequence[Found[Known]]:
    """The points of a file, or of a folder and all below it. kind: what is to be known of their JSON. named: where a
    file is, as its owner knows it (`fetched`).

    Records are read only where no JSON of theirs is there: that takes longer. Raises UsageError where there is none.
    """
    path = local_path(place)
    read = _Read(kind, named)
    if path.is_dir():
        found = read.of_folder(path)
        if not found:
            raise NoPoints(f"{named(path)}: there is no point in it (a POINT.json, or …{RECORDS})")
        return found
    if path.suffix == ".npz":
        return read.of_records(path)
    point = read.of_file(path)
    return read.of_profile(path) if point is None else [point]


def profiles_beside(points: Iterable[Found[Known]]) -> dict[Path, Path]:
    """The profiles' files in the folders of these points, by the files of the points that they name."""
    folders = sorted({point.path.parent for point in points})
    profiles = [path for folder in folders for path in sorted(folder.glob("*-profile-*.json"))]
    return {path.parent / name: path for path in profiles for name in profile_of(path)}


def records_in(folder: Path) -> dict[int, Path]:
    """The folder's records by when their points started (Unix ns)."""
    known = {}
    for path in _records_of(folder):
        with suppress(ValueError):  # `unreadable_records` tells
            known[records.load_context(path).started_ns] = path
    return known


def unreadable_records(folder: Path) -> list[str]:
    """Why some of the folder's records are in nobody's hands: they are of another version, or not whole. Whose point
    they are of is then not known."""
    found = []
    for path in _records_of(folder):
        try:
            records.load_context(path)
        except ValueError as error:
            found.append(str(error))
    return found


def _records_of(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob(f"*{RECORDS}")) if not SHARD_RECORDS.fullmatch(path.name)]


def load_records(path: Path) -> records.Records:
    """Raises UsageError where it is no records file of this version."""
    try:
        return records.load(path)
    except ValueError as error:
        raise UsageError(str(error)) from None


def profile_of(path: Path) -> list[str]:
    """The names of its points' files, where the file is a profile's; none where it is not."""
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=_Profile)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []
    return [Path(name).name for point in profile.points for name in point.files]


@dataclass(frozen=True, slots=True)
class _Read(Generic[Known]):
    """Reads points, of which `kind` is to be known."""

    kind: type[Known]
    named: Callable[[Path], str]

    def of_profile(self, path: Path) -> list[Found[Known]]:
        names = profile_of(path)
        if not names:
            takes = f"one of its POINT.json, a …-profile-….json beside them, …{RECORDS}, or a folder"
            raise UsageError(f"{path} is no point of latency-profile ({takes})")
        found = []
        for name in names:
            point = self.of_file(path.parent / name)
            if point is None:
                raise UsageError(f"{path} names {name}, which is no point of latency-profile")
            found.append(point)
        return found

    def of_folder(self, folder: Path) -> list[Found[Known]]:
        files = files_below(folder, self.named)
        of_points = [path for path in files if path.suffix == ".json"]
        found = [point for path in of_points if (point := self.of_file(path)) is not None]
        for path in files:
            stem = path.name.removesuffix(RECORDS)
            there = any(point.path.parent == path.parent and point.name.startswith(f"{stem}-") for point in found)
            if path.name.endswith(RECORDS) and not (there or SHARD_RECORDS.fullmatch(path.name)):
                found += self.of_records(path)
        return found

    def of_records(self, path: Path) -> list[Found[Known]]:
        files = point_files(load_records(path)).items()
        place, decode = self.named(path), msgspec.json.decode
        return [Found(path, place, name, data, decode(data, type=self.kind)) for name, data in files]

    def of_file(self, path: Path) -> Found[Known] | None:
        """None where it is JSON and no point's: a folder of results has others too."""
        try:
            data = path.read_bytes()
            return Found(path, self.named(path), path.name, data, msgspec.json.decode(data, type=self.kind))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from None
        except msgspec.ValidationError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is no JSON: {error}") from None
