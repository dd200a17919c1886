"""The spool: what was written comes back, with the kernel's realtime stamps on the monotonic clock."""

from collections import deque
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latency_profile.outcome import Flag
from latency_profile.sender import spool as spool_module
from latency_profile.sender.spool import LARGEST_READ, End, Entry, Kind, Spool, replay

OFFSET = 1_700_000_000_000_000_000  # of the realtime clock over the monotonic one
STEP = 3_600_000_000_000


class Clocks:
    """What the spool's looks at the clocks give, in turn: (realtime, monotonic)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs: deque[tuple[int, int]] = deque()
        monkeypatch.setattr(spool_module, "clock_pair", self.pairs.popleft)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def write_read(spool: Spool, request: int, kernel_ns: int, user_ns: int, data: bytes) -> None:
    spool.room()[: len(data)] = data
    spool.read(request, kernel_ns, user_ns, len(data))


def test_what_was_written_comes_back(tmp_path: Path, clocks: Clocks) -> None:
    clocks.pairs.append((OFFSET + 1000, 1000))
    spool = Spool(tmp_path / "spool")
    spool.clock()
    spool.sent(7, 1500, 1520, Flag.REUSED_CONNECTION | Flag.RESENT)
    write_read(spool, 7, OFFSET + 2000, 2300, b"HTTP/1.1 200 OK\r\n\r\n")
    write_read(spool, 4_000_000_000, OFFSET + 3000, 3001, b"\x00\xff")
    write_read(spool, 7, 0, 4000, b"without a stamp")
    spool.note(Kind.END, 7, 5000, End.BROKEN, 104)
    spool.close()
    assert list(replay(tmp_path / "spool")) == [
        Entry(Kind.SENT, 7, 6, 0, 1500, 20, b""),
        Entry(Kind.READ, 7, 0, 0, 2000, 300, b"HTTP/1.1 200 OK\r\n\r\n", 300),
        Entry(Kind.READ, 4_000_000_000, 0, 0, 3000, 1, b"\x00\xff", 300),
        Entry(Kind.READ, 7, 0, 0, 4000, -1, b"without a stamp"),
        Entry(Kind.END, 7, End.BROKEN, 104, 5000, -1, b""),
    ]


def test_a_turn_was_as_blind_as_its_longest_wait(tmp_path: Path, clocks: Clocks) -> None:
    """The read that waited longest tells for how long the loop had not looked: any other may hold older bytes too."""
    clocks.pairs.extend([(OFFSET, 0), (OFFSET + 50_000, 50_000)])
    spool = Spool(tmp_path / "spool")
    spool.clock()
    for turn in (((1, 1000, 1200), (2, 700, 1300), (3, 1290, 1400)), ((1, 2000, 2010), (2, 1995, 2020))):
        spool.turn(away_ns=0)
        for request, kernel, user in turn:
            write_read(spool, request, OFFSET + kernel, user, b"x")
    spool.turn(away_ns=0)
    write_read(spool, 9, OFFSET + 49_000, 49_900, b"x")
    spool.clock()  # in mid-turn: what is read after the rest of the turn
    write_read(spool, 9, OFFSET + 50_100, 50_200, b"x")
    spool.turn(away_ns=200_000_000)  # away for long, and yet every stream has a fresh segment
    write_read(spool, 8, OFFSET + 60_000, 60_010, b"x")
    spool.turn(away_ns=10**12)
    write_read(spool, 8, OFFSET + 70_000, 70_010, b"x")
    spool.close()
    assert [(entry.request, entry.blind_ns) for entry in replay(tmp_path / "spool")] == [
        *((1, 600), (2, 600), (3, 600)),
        *((1, 25), (2, 25)),
        *((9, 900), (9, 900)),
        *((8, 200_000_000), (8, 655_350_000)),
    ]


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    Spool(tmp_path / "spool").close()
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o600


def test_a_large_spool_keeps_its_order(tmp_path: Path) -> None:
    """Far more than the buffer holds, with reads of every size up to the largest."""
    spool = Spool(tmp_path / "spool")
    spool.clock()
    sizes = [1, 100, 5_000, LARGEST_READ] * 40
    for number, size in enumerate(sizes):
        write_read(spool, number, 0, number, bytes([number % 256]) * size)
        if number % 3 == 0:
            spool.flush()
    spool.close()
    entries = list(replay(tmp_path / "spool"))
    assert [(entry.request, entry.at_ns) for entry in entries] == [(number, number) for number in range(len(sizes))]
    assert all(entry.data == bytes([entry.request % 256]) * size for entry, size in zip(entries, sizes, strict=True))


def test_a_stamp_after_the_read_is_the_time_of_the_read(tmp_path: Path, clocks: Clocks) -> None:
    """The two clocks are known to each other within a microsecond or so."""
    clocks.pairs.append((OFFSET, 0))
    spool = Spool(tmp_path / "spool")
    spool.clock()
    write_read(spool, 1, OFFSET + 2100, 2000, b"x")
    spool.close()
    (entry,) = replay(tmp_path / "spool")
    assert (entry.at_ns, entry.delay_ns) == (2000, 0)


@pytest.mark.parametrize("step", [STEP, -STEP, 2_000_000, -2_000_000])
def test_where_the_realtime_clock_was_set_its_stamps_are_not_used(tmp_path: Path, clocks: Clocks, step: int) -> None:
    """It was set at some time between the second look and the third: nobody knows which reads were before."""
    second = 1_000_000_000
    clocks.pairs.extend([(OFFSET, 0), (OFFSET + second, second), (OFFSET + step + 2 * second, 2 * second)])
    spool = Spool(tmp_path / "spool")
    spool.clock()
    write_read(spool, 1, OFFSET + 100, 200, b"before")
    spool.clock()
    write_read(spool, 1, OFFSET + second + 100, second + 200, b"unsure")
    write_read(spool, 1, OFFSET + step + second + 300, second + 400, b"unsure")
    spool.clock()
    write_read(spool, 1, OFFSET + step + 2 * second + 100, 2 * second + 200, b"after")
    spool.close()
    assert [(entry.at_ns, entry.delay_ns) for entry in replay(tmp_path / "spool")] == [
        (100, 100),
        (second + 200, -1),
        (second + 400, -1),
        (2 * second + 100, 100),
    ]


def test_a_slewed_clock_is_followed(tmp_path: Path, clocks: Clocks) -> None:
    """NTP slews by 500 ppm at most: 50 µs in the tenth of a second between two looks."""
    tenth, slew = 100_000_000, 50_000
    clocks.pairs.extend([(OFFSET, 0), (OFFSET + tenth + slew, tenth)])
    spool = Spool(tmp_path / "spool")
    spool.clock()
    write_read(spool, 1, OFFSET + 1000, 2000, b"a")
    spool.clock()
    write_read(spool, 1, OFFSET + tenth + slew + 1000, tenth + 2000, b"b")
    spool.close()
    assert [(entry.at_ns, entry.delay_ns) for entry in replay(tmp_path / "spool")] == [
        (1000, 1000),
        (tenth + 1000, 1000),
    ]


def test_stamps_before_the_first_look_are_not_used(tmp_path: Path, clocks: Clocks) -> None:
    spool = Spool(tmp_path / "spool")
    write_read(spool, 1, OFFSET + 100, 200, b"x")
    spool.close()
    (entry,) = replay(tmp_path / "spool")
    assert (entry.at_ns, entry.delay_ns) == (200, -1)


def test_a_file_that_was_cut_off_gives_what_is_whole(tmp_path: Path, clocks: Clocks) -> None:
    clocks.pairs.append((OFFSET, 0))
    path = tmp_path / "spool"
    spool = Spool(path)
    spool.clock()
    spool.note(Kind.SENT, 1, 10)
    write_read(spool, 1, OFFSET + 20, 30, b"hello")
    spool.note(Kind.END, 1, 40, End.COMPLETE)
    spool.close()
    whole = path.read_bytes()
    size = spool_module.HEADER.size
    kinds = {
        0: [],
        2 * size: [Kind.SENT],
        3 * size + 5: [Kind.SENT, Kind.READ],
        len(whole): [Kind.SENT, Kind.READ, Kind.END],
    }
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        wanted = kinds[max(end for end in kinds if end <= length)]
        assert [entry.kind for entry in replay(path)] == wanted, length


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, 1 << 60), st.binary(min_size=1, max_size=300))))
def test_any_reads(tmp_path: Path, reads: list[tuple[int, int, bytes]]) -> None:
    spool = Spool(tmp_path / "spool")
    for request, at, data in reads:
        write_read(spool, request, 0, at, data)
    spool.close()
    assert [(entry.request, entry.at_ns, entry.data) for entry in replay(tmp_path / "spool")] == reads
