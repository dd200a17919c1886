"""CLIENT_LIMITED: the client itself bent the numbers.

Limits are of errors, not of load: a client that used 95 % of a core and was never late measured well. What the errors
are, and how each is bounded from the client's own data:

- *Sent late.* Sent - due is measured, request by request. A closed loop has no due times; there a request is due when
  an answer has made room for it, and turnaround is the lateness. A burst has neither: all of it was due at once, and
  sending takes what it takes. What a burst and a closed loop measure is throughput, which is the client's own where the
  client had no CPU left; that is judged by CPU.
- *Stamped as sent, and sent later.* The stamp is taken just before send(). A process that loses its CPU in between
  (some 20 µs of work) sends later, which no stamp of its own shows. It loses its CPU as likely at any other moment of
  its work, and is then late for what falls due meanwhile: the share of requests with this error is 20 µs over the mean
  time between two such losses, the share of late ones is the share of time that it had to wait. The first comes to one
  in a hundred only where the second is a multiple of that. (How long send() took bounds this error, but far too widely:
  the server wakes inside the call, and often takes over the CPU of the client, whose bytes are out by then.)
- *Read late.* The kernel stamps what it receives, so that a late read alone moves nothing. But a read has the stamp of
  its last segment: events that shared it with a later one lose their times, and are given too late a one. They are
  counted (`merged_events`, in reads more than 1 ms late), as a gap that is lost is lost to ITL whatever its length. A
  first event that is read so makes TTFT too long, by the gaps behind it: by how much its percentiles would be shorter
  without is estimated (`first_event_errors.py`). Events that the client merged in a read less than 1 ms late came
  while the loop was busy, or asleep against its will, which other reads and sends meet as well.
- *No kernel stamps* (some sandboxes). Then a late read is a late stamp. Reads wait for the loop as sends do, so the
  lateness of sends is the error of the stamps, and is held to the limit of TTFT's error.
- *Lost count.* A request that the client loses or doubles is in no latency. Mean numbers in flight by the running
  loops' counters and by the records, which come from the spools, have to agree (Little's law on the client itself).

Causes (a CPU quota, other processes, a stolen CPU, too few connections) are no reasons of their own. Where an error is
over its limit, the first reason names those that were there.
"""

import numpy as np

from latency_profile import measures
from latency_profile.client_health import ClientHealth, Processor, client_health
from latency_profile.statistics import NS_PER_MS, NS_PER_S, quantile
from latency_profile.verdict.evidence import Evidence

# People notice a delay from about 100 ms on (Miller, Response time in man-computer conversational transactions, 1968).
# A tenth of that cannot be felt, and shifts no arrival process that a server of language models would notice. A machine
# of its own stays under 3 ms (LATENESS_WORTH_A_NOTE_MS, which the report mentions): a lower limit here would refuse
# points whose numbers are right, as response latencies hold the lateness and service latencies do without it.
LATENESS_P99_LIMIT_MS = 10.0
LATENESS_WORTH_A_NOTE_MS = 3.0

# A read that comes late may hold events that came apart; all but the last of them lose their times. While that is fewer
# than one event in a hundred, fewer than two gaps in a hundred are touched, each by less than the read was late.
MERGED_SHARE_LIMIT = 0.01

# The fastest servers answer a short prompt in some 10 to 20 ms: an error of 1 ms is within the 5 to 10 % by which two
# runs of one such server differ. Half of it would be in the noise of a virtual machine's clock interrupts.
TTFT_ERROR_LIMIT_MS = 1.0

# From here on work waits for the loop on average as long as nine pieces of it take (M/M/1: rho / (1 - rho)): throughput
# then is what this client can do.
CORE_SHARE_LIMIT = 0.9

# The first moments of a process are busy ones: of a shorter point the share says how it began.
SHORTEST_FOR_CPU_S = 0.5

