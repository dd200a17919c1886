"""Frames that a client of HTTP/2 says, and the limits that it keeps (RFC 9113)."""

import enum
import struct

from latency_profile.http2_answer import FRAME_HEAD, Frame

LARGEST_FRAME = 1 << 14  # bytes of payload; the protocol's own limit, as we announce no other
LARGEST_WINDOW = (1 << 31) - 1
FIRST_WINDOW = (1 << 16) - 1
ACK = 0x1
SETTING = struct.Struct(">HI")  # name, value


class Setting(enum.IntEnum):
    """Section 6.5.2, as far as we say or heed them."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview) -> bytes:
    """One frame of up to 2^24 - 1 bytes of payload."""
    size = len(payload)
    return FRAME_HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


_WANTED = {Setting.HEADER_TABLE_SIZE: 0, Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: LARGEST_WINDOW}

# What a connection begins with: no answer waits for a window of ours, and header blocks stand for themselves.
GREETING = b"".join(
    (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        frame(Frame.SETTINGS, 0, 0, b"".join(SETTING.pack(name, value) for name, value in _WANTED.items())),
        frame(Frame.WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - FIRST_WINDOW).to_bytes(4, "big")),
    )
)
