"""What records say of the shards that they are of. Pure functions of Records."""

import msgspec
import numpy as np

from latency_profile.measures import Rows, Window
from latency_profile.records import Records, Status
from latency_profile.shards.clock import error_s
from latency_profile.shards.structure import Part, Shards, share

# Below a tenth of a second nobody notices that a shard came after the others; its requests say how late they were.
LATE_S = 0.1


def shards(records: Records) -> Shards | None:
    """The shards of the point; None where one process measured all of it."""
    parts = records.context.parts
    if not parts:
        return None
    planned, whole = parts[0].shards, parts[0].whole
    present = [part.index for part in parts]
    missing = sorted(set(range(planned)) - set(present))
    not_sent = {part.index: count for part in parts if (count := _not_sent(records, part))}
    errors = [None if part.clock_s is None else error_s(part.clock_s) for part in parts]
    known = [error for error in errors if error is not None]
    return Shards(
        planned=planned,
        present=present,
        missing=missing,
        missing_share=sum(share(whole, index, planned) for index in missing) / whole,
        late={part.index: part.late_s for part in parts if part.late_s > LATE_S},
        restarted={part.index: part.attempt for part in parts if part.attempt > 1},
        cut_short={part.index: part.cut_short for part in parts if part.cut_short and not records.context.cut_short},
        not_sent=not_sent,
        not_sent_share=sum(not_sent.values()) / whole,
        clock_error_s=max(known) if len(known) == len(errors) else None,
        hosts=[part.host for part in parts],
    )


def _not_sent(records: Records, part: Part) -> int:
    """Of what the shard had to send. A point that was cut short as a whole was not to be sent whole, nor is a closed
    loop's number of requests planned: there, clients count that never were, or were gone before the others."""
    if records.context.cut_short:
        return 0
    if records.context.concurrency is not None:
        return part.share if part.cut_short else part.left_out
    return part.share - int(begun(records, part).sum())


def begun(records: Records, part: Part) -> Rows:
    """The requests of a shard that it sent or tried to send."""
    return np.asarray((records["index"] % part.shards == part.index) & (records["status"] != Status.NOT_SENT))


def alone(records: Records, span: Window, part: Part) -> tuple[Records, Window]:
    """The records of one shard among those that were merged, with its own counts of itself, and the window over them:
    what its health is read from. Without what it never sent, of which `shards` tells."""
    chosen = begun(records, part)
    lengths = np.diff(records.event_start)
    events = np.repeat(chosen, lengths)
    only = Records(
        msgspec.structs.replace(records.context, client=part.client, parts=[part]),
        {name: column[chosen] for name, column in records.columns.items()},
        np.concatenate(([0], np.cumsum(lengths[chosen], dtype=np.int64))),
        records.event_ns[events],
        records.event_tokens[events],
    )
    return only, Window(span.start_ns, span.end_ns, span.rows[chosen], span.ramp_ends_ns, span.steadiness)
