"""Makes records of a point whose client was lost, from the parts that it had stored or from the folder it ran in."""

import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from latency_profile import results
from latency_profile.chunks.structure import ASKED, BODIES, FILES, NOTE, Note, part_of_name
from latency_profile.errors import Exit, UsageError
from latency_profile.merge import merge
from latency_profile.parts import secrets_in
from latency_profile.reanalyze import said
from latency_profile.records import PointContext, Records
from latency_profile.sender.collect import collect
from latency_profile.sender.job import Collect
from latency_profile.sender.spool import HEADER, End, Kind, replay
from latency_profile.settings import kinds
from latency_profile.settings.definition import BY_NAME
from latency_profile.settings.kinds import Headers
from latency_profile.storage import Store, open_folder, open_url

_PLAN = "plan"
LOST = "the loss of its client"  # what ended the point, as results say it


def recover(where: str, folder: Path, environ: Mapping[str, str]) -> Exit:
    """Writes records and results of the point at `where` (a folder, or a URL) into `folder`, and prints where they are.

    The verdict gives the exit code. The API key and the headers that the run had are kept out, as far as `environ` and
    the run's key file have them still; what is missing is said. Raises UsageError where there is no such point or what
    it needs is not whole, and StorageError where `folder` takes nothing.
    """
    store = open_url(where) if "://" in where else open_folder(Path(where))
    with tempfile.TemporaryDirectory(prefix="latency-profile-") as made:
        scratch = Path(made)
        spools = _fetch(store, where, scratch)
        records = recovered(scratch, spools, _left(where, scratch), environ)
    with results.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = results.free_path(folder, results.records_name(records.context))
        records.save(path)
        written = [results.write(folder, name, data) for name, data in results.point_files(records).items()]
    print(path, *written, sep="\n")
    return said(records)


def _fetch(store: Store, where: str, scratch: Path) -> list[int]:
    """The point's files, with their spools joined; the numbers of these."""
    parts = sorted(part for part in map(part_of_name, store.list()) if part)
    spools = sorted({part.spool for part in parts})
    for spool in spools:
        numbers = [part.number for part in parts if part.spool == spool]
        whole = next((n for n, number in enumerate(numbers) if number != n + 1), len(numbers))
        with (scratch / f"spool-{spool}").open("wb") as file:
            for number in numbers[:whole]:  # behind a part that is missing, nothing can be told apart
                file.write(store.get(f"spool-{spool}.part-{number:04d}") or b"")
    if not spools:  # the folder of a run that was killed has the spools themselves
        names = [name for name in store.list("spool-") if name.partition("-")[2].isdigit()]
        spools = sorted(int(name.partition("-")[2]) for name in names)
        for spool in spools:
            (scratch / f"spool-{spool}").write_bytes(store.get(f"spool-{spool}") or b"")
    for name in (*FILES, BODIES):
        data = store.get(name)
        if data is not None:
            (scratch / name).write_bytes(data)
    missing = [name for name in (NOTE, ASKED, "bounds", BODIES) if not (scratch / name).exists()]
    if missing or not spools:
        lacks = ", ".join(missing) or "spool"
        raise UsageError(f"{where} is no point that can be recovered: it has no {lacks}{_points_below(where)}")
    return spools


def _points_below(where: str) -> str:
    """Where the points of a run are whose folder was named instead: hidden while they run."""
    found = [] if "://" in where else sorted(str(path) for path in Path(where).rglob(".point-*"))
    return f"; there are points in {', '.join(found)}" if found else ""


class _Left(NamedTuple):
    """What a point has left beside its spools."""

    note: Note
    asked: dict[str, NDArray[Any]]
    due_ns: NDArray[np.int64] | None  # None in a closed loop


def _left(where: str, folder: Path) -> _Left:
    """Raises UsageError where one of the files is not there whole, or is another version's."""
    name = NOTE
    try:
        note = msgspec.json.decode((folder / name).read_bytes(), type=Note)
        name = ASKED
        with np.load(folder / name, allow_pickle=False) as file:
            asked = dict(file)
        name, due_ns = _PLAN, None
        if note.context.concurrency is None:
            due_ns = np.fromfile(folder / name, dtype=np.int64)
            if len(due_ns) < len(asked["wanted_tokens"]):
                raise ValueError
    except FileNotFoundError:
        raise UsageError(f"{where} is no point that can be recovered: it has no {name}") from None
    except (KeyError, EOFError, ValueError, zipfile.BadZipFile, zlib.error):
        raise UsageError(
            f"{where} is no point that can be recovered: its {name} is not whole, or of another version"
        ) from None
    return _Left(note, asked, due_ns)


