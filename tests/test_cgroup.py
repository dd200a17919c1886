"""CPU limits and throttling out of control groups: fake trees of every kind, and the machine's own."""

import os
from pathlib import Path

import pytest

from benchmarks.limits import NoLimits, cpu_limited
from latency_profile.telemetry.cgroup import Cgroup, Level, read_cgroup

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_CPU = "33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"


class Tree:
    """A fake root with /proc/self and mounts in it."""

    def __init__(self, root: Path, *, mounts: list[str], groups: list[str]) -> None:
        self.root = root
        self.write("proc/self/mountinfo", "\n".join(["22 1 8:1 / / rw - ext4 /dev/sda1 rw", *mounts]))
        self.write("proc/self/cgroup", "\n".join(groups))

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def v2(self, folder: str, maximum: str | None, periods: int = 0, throttled: int = 0, usage_us: int = 0) -> None:
        if maximum is not None:
            self.write(f"{folder}/cpu.max", maximum)
        text = f"usage_usec {usage_us}\nuser_usec 1\nsystem_usec 1"
        if maximum is not None:
            text += f"\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec {throttled * 50_000}"
        self.write(f"{folder}/cpu.stat", text)

    def v1(self, folder: str, quota: int, period: int = 100_000, throttled: int = 0) -> None:
        self.write(f"{folder}/cpu.cfs_quota_us", str(quota))
        self.write(f"{folder}/cpu.cfs_period_us", str(period))
        self.write(f"{folder}/cpu.stat", f"nr_periods 10\nnr_throttled {throttled}\nthrottled_time {throttled * 7}")

    def read(self) -> Cgroup:
        return read_cgroup(self.root)


