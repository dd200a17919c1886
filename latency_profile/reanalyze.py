"""Makes a point's result files again from its records: the same bytes, on any day."""

from pathlib import Path

from latency_profile import records, results
from latency_profile.errors import Exit, UsageError
from latency_profile.records import Records
from latency_profile.report.closing import closing_line
from latency_profile.report.rows import load_label, table_row


def reanalyze(path: Path, folder: Path) -> Exit:
    """Writes the point's files into `folder`, in place of those of the same names, and prints where; its verdict and
    objectives give the exit code. Raises UsageError where `path` is no records file, and StorageError where `folder`
    takes none."""
    try:
        point = records.load(path)
    except ValueError as error:
        raise UsageError(str(error)) from None
    files = results.point_files(point).items()
    with results.writing(folder):
        written = [results.write(folder, name, data, replace=True) for name, data in files]
    print(*written, sep="\n")
    return said(point)


def said(point: Records) -> Exit:
    """Prints the point's verdict as a profile's last line does; the exit code that goes with it."""
    result = results.point_result(point)
    code = results.exit_code([result])
    print(closing_line([table_row(load_label(point.context), result)], code, results.slo_of([result])))
    return code
