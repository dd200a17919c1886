"""What a series of points is called on the page: no more than tells it from the others."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from latency_profile.page.seen import Seen, whole


def server_of(point: Seen) -> str:
    """The server and its version."""
    version = point.result.provenance.get("server_version")
    return " ".join(filter(None, (point.result.config.model_server, version)))


def started(point: Seen) -> str:
    """When its profile began, as far as its points tell, UTC."""
    return f"{datetime.fromtimestamp(point.result.config.start_time.seconds, UTC):%Y-%m-%d %H:%M}"


_PARTS: tuple[Callable[[Seen], str], ...] = (lambda point: point.result.config.model, server_of, started)


def series_names(points: Sequence[Seen]) -> dict[tuple[str, str | None], str]:
    """A name for each profile and model, by (profile, model), each once, in order of first mention."""
    first: dict[tuple[str, str | None], Seen] = {}
    for point in points:
        first.setdefault((point.profile, point.model), point)
    parts = {key: [*(part(point) for part in _PARTS), point.path.parent.name] for key, point in first.items()}
    different = [place for place in range(len(_PARTS) + 1) if len({each[place] for each in parts.values()}) > 1]
    telling = [place for place in different if place < len(_PARTS)]
    if len({tuple(each[place] for place in telling) for each in parts.values()}) < len(parts):
        telling = different  # their folders may tell them apart
    telling = telling or [0, 1]
    names: dict[tuple[str, str | None], str] = {}
    for key, each in parts.items():
        name = ", ".join(each[place] for place in telling)
        taken = sum(other == name or other.startswith(f"{name} (") for other in names.values())
        names[key] = f"{name} ({taken + 1})" if taken else name
    return names


def profile_name(points: Sequence[Seen], names: Mapping[tuple[str, str | None], str]) -> str:
    """Of one profile's points: the name of all its models together, where those are there."""
    first = (whole(points) or points)[0]
    return names[first.profile, first.model]
