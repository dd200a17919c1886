"""`latency-profile merge`: joins the records of a run's shards by hand, with the same code as shard 0."""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from latency_profile import records, results
from latency_profile.errors import Exit, UsageError
from latency_profile.records import Records
from latency_profile.report.closing import closing_line
from latency_profile.report.console import render_table
from latency_profile.report.rows import load_label, table_row
from latency_profile.shards.documents import SHARD_RECORDS, latest_rounds
from latency_profile.shards.merging import NotOnePoint, merge_shards
from latency_profile.storage import open_folder, open_url

USAGE = "merge FOLDER|gs://BUCKET/FOLDER|RECORDS.npz … [-o FOLDER]  (a run's folder, or a point's in it)"


def command(arguments: Sequence[str]) -> Exit:
    """Writes each point's records and results, and the profile's, and prints the table. The exit code is that of the
    verdicts. Raises UsageError where what is named are no records of shards of one plan, and StorageError where nothing
    can be written."""
    places, out = _arguments(arguments)
    points: dict[int, list[Records]] = {}
    for part in _loaded(places):
        points.setdefault(part.context.point, []).append(part)
    if not points:
        raise UsageError(f"merge: no records of shards in {', '.join(places)}; it takes files shard-K.records.npz")
    _of_one_run([parts[0] for parts in points.values()])
    folder = out or (Path(places[0]) if Path(places[0]).is_dir() else Path())
    outcomes, rows, files = [], [], []
    closed = False
    for number in sorted(points):
        try:
            whole = merge_shards(points.pop(number))
        except NotOnePoint as error:
            raise UsageError(f"merge: {error}") from None
        closed = whole.context.concurrency is not None
        result = results.point_result(whole)
        with results.writing(folder):
            path = results.free_path(folder, results.records_name(whole.context))
            path.parent.mkdir(parents=True, exist_ok=True)
            whole.save(path)
            written = [results.write(folder, name, data) for name, data in results.point_files(whole).items()]
        files += [str(path) for path in written]
        outcomes.append(results.Outcome(whole.context, result, [path.name for path in written]))
        rows.append(table_row(load_label(whole.context), result))
    with results.writing(folder):
        files.append(str(results.write(folder, *results.profile_file(outcomes))))
    judged = [outcome.result for outcome in outcomes]
    code = results.exit_code(judged)
    with suppress(BrokenPipeError):  # whoever read our output has gone; the exit code is still owed
        render_table(rows, sys.stdout, load=("in", "flight") if closed else ("req/s", "rate"), files=files)
        print(closing_line(rows, code, results.slo_of(judged)), flush=True)
    return code


def _of_one_run(points: Sequence[Records]) -> None:
    """Points of several runs are no profile: it says of all of them what is known of the first."""
    known = [
        {
            "run": context.settings.get("run_id"),
            "backend": context.backend,
            "endpoint": context.endpoint,
            "models": context.models,
        }
        for context in (part.context for part in points)
    ]
    for other in known[1:]:
        for name, value in known[0].items():
            if other[name] != value:
                raise UsageError(f"merge: these are points of several runs: {name} {value}, {other[name]}")


def _arguments(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    places, out = [], None
    rest = iter(arguments)
    for argument in rest:
        name, _, value = argument.partition("=")
        if name in ("-o", "--output-dir"):
            value = value or next(rest, "")
            if not value:
                raise UsageError(f"{name}: got nothing, takes a folder")
            out = Path(value)
        elif argument.startswith("-"):
            raise UsageError(f"usage: latency-profile {USAGE}")
        else:
            places.append(argument)
    if not places:
        raise UsageError(f"usage: latency-profile {USAGE}")
    return places, out


def _loaded(places: Sequence[str]) -> list[Records]:
    found: list[Records] = []
    with tempfile.TemporaryDirectory(prefix="latency-profile-") as scratch:
        for place in places:
            if "://" not in place and not Path(place).is_dir():
                found.append(_load_file(Path(place)))
                continue
            store = open_url(place) if "://" in place else open_folder(Path(place))
            for name in latest_rounds(n for n in store.list() if SHARD_RECORDS.fullmatch(n.rpartition("/")[2])):
                data = store.get(name)
                copy = Path(scratch) / "records.npz"
                copy.write_bytes(data or b"")
                found.append(_load_file(copy, store.place(name)))
    return found


def _load_file(path: Path, name: str | None = None) -> Records:
    try:
        return records.load(path)
    except ValueError as error:
        raise UsageError(str(error).replace(str(path), name) if name else str(error)) from None
