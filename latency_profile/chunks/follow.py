"""Reads what is new in growing spools, in parts. A part is what one object takes; it can end anywhere."""

from pathlib import Path

LARGEST_PART = 8 << 20


class Growing:
    """One spool, from its beginning. Secrets that a server repeats in its answers are blotted out, byte by byte, so
    that all lengths stay what they were.

    One that came in two reads is not found: the spool has a header between its halves, and often another request's
    reads. Records, and what is made of them, are searched answer by answer and have none of it.
    """

    def __init__(self, path: Path, secrets: list[str]) -> None:
        self._path = path
        self._secrets = [secret.encode() for secret in secrets]
        # What may be the beginning of a secret waits for the rest of it.
        self._tail = max(map(len, self._secrets), default=1) - 1
        self._at = 0
        self._offered = b""
        self.parts = 0

    def next(self, last: bool = False) -> bytes:
        """The next part's bytes, without those that wait for the rest of a secret unless it is the last part; empty
        where there is nothing new. Until it is `taken` it is the next one again, however much was written since: a
        store may have it although the answer got lost."""
        if self._offered:
            return self._offered
        before = min(self._at, self._tail)  # a secret may have begun there
        with self._path.open("rb") as file:
            file.seek(self._at - before)
            data = file.read(before + LARGEST_PART + self._tail)
        for secret in self._secrets:
            data = data.replace(secret, b"*" * len(secret))
        data = data[before:]
        known = len(data) if last else max(0, len(data) - self._tail)
        self._offered = data[: min(known, LARGEST_PART)]
        return self._offered

    def taken(self) -> None:
        """The next part is stored."""
        self._at += len(self._offered)
        self._offered = b""
        self.parts += 1
