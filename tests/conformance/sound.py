"""What must hold of every row, whatever the bytes were: for the fuzzers and the state machine."""

from collections.abc import Sequence

import msgspec

from latency_profile.answer_tokens import NONE
from latency_profile.answers import Row
from latency_profile.outcome import Flag, Status, TokenSource
from latency_profile.sender.spool import End, Entry

_LONGEST_MESSAGE = 5000  # characters
_COLUMN = 1 << 31  # counts lie in columns of 32 bits with a sign, …
_TIME = 1 << 63  # … times in 64


def check_row(row: Row, reads: Sequence[Entry], end: Entry) -> None:
    """Raises AssertionError."""
    tokens = row.tokens
    Status(row.status)
    times = [at for at, _ in tokens.events]
    first, last = (times[0], times[-1]) if times else (NONE, NONE)
    assert times == sorted(times) and set(times) <= {read.at_ns for read in reads}
    assert (tokens.first_token_ns, tokens.last_token_ns) == (first, last)
    assert tokens.first_visible_ns == NONE or first <= tokens.first_visible_ns <= last
    assert all(count > 0 for _, count in tokens.events)
    assert tokens.merged_events < max(1, len(times))
    assert row.end_ns == (reads[-1].at_ns if row.status == Status.OK else end.at_ns) >= last
    for number in (row.http_status, tokens.output_tokens, tokens.event_output_tokens, tokens.server_input_tokens):
        assert NONE <= number < _COLUMN
    assert row.http_status < 1000
    assert all(took is None or 0 <= took < _TIME for took in tokens.times)
    assert row.answer_bytes == sum(len(read.data) for read in reads)
    assert bool(row.flags & Flag.KERNEL_STAMPS) == (row.read_delay_ns != NONE)
    if tokens.source == TokenSource.TOKEN_IDS:
        assert tokens.output_tokens == tokens.event_output_tokens
        assert not times or sum(count for _, count in tokens.events) == tokens.output_tokens
    assert (tokens.output_tokens == NONE) == (tokens.source == TokenSource.NONE)
    msgspec.json.encode([tokens.text, row.message])  # raises for what cannot be written
    assert row.message is None or len(row.message) <= _LONGEST_MESSAGE
    if row.status == Status.OK:
        assert end.info in (End.COMPLETE, End.CLOSED) and row.http_status == 200 and row.message is None
        assert tokens.output_tokens != 0 and tokens.text != ""
        assert (tokens.text is None) == (tokens.output_tokens != NONE)
