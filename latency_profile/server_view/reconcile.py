"""Both views of a point side by side, and a name for each difference that they should not have. Pure."""

from collections.abc import Iterator

from latency_profile.records import Records
from latency_profile.server_view import counts, times
from latency_profile.server_view.structure import Cause, Counted, Discrepancy, Reconciliation, Timed
from latency_profile.telemetry.readings import COUNTED_S, Readings
from latency_profile.telemetry.vocabulary import spelled

LACK_SHARE_LIMIT = 0.001  # of what the client had: a count that is off by less is rounding


def reconcile(records: Records, found: Readings) -> Reconciliation:
    """A point's records against what one source told of the server."""
    requests = counts.requests(records, found)
    prompts = counts.prompt_tokens(records, found)
    generated = counts.generated_tokens(records, found)
    ttft, itl, e2e = times.ttft(records, found), times.itl(records, found), times.e2e(records, found)
    counted = {"requests": requests, "prompt_tokens": prompts, "generated_tokens": generated}
    timed = {"ttft": ttft, "itl": itl, "e2e": e2e}
    return Reconciliation(
        source=found.source,
        requests=requests,
        prompt_tokens=prompts,
        generated_tokens=generated,
        ttft=ttft,
        itl=itl,
        e2e=e2e,
        ttft_split=times.ttft_split(records, found, ttft),
        disagreements=[
            *_other_models(records, found),
            *(each for what, both in counted.items() if both for each in _excess(found, what, both, generated)),
            *(each for what, both in counted.items() if both for each in _lack(records, found, what, both, requests)),
            *_several_tokens(itl, requests, generated),
            *(each for what, both in timed.items() if both for each in _in_times(what, both)),
        ],
    )


def reconciled(records: Records) -> Reconciliation | None:
    """With the first readings that have increases: the exact ones, unless they were read behind a balancer."""
    readings = records.context.server_readings
    found = next((each for each in readings if each.unlike is None), readings[0] if readings else None)
    return None if found is None else reconcile(records, found)


def excess_share(reconciliation: Reconciliation) -> float:
    """The greatest share of anything that the server did for others, of what it did for this client."""
    both = {
        "requests": reconciliation.requests,
        "prompt_tokens": reconciliation.prompt_tokens,
        "generated_tokens": reconciliation.generated_tokens,
    }
    others = {each.what for each in reconciliation.disagreements if each.cause is Cause.OTHER_TRAFFIC}
    found = [each for what, each in both.items() if each and what in others and each.client_most > 0]
    return max((each.excess / each.client_most for each in found), default=0.0)


def _other_models(records: Records, found: Readings) -> Iterator[Discrepancy]:
    asked, told = records.context.models, set(found.models)
    if told and spelled(told).isdisjoint(spelled(asked)):
        yield Discrepancy(
            what="model",
            cause=Cause.OTHER_MODEL,
            text=f"The metrics are of {', '.join(sorted(told))}, and requests asked for {', '.join(sorted(asked))}.",
        )


def _excess(found: Readings, what: str, both: Counted, generated: Counted | None) -> Iterator[Discrepancy]:
    if both.excess <= 0:
        return
    if found.source != "direct" and found.earlier_s is not None and found.earlier_s + COUNTED_S > found.start_s:
        why = "its last sample before the point is from before this client's earlier requests had ended"
        yield Discrepancy(what=what, cause=Cause.WRONG_WINDOW, text=f"{_both(what, both)}: {why}.")
    elif what == "requests" and generated is not None and generated.excess == 0:
        yield Discrepancy(
            what=what, cause=Cause.RETRIES, text=f"{_both(what, both)}: something in between sends requests again."
        )
    else:
        yield Discrepancy(what=what, cause=Cause.OTHER_TRAFFIC, text=f"{_both(what, both)}: others use it too.")


def _lack(
    records: Records, found: Readings, what: str, both: Counted, requests: Counted | None
) -> Iterator[Discrepancy]:
    """Shards that end after the one that reads the metrics are no lack. Where all requests were counted, no process
    was left out."""
    if both.lack <= LACK_SHARE_LIMIT * both.client or found.at_least or len(records.context.parts) > 1:
        return
    slight = both.lack < both.client / 2
    if found.source != "direct" and found.end_s < records.context.measured_ns / 1e9:
        cause, why = Cause.WRONG_WINDOW, "its last sample is from before the point's end"
    elif (what != "requests" and requests.lack == 0) if requests else (what == "generated_tokens" and slight):
        cause, why = Cause.OTHER_COUNT, "it counts tokens otherwise than its answers say"
    else:
        cause, why = Cause.ROUTER, "processes answer whose metrics were not read (--metrics-urls names them)"
    yield Discrepancy(what=what, cause=cause, text=f"{_both(what, both)}: {why}.")


def _both(what: str, both: Counted) -> str:
    ours = f"{both.client:.0f}" if both.client == both.client_most else f"{both.client:.0f} to {both.client_most:.0f}"
    return f"The server counted {both.server:.0f} {what.replace('_', ' ')}, and this client had {ours}"


def _several_tokens(itl: Timed | None, requests: Counted | None, generated: Counted | None) -> Iterator[Discrepancy]:
    """The server has more gaps than came as events. The client's are of what succeeded: gaps that the server made for
    others, or for what failed, are none of these."""
    if itl is None:
        return
    if generated is not None:
        foreign = generated.client_most - generated.client + generated.excess
    elif requests is not None and requests.client == requests.client_most and not requests.excess:
        foreign = 0.0
    else:
        return
    own_n = itl.server_n - foreign
    if itl.client_n < 0.99 * own_n:
        yield Discrepancy(
            what="itl",
            cause=Cause.SEVERAL_TOKENS_AN_EVENT,
            text=f"The server made {own_n:.0f} gaps between tokens, and {itl.client_n} came as events "
            f"({own_n / itl.client_n:.2f} tokens each): the client's ITL is of events.",
        )


def _in_times(what: str, both: Timed) -> Iterator[Discrepancy]:
    if both.agrees is not False:
        return
    name = what.upper()
    rows = (
        ("p50", both.client_p50_s, both.server_p50),
        ("p90", both.client_p90_s, both.server_p90),
        ("p99", both.client_p99_s, both.server_p99),
    )
    within = both.tolerance_s
    above = [(q, ours, they.high) for q, ours, they in rows if they and they.high and ours > they.high + within]
    below = [(q, ours, they.low) for q, ours, they in rows if they and ours < they.low - within]
    if above:
        q, ours, bound = max(above, key=lambda row: row[1] - row[2])
        yield Discrepancy(
            what=what,
            cause=Cause.OUTSIDE,
            text=f"{name} {q} is {ours * 1e3:.1f} ms here and at most {bound * 1e3:.1f} ms by the server: the rest is "
            "spent outside of what it measures (network, gateway, its HTTP front).",
        )
    elif below:
        q, ours, bound = max(below, key=lambda row: row[2] - row[1])
        yield Discrepancy(
            what=what,
            cause=Cause.WRONG_WINDOW,
            text=f"{name} {q} is {ours * 1e3:.1f} ms here and at least {bound * 1e3:.1f} ms by the server: what it "
            "measured is not these requests, or not only.",
        )
