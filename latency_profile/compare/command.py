"""`latency-profile compare`: new profiles against earlier ones."""

import argparse
from collections.abc import Sequence

from latency_profile.command_flags import CommandFlags, read
from latency_profile.compare.compared import Options, compare
from latency_profile.compare.names import ALL, AUTO, DATE, LATEST, MARGIN, NAMES
from latency_profile.compare.nightly import comparison_files, nights_at
from latency_profile.compare.nights import Night, in_order, of_date
from latency_profile.compare.text import lines, markdown
from latency_profile.errors import Exit, UsageError
from latency_profile.fingerprint import differences
from latency_profile.local_path import local_path
from latency_profile.results.fetched import split
from latency_profile.settings import kinds
from latency_profile.storage import open_place

_USAGE = "latency-profile compare [FLAG …] BASE … NEW"
_DESCRIPTION = """\
Sets the profile NEW against the earlier profiles BASE of the same fingerprint: files, folders with all below them, or
URLs of these such as gs://bucket/folder. Says regressed, improved, equivalent or inconclusive. The unit is the run: a
verdict needs several. A single new profile is tonight's, and the last nights of BASE are judged along with it; several
(a folder) are judged together, against all of BASE. Exit code 5 where the measure that decides has regressed."""


def command(arguments: Sequence[str]) -> Exit:
    """Compares and prints what was found. Raises UsageError, also where fingerprints differ, ServerUnavailable where a
    URL cannot be read, and StorageError."""
    given = _parser().parse_intermixed_args(arguments)
    options = Options(
        measure=given.measure,
        margin=read("--margin", kinds.share("a share above 0 and below 1, such as 5% or 0.05"), given.margin),
        since=of_date(read("--since", kinds.text("a date such as 2026-11-22", "DATE", DATE), given.since))
        if given.since is not None
        else "",
        rolling=given.base == LATEST,
    )
    if given.output == "":
        raise UsageError("--output: got nothing, takes a folder or a URL")
    *bases, last = given.profiles
    if not bases:
        raise UsageError(f"usage: {_USAGE}")
    new = nights_at(last)
    if not new:
        raise UsageError(f"{last}: there is no profile in it (…-profile-….json)")
    if new[-1].problem:
        raise UsageError(new[-1].problem)
    earlier = in_order([night for place in bases for night in _of_base(place, new)])
    _same_fingerprint(new[-1], new[:-1])
    if earlier:
        _some_of_the_same(new[-1], earlier)
    found = compare(new, earlier, options)
    print(markdown(found) if given.markdown else "\n".join(lines(found)))
    if given.output:
        for name, data in comparison_files(found).items():
            print(open_place(given.output).put(name, data))
    return Exit(found.exit_code)


def _parser() -> argparse.ArgumentParser:
    flags = CommandFlags(_USAGE, _DESCRIPTION, said_first="compare: ")
    flags.add_argument("profiles", nargs="+", metavar="BASE … NEW", help="profiles' files, folders or URLs")
    flags.add_argument(
        "--measure",
        choices=NAMES,
        default=AUTO,
        help=f"what decides the exit code (default: {AUTO}, see docs/settings.md)",
    )
    flags.add_argument(
        "--margin", default=str(MARGIN), metavar="SHARE", help=f"shifts below it are equivalence (default: {MARGIN})"
    )
    flags.add_argument("--since", metavar="DATE", help="leave out what is older: the level since then is accepted")
    flags.add_argument(
        "--base",
        choices=(ALL, LATEST),
        default=ALL,
        help=f"{ALL}: the first nights stay the base (default); {LATEST}: the latest, but those called regressed",
    )
    flags.add_argument("--markdown", action="store_true", help="print the whole summary")
    flags.add_argument("--output", metavar="PLACE", help="folder or URL for the comparison's JSON and Markdown")
    return flags


def _of_base(place: str, new: Sequence[Night]) -> list[Night]:
    """The nights of one BASE. A file that is named and may not be compared is refused; in a folder it is left out."""
    found = nights_at(place)
    if split(place)[1] if "://" in place else local_path(place).is_file():
        _same_fingerprint(new[-1], found)
    return found


def _same_fingerprint(night: Night, others: Sequence[Night]) -> None:
    for other in others:
        found = differences(other.fingerprint, night.fingerprint)
        if found:
            raise UsageError(f"{other.file} and {night.file} may not be compared: {'; '.join(found)}")


def _some_of_the_same(night: Night, others: Sequence[Night]) -> None:
    if all(differences(other.fingerprint, night.fingerprint) for other in others):
        _same_fingerprint(night, others[-1:])
