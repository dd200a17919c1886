"""Who listens on a port of this machine: the server that was started, or somebody else. Linux' /proc, proc(5)."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"  # TCP_LISTEN
# As the tables write the addresses that 127.0.0.1 reaches, words of 4 bytes in the machine's order: 0.0.0.0, 127.0.0.1,
# and the same in IPv6, whose sockets may take IPv4's connections too.
_REACHED = {"00000000", "0100007F", "0" * 32, "0000000000000000FFFF00000100007F"}


def stranger_at(port: int, ours: Iterable[int]) -> bool:
    """Whether a socket listens at 127.0.0.1's `port` that none of the processes `ours` holds. Two may listen on one
    port (SO_REUSEPORT, which vLLM sets), and the kernel then spreads the connections over both.

    False where it cannot be told: a process of ours belongs to another user.
    """
    listening = _listening(port)
    for pid in ours:
        if not listening:
            break
        try:
            listening -= _sockets(pid)
        except PermissionError:
            return False
    return bool(listening)


def _listening(port: int) -> set[str]:
    """Inodes of the sockets."""
    found = set()
    for table in _TABLES:
        with suppress(FileNotFoundError):  # a kernel without IPv6
            for line in table.read_text().splitlines()[1:]:
                row = line.split()
                address, _, number = row[1].partition(":")
                if row[3] == _LISTEN and int(number, 16) == port and address in _REACHED:
                    found.add(row[9])
    return found


def _sockets(pid: int) -> set[str]:
    """Inodes of the sockets that a process holds. Raises PermissionError."""
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # just closed
                kind, _, inode = str(entry.readlink()).partition(":")
                if kind == "socket":
                    found.add(inode.strip("[]"))
    return found
