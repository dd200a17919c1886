"""The last line of a profile's log: what came out, in a line that a person or a cluster's event can carry."""

from collections import Counter
from collections.abc import Sequence

from latency_profile.capacity.structure import Capacity
from latency_profile.capacity.text import capacity_text
from latency_profile.errors import Exit
from latency_profile.report.table_row import TableRow
from latency_profile.slo.structure import ProfileSlo
from latency_profile.verdict import UNUSABLE, Kind


def closing_line(
    rows: Sequence[TableRow], code: Exit, slo: ProfileSlo | None = None, capacity: Capacity | None = None
) -> str:
    """The verdicts, why points must not be used, up to which load objectives are kept, and the exit code."""
    kept = f"{slo.text} " if slo else ""
    if capacity is not None:  # which tells more
        kept = f"{capacity_text(capacity)} "
    return f"{verdicts_text(rows)}. {kept}Exit code {int(code)}."


def verdicts_text(rows: Sequence[TableRow]) -> str:
    """How many points have which verdict, and why points must not be used; without a full stop."""
    counted = ", ".join(f"{count} {verdict}" for verdict, count in Counter(row.verdict for row in rows).items())
    why = "".join(f". At {row.load}: {told}".rstrip(".") for row in rows if (told := _barred(row)))
    points = f"{len(rows)} point{'' if len(rows) == 1 else 's'}"
    return f"{points}: {counted or 'none measured'}{why}"


def _barred(row: TableRow) -> str:
    """Why it must not be used; nothing where it may."""
    said = row.reasons if Kind(row.verdict) in UNUSABLE else ()
    return " ".join([*([f"Cut short by {row.cut_short}."] if row.cut_short else []), *said])
