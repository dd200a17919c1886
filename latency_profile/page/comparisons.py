"""What a page says of earlier nights: by the comparison that lies beside a profile, or else by one of its own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from latency_profile.compare.compared import Options, compare
from latency_profile.compare.earlier import MOST, key, named_nights, newest_nights
from latency_profile.compare.nightly import COMPARISON
from latency_profile.compare.nights import PROFILE, Night, in_order, read
from latency_profile.compare.structure import Comparison
from latency_profile.errors import ProfileError, UsageError
from latency_profile.page.nights import drawn_nights, nights_section
from latency_profile.page.section import Section
from latency_profile.page.seen import Seen
from latency_profile.results.index import INDEX_NAME
from latency_profile.storage import Readable

FEWEST = 3  # nights: two profiles are what the curves show
_OWN = (
    "No comparison was stored with this profile (--compare-with): this is what `latency-profile compare` says, with "
    f"its defaults, of the newest {MOST} earlier nights at most."
)

Say = Callable[[str], None]


class _Run(msgspec.Struct):
    run_id: str


def comparisons_of(points: Sequence[Seen], store: Callable[[Path], Readable], say: Say) -> list[Section]:
    """A section for the newest profile of each fingerprint.

    Its nights are looked for among the profiles of the points, and in what `store` gives of a folder: the profile's
    own, or the one above it where that is a run's. Where that cannot be read, `say` is told why.
    """
    grouped: dict[str, dict[Path, None]] = {}
    for point in sorted(points, key=lambda point: point.started_ns):
        if point.profile.endswith(".json"):  # else there are points alone
            grouped.setdefault(point.result.fingerprint.sha256, {})[point.path.parent / point.profile_name] = None
    sections = (_section(list(profiles), store, say) for profiles in grouped.values())
    return [section for section in sections if section is not None]


def _section(profiles: Sequence[Path], store: Callable[[Path], Readable], say: Say) -> Section | None:
    """profiles: files of one fingerprint, oldest first."""
    known = {path: night for path in profiles if (night := _night(path)) is not None}
    if profiles[-1] not in known:
        return None
    there = list(known.values())
    *given, tonight = there
    folder = profiles[-1].parent
    root = folder.parent if _is_of_run(folder) else folder
    stored = _stored(profiles[-1])
    if stored is not None:
        missing = {key(each.date, each.file) for each in drawn_nights(stored)}
        missing -= {key(night.date, night.file) for night in there}
        found = _read(lambda: named_nights(store(root), drawn_nights(stored)), say) if missing else []
        return nights_section(stored, in_order([*there, *found]))
    earlier = in_order([*given, *_read(lambda: newest_nights(store(root), tonight), say)])
    nights = [*[night for night in earlier if night.date < tonight.date][-MOST:], tonight]
    if len(nights) < FEWEST:
        return None
    section = nights_section(compare(nights[-1:], nights[:-1], Options()), nights)
    return msgspec.structs.replace(section, sentences=(*section.sentences, _OWN))


def _night(path: Path) -> Night | None:
    try:
        return read(path.read_bytes(), f"{path.parent.name}/{path.name}")
    except (OSError, UsageError):  # of another version: the page says so of its points
        return None


def _read(nights: Callable[[], Iterable[Night]], say: Say) -> list[Night]:
    try:
        return list(nights())
    except ProfileError as error:
        say(f"earlier nights are not on the page: {error}")
        return []


def _is_of_run(folder: Path) -> bool:
    """Whether it is the folder of a run with a name (--run-id), beside which those of other nights lie."""
    try:
        return msgspec.json.decode((folder / INDEX_NAME).read_bytes(), type=_Run).run_id == folder.name
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False


def _stored(path: Path) -> Comparison | None:
    """The comparison that lies beside the profile's file; the newest where there are several."""
    return next(_comparisons(path), None)


def _comparisons(path: Path) -> Iterator[Comparison]:
    head, middle, tail = path.name.removesuffix(".json").rpartition(PROFILE)
    for beside in sorted(path.parent.glob(f"{head}{COMPARISON}{tail}*.json"), reverse=True) if middle else ():
        try:
            found = msgspec.json.decode(beside.read_bytes(), type=Comparison)
        except (msgspec.DecodeError, UnicodeDecodeError):  # of another version, or somebody else's
            continue
        if Path(found.file).name == path.name:
            yield found
