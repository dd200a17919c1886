"""How much CPU the control groups allow this process, and how often they made it wait: cgroup v1, v2, or neither.

A quota holds for a group and all below it, so every ancestor that the mount shows is looked at, and the tightest one
counts. In a container the mount's root is the container's own group; what is above it cannot be seen from inside.
Sources: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/, Documentation/scheduler/sched-bwc.rst.

Nothing here fails: a file that is not there, or that is not what the documentation says, tells nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Version = Literal["v1", "v2"]

_MOUNTS = "proc/self/mountinfo"
_MEMBERSHIP = "proc/self/cgroup"
_ESCAPED = re.compile(r"\\([0-7]{3})")  # mountinfo writes spaces and the like so (proc_pid_mountinfo(5))
_NS_PER_US = 1000


class Level(NamedTuple):
    """One group that the process belongs to, with its quota and what came of it since the group was made."""

    folder: str
    limit_cores: float | None  # quota / period; None: no limit at this level
    periods: int = 0  # in which the group had something to run
    throttled_periods: int = 0  # in which it used up its quota and had to wait
    throttled_ns: int = 0  # how long, summed over CPUs


class Membership(NamedTuple):
    """Where a controller's files lie: the process's own group first, then its ancestors up to the mount's root."""

    version: Version
    folders: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Cgroup:
    """What the groups said at one moment."""

    version: Version | None  # None: no group accounts for CPU
    levels: tuple[Level, ...] = ()
    usage_ns: int | None = None  # CPU of everything in the process's own group, since the group was made

    @property
    def limit_cores(self) -> float | None:
        """The tightest limit of all levels; None where there is none."""
        return min((level.limit_cores for level in self.levels if level.limit_cores is not None), default=None)


def read_cgroup(root: Path = Path("/")) -> Cgroup:
    """What the groups of this process say now. `root`: where /proc and the mounts lie."""
    found = membership(root, "cpu")
    if found is None:
        return Cgroup(None)
    level = _level_v1 if found.version == "v1" else _level_v2
    return Cgroup(found.version, tuple(level(folder) for folder in found.folders), _usage_ns(root, found))


def membership(root: Path, controller: str) -> Membership | None:
    """The groups that a controller has this process in. A controller that v1 has is not in v2: hybrid systems have both
    mounted. None where neither has it."""
    paths = _paths(_text(root / _MEMBERSHIP))
    mounts = _mounts(_text(root / _MOUNTS))
    for mount in mounts:
        if mount.kind == "cgroup" and controller in mount.options and controller in paths:
            return Membership("v1", _folders(root, mount, paths[controller]))
    for mount in mounts:
        if mount.kind == "cgroup2" and "" in paths:
            folders = _folders(root, mount, paths[""])
            if (folders[0] / f"{controller}.stat").is_file():
                return Membership("v2", folders)
    return None


class _Mount(NamedTuple):
    root: str  # what part of the hierarchy is mounted
    point: str  # where
    kind: str
    options: frozenset[str]  # of the file system: the controllers, in v1


def _mounts(text: str) -> list[_Mount]:
    """Lines are `id parent device root point options [tags …] - kind source options`."""
    mounts = []
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if dash and len(left) >= 5 and len(right) >= 3:
            mounts.append(_Mount(_plain(left[3]), _plain(left[4]), right[0], frozenset(right[2].split(","))))
    return mounts


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def _paths(text: str) -> dict[str, str]:
    """Path of the process's group by controller, "" for v2. Lines are `number:controller,controller:/path`."""
    paths = {}
    for line in text.splitlines():
        _, colon, rest = line.partition(":")
        controllers, second, path = rest.partition(":")
        if colon and second and path.startswith("/"):
            paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _folders(root: Path, mount: _Mount, path: str) -> tuple[Path, ...]:
    """The path is the hierarchy's, the mount shows a part of it. Where that part does not hold the path (a mount made
    in another namespace), the mount's root is all that can be seen."""
    top = root / mount.point.lstrip("/")
    base = "" if mount.root == "/" else mount.root.rstrip("/")
    inside = path.removeprefix(base).strip("/") if path == base or path.startswith(f"{base}/") else ""
    parts = inside.split("/") if inside else []
    if ".." in parts or not top.joinpath(*parts).is_dir():
        return (top,)
    return tuple(top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _level_v2(folder: Path) -> Level:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    stat = _counts(_text(folder / "cpu.stat"))
    return Level(
        folder=str(folder),
        limit_cores=_cores(_number(quota), _number(period)),  # "max" is no number
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_ns=stat.get("throttled_usec", 0) * _NS_PER_US,
    )


def _level_v1(folder: Path) -> Level:
    stat = _counts(_text(folder / "cpu.stat"))
    return Level(
        folder=str(folder),
        limit_cores=_cores(_number(_text(folder / "cpu.cfs_quota_us")), _number(_text(folder / "cpu.cfs_period_us"))),
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_ns=stat.get("throttled_time", 0),
    )


def _usage_ns(root: Path, cpu: Membership) -> int | None:
    if cpu.version == "v2":
        usage = _counts(_text(cpu.folders[0] / "cpu.stat")).get("usage_usec")
        return None if usage is None else usage * _NS_PER_US
    accounts = membership(root, "cpuacct")  # often, not always, the same mount as `cpu`
    return None if accounts is None else _number(_text(accounts.folders[0] / "cpuacct.usage"))


def _cores(quota: int | None, period: int | None) -> float | None:
    """-1 is v1's word for no limit."""
    return quota / period if quota is not None and period is not None and quota > 0 and period > 0 else None


def _counts(text: str) -> dict[str, int]:
    pairs = (line.split(" ") for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isascii() and pair[1].isdigit()}


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