# Of a cause: what touches fewer than one request in a hundred does not move a p99.
CAUSE_SHARE = 0.01
# A loop that is busy for so much of a core makes work wait for twice as long as it takes, and more (as above).
BUSY_CORE_SHARE = 0.7
# One part in twenty of the time without a CPU meets one request in twenty: within the limits, and yet a reason to look.
AWAY_WORTH_A_NOTE = 0.05


def client_limited(known: Evidence) -> list[str]:
    """Each error that is over its limit, with its likely causes."""
    health = client_health(known.records, known.span)
    reasons = [*_sent_late(known, health), *_turned_late(health), *_read_late(known, health), *_lost_count(health)]
    reasons = reasons or _no_cpu_left(known, health)
    if reasons:
        reasons[0] += _causes(health)
    return reasons


def _sent_late(known: Evidence, health: ClientHealth) -> list[str]:
    records, rows = known.records, known.measured
    lateness = quantile(measures.lateness_ns(records, rows), 0.99)
    if lateness is None or measures.is_burst(records.context):
        return []
    late_ms = lateness / NS_PER_MS
    if late_ms > LATENESS_P99_LIMIT_MS:
        return [
            f"The client sent late: the p99 of its lateness is {late_ms:.1f} ms; the limit is "
            f"{LATENESS_P99_LIMIT_MS:.0f} ms.{_waited(health)}"
        ]
    stamped = health.kernel_stamps_share
    if stamped is not None and stamped < 1 - CAUSE_SHARE and late_ms > TTFT_ERROR_LIMIT_MS:
        return [
            f"Receive times are the client's own, not the kernel's, and may be as late as its sends: the p99 of its "
            f"lateness is {late_ms:.1f} ms; without kernel stamps the limit is {TTFT_ERROR_LIMIT_MS:.0f} ms."
        ]
    return []


def _turned_late(health: ClientHealth) -> list[str]:
    stamped = health.kernel_stamps_share
    without_stamps = stamped is not None and stamped < 1 - CAUSE_SHARE  # then the stamps are as late as that
    limit_ms = TTFT_ERROR_LIMIT_MS if without_stamps else LATENESS_P99_LIMIT_MS
    if health.turnaround is None or health.turnaround.p99_s * 1e3 <= limit_ms:
        return []
    return [
        f"The client left places of its closed loop empty: the p99 of the time from an answer to the next request is "
        f"{health.turnaround.p99_s * 1e3:.1f} ms; the limit is {limit_ms:.0f} ms"
        f"{' without kernel stamps' if without_stamps else ''}.{_waited(health)}"
    ]


def _read_late(known: Evidence, health: ClientHealth) -> list[str]:
    records, rows = known.records, known.measured
    reasons = []
    merged = int(records["merged_events"][rows].sum())
    events = int(np.diff(records.event_start)[rows].sum())
    if events and merged / events > MERGED_SHARE_LIMIT:
        reasons.append(
            f"The client read late: {merged / events:.1%} of the events shared a read with a later one, more than 1 ms "
            f"after its bytes came; the limit is {MERGED_SHARE_LIMIT:.0%}."
        )
    p50_ms, p99_ms = (health.ttft_error_p50_s or 0.0) * 1e3, (health.ttft_error_p99_s or 0.0) * 1e3
    if max(p50_ms, p99_ms) > TTFT_ERROR_LIMIT_MS:
        reasons.append(
            f"The client read first tokens late, together with later ones: TTFT is too long by about {p50_ms:.1f} ms "
            f"at p50 and {p99_ms:.1f} ms at p99; the limit is {TTFT_ERROR_LIMIT_MS:.0f} ms."
        )
    return reasons


def _lost_count(health: ClientHealth) -> list[str]:
    little = health.little
    if little is None or little.agrees:
        return []
    return [
        f"The client lost count: {little.in_flight_counted:.1f} requests were in flight by its loops' counters, "
        f"{little.in_flight_recorded:.1f} by its records, on average over {little.looks} looks; the limit is a "
        f"difference of {little.limit:.1f}."
    ]


