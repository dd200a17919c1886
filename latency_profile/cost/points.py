"""Points for `latency-profile cost`: from results' files, from records, and from folders of them.

Only what is needed of a file is read, so that those of older and newer versions of this program do as well.
"""

from pathlib import Path

import msgspec

from latency_profile import records, results
from latency_profile.compare.nights import load_name
from latency_profile.cost.work import Work
from latency_profile.errors import UsageError
from latency_profile.rates import Rates
from latency_profile.results.point import ALL_MODELS
from latency_profile.shards.documents import SHARD_RECORDS
from latency_profile.verdict import UNUSABLE, Kind

RECORDS = ".records.npz"


class _Verdict(msgspec.Struct, frozen=True):
    verdict: str


class _Load(msgspec.Struct, frozen=True):
    request_rate: float | None
    concurrency: int | None


class _Throughput(msgspec.Struct, frozen=True):
    requests_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float


class _Idle(msgspec.Struct, frozen=True):
    utilization: float


class _Cost(msgspec.Struct, frozen=True):
    machine_cost_per_hour_usd: float
    with_idle: _Idle | None = None


class _Metrics(msgspec.Struct, frozen=True):
    num_prompts_attempted: int
    num_prompts_succeeded: int
    total_input_tokens: int
    total_output_token: int


class _Config(msgspec.Struct, frozen=True):
    model: str
    num_models: int


class _Dimensions(msgspec.Struct, frozen=True):
    date: str
    backend: str


class _Result(msgspec.Struct, frozen=True):
    verdict: _Verdict
    load: _Load
    throughput: _Throughput | None
    metrics: _Metrics
    config: _Config
    dimensions: _Dimensions
    cost: _Cost | None
    cut_short: str | None
    work: Work | None = None


class CostPoint(msgspec.Struct, frozen=True):
    """One point of a server."""

    file: str
    result: _Result

    @property
    def load(self) -> str:
        return load_name(self.result.load.request_rate, self.result.load.concurrency)

    @property
    def barred(self) -> str | None:
        """Why the point's numbers must not be used; None where they may."""
        if self.result.verdict.verdict in {kind.value for kind in UNUSABLE}:
            return self.result.verdict.verdict
        return None if self.result.cut_short is None else f"cut short by {self.result.cut_short}"

    @property
    def saturated(self) -> bool:
        return self.result.verdict.verdict == Kind.SATURATED.value

    @property
    def rates(self) -> Rates | None:
        found = self.result.throughput
        if found is None:
            return None
        return Rates(found.requests_per_s, found.input_tokens_per_s, found.output_tokens_per_s)


def points_at(place: str) -> list[CostPoint]:
    """The point of a file, or those of a folder and all below it. Raises UsageError where there is none."""
    path = Path(place).expanduser()
    if path.is_dir():
        found = _of_folder(path)
        if not found:
            raise UsageError(f"{place}: there is no point in it (a POINT.json, or ….records.npz)")
        return found
    if path.suffix == ".npz":
        return [_of_records(path)]
    point = _of_file(path)
    if point is None:
        raise UsageError(f"{place} is no point of latency-profile (one of its POINT.json, ….records.npz, or a folder)")
    return [point]


def _of_folder(folder: Path) -> list[CostPoint]:
    """Each point once. Records are read only where no result of theirs is there: that takes longer."""
    files = [path for path in sorted(folder.rglob("*.json")) if not _hidden(path, folder)]
    found = [point for path in files if (point := _of_file(path)) is not None]
    for path in sorted(folder.rglob(f"*{RECORDS}")):
        stem = path.name.removesuffix(RECORDS)
        there = any(file.parent == path.parent and file.name.startswith(f"{stem}-") for file in files)
        if not (there or _hidden(path, folder) or SHARD_RECORDS.fullmatch(path.name)):
            found.append(_of_records(path))
    points: dict[tuple[object, ...], CostPoint] = {}
    for point in found:
        of = point.result
        if of.config.num_models == 1 or of.config.model == ALL_MODELS:  # the machines were shared by all models
            points.setdefault((Path(point.file).parent, of.dimensions.date, of.dimensions.backend, point.load), point)
    return list(points.values())


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _of_records(path: Path) -> CostPoint:
    try:
        found = results.point_result(records.load(path))
    except ValueError as error:
        raise UsageError(str(error)) from None
    return CostPoint(str(path), msgspec.json.decode(msgspec.json.encode(found), type=_Result))


def _of_file(path: Path) -> CostPoint | None:
    """None where it is JSON and no point's: a folder of results has others too."""
    try:
        return CostPoint(str(path), msgspec.json.decode(path.read_bytes(), type=_Result))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no JSON: {error}") from None