def test_v2_in_a_container(tmp_path: Path) -> None:
    tree = Tree(tmp_path, mounts=[V2_MOUNT], groups=["0::/"])
    tree.v2("sys/fs/cgroup", "20000 100000", periods=40, throttled=30, usage_us=1_500_000)
    found = tree.read()
    assert found.version == "v2"
    assert found.limit_cores == 0.2
    assert found.usage_ns == 1_500_000_000
    assert found.levels == (Level(str(tmp_path / "sys/fs/cgroup"), 0.2, 40, 30, 30 * 50_000_000 // 1000 * 1000),)
    assert found.levels[0].throttled_ns == 1_500_000_000


def test_the_tightest_ancestor_counts(tmp_path: Path) -> None:
    tree = Tree(tmp_path, mounts=[V2_MOUNT], groups=["0::/kubepods/pod1/main"])
    tree.v2("sys/fs/cgroup", None)
    tree.v2("sys/fs/cgroup/kubepods", "800000 100000")
    tree.v2("sys/fs/cgroup/kubepods/pod1", "150000 100000", periods=9, throttled=3)
    tree.v2("sys/fs/cgroup/kubepods/pod1/main", "max 100000", usage_us=7)
    found = tree.read()
    assert found.limit_cores == 1.5
    assert [level.limit_cores for level in found.levels] == [None, 1.5, 8.0, None]
    assert [level.throttled_periods for level in found.levels] == [0, 3, 0, 0]
    assert found.usage_ns == 7000, "of the process's own group, not of an ancestor"


def test_v2_without_a_limit(tmp_path: Path) -> None:
    tree = Tree(tmp_path, mounts=[V2_MOUNT], groups=["0::/user.slice"])
    tree.v2("sys/fs/cgroup", None)
    tree.v2("sys/fs/cgroup/user.slice", "max 100000")
    assert tree.read().limit_cores is None
    assert tree.read().version == "v2"


def test_v1_controllers_on_one_mount(tmp_path: Path) -> None:
    tree = Tree(tmp_path, mounts=[V1_CPU], groups=["4:cpu,cpuacct:/a/b", "1:name=systemd:/x"])
    base = "sys/fs/cgroup/cpu,cpuacct"
    tree.v1(base, -1)
    tree.v1(f"{base}/a", 50_000, throttled=4)
    tree.v1(f"{base}/a/b", 100_000)
    tree.write(f"{base}/a/b/cpuacct.usage", "123456789")
    found = tree.read()
    assert found.version == "v1"
    assert found.limit_cores == 0.5
    assert [level.throttled_ns for level in found.levels] == [0, 28, 0]
    assert found.usage_ns == 123_456_789


def test_v1_controllers_on_two_mounts_and_an_empty_v2(tmp_path: Path) -> None:
    mounts = [
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
        "33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct",
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
    ]
    tree = Tree(tmp_path, mounts=mounts, groups=["2:cpuacct:/c", "1:cpu:/b", "0::/"])
    tree.v1("sys/fs/cgroup/cpu/b", 200_000)
    tree.write("sys/fs/cgroup/cpuacct/c/cpuacct.usage", "5")
    tree.write("sys/fs/cgroup/unified/cpu.stat", "usage_usec 99")
    found = tree.read()
    assert (found.version, found.limit_cores, found.usage_ns) == ("v1", 2.0, 5)


def test_v1_in_a_container_without_a_namespace(tmp_path: Path) -> None:
    """The path is the host's; the mount shows the part of the hierarchy that is the container's."""
    mount = "33 30 0:30 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu"
    tree = Tree(tmp_path, mounts=[mount], groups=["1:cpu:/docker/abc/job"])
    tree.v1("sys/fs/cgroup/cpu", 30_000)
    tree.v1("sys/fs/cgroup/cpu/job", -1)
    assert tree.read().limit_cores == 0.3
    assert len(tree.read().levels) == 2


@pytest.mark.parametrize("path", ["/elsewhere/x", "/../sibling", "/docker/abcdef"])
def test_a_path_that_the_mount_does_not_show(tmp_path: Path, path: str) -> None:
    mount = "33 30 0:30 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu"
    tree = Tree(tmp_path, mounts=[mount], groups=[f"1:cpu:{path}"])
    tree.v1("sys/fs/cgroup/cpu", 30_000)
    assert [level.limit_cores for level in tree.read().levels] == [0.3]


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    mount = r"30 23 0:26 / /my\040groups rw - cgroup2 cgroup2 rw"
    tree = Tree(tmp_path, mounts=[mount], groups=["0::/"])
    tree.v2("my groups", "100000 100000")
    assert tree.read().limit_cores == 1.0


def test_neither(tmp_path: Path) -> None:
    assert read_cgroup(tmp_path) == Cgroup(None)
    assert Cgroup(None).limit_cores is None
    tree = Tree(tmp_path, mounts=[], groups=["0::/"])
    assert tree.read() == Cgroup(None)


@pytest.mark.parametrize(
    "maximum", ["", "max", "max 100000", "20000", "20000 0", "0 100000", "-5 100000", "a b", "1 2 3", "20000 x"]
)
def test_what_is_no_limit(tmp_path: Path, maximum: str) -> None:
    tree = Tree(tmp_path, mounts=[V2_MOUNT], groups=["0::/"])
    tree.v2("sys/fs/cgroup", maximum)
    assert tree.read().limit_cores is None


def test_malformed_files_tell_nothing(tmp_path: Path) -> None:
    tree = Tree(tmp_path, mounts=["nonsense", "- - -", " - cgroup2", V2_MOUNT], groups=["", "x", "1:cpu", "0::/"])
    tree.v2("sys/fs/cgroup", "20000 100000")
    tree.write("sys/fs/cgroup/cpu.stat", "nr_periods\nnr_throttled -3\nthrottled_usec ²\nusage_usec 1 2\n\x00")
    found = tree.read()
    assert found.limit_cores == 0.2
    assert found.levels[0][2:] == (0, 0, 0)
    assert found.usage_ns is None


def test_this_machine() -> None:
    """Whatever it has, it can be read, and what it says of time only grows."""
    first, second = read_cgroup(), read_cgroup()
    assert first.version == second.version
    if first.usage_ns is not None:
        assert second.usage_ns is not None
        assert second.usage_ns >= first.usage_ns > 0
    assert first.limit_cores is None or first.limit_cores > 0


def test_a_real_group_with_a_quota() -> None:
    """What a process in a group of a fifth of a core reads of itself."""
    try:
        with cpu_limited(0.2) as join:
            reader, writer = os.pipe()
            child = os.fork()
            if not child:
                join()
                os.write(writer, str(read_cgroup().limit_cores).encode())
                os._exit(0)
            os.waitpid(child, 0)
            said = os.read(reader, 100).decode()
            os.close(reader)
            os.close(writer)
    except NoLimits as error:
        pytest.skip(f"no group with a CPU quota here: {error}")
    assert said == "0.2"
