"""What lies beside the points of a page: their profiles' own files."""

from collections.abc import Sequence

import msgspec

from latency_profile.capacity.structure import Capacity
from latency_profile.page.seen import Seen


class _Profile(msgspec.Struct):
    capacity: Capacity | None = None


def capacities_of(points: Sequence[Seen]) -> dict[str, Capacity]:
    """What searches for the capacity came to, by profile."""
    found = {}
    for profile, path in {point.profile: point.path.parent / point.profile_name for point in points}.items():
        try:
            capacity = msgspec.json.decode(path.read_bytes(), type=_Profile).capacity
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):  # points alone, or of another version
            continue
        if capacity is not None:
            found[profile] = capacity
    return found
