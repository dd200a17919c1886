"""What a run of one engine leaves in the folder of the results."""

from pathlib import Path

import msgspec

from latency_profile import results
from latency_profile.errors import StorageError
from latency_profile.hardware.watch import PointWatch
from latency_profile.launch.engine_run import Engine, Found
from latency_profile.launch.requests_table import requests_table
from latency_profile.launch.structure import EngineRun
from latency_profile.records import Records, load


def write_run(engine: Engine, output: Path, found: Found) -> EngineRun:
    """The run's own files: what was measured is read back from its records. Raises StorageError."""
    try:
        return _written(engine, output, found)
    except OSError as error:
        raise StorageError(f"cannot write into {output}: {error.strerror or error}") from error


def _written(engine: Engine, output: Path, found: Found) -> EngineRun:
    stem = found.stem
    records = _records(output / stem, found.watch)
    files = {}
    if any((output / stem).iterdir()):
        files["folder"] = stem
    if (output / f"{stem}_server.log").exists():
        files["server_log"] = f"{stem}_server.log"
    if records is not None:
        table = results.write(output, f"{stem}_requests.csv", requests_table(records))
        files["requests"] = table.name
    own = engine.server
    failure = found.failure
    if records is None and failure is None:
        failure = f"interrupted by {found.interrupted}" if found.interrupted else "nothing was measured"
    run = EngineRun(
        backend=engine.name,
        stem=stem,
        model=records.context.models[0] if records is not None else own.model_name if own else None,
        url=found.url,
        concurrency=engine.concurrency,
        command=found.command,
        variables=sorted(own.environment) if own else [],
        start_s=found.start_s,
        failure=failure,
        interrupted=found.interrupted,
        files=files,
        result=None if records is None else results.point_result(records),
        hardware=None if records is None else records.context.hardware,
    )
    results.write(output, f"{stem}.json", msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    return run


def _records(folder: Path, watch: PointWatch | None) -> Records | None:
    """The point's records, with what was seen of the machine; None where nothing was measured."""
    path = next(iter(sorted(folder.glob("*.records.npz"))), None)
    if path is None:
        return None
    records = load(path)
    if watch is not None:
        records.context.hardware = watch.of(records.context)
        records.save(path)
        for name, data in results.point_files(records).items():
            results.write(folder, name, data, replace=True)
    return records
