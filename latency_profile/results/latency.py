"""What the results say of time: latencies, stalls, and what the server itself says of its requests. Pure."""

import numpy as np

from latency_profile import measures
from latency_profile.measures import Rows
from latency_profile.records import Records
from latency_profile.results.server import ServerTimes
from latency_profile.results.structure import Latency, Response, Service, Stalls
from latency_profile.statistics import NS_PER_S, Distribution, Sample, quantile
from latency_profile.until_ci.result import describer

# A pause of a second breaks a reader's train of thought (Nielsen, Usability Engineering, 1993, chapter 5).
STALL_LIMIT_S = 1.0


def latency(records: Records, rows: Rows, gaps: Sample | None) -> Latency:
    """Of the requests `rows`. gaps: their gaps (`measures.gaps`), None unless streamed."""
    streaming = records.context.streaming
    describe = describer(records.context)
    hidden = streaming and bool(measures.hidden_first(records, rows).any())

    def ttft(origin: str) -> Distribution | None:
        return describe(measures.time_to_first_token(records, rows, origin)) if streaming else None

    def ttft_visible(origin: str) -> Distribution | None:
        return describe(measures.time_to_first_visible(records, rows, origin)) if hidden else None

    return Latency(
        service=Service(
            ttft=ttft("sent_ns"),
            ttft_visible=ttft_visible("sent_ns"),
            tpot=describe(measures.time_per_output_token(records, rows)) if streaming else None,
            itl=None if gaps is None else describe(gaps),
            ntpot=describe(measures.normalized_time_per_output_token(records, rows)),
            e2e=describe(measures.end_to_end(records, rows, "sent_ns")),
        ),
        response=None
        if records.context.concurrency is not None
        else Response(
            ttft=ttft("due_ns"),
            ttft_visible=ttft_visible("due_ns"),
            e2e=describe(measures.end_to_end(records, rows, "due_ns")),
        ),
    )


def by_metric(found: Latency) -> dict[str, Distribution | None]:
    """What objectives are about, by their names: response, or in a closed loop service. NTPOT from due is not there."""
    service, response = found.service, found.response
    return {
        "ttft": (response or service).ttft,
        "tpot": service.tpot,
        "itl": service.itl,
        "ntpot": service.ntpot if response is None else None,
        "e2e": (response or service).e2e,
    }


def stalls(gaps: Sample) -> Stalls:
    """Of what `measures.gaps` gave."""
    largest = np.sort(measures.largest_gaps(gaps)) / NS_PER_S
    return Stalls(
        n=len(largest),
        p50_s=quantile(largest, 0.5),
        p99_s=quantile(largest, 0.99),
        max_s=quantile(largest, 1.0),
        limit_s=STALL_LIMIT_S,
        share_above_limit=float((largest > STALL_LIMIT_S).mean()) if len(largest) else None,
    )


def server_times(records: Records, rows: Rows) -> ServerTimes | None:
    """What the server says that the requests `rows` took; None where it says nothing."""

    describe = describer(records.context)

    def told(sample: Sample) -> Distribution | None:
        return describe(sample) if len(sample.values) else None

    def part(name: str) -> Distribution | None:
        return told(measures.server_time(records, rows, f"server_{name}_ns"))

    queue, prefill, decode, total = part("queue"), part("prefill"), part("decode"), part("total")
    if not (queue or prefill or decode or total):
        return None
    return ServerTimes(
        queue=queue,
        prefill=prefill,
        decode=decode,
        total=total,
        unexplained_e2e=told(measures.unexplained_end_to_end(records, rows)),
        unexplained_ttft=told(measures.unexplained_first_token(records, rows)),
    )
