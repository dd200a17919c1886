"""CLIENT_LIMITED by its shards: a part of the plan was not sent, or one of the pods fell short.

A plan is cut into shards, one for each pod. Where one is missing, the offered rate was not offered; where one client of
several was late, its share of the numbers is bent, however healthy the others are.
"""

from latency_profile.records import PointContext
from latency_profile.shards.parts import alone, begun, shards
from latency_profile.shards.structure import Part, Shards, share
from latency_profile.verdict.client import client_limited
from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.kinds import Name, Remark

# What touches fewer than one request in a hundred does not move a p99.
NOT_SENT_SHARE_LIMIT = 0.01
# Points of seconds and more are not changed by shards that start so far apart: each keeps its own due times exactly,
# and only how arrivals of different shards interleave is other than planned.
CLOCK_ERROR_LIMIT_S = 1.0


def shards_reasons(known: Evidence) -> list[str]:
    """Missing shards, what the others did not send, and the health of each of several clients."""
    found = shards(known.records)
    if found is None:
        return []
    return [*_cut_short(known), *_missing(known, found), *_not_sent(known, found), *_clients(known)]


def shards_remarks(known: Evidence) -> list[Remark]:
    """Shards that were late, restarted or ended before the others, where that is no reason; clocks that differ."""
    found = shards(known.records)
    if found is None:
        return []
    texts = []
    if found.not_sent_share <= NOT_SENT_SHARE_LIMIT:
        for part in known.records.context.parts:
            how = _how(part, known.records.context)
            if how:
                count = found.not_sent.get(part.index, 0)
                texts.append(f"{_named(part)} {how}; {count} of its {part.share} {_things(known)} were not sent.")
    if found.clock_error_s is None:
        texts.append("Of the clocks of the shards' machines it is not known how far they are apart.")
    elif found.clock_error_s > CLOCK_ERROR_LIMIT_S:
        texts.append(f"The shards may have started up to {found.clock_error_s:.1f} s apart, as their clocks are known.")
    return [Remark(name=Name.SHARDS, text=text) for text in texts]


def _cut_short(known: Evidence) -> list[str]:
    """What a shard had still to send when it ended is in no record: how much load went on without it is not known."""
    why = known.records.context.cut_short
    return [f"The point was cut short by {why}, each of its shards at a moment of its own."] if why else []


def _missing(known: Evidence, found: Shards) -> list[str]:
    whole = known.records.context.parts[0].whole
    return [
        f"Shard {index} of {found.planned} is missing: {share(whole, index, found.planned) / whole:.1%} of the "
        f"{'clients' if known.records.context.concurrency is not None else 'plan'} "
        f"{'were' if known.records.context.concurrency is not None else 'was'} never sent, or its records are lost."
        for index in found.missing
    ]


def _not_sent(known: Evidence, found: Shards) -> list[str]:
    if found.not_sent_share <= NOT_SENT_SHARE_LIMIT:
        return []
    reasons = []
    for part in known.records.context.parts:
        count = found.not_sent.get(part.index, 0)
        if count:
            how = _how(part, known.records.context) or "fell behind"
            reasons.append(
                f"{_named(part)} {how}: {count} of its {part.share} {_things(known)} were not sent, "
                f"{count / part.whole:.1%} of the whole; the limit is {NOT_SENT_SHARE_LIMIT:.0%} for all shards."
            )
    return reasons


def _clients(known: Evidence) -> list[str]:
    """The worst of several clients counts. One shard alone is judged by the rule for any client."""
    parts = known.records.context.parts
    if len(parts) < 2:
        return []
    reasons = []
    for part in parts:
        records, span = alone(known.records, known.span, part)
        own = Evidence(records, known.rows[begun(known.records, part)], span)
        reasons += [f"{_named(part)}: {reason}" for reason in client_limited(own)]
    return reasons


def _how(part: Part, context: PointContext) -> str:
    """What happened to a shard, in words; nothing where nothing did."""
    if part.attempt > 1 and part.left_out:
        return f"was restarted (attempt {part.attempt}) and went on {part.late_s:.1f} s after the start"
    if part.left_out:
        return f"came {part.late_s:.1f} s after the start"
    if part.cut_short and not context.cut_short:
        return f"was cut short by {part.cut_short}"
    return ""


def _named(part: Part) -> str:
    return f"Shard {part.index} of {part.shards}"


def _things(known: Evidence) -> str:
    return "clients" if known.records.context.concurrency is not None else "requests"
