"""Reads what is new in growing spools, in parts of whole entries. A part is what one object takes."""

from pathlib import Path

from latency_profile.chunks.blot import Begun, Blotter, whole

LARGEST_PART = 8 << 20  # more than any entry


class Growing:
    """One spool, from its beginning. Secrets that a server repeats in its answers are blotted out, at equal length."""

    def __init__(self, path: Path, secrets: list[str]) -> None:
        self._path = path
        self._blotter = Blotter(secrets)
        self._begun: Begun = {}  # where the next part begins
        self._offered, self._begun_after = b"", self._begun
        self._at = 0
        self.parts = 0

    def next(self) -> bytes:
        """The next part's bytes; empty where there is nothing new. Until it is `taken` it is the next one again,
        however much was written since: a store may have it although the answer got lost."""
        if not self._offered:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read(LARGEST_PART)
            self._offered, self._begun_after = self._blotter.blot(data[: whole(data)], self._begun)
        return self._offered

    def taken(self) -> None:
        """The next part is stored."""
        self._at += len(self._offered)
        self._offered, self._begun = b"", self._begun_after
        self.parts += 1
