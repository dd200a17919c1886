"""Reads what is new in growing spools, in parts. A part is what one object takes; it can end anywhere."""

from pathlib import Path

LARGEST_PART = 8 << 20


class Growing:
    """One spool, from its beginning. Secrets that a server repeats in its answers are blotted out, byte by byte, so
    that all lengths stay what they were."""

    def __init__(self, path: Path, secrets: list[str]) -> None:
        self._path = path
        self._secrets = [secret.encode() for secret in secrets]
        # What may be the beginning of a secret waits for the rest of it.
        self._tail = max(map(len, self._secrets), default=1) - 1
        self._at = 0
        self.parts = 0

    def next(self, last: bool = False) -> bytes:
        """The next part's bytes, without those that wait for the rest of a secret unless it is the last part; empty
        where there is nothing new. It is the next one again until `taken`."""
        before = min(self._at, self._tail)  # a secret may have begun there
        with self._path.open("rb") as file:
            file.seek(self._at - before)
            data = file.read(before + LARGEST_PART + self._tail)
        for secret in self._secrets:
            data = data.replace(secret, b"*" * len(secret))
        data = data[before:]
        known = len(data) if last else max(0, len(data) - self._tail)
        return data[: min(known, LARGEST_PART)]

    def taken(self, size: int) -> None:
        """The part of that size is stored."""
        self._at += size
        self.parts += 1
