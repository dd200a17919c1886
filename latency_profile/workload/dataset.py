"""A data set on disk: found item by item, read item by item.

The first look at a file goes over all of it once, checks its form and notes where each item lies; what is kept in
memory and in the cache is that index, never the texts. The form is told by content: a JSON array or JSON Lines, of
conversations (ShareGPT: {"conversations": [{"value": ...}, ...]}) or of prompts ({"prompt": ..., "output_len": ...};
other tools call the length of the answer "max_tokens", which counts where there is no output_len). Of a conversation
the first two texts are the prompt and its answer; what a "system" says before them goes before the prompt.
"""

import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from latency_profile.errors import UsageError
from latency_profile.workload.cache import Cache
from latency_profile.workload.json_items import Malformed, items_of, line_of, mapped

TAKES = 'it takes ShareGPT JSON, or JSON Lines of {"prompt": text, "output_len": tokens}'

# States of an item, also the reasons why it is left out.
USABLE, SHORT, NOT_UNICODE = 0, 1, 2


class _Conversation(msgspec.Struct):
    conversations: list[msgspec.Raw]


class _Turn(msgspec.Struct):
    value: str
    speaker: Any = msgspec.field(name="from", default=None)


LONGEST = 2**31 - 1  # tokens
_Length = Annotated[int, msgspec.Meta(ge=1, le=LONGEST)]


class _Prompt(msgspec.Struct):
    prompt: str
    output_len: _Length | None = None
    max_tokens: _Length | None = None


_KINDS: dict[str, msgspec.json.Decoder[Any]] = {
    "sharegpt": msgspec.json.Decoder(_Conversation),
    "prompts": msgspec.json.Decoder(_Prompt),
}
_turn = msgspec.json.Decoder(_Turn)

SYSTEM = "system"  # who says what stands before a conversation


class Item(NamedTuple):
    """One prompt, with the answer or the output length that the data set has for it."""

    prompt: str
    completion: str | None
    output_length: int | None


class Dataset:
    """Item i is `sizes[i]` bytes of the file from `starts[i]` on; `states[i]` says whether it can be used."""

    def __init__(self, path: Path, sha256: str, index: dict[str, NDArray[Any]]) -> None:
        self.path = path
        self.sha256 = sha256
        self.kind = str(index["kind"])
        self.starts = index["starts"]
        self.sizes = index["sizes"]
        self.states = index["states"]
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return len(self.starts)

    def read(self, place: int) -> Item:
        """The item at a place that is USABLE. Raises UsageError where the file has changed under the run."""
        # pread, not mmap: pages of a mapping would count as this process's memory.
        content = os.pread(self._descriptor, int(self.sizes[place]), int(self.starts[place]))
        try:
            item = _item(self.kind, content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            item = None
        if item is None:
            raise UsageError(f"--dataset {self.path}: the file changed while it was read")
        return item


def open_dataset(path: Path, cache: Cache) -> Dataset:
    """Opens a data set; its index comes from the cache where that knows the content. Raises UsageError."""
    try:
        if path.is_dir():
            raise UsageError(f"--dataset {path}: a folder; {TAKES}")
        if path.stat().st_size == 0:
            raise UsageError(f"--dataset {path}: the file is empty; {TAKES}")
        sha256 = cache.sha256(path)
        name = f"items-2-{sha256}"
        index = cache.load(name)
        if index is None or not _sound(index, path.stat().st_size):
            index = _index(path)
            cache.store(name, **index)
        return Dataset(path, sha256, index)
    except FileNotFoundError as error:
        raise UsageError(f"--dataset {path}: no such file; {TAKES}") from error
    except OSError as error:
        raise UsageError(f"--dataset {path}: cannot be read: {error.strerror}; {TAKES}") from error


def _sound(index: dict[str, NDArray[Any]], size: int) -> bool:
    """Whether an index from the cache fits the file."""
    if set(index) != {"kind", "starts", "sizes", "states"} or str(index["kind"]) not in _KINDS:
        return False
    starts, sizes, states = index["starts"], index["sizes"], index["states"]
    same = len(starts) == len(sizes) == len(states) > 0
    return same and bool((starts >= 0).all() and (sizes > 0).all() and (starts + sizes <= size).all())


def _item(kind: str, content: bytes) -> Item | None:
    """The item; None where it is too short a conversation."""
    if kind == "prompts":
        entry = _KINDS[kind].decode(content)
        return Item(entry.prompt, None, entry.output_len or entry.max_tokens)
    exchange = _exchange(_KINDS[kind].decode(content).conversations)
    return None if exchange is None else Item(*exchange, None)


def _exchange(turns: list[msgspec.Raw]) -> tuple[str, str] | None:
    """A conversation's prompt and answer; None where it has no two texts beside a system's. The rest is not looked
    at."""
    if len(turns) < 2:
        return None
    before: list[str] = []
    for place, raw in enumerate(turns[:-1]):
        turn = _turn.decode(raw)
        if turn.speaker != SYSTEM:
            asked = turn.value.strip()  # a system's text alone asks nothing
            return joined([*before, turn.value]) if asked else "", _turn.decode(turns[place + 1]).value
        before.append(turn.value)
    return None


def joined(texts: Iterable[str]) -> str:
    """Texts with an empty line between them; those of nothing but white space are left out."""
    return "\n\n".join(text for text in texts if text.strip())


def _state(kind: str, content: bytes) -> int:
    """Raises ValidationError where an item whose JSON is sound is not of this kind."""
    try:
        return SHORT if _item(kind, content) is None else USABLE
    except UnicodeDecodeError:
        return NOT_UNICODE


def _index(path: Path) -> dict[str, NDArray[Any]]:
    """Looks at the whole file once. Raises UsageError."""
    with mapped(path) as content:
        try:
            spans, mended = items_of(content)
        except Malformed as error:
            raise UsageError(f"--dataset {path}: {error}; {TAKES}") from error
        kind = _kind(content[slice(*spans[0])])
        states = np.zeros(len(spans), dtype=np.uint8)
        for number, (start, end) in enumerate(spans):
            try:
                states[number] = _state(kind or "sharegpt", content[start:end])
            except msgspec.ValidationError as error:
                wrong = f"item {number + 1} ({line_of(content, start)}) is not of the form: {error}"
                if kind is None:
                    wrong = 'item 1 has neither "conversations" nor "prompt"'
                raise UsageError(f"--dataset {path}: {wrong}; {TAKES}") from error
    bounds = np.asarray(spans, dtype=np.int64)
    states[np.searchsorted(bounds[:, 0], mended, side="right") - 1] = NOT_UNICODE
    return {
        "kind": np.asarray(kind),
        "starts": bounds[:, 0].copy(),
        "sizes": bounds[:, 1] - bounds[:, 0],
        "states": states,
    }


def _kind(content: bytes) -> str | None:
    """What the first item is: its key says so, whatever form the value has."""
    try:
        keys = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return None
    return "sharegpt" if "conversations" in keys else "prompts" if "prompt" in keys else None
