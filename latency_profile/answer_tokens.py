"""From the pieces of one answer to its tokens: how many, by whose count, and when each event came. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from backends.base import Piece, Times
from latency_profile.outcome import EventSource, TokenSource
from latency_profile.sender.spool import Entry

NONE = -1
LATE_READ_NS = 1_000_000  # a read so blind may hold segments that came apart; it has the stamp of the last


class Tokens(NamedTuple):
    """Tokens of one answer. Times in monotonic ns, NONE where there are none."""

    first_token_ns: int = NONE
    first_early_ns: int = 0  # the first token may have come so much earlier: later bytes shared its read
    first_visible_ns: int = NONE
    last_token_ns: int = NONE
    server_input_tokens: int = NONE
    cached_tokens: int = NONE
    output_tokens: int = NONE
    event_output_tokens: int = NONE
    source: TokenSource = TokenSource.NONE
    event_source: EventSource = EventSource.NONE
    merged_events: int = 0  # that lie behind another in a late read: the other took its time from this one's segment
    events: Sequence[tuple[int, int]] = ()  # (time, tokens) of each event that carried a token
    text: str | None = None  # of an answer whose tokens nobody counted, or whose text is wanted
    times: Times = Times()  # what the server says that it took


def count(
    pieces: Sequence[Piece],
    head: Piece | None,
    reads: Sequence[Entry],
    bounds: Sequence[int],
    ends: Sequence[int] | None,
    with_text: bool = False,
) -> Tokens:
    """Tokens of the answer and of each event, by the ladder: usage, ids, text.

    head: what the headers told. bounds: length of the body after each read. ends: where each piece's event ends in the
    body; None where the answer came as one object, whose tokens have no times. with_text: the text is wanted although
    somebody counted. That of an answer with hidden parts is not given then: what marks those is no text.
    """
    total, prompt, cached, ids, times = None, NONE, NONE, 0, None
    for piece in (head, *pieces) if head is not None else pieces:
        ids += piece.token_ids
        total = total if piece.total_output is None else piece.total_output
        prompt = prompt if piece.input_tokens is None else piece.input_tokens
        cached = cached if piece.cached_tokens is None else piece.cached_tokens
        times = times if piece.times is None else piece.times
    timed: list[tuple[int, int]] = []
    merged = early = 0
    visible = NONE
    event_source = EventSource.NONE
    if ends is not None:
        read, before = 0, -1
        carried, event_source = _event_counts(pieces, ids)
        for end, piece, tokens in zip(ends, pieces, carried, strict=True):
            if tokens:
                while bounds[read] < end:
                    read += 1
                at = reads[read].at_ns
                if not timed and bounds[read] > end:
                    early = reads[read].blind_ns
                timed.append((at, tokens))
                if visible == NONE and piece.text and not piece.hidden:
                    visible = at
                merged += read == before and reads[read].blind_ns > LATE_READ_NS
                before = read
    hidden = any(piece.hidden for piece in pieces)
    if visible == NONE and timed and not hidden:
        visible = timed[0][0]  # tokens without a text, and nothing that was kept from the user
    if total is not None:
        output, source = total, TokenSource.USAGE
    elif ids:
        output, source = ids, TokenSource.TOKEN_IDS
    else:
        output, source = NONE, TokenSource.NONE
    return Tokens(
        first_token_ns=timed[0][0] if timed else NONE,
        first_early_ns=early,
        first_visible_ns=visible,
        last_token_ns=timed[-1][0] if timed else NONE,
        server_input_tokens=prompt,
        cached_tokens=cached,
        output_tokens=output,
        event_output_tokens=ids or NONE,
        source=source,
        event_source=event_source if timed else EventSource.NONE,
        events=timed,
        merged_events=merged,
        text=_text(pieces) if output == NONE or (with_text and not hidden) else None,
        times=times or Times(),
    )


def _text(pieces: Sequence[Piece]) -> str:
    parts: list[str] = []
    for piece in pieces:
        if piece.so_far:
            parts = [piece.text] if piece.text else parts
        else:
            parts.append(piece.text)
    return "".join(parts)


def _event_counts(pieces: Sequence[Piece], ids: int) -> tuple[list[int], EventSource]:
    """How many tokens each event carried, and by whose count.

    By its ids; else by the growth of a usage that comes with every event; else one for an event with new text. An event
    with empty text counts only when ids or usage say so; usage that comes once, at the end, says nothing of one event.
    """
    if ids:
        return [piece.token_ids for piece in pieces], EventSource.TOKEN_IDS
    told = sum(piece.choice for piece in pieces)
    if sum(piece.choice and piece.total_output is not None for piece in pieces) > told // 2:
        counts, before = [], 0
        for piece in pieces:
            now = piece.total_output if piece.choice and piece.total_output is not None else before
            counts.append(max(now - before, 0))
            before = max(now, before)
        return counts, EventSource.USAGE
    counts, known = [], 0
    for piece in pieces:
        counts.append(1 if len(piece.text) > (known if piece.so_far else 0) else 0)
        known = len(piece.text) if piece.so_far else known
    return counts, EventSource.TEXT
