"""What a run leaves in its stores, and what it finds there of itself when it is started again.

A run with a name (`--run-id`) keeps its files in a folder of that name, with an index of its points. Started again, by
Kubernetes or by hand, it takes the points that the index has for done and measures the others. Prompts of a point that
was begun before are not sent again: each attempt has a nonce of its own.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from latency_profile.errors import StorageError, UsageError
from latency_profile.fingerprint import fingerprint_of
from latency_profile.points import PlannedPoint
from latency_profile.records import load
from latency_profile.results import PointResult
from latency_profile.results.index import INDEX_NAME, Index, IndexPoint, changes, new_index, plan_of, read_index
from latency_profile.settings import Settings
from latency_profile.storage import NotAllowed, Store
from latency_profile.storage.store import Patient

EARLIER_INDEX = "index.before.json"  # of a run that was started again with --no-resume
MOST_CHANGES = 5  # named in one line


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a point's result comes from: what a profile's file says of all its points (results.files.Origin)."""

    settings: dict[str, Any]
    backend: str
    endpoint: str
    urls: list[str]
    models: list[str]
    tokenizer: str
    date: str
    concurrency: int | None


@dataclass(frozen=True, slots=True)
class Earlier:
    """A point that an earlier attempt of this run has measured."""

    origin: Origin
    result: PointResult
    files: list[str]
    records: Path | None = None  # on this machine; of a probe, which the search has to be told


@dataclass(slots=True)
class _Upload:
    """One that failed and is tried again later."""

    store: Store
    send: Callable[[], object]


