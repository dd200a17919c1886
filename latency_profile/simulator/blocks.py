"""The KV cache in blocks, with an optional prefix cache, as vLLM's block pool keeps it.

A block in use by a running sequence is never taken away. A full prompt block that nobody uses any more stays findable
by its hash until its place is needed; the one that was let go first goes first.
"""

from collections import OrderedDict
from collections.abc import Sequence


def hash_blocks(token_ids: Sequence[int], block_size: int) -> list[int]:
    """Chained hashes of the full blocks: equal hash i means equal tokens in blocks 0..i.

    Hashes of tuples of ints do not depend on PYTHONHASHSEED, so a run can be repeated.
    """
    hashes: list[int] = []
    parent = 0
    for start in range(0, len(token_ids) - block_size + 1, block_size):
        parent = hash((parent, *token_ids[start : start + block_size]))
        hashes.append(parent)
    return hashes


class BlockPool:
    """Counts blocks without numbering them: used ones belong to sequences, idle ones are kept for their contents."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._references: dict[int, int] = {}  # hashed blocks in use, by how many sequences
        self._idle: OrderedDict[int, None] = OrderedDict()  # hashed blocks that nobody uses, oldest first

    def allocate(self, count: int) -> bool:
        """Takes `count` fresh blocks, dropping idle contents where it must. False (and nothing taken) if it is full."""
        if self.used + count > self.capacity:
            return False
        self.used += count
        while self.used + len(self._idle) > self.capacity:
            self._idle.popitem(last=False)
        return True

    def release(self, count: int) -> None:
        """Gives back `count` blocks that were never published."""
        self.used -= count

    def reset(self) -> bool:
        """Drops all idle contents. False (and nothing dropped) while any block is in use."""
        if self.used:
            return False
        self._idle.clear()
        return True

    def find(self, hashes: Sequence[int]) -> int:
        """How many leading blocks of a prompt are in the cache."""
        found = 0
        for value in hashes:
            if value not in self._references and value not in self._idle:
                break
            found += 1
        return found

    def idle_among(self, hashes: Sequence[int]) -> int:
        """How many of these cached blocks would have to be taken back into use."""
        return sum(value in self._idle for value in hashes)

    def share(self, hashes: Sequence[int]) -> None:
        """Uses cached blocks (as `find` counted them) for one more sequence."""
        for value in hashes:
            if value in self._idle:
                del self._idle[value]
                self.used += 1
            self._references[value] = self._references.get(value, 0) + 1

    def publish(self, value: int) -> bool:
        """Makes one block of a sequence findable. False if its contents are there already: it stays private."""
        if value in self._references or value in self._idle:
            return False
        self._references[value] = 1
        return True

    def unshare(self, hashes: Sequence[int]) -> None:
        """One sequence less uses these published blocks. Later blocks go first: a prefix outlives what follows it."""
        for value in reversed(hashes):
            self._references[value] -= 1
            if not self._references[value]:
                del self._references[value]
                self._idle[value] = None
                self.used -= 1
