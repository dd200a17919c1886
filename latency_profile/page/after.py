"""The page that every profile ends with."""

from collections.abc import Sequence
from pathlib import Path

from latency_profile.compare.nights import PROFILE
from latency_profile.page.beside import capacities_of, comparisons_of
from latency_profile.page.document import document
from latency_profile.page.in_depth import in_depth
from latency_profile.page.seen import Seen
from latency_profile.results import Outcome

REPORT = "-report-"  # in the page's name, where the profile's has PROFILE


def profile_page(profile: str, points: Sequence[Outcome], folder: Path) -> tuple[str, bytes]:
    """Name and bytes of the page of a whole profile, whose own file is named `profile`; `folder` has the records,
    and the comparison where there is one.

    It is what `latency-profile report` makes of that file; of several models it has all together only.
    """
    stem = profile.removesuffix(".json")
    head, middle, tail = stem.rpartition(PROFILE)
    seen = [Seen(profile, point.files[0], folder / point.files[0], point.result) for point in points]
    name = f"{head}{REPORT}{tail}.html" if middle else f"{stem}.html"
    comparisons, capacities = comparisons_of(seen), capacities_of(seen)
    return name, document(seen, more=in_depth(seen), comparisons=comparisons, capacities=capacities)
