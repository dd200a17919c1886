"""The page that every profile ends with."""

from collections.abc import Sequence
from pathlib import Path

from latency_profile.compare.nights import PROFILE
from latency_profile.page.beside import capacities_of
from latency_profile.page.comparisons import Say, comparisons_of
from latency_profile.page.document import document
from latency_profile.page.in_depth import in_depth
from latency_profile.page.seen import Seen
from latency_profile.results import Outcome
from latency_profile.storage import Readable

REPORT = "-report-"  # in the page's name, where the profile's has PROFILE


def profile_page(
    profile: str, points: Sequence[Outcome], folder: Path, nights: Readable | None, say: Say
) -> tuple[str, bytes]:
    """Name and bytes of the page of a whole profile, whose own file is named `profile`; `folder` has the records,
    and the comparison where there is one, which read its earlier nights in `nights`.

    It is what `latency-profile report` makes of that file; of several models it has all together only. Without a
    comparison (`nights` is None) it has no earlier nights: to look for them would take time that nobody asked for.
    """
    stem = profile.removesuffix(".json")
    head, middle, tail = stem.rpartition(PROFILE)
    seen = [Seen(profile, point.files[0], folder / point.files[0], point.result) for point in points]
    name = f"{head}{REPORT}{tail}.html" if middle else f"{stem}.html"
    comparisons = [] if nights is None else comparisons_of(seen, lambda _: nights, say)
    return name, document(seen, more=in_depth(seen), comparisons=comparisons, capacities=capacities_of(seen))
