"""`latency-profile export`: points that were measured, in the forms of other tools."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec
import yaml

from latency_profile import results
from latency_profile.command_flags import CommandFlags
from latency_profile.errors import Exit, StorageError, UsageError
from latency_profile.export.llmd import report
from latency_profile.export.markdown import markdown
from latency_profile.export.points import ExportPoint, points_at, records_of
from latency_profile.export.tables import csv_chunks, parquet_writer, point_parts, request_parts
from latency_profile.export.vllm_bench import vllm_bench
from latency_profile.local_path import local_path
from latency_profile.results.fetched import at_hand
from latency_profile.results.found import load_records, say_barred

CSV, PARQUET, MARKDOWN, VLLM_BENCH, LLM_D = "csv", "parquet", "markdown", "vllm-bench", "llm-d"
POINTS, REQUESTS = "points", "requests"

_USAGE = (
    "latency-profile export RESULTS … --format csv|parquet|markdown|vllm-bench|llm-d [--of points|requests] "
    "[--detailed] [-o PATH]"
)
_DESCRIPTION = """\
Points that were measured, in the forms of other tools. RESULTS are points' JSON, profiles' JSON, records, and folders
of these with all below them, here or in a bucket (gs://bucket/folder, gs://bucket/folder/POINT.json). Every point is
there with its verdict, also where it must not be used.

csv, parquet  a row a point, or with --of requests a row a request (from the records beside the results, or given)
markdown      a table for a pull request, profile after profile, with 95 % intervals
vllm-bench    the JSON of `vllm bench serve --save-result`, by its definitions, a file a point; takes the records
llm-d         llm-d's benchmark report 0.2 (YAML), a file a point

docs/export.md says what each column and key is. Exit code 4 where no point may be used."""


def command(arguments: Sequence[str]) -> Exit:
    """Prints or writes what was asked for. Raises UsageError, ServerUnavailable for a bucket that cannot be read, and
    StorageError where it cannot write."""
    given = _parser().parse_intermixed_args(arguments)
    _check(given)
    write_parquet = parquet_writer() if given.format == PARQUET else None
    with at_hand(given.places) as here:
        if given.of == REQUESTS or given.format == VLLM_BENCH:
            here.with_records()
        points = points_at(here.places, here.named)
        if given.format in (VLLM_BENCH, LLM_D):
            _write_files(Path(given.output).expanduser(), _files(points, given.format, given.detailed))
        else:
            parts = request_parts(records_of(points)) if given.of == REQUESTS else point_parts(points)
            if write_parquet is not None:
                _write(given.output, lambda file: write_parquet(file, parts))
            else:
                _print_or_write(given.output, [markdown(points)] if given.format == MARKDOWN else csv_chunks(parts))
    return say_barred([(point.head.load_name, point.model, point.head.barred) for point in points])


def _parser() -> argparse.ArgumentParser:
    flags = CommandFlags(_USAGE, _DESCRIPTION, said_first="export: ")
    flags.add_argument(
        "places", nargs="+", metavar="RESULTS", help="points' or profiles' JSON, records, folders, or URLs"
    )
    flags.add_argument("--format", required=True, choices=(CSV, PARQUET, MARKDOWN, VLLM_BENCH, LLM_D))
    flags.add_argument("--of", choices=(POINTS, REQUESTS), default=POINTS, help=f"what a row is (default: {POINTS})")
    flags.add_argument(
        "--detailed",
        action="store_true",
        help=f"with --format {VLLM_BENCH}: each request too, as --save-detailed has it",
    )
    flags.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help=f"a file; with {VLLM_BENCH} and {LLM_D} a folder (default: printed, where that is text in one piece). "
        "What is there already is left alone: the new file gets a number",
    )
    return flags


def _check(given: argparse.Namespace) -> None:
    if given.of == REQUESTS and given.format not in (CSV, PARQUET):
        raise UsageError(f"--of: got {REQUESTS} with --format {given.format}, takes it with {CSV} or {PARQUET}")
    if given.detailed and given.format != VLLM_BENCH:
        raise UsageError(f"--detailed: got it with --format {given.format}, takes --format {VLLM_BENCH}")
    to_folder = given.format in (VLLM_BENCH, LLM_D)
    takes = f"a {'folder' if to_folder else 'file'} with --format {given.format}"
    if given.output is None:
        if to_folder or given.format == PARQUET:
            raise UsageError(f"-o: got nothing, takes {takes}")
    elif not given.output:
        raise UsageError(f"-o: got '', takes {takes}")
    else:
        path = local_path(given.output, "-o: ")
        if path.is_file() if to_folder else path.is_dir():
            raise UsageError(f"-o: got {given.output}, which is a {'file' if to_folder else 'folder'}, takes {takes}")


def _files(points: Sequence[ExportPoint], form: str, detailed: bool) -> Iterator[tuple[str, bytes]]:
    """Names and bytes."""
    if form == LLM_D:
        for point in points:
            text = yaml.safe_dump(report(point), sort_keys=False, allow_unicode=True)
            yield f"{point.stem}.{LLM_D}.yaml", text.encode()
        return
    for path, of_records in records_of(points).items():
        records = load_records(path)
        for point in of_records:
            try:
                found = vllm_bench(records, point, detailed)
            except ValueError as error:
                raise UsageError(f"{path}: {error}") from None
            yield f"{point.stem}.{VLLM_BENCH}.json", msgspec.json.encode(found) + b"\n"


def _print_or_write(output: str | None, chunks: Iterable[str]) -> None:
    if output is not None:
        _write(output, lambda file: file.writelines(chunk.encode() for chunk in chunks))
        return
    for chunk in chunks:
        sys.stdout.write(chunk)
    sys.stdout.flush()


def _write(output: str, fill: Callable[[IO[bytes]], object]) -> None:
    path = Path(output).expanduser()
    try:
        made = results.write_by(path.parent, path.name, fill)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    print(made)


def _write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    for name, data in files:
        try:
            made = results.write(folder, name, data)
        except OSError as error:
            raise StorageError(f"cannot write {folder / name}: {error.strerror or error}") from None
        print(made)