def _no_cpu_left(known: Evidence, health: ClientHealth) -> list[str]:
    """Of bursts and closed loops, whose throughput is the client's where it has no CPU left."""
    context, cpu = known.records.context, health.processor
    if cpu is None or not (measures.is_burst(context) or context.concurrency is not None):
        return []
    if context.measured_ns < SHORTEST_FOR_CPU_S * NS_PER_S:
        return []
    busiest = max(cpu.sender_core_shares, default=0.0)
    if busiest > CORE_SHARE_LIMIT:
        return [
            f"The client had no CPU left: a sender process used {busiest:.0%} of a core; the limit is "
            f"{CORE_SHARE_LIMIT:.0%}."
        ]
    if cpu.share_of_allowed > CORE_SHARE_LIMIT:
        return [
            f"The client had no CPU left: it used {cpu.share_of_allowed:.0%} of the {cpu.allowed_cores:.2g} cores that "
            f"it is allowed; the limit is {CORE_SHARE_LIMIT:.0%}."
        ]
    return []


def _waited(health: ClientHealth) -> str:
    waiting = health.most_waiting_for_connection or 0
    if not waiting:
        return ""
    many = f"Up to {waiting} requests" if waiting > 1 else "A request"
    return (
        f" {many} of one process waited for a connection (--tcp-conn-limit, the limit of open files, or a server that "
        f"is slow to accept them)."
    )


def _causes(health: ClientHealth) -> str:
    """What kept the client from its work, in sentences of their own; nothing where nothing is known."""
    cpu = health.processor
    if cpu is None:
        return ""
    found = []
    if cpu.limit_cores is not None and cpu.throttled_share > CAUSE_SHARE:
        found.append(f"it was throttled in {cpu.throttled_share:.0%} of the periods by a CPU limit of {_cores(cpu)}")
    if cpu.stolen_s is not None and (cpu.stolen_share or 0) > CAUSE_SHARE:
        found.append(f"the hypervisor gave {cpu.stolen_s:.1f} s of CPU to other machines")
    if (cpu.waited_share or 0) > CAUSE_SHARE:
        busy = "" if cpu.machine_busy_share is None else f" (the machine was {cpu.machine_busy_share:.0%} busy)"
        found.append(f"a sender process waited for a CPU {cpu.waited_share:.0%} of the time{busy}")
    busiest = max(cpu.sender_core_shares, default=0.0)
    if busiest > BUSY_CORE_SHARE:
        found.append(f"its busiest loop used {busiest:.0%} of a core (more --workers, or more pods)")
    return f" Likely why: {'; '.join(found)}." if found else ""


def _cores(cpu: Processor) -> str:
    return f"{cpu.limit_cores:.2g} cores"


def worth_a_note(health: ClientHealth, lateness_p99_s: float | None) -> list[str]:
    """What is off without being over a limit, a few words each."""
    notes = []
    if lateness_p99_s is not None and lateness_p99_s * 1e3 > LATENESS_WORTH_A_NOTE_MS:
        notes.append(f"sent late by {lateness_p99_s * 1e3:.1f} ms at p99")
    cpu = health.processor
    if cpu is None:
        return notes
    if cpu.limit_cores is not None and cpu.throttled_share > CAUSE_SHARE:
        notes.append(f"throttled in {cpu.throttled_share:.0%} of the periods by a CPU limit of {_cores(cpu)}")
    if (cpu.stolen_share or 0) > AWAY_WORTH_A_NOTE:
        notes.append(f"{cpu.stolen_share:.0%} of the machine's CPU time stolen by its host")
    if (cpu.waited_share or 0) > AWAY_WORTH_A_NOTE:
        notes.append(f"a sender waited for a CPU {cpu.waited_share:.0%} of the time")
    return notes
