"""One admitted request, and what has become of its answer so far."""

from dataclasses import dataclass

from latency_profile.simulator.connection import Exchange
from latency_profile.simulator.faults import Fault
from latency_profile.simulator.job import Job
from latency_profile.simulator.protocols.base import Ask, Writer


@dataclass(slots=True, eq=False)
class Answer:
    """Kept by the server from the request's arrival to the answer's end."""

    exchange: Exchange
    job: Job
    ask: Ask
    writer: Writer
    row: int  # of the log
    fault: Fault | None = None  # what is still to go wrong with it
    head: bool = False  # the stream's head has been sent
    produced: int = 0  # tokens that the timing model has given
    sent: int = 0  # tokens that were written
    held: list[tuple[int, int]] | None = None  # a fault keeps these tokens back: (due, count)
    rest: bytes = b""  # what is left of a whole answer that stopped in its middle