class Ledger:
    """The files of one run in all its stores. What a store does not take is remembered: `failure` is the last reason
    while there is any such file."""

    def __init__(
        self,
        stores: Sequence[Store],
        run_id: str | None,
        say: Callable[[str], None],
        hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        """stores: the first is the local folder, where records are saved before anything else happens to them. hurried:
        whether time is short."""
        for store in stores:
            if isinstance(store, Patient):
                store.hurried = hurried
        self._stores, self._run_id, self._say = list(stores), run_id, say
        self._index: Index | None = None
        self._backlog: list[_Upload] = []
        self._points: dict[int, Earlier] = {}
        self._parts: str | None = None  # of the point that is being measured
        self.failure: StorageError | None = None
        self.places: list[str] = []

    def name(self, name: str) -> str:
        """The name in a store."""
        return f"{self._run_id}/{name}" if self._run_id else name

    def begin(self, index: Index, resume: bool) -> None:
        """Takes what an earlier attempt has done, where `resume`, and writes the index. `index`: of this run, were
        nothing there. Raises UsageError where the run was started with another plan or other settings."""
        index = read_index(index.encoded())  # as it will be read
        there = self._there()
        if there is not None and not resume:
            self._each(lambda store: store.put(self.name(EARLIER_INDEX), there.encoded()))
        elif there is not None:
            different = changes(there, index)
            if different:
                more = [f"and {len(different) - MOST_CHANGES} more"] if len(different) > MOST_CHANGES else []
                raise UsageError(
                    f"--run-id: the run {self._run_id} was started with others "
                    f"({'; '.join(different[:MOST_CHANGES] + more)}): give the same ones, another name, or --no-resume"
                )
            index = there
            for point in index.points:
                if point.state == "done":
                    self._take(point, index.urls, index.find_capacity)
        self._index = index
        self._write_index()

    def earlier(self, number: int) -> Earlier | None:
        """What the run has of this point; None: it is to be measured."""
        return self._points.get(number)

    def first_prompt(self) -> int:
        """The first prompt that this attempt will send."""
        if self._index is None:
            return 0
        last = self._index.points[-1].plan
        missing = (point.plan.first_prompt for point in self._index.points if point.number not in self._points)
        return next(missing, last.first_prompt + last.prompts)

    def planned(self, point: PlannedPoint) -> None:
        """One that was not known when the run began, behind all others. What an earlier attempt has of it holds where
        it planned the same; it does not where that attempt went another way, from results that are lost."""
        if self._index is None:
            return
        before, rest = self._index.points[: point.number], self._index.points[point.number :]
        plan = plan_of(point)
        if rest and rest[0].plan == plan:
            return
        for lost in rest:
            self._points.pop(lost.number, None)
        self._index = msgspec.structs.replace(self._index, points=[*before, IndexPoint(number=point.number, plan=plan)])
        self._write_index()

    def to_measure(self, points: Iterable[PlannedPoint]) -> list[PlannedPoint]:
        return [point for point in points if point.number not in self._points]

    def begun(self, point: PlannedPoint, nonce: str, parts: str | None) -> None:
        self._parts = parts
        if self._index is None:
            return
        attempts = self._index.points[point.number].attempts
        if nonce in attempts:
            self._say(
                "  this point was begun before with the same --nonce: a server that has been up since then may have "
                "its prompts in its cache"
            )
        self._change(point, state="begun", attempts=[*attempts, nonce], parts=parts, parts_superseded=False)

    def ended(self, point: PlannedPoint, files: list[str], records: str, result: PointResult, date: str) -> None:
        """A point's files are stored, or in the backlog, which is tried again."""
        self.settle()
        stored = not self._backlog
        self._change(  # before anything is removed: who is lost while that is done has lost nothing
            point,
            state="cut_short" if result.cut_short else "done",
            date=date,
            verdict=result.verdict.verdict.value,
            files=files,
            records=records,
            parts=self._parts,
            parts_superseded=stored,
        )
        if self._parts is not None and not self._backlog and self._remove_parts(self._parts):
            self._change(point, parts=None)

    def profile_is(self, name: str) -> None:
        if self._index is not None:
            self._index = msgspec.structs.replace(self._index, profile=name)
            self._write_index()

    def put(self, name: str, data: bytes) -> str:
        """Puts a file into every store; the name under which the first has it."""
        places = self._each(lambda store: store.put(self.name(name), data))
        self.places.extend(places)
        return Path(places[0]).name if places else name

    def put_records(self, path: Path) -> None:
        """Puts the records' file, which lies in the first store already, into the others."""
        places = self._each(lambda store: store.put_file(self.name(path.name), path), self._stores[1:])
        self.places.extend(places)

    def settle(self) -> None:
        """Tries again what was not stored, for as long as that goes well."""
        waiting, self._backlog = self._backlog, []
        down: list[Store] = []
        for upload in waiting:
            if upload.store not in down and self._try(upload) is None:
                down.append(upload.store)
            elif upload.store in down:
                self._backlog.append(upload)
        if not self._backlog:
            self.failure = None

    def _remove_parts(self, folder: str) -> bool:
        """Removes what was stored while the point ran, as its records have all of it. False where this account may not:
        the index then says that they are superseded."""
        removed = True
        for store in self._stores[1:]:
            try:
                names = store.list(folder)
            except StorageError:
                return False
            removed = all(store.delete(name) for name in names) and removed
        return removed

    def _each(self, send: Callable[[Store], Any], stores: Sequence[Store] | None = None) -> list[str]:
        """What `send` gives of each store that is not known to be down."""
        given = []
        for store in self._stores if stores is None else stores:
            upload = _Upload(store, partial(send, store))
            if any(other.store is store for other in self._backlog):
                self._backlog.append(upload)
                continue
            place = self._try(upload)
            if place is not None:
                given.append(str(place))
        return given

    def _try(self, upload: _Upload) -> object | None:
        try:
            return upload.send() or ""
        except StorageError as error:
            self._backlog.append(upload)
            self.failure = error
            self._say(str(error))
        return None

    def _there(self) -> Index | None:
        """The index that an earlier attempt has left: in the last store that has one, as a bucket outlives a pod."""
        for store in reversed(self._stores):
            try:
                data = store.get(self.name(INDEX_NAME))
            except NotAllowed as error:
                self._say(f"resume is off for {store.place('')}: {error}")
                continue
            if data is not None:
                try:
                    return read_index(data)
                except ValueError as error:
                    raise UsageError(f"--run-id: {store.place(self.name(INDEX_NAME))}: {error}") from None
        return None

    def _take(self, point: IndexPoint, urls: list[str], needs_records: bool) -> None:
        data = self._read(point.files[0]) if point.files else None
        try:
            result = msgspec.json.decode(data or b"", type=PointResult)
            path = self._records(point) if needs_records else None
        except (msgspec.DecodeError, ValueError) as error:
            lost = "results" if isinstance(error, msgspec.DecodeError) else "records"
            self._say(f"point {point.number + 1} is done by the index, and its {lost} cannot be read: measured again")
            return
        of, settings = result.fingerprint.of, result.provenance["settings"]
        origin = Origin(
            settings=settings,
            backend=of["backend"],
            endpoint=of["endpoint"],
            urls=urls,
            models=of["models"],
            tokenizer=settings["tokenizer"],
            date=point.date or "",
            concurrency=result.load.concurrency,
        )
        self._points[point.number] = Earlier(origin, result, point.files, path)

    def _records(self, point: IndexPoint) -> Path:
        """A point's records in the local folder, copied where only another store has them. Raises ValueError where they
        cannot be read."""
        if point.records is None:
            raise ValueError("there are none")
        name = self.name(point.records)
        path = Path(self._stores[0].place(name))
        if not path.exists() and (data := self._read(point.records)) is not None:
            path = Path(self._stores[0].put(name, data))
        load(path)
        return path

    def _read(self, name: str) -> bytes | None:
        for store in reversed(self._stores):
            try:
                data = store.get(self.name(name))
            except NotAllowed:
                continue
            if data is not None:
                return data
        return None

    def _change(self, point: PlannedPoint, **changed: object) -> None:
        if self._index is not None:
            self._index = self._index.with_point(point.number, **changed)
            self._write_index()

    def _write_index(self) -> None:
        self._each(self._replace_index)

    def _replace_index(self, store: Store) -> None:
        """A new copy beside the last one, where this account may only create files."""
        assert self._index is not None
        try:
            store.replace(self.name(INDEX_NAME), self._index.encoded())
        except NotAllowed:
            store.put(self.name(INDEX_NAME), self._index.encoded())


def index_of(
    settings: Settings,
    endpoint: str,
    models: Sequence[str],
    workload: Mapping[str, Any],
    urls: Sequence[str],
    points: Sequence[PlannedPoint],
) -> Index:
    """The index of a run of which nothing is there yet. workload: Workload.description."""
    assert settings.run_id is not None
    first = points[0]
    load = "closed loop" if first.rate is None else "burst" if math.isinf(first.rate) else "rate"
    mark = fingerprint_of(settings.as_dict(), endpoint, models, load, workload)
    return new_index(settings.run_id, mark, urls, points, settings.slo, settings.adaptive_rates, settings.find_capacity)


def may_resume(settings: Settings, environ: Mapping[str, str], say: Callable[[str], None]) -> bool:
    """Whether this run can go on where an earlier attempt of it ended; says why it cannot to who asked for that."""
    why = None
    if settings.run_id is None:
        why = "it takes --run-id" if settings.given("resume") and settings.resume else None
    elif settings.resume and not _lasts(settings, environ):
        why = "there is neither a bucket nor a volume under --output-dir, and a container's own files go with it"
    elif settings.resume:
        return True
    if why is not None:
        say(f"resume is off: {why}")
    return False


def _lasts(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether what a run leaves is there when its container is gone. A volume counts, also an emptyDir: that outlives
    its containers, though not its pod, and from inside none can be told from another."""
    if settings.output_bucket or settings.output_url or "KUBERNETES_SERVICE_HOST" not in environ:
        return True
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    return settings.output_dir.stat().st_dev != Path("/").stat().st_dev
