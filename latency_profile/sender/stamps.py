"""The kernel's receive times of TCP sockets (Linux SO_TIMESTAMPNS, socket(7)): realtime ns, asked for and read."""

import errno
import socket
import struct
from collections.abc import Iterable

_SO_TIMESTAMPNS = 35  # SO_TIMESTAMPNS_OLD of <asm-generic/socket.h>, 64-bit timespec; Python has no name for it
_TIMESPEC = struct.Struct("@qq")
CONTROL_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)  # for recvmsg


def ask_for_stamps(connection: socket.socket) -> None:
    """Reads will carry them. Some sandboxes have none; then the time after the read must do."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise


def kernel_ns(control: Iterable[tuple[int, int, bytes]]) -> int:
    """When the last of a read's bytes came, by recvmsg's control messages; 0 where they do not say."""
    for level, kind, data in control:
        if kind == _SO_TIMESTAMPNS and level == socket.SOL_SOCKET:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            stamp: int = seconds * 1_000_000_000 + nanoseconds
            return stamp
    return 0
