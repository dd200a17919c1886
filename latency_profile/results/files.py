"""The results' files: their names, their bytes, and writing them whole. Only `write` touches the disk."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any, Protocol

import msgspec
from msgspec import structs

from latency_profile.capacity.structure import Capacity
from latency_profile.errors import Exit, StorageError
from latency_profile.records import PointContext, Records
from latency_profile.results.point import ALL_MODELS, build
from latency_profile.results.structure import SCHEMA_VERSION, PointResult, Profile, ProfilePoint
from latency_profile.slo.loads import PointSlo, profile_slo
from latency_profile.slo.structure import Outcome as SloOutcome
from latency_profile.slo.structure import ProfileSlo, Slo
from latency_profile.storage.folder import move_new
from latency_profile.verdict import exit_code as verdicts_exit_code


class Origin(Protocol):
    """What a profile's file says of all its points: of a PointContext, or of what is known of an earlier point."""

    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def backend(self) -> str: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def urls(self) -> list[str]: ...
    @property
    def models(self) -> list[str]: ...
    @property
    def tokenizer(self) -> str: ...
    @property
    def date(self) -> str: ...
    @property
    def concurrency(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished point, as the profile's file tells of it."""

    context: Origin
    result: PointResult  # of all its models
    files: list[str]  # names under which its files stand


def point_files(records: Records) -> dict[str, bytes]:
    """The point's files by their names: one for each model, and one for all where there are several or one asks for it.

    Pure, and the same bytes for the records as they were measured and as they were loaded from their file.
    """
    context = msgspec.json.decode(msgspec.json.encode(records.context), type=PointContext)
    records = Records(context, records.columns, records.event_start, records.event_ns, records.event_tokens)
    stem = f"{_stem(context)}-{_load_name(context)}-{context.date}"
    files: dict[str, bytes] = {}
    if len(context.models) > 1 or context.settings.get("save_aggregated_result"):
        files[f"{stem}-{ALL_MODELS}.json"] = _bytes(build(records, None, ALL_MODELS))
    for model in context.models:
        name = f"{stem}-{model.replace('/', '-')}.json"
        files[_free(name, files)] = _bytes(build(records, model, model))
    return files


def records_name(context: PointContext) -> str:
    """The name of the point's records file."""
    return f"{_stem(context)}-{_load_name(context)}-{context.date}.records.npz"


def profile_file(points: Sequence[Outcome], capacity: Capacity | None = None) -> tuple[str, bytes]:
    """Name and bytes of the file for the whole profile, of one finished point or more. Pure."""
    first = points[0].context
    profile = Profile(
        schema_version=SCHEMA_VERSION,
        date=first.date,
        backend=first.backend,
        endpoint=first.endpoint,
        urls=first.urls,
        models=first.models,
        tokenizer=first.tokenizer,
        fingerprint=points[0].result.fingerprint,
        exit_code=exit_code((point.result for point in points), capacity),
        slo=slo_of(point.result for point in points),
        capacity=capacity,
        points=[_profile_point(point) for point in points],
    )
    return f"{_stem(first)}-profile-{first.date}.json", _bytes(profile)


def slo_of(results: Iterable[PointResult]) -> ProfileSlo | None:
    """What points, each of all its models, say of the objectives together; None without any."""
    return profile_slo(
        [
            PointSlo(result.load.request_rate, result.load.concurrency, _usable_slo(result.slo, result.cut_short))
            for result in results
            if result.slo is not None
        ]
    )


def _usable_slo(slo: Slo, cut_short: str | None) -> Slo:
    """What a point that was cut short says of objectives is nothing to promise a load by."""
    return (
        slo if cut_short is None else structs.replace(slo, outcome=None, reason=f"not judged: cut short by {cut_short}")
    )


def exit_code(results: Iterable[PointResult], capacity: Capacity | None = None) -> Exit:
    """UNUSABLE too where objectives stayed unresolved at a point. One that is broken is a result. Of a search for the
    capacity, whose points end as soon as they have told enough for it: whether it came to an interval."""
    if capacity is not None:
        return Exit.DONE if capacity.answered else Exit.UNUSABLE
    results = list(results)
    unresolved = any(result.slo is not None and result.slo.outcome is SloOutcome.UNRESOLVED for result in results)
    return Exit.UNUSABLE if unresolved else verdicts_exit_code(result.verdict for result in results)


def write(folder: Path, name: str, data: bytes, replace: bool = False) -> Path:
    """Writes a file whole and returns its path; a reader sees all of it or nothing.

    An existing file is replaced only with `replace`; otherwise the new one gets -2, -3, … before its extension, also
    where two processes write at once. Raises OSError where the folder cannot be written.
    """
    return write_by(folder, name, lambda file: file.write(data), replace)


def write_by(folder: Path, name: str, fill: Callable[[IO[bytes]], object], replace: bool = False) -> Path:
    """The same of what `fill` writes: for what is too large to be held."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            Path(temporary).replace(target)
        else:
            target = _link(Path(temporary), target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Where a command writes into a folder that it was given: StorageError in place of OSError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error


def free_path(folder: Path, name: str) -> Path:
    """Where a new file of that name may stand: with -2, -3, … before its extension where others are there already."""
    number, path = 1, folder / name
    while path.exists():
        number += 1
        path = folder / _numbered(name, number)
    return path


def _link(temporary: Path, target: Path) -> Path:
    """Gives the file the first free name."""
    number = 1
    while True:
        candidate = target if number == 1 else target.with_name(_numbered(target.name, number))
        if move_new(temporary, candidate):
            return candidate
        number += 1


def _numbered(name: str, number: int) -> str:
    extension = ".records.npz" if name.endswith(".records.npz") else PurePath(name).suffix
    return f"{name.removesuffix(extension)}-{number}{extension}"


def _free(name: str, taken: dict[str, bytes]) -> str:
    """`name`, or its first numbered form that is not taken: models that differ only in '/' share a name."""
    number = 2
    free = name
    while free in taken:
        free = _numbered(name, number)
        number += 1
    return free


def _stem(context: Origin) -> str:
    return f"{context.settings.get('file_prefix', 'benchmark')}-{context.backend}"


def _load_name(context: PointContext) -> str:
    if context.concurrency is not None:
        return f"concurrency{context.concurrency}"
    return "infqps" if context.request_rate is None else f"{float(context.request_rate)!r}qps"


def _bytes(result: PointResult | Profile) -> bytes:
    return msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"


def _profile_point(point: Outcome) -> ProfilePoint:
    result = point.result
    service, response = result.latency.service, result.latency.response
    throughput = result.throughput
    return ProfilePoint(
        request_rate=result.load.request_rate,
        concurrency=result.load.concurrency,
        verdict=result.verdict,
        offered_requests_per_s=result.load.offered_requests_per_s,
        completed_requests_per_s=result.load.completed_requests_per_s,
        output_tokens_per_s=None if throughput is None else throughput.output_tokens_per_s,
        ttft=(response or service).ttft,
        tpot=service.tpot,
        e2e=(response or service).e2e,
        cost=result.cost,
        slo=result.slo.outcome if result.slo else None,
        cut_short=result.cut_short,
        files=point.files,
    )
