"""Points for `latency-profile cost`: from results' files, from records, and from folders of them.

Only what is needed of a file is read, so that those of older and newer versions of this program do as well.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
_OF_LOAD = ("load", "burst_of")  # of what a fingerprint covers


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


class _StartTime(msgspec.Struct, frozen=True):
    seconds: int
    nanos: int


class _Config(msgspec.Struct, frozen=True):
    model: str
    num_models: int
    start_time: _StartTime


class _Dimensions(msgspec.Struct, frozen=True):
    date: str
    backend: str


class _Fingerprint(msgspec.Struct, frozen=True):
    of: dict[str, Any]


class _Url(msgspec.Struct, frozen=True):
    url: str


class _Cache(msgspec.Struct, frozen=True):
    hits_tokens: int | None
    intended_hit_rate: float


class _Result(msgspec.Struct, frozen=True):
    verdict: _Verdict
    load: _Load
    throughput: _Throughput | None
    metrics: _Metrics
    config: _Config
    dimensions: _Dimensions
    cost: _Cost | None
    cut_short: str | None
    fingerprint: _Fingerprint
    by_url: list[_Url] | None = None
    cache: _Cache | None = None
    work: dict[str, Any] | None = None


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
    def work(self) -> Work | None:
        """None too where another version of this program has other figures of it."""
        try:
            return None if self.result.work is None else msgspec.convert(self.result.work, Work)
        except msgspec.ValidationError:
            return None

    @property
    def cache_unknown(self) -> bool:
        """Whether prompts were meant to come out of the server's cache, and it does not tell how much of them did."""
        cache = self.result.cache
        return cache is not None and cache.hits_tokens is None and cache.intended_hit_rate > 0

    @property
    def burst(self) -> bool:
        return self.result.load.request_rate is None and self.result.load.concurrency is None

    @property
    def server(self) -> str:
        """Which machines' time it was, as far as results tell: models, protocol, and how many URLs shared the load."""
        of, urls = self.result, len(self.result.by_url or [None])
        alone = of.config.num_models > 1 and of.config.model != ALL_MODELS
        models = [of.config.model] if alone else of.fingerprint.of["models"]
        said = f"{', '.join(models)} by {of.fingerprint.of['backend']}"
        return said if urls == 1 else f"{said} at {urls} URLs"

    @property
    def workload(self) -> bytes:
        """Equal where points differ in their load only."""
        of = {name: value for name, value in self.result.fingerprint.of.items() if name not in _OF_LOAD}
        return msgspec.json.encode(of, order="sorted")

    @property
    def rates(self) -> Rates | None:
        found = self.result.throughput
        if found is None:
            return None
        return Rates(found.requests_per_s, found.input_tokens_per_s, found.output_tokens_per_s)


def points_at(places: Iterable[str]) -> list[CostPoint]:
    """The points of files, and of folders and all below them, each once. Raises UsageError where one has none."""
    points: dict[tuple[object, ...], CostPoint] = {}
    for point in (point for place in places for point in _at(place)):
        of = point.result.config
        model = of.model if of.num_models > 1 else None  # one model's file and that of all are the same then
        key = of.start_time.seconds, of.start_time.nanos, point.load, model
        if key not in points or (points[key].work is None and point.work is not None):  # analysed again since
            points[key] = point
    return list(points.values())


def _at(place: str) -> list[CostPoint]:
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
    """Records are read only where no result of theirs is there: that takes longer."""
    files = [path for path in sorted(folder.rglob("*.json")) if not _hidden(path, folder)]
    found = [point for path in files if (point := _of_file(path)) is not None]
    for path in sorted(folder.rglob(f"*{RECORDS}")):
        stem = path.name.removesuffix(RECORDS)
        there = any(file.parent == path.parent and file.name.startswith(f"{stem}-") for file in files)
        if not (there or _hidden(path, folder) or SHARD_RECORDS.fullmatch(path.name)):
            found.append(_of_records(path))
    # Machines that serve several models are shared by them.
    return [point for point in found if point.result.config.num_models == 1 or point.result.config.model == ALL_MODELS]


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
