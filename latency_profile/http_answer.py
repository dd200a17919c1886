"""The HTTP/1.1 message in the reads of one answer: its status, headers and body, and which read brought what."""

import zlib
from collections.abc import Iterable

import httptools

LONGEST_BODY = 1 << 28  # bytes, unpacked: what a server packs must not fill this machine's memory


class HttpAnswer:
    """`body` without transfer and content coding; `bounds[i]` is how long it was after read i."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}  # names in lower case
        self.bounds: list[int] = []
        self.status = 0  # 0: no whole head came
        self.problem: str | None = None  # why the body cannot be read
        self.too_long = False
        self.complete = False
        self.cut_off = False  # the packed body ends before its end
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._length = 0
        self._unpack: zlib._Decompress | None = None
        self._packed = False  # a byte of a packed body has come

    def feed(self, reads: Iterable[bytes]) -> None:
        """Takes all reads, in order."""
        readable = True
        for data in reads:
            try:
                if readable:
                    self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                readable = False
            self.bounds.append(self._length)
        self.cut_off = self._unpack is not None and self._packed and not self._unpack.eof
        del self._parser  # it holds this object, and this object held it

    @property
    def body(self) -> bytes:
        self._pieces = [b"".join(self._pieces)]  # asked for again, it is there, and a long one is not held twice
        return self._pieces[0]

    @property
    def ends_with_connection(self) -> bool:
        """RFC 9112, 6.3: without a length and not chunked, the body ends when the server closes."""
        return b"content-length" not in self.headers and b"chunked" not in self.headers.get(b"transfer-encoding", b"")

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("a second message, which nobody asked for")  # ends the parsing: it is not of this answer

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.setdefault(name.lower(), value)  # the first: what follows the body is no header of ours

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        coding = self.headers.get(b"content-encoding", b"identity").strip().lower()
        if coding in (b"gzip", b"x-gzip", b"deflate"):
            self._unpack = _unpacker()
        elif coding not in (b"identity", b""):
            self.problem = f"content coding {coding.decode('latin-1')!r}, which was not asked for"

    def on_body(self, data: bytes) -> None:
        if self._unpack is not None:
            try:
                data = self._unpacked(self._unpack, data)
            except zlib.error as error:
                self.problem = f"the packed body is broken: {error}"
                self._unpack = None
                return
        elif self.problem is not None:
            return
        if self._length + len(data) > LONGEST_BODY:
            self.too_long = True
            return
        self._pieces.append(data)
        self._length += len(data)

    def on_message_complete(self) -> None:
        if 100 <= self.status < 200:  # the answer is still to come
            self.headers.clear()
            self.status = 0
        else:
            self.complete = True

    def _unpacked(self, unpack: "zlib._Decompress", data: bytes) -> bytes:
        """No more than one byte over what may be. A gzip body may have several members (RFC 1952, 2.2)."""
        self._packed = True
        pieces, room = [], LONGEST_BODY - self._length + 1
        while data and room > 0:
            if unpack.eof:
                self._unpack = unpack = _unpacker()
            pieces.append(unpack.decompress(data, room))
            room -= len(pieces[-1])
            data = unpack.unused_data
        return b"".join(pieces)


def _unpacker() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)  # 32: gzip or zlib, by the header