def recovered(folder: Path, spools: list[int], left: _Left, environ: Mapping[str, str]) -> Records:
    """Records of the point whose files are in `folder`. Requests that were in flight when it was lost are there, as
    those of a point that was cut short; the client's own counts are not."""
    note = left.note
    ended_ns = min(_close(folder / f"spool-{spool}") for spool in spools) - note.start_ns
    context = note.context
    context.measured_ns, context.cut_short = max(ended_ns, 0), LOST
    context.parts = [msgspec.structs.replace(part, cut_short=LOST) for part in context.parts]
    secrets, missing = secrets_again(context.settings, environ)
    if missing:
        print(f"not known here, and not blotted out where a server repeats it: {', '.join(missing)}", file=sys.stderr)
    orders = [_order(note, folder, spool, list(secrets)) for spool in spools]
    errors: dict[str, list[str]] = {}
    for order in orders:
        for status, messages in collect(order).errors.items():
            errors.setdefault(status, []).extend(messages)
    context.client = {"error_samples": errors}
    return merge(
        context,
        [order.columns for order in orders],
        due_ns=left.due_ns,
        ended_ns=context.measured_ns,
        asked=left.asked,
        urls=len(context.urls),
        pod=note.pod,
        count_tokens=_counter(context),
    )


def secrets_again(settings: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[tuple[str, ...], list[str]]:
    """What a run of these recorded settings kept out of its messages, and what of it is not to be had: the settings
    have no secrets. Raises UsageError where the environment's headers are none."""
    missing = []
    key_file = settings.get("api_key_file")
    if key_file is None:
        key = environ.get(str(settings.get("api_key_env")), "").strip()
    else:
        try:
            key = Path(key_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            key = ""
            missing.append(f"--api-key-file={key_file}")
    row = BY_NAME["header"]
    headers: Headers = ()
    try:
        if environ.get(row.variable, "").strip():
            headers = kinds.headers(row.kind.takes).read(environ[row.variable])
    except ValueError:
        raise UsageError(f"{row.variable}: got a value that is not shown, takes {row.kind.takes}") from None
    given = {name.lower() for name, _ in headers}
    names = (line.partition(":")[0] for line in settings.get("header") or [])
    missing += [f"the header {name} ({row.variable})" for name in names if name.lower() not in given]
    return secrets_in(key, headers), missing


def _close(spool: Path) -> int:
    """Ends what was in flight, at the last moment of which the spool tells, and gives that moment: monotonic, ns."""
    last, open_requests = 0, dict[int, None]()
    for entry in replay(spool):
        last = max(last, entry.at_ns)
        if entry.kind == Kind.SENT:
            open_requests[entry.request] = None
        elif entry.kind == Kind.END:
            open_requests.pop(entry.request, None)
    _cut_to_whole_entries(spool)
    with spool.open("ab") as file:
        for request in open_requests:
            file.write(HEADER.pack(Kind.END, End.STOPPED, 0, request, last, 0, 0))
    return last


def _cut_to_whole_entries(spool: Path) -> None:
    size, at = spool.stat().st_size, 0
    with spool.open("r+b") as file:
        while len(header := file.read(HEADER.size)) == HEADER.size:
            end = at + HEADER.size + HEADER.unpack(header)[-1]
            if end > size:
                break
            at = end
            file.seek(at)
        file.truncate(at)


def _order(note: Note, folder: Path, spool: int, secrets: list[str]) -> Collect:
    return Collect(
        spool=str(folder / f"spool-{spool}"),
        columns=str(folder / f"columns-{spool}"),
        start_ns=note.start_ns,
        backend=note.context.backend,
        endpoint=note.context.endpoint,
        streaming=note.context.streaming,
        bodies=str(folder / BODIES),
        bounds=str(folder / "bounds"),
        secrets=secrets,
    )


def _counter(context: PointContext) -> Callable[[list[str]], list[int]]:
    """Counts with the point's tokenizer, which is loaded only where some answer was not counted by its server."""

    def count(texts: list[str]) -> list[int]:
        from latency_profile.workload import tokenizer

        trusted = bool(context.settings.get("trust_remote_code"))
        return tokenizer.load(context.tokenizer, trusted).counts(texts, special=False)

    return count
