"""Makes a point's result files again from its records: the same bytes, on any day."""

from pathlib import Path

from latency_profile import records, results
from latency_profile.errors import Exit, UsageError


def reanalyze(path: Path, folder: Path) -> Exit:
    """Writes the point's files into `folder`, in place of those of the same names, and prints where. Raises
    UsageError where `path` is no records file."""
    try:
        point = records.load(path)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for name, data in results.point_files(point).items():
        print(results.write(folder, name, data, replace=True))
    return Exit.DONE
