"""`latency-profile report`: points that were measured as one HTML page, and its figures as pictures."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from latency_profile import results
from latency_profile.command_flags import CommandFlags
from latency_profile.errors import Exit, StorageError, UsageError
from latency_profile.export.points import points_at
from latency_profile.local_path import local_path
from latency_profile.page.beside import capacities_of
from latency_profile.page.comparisons import comparisons_of
from latency_profile.page.document import document
from latency_profile.page.figure import Figure
from latency_profile.page.in_depth import in_depth
from latency_profile.page.names import series_names
from latency_profile.page.overview import overview
from latency_profile.page.pictures import drawer
from latency_profile.page.seen import Seen, Unread, seen_of
from latency_profile.results.fetched import AtHand, around, at_hand, reading
from latency_profile.results.found import NoPoints, say_barred
from latency_profile.storage import Readable

Draw = Callable[[Iterable[Figure]], Iterator[tuple[str, bytes]]]

DEFAULT = "report.html"
_USAGE = "latency-profile report RESULTS … [-o report.html] [--plots DIR] [--nights PLACE]"
_DESCRIPTION = """\
Points that were measured as one HTML page that needs nothing else: the result in a sentence, curves with their
intervals, all points, where the numbers come from, and each point. RESULTS are points' JSON, profiles' JSON, records,
and folders of these with all below them, here or in a bucket (gs://bucket/folder, gs://bucket/folder/PROFILE.json);
several profiles are drawn over each other. Earlier nights are looked for beside the newest profile, and in the folders
of other runs beside that of a run with a name, or where --nights says.

Exit code 4 where no point may be used, or a folder has none."""


def command(arguments: Sequence[str]) -> Exit:
    """Writes the page. Raises UsageError, ServerUnavailable for a bucket that cannot be read, and StorageError where it
    cannot write."""
    given = _parser().parse_intermixed_args(arguments)
    output = local_path(given.output, "-o: ")
    if not given.output or output.is_dir():
        raise UsageError(f"-o: got {given.output!r}, takes a file")
    folder = None if given.plots is None else local_path(given.plots, "--plots: ")
    if folder is not None and (not given.plots or folder.is_file()):
        raise UsageError(f"--plots: got {given.plots!r}, takes a folder")
    nights = None if given.nights is None else _place_of_nights(given.nights)
    draw = None if folder is None else drawer()
    try:
        with at_hand(given.places) as here:
            here.with_profiles()
            here.with_records()
            return _report(here, output, folder, draw, nights)
    except NoPoints as error:  # who looks for the page is told so there
        _write(output, document([], notices=[str(error)]))
        print(error, file=sys.stderr)
        return Exit.UNUSABLE


def _report(
    here: AtHand, output: Path, folder: Path | None, draw: Draw | None, place_of_nights: Readable | None
) -> Exit:
    """folder, draw: for pictures, where they are asked for."""
    points, unread = seen_of(points_at(here.places, here.named))
    around_them = here.around if place_of_nights is None else lambda _: place_of_nights
    more, nights = in_depth(points), comparisons_of(points, around_them, _say)
    for line in more.unread:
        _say(line)
    _write(output, document(points, unread, more, without_profile(points), nights, capacities_of(points)))
    if draw is not None and folder is not None:
        figures = list(overview(points, series_names(points)).figures)
        figures += [
            figure for sections in (*more.sections, nights) for section in sections for figure in section.figures
        ]
        for name, data in draw(figures):
            _write(folder / name, data)
    return _code(points, unread)


def _place_of_nights(place: str) -> Readable:
    """Where --nights says. Raises UsageError where nothing is, and ServerUnavailable where it cannot be read."""
    folder = local_path(place, "--nights: ")
    if not place or ("://" not in place and not folder.is_dir()):
        raise UsageError(f"--nights: got {place!r}, takes a folder that is there, or a URL such as gs://bucket/folder")
    nights = around(place if "://" in place else str(folder))
    with reading(place):
        nights.list("")
    return nights


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def without_profile(points: Sequence[Seen]) -> list[str]:
    """What is to be said of points whose profile's file is not there."""
    alone = [point for point in points if not point.profile.endswith(".json")]
    if not alone:
        return []
    which = "The points have" if len(alone) == len(points) else f"{len(alone)} of the points have"
    return [
        f"{which} no profile's file beside them: what lies in one folder and has the same fingerprint is taken for one "
        "profile."
    ]


def _code(points: Sequence[Seen], unread: Sequence[Unread]) -> Exit:
    for of in unread:
        print(f"{of.file}, of schema {of.schema_version}, cannot be read and is left out: {of.why}", file=sys.stderr)
    return say_barred([(point.load_name, point.model, point.barred) for point in points])


def _parser() -> argparse.ArgumentParser:
    flags = CommandFlags(_USAGE, _DESCRIPTION, said_first="report: ")
    flags.add_argument(
        "places", nargs="+", metavar="RESULTS", help="points' or profiles' JSON, records, folders, or URLs"
    )
    flags.add_argument(
        "-o",
        "--output",
        default=DEFAULT,
        metavar="FILE",
        help=f"the page (default: {DEFAULT}). What is there already is left alone: the new file gets a number",
    )
    flags.add_argument(
        "--plots",
        metavar="DIR",
        help="a folder for each figure as PNG and SVG too; takes the package vl-convert-python",
    )
    flags.add_argument(
        "--nights",
        metavar="PLACE",
        help="a folder, with the folders in it, or a URL where earlier profiles are, as of a --compare-with=PLACE "
        "(default: around the newest profile)",
    )
    return flags


def _write(path: Path, data: bytes) -> None:
    try:
        made = results.write(path.parent, path.name, data)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    print(made)
