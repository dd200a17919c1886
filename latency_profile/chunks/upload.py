"""The parent's side: what a point leaves beside its spools, and the process that stores them while it runs."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from latency_profile import children
from latency_profile.chunks.structure import ASKED, NOTE, Done, Note, Order
from latency_profile.records import PointContext
from latency_profile.sender.fleet import Live
from latency_profile.spelling import Asked
from latency_profile.storage.places import Place

PART_PATIENCE_S = 20.0  # a part that is not stored by then is tried again after the next pause
_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Chunks:
    """Where the points of a run are stored in parts."""

    places: list[Place]
    folder: Callable[[int], str]  # of each point, by its number: a prefix of names
    secrets: tuple[str, ...]
    say: Callable[[str], None]


def note_taker(
    folder: Path,
    asked: Asked,
    context: Callable[[int], PointContext],
    pod: tuple[int, int],
    look: Callable[[Live], None],
) -> Callable[[Live], None]:
    """Writes what records need beside the spools and gives `look`, which also writes the note when the point has
    started. context: from the point's start, in monotonic ns, to what is known of it."""
    np.savez(folder / ASKED, allow_pickle=False, **asked.columns)
    noted = False

    def both(live: Live) -> None:
        nonlocal noted
        if not noted:
            noted = True
            note = Note(context=context(live.start_ns), start_ns=live.start_ns, pod=pod)
            temporary = folder / f".{NOTE}"
            temporary.write_bytes(msgspec.json.encode(note))
            temporary.replace(folder / NOTE)
        look(live)

    return both


@contextlib.contextmanager
def storing(chunks: Chunks | None, number: int, folder: Path) -> Iterator[None]:
    """While the block runs, all that is in `folder` of the point is stored in parts. A process of its own: nothing that
    waits for a network shares an interpreter with what hears the senders."""
    if chunks is None:
        yield
        return
    process, to, _ = children.start_follower("latency_profile.chunks")
    order = Order(folder=str(folder), places=chunks.places, prefix=chunks.folder(number), secrets=list(chunks.secrets))
    with contextlib.suppress(BrokenPipeError):
        to.write(msgspec.json.encode(order) + b"\n")
        to.flush()
    try:
        yield
    finally:
        failure = _end(process)
        if failure is not None:
            chunks.say(f"  while the point ran, not all of it could be stored: {failure}")


def _end(process: "subprocess.Popen[bytes]") -> str | None:
    """Why not all was stored; None where it was."""
    try:
        answer, _ = process.communicate(b"end\n", timeout=_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "no answer in time"
    try:
        return msgspec.json.decode(answer, type=Done).failure
    except msgspec.DecodeError:
        return "the process that stores it has ended"
