"""What it costs to read an answer: `python -m benchmarks.parsing` prints CPU µs an event, median of several runs, for
answers of 1,024 to 16,384 events through every streaming door; one event a read, as a busy server sends them.

Where every event repeats the text so far (SGLang's /generate), the bytes are quadratic in the events, and the figure is
ns a byte.
"""

import gc
import statistics
import sys
import time
from collections.abc import Sequence

from latency_profile.answers import read_answer
from latency_profile.outcome import Status
from latency_profile.sender.spool import End, Entry, Kind
from tests.conformance.dialect import Dialect, Part
from tests.conformance.failures import body_of
from tests.conformance.native_dialects import Sglang
from tests.conformance.reading import door_of, entry_of_end, request_of
from tests.conformance.table import STREAMS
from tests.conformance.wires import head_of
from tests.servers import odd

SIZES = (1024, 2048, 4096, 8192, 16384)
SIZES_OF_REPEATED_TEXT = (512, 1024, 2048, 4096)
REPEATS = 5


def repeats_text(dialect: Dialect) -> bool:
    """Whether each event has the whole text up to now."""
    return isinstance(dialect, Sglang) and not dialect.incremental


class Answer:
    """One answer of so many events, ready to be read."""

    def __init__(self, dialect: Dialect, events: int) -> None:
        said = dialect.stream([Part(" word")] * events)
        parts = [odd.chunk(part) for part in body_of(dialect, said).parts]
        parts[0] = head_of(dialect, "transfer-encoding: chunked") + parts[0]
        parts[-1] += odd.chunk(b"")
        self._reads = [Entry(Kind.READ, 0, 0, 0, at, 0, part) for at, part in enumerate(parts, 1)]
        self._door, self._request = door_of(dialect), request_of(dialect)
        self._end = entry_of_end(End.COMPLETE)
        self.events = events
        self.bytes = sum(map(len, parts))

    def cost_ns(self) -> int:
        """CPU time of one reading."""
        gc.disable()  # a collection costs by all that lives in this process
        try:
            began = time.thread_time_ns()
            row = read_answer(self._reads, self._end, self._door, self._request)
            took = time.thread_time_ns() - began
        finally:
            gc.enable()
        assert row.status == Status.OK and len(row.tokens.events) == self.events, row.message
        return took


def medians_ns(answers: Sequence[Answer], repeats: int) -> list[float]:
    """Median cost of each answer; they take turns, so that what slows the machine down slows all of them."""
    turns = [[answer.cost_ns() for answer in answers] for _ in range(repeats)]
    return [statistics.median(costs) for costs in zip(*turns, strict=True)]


def main() -> int:
    print(f"{'':44}" + "".join(f"{size:>9,}" for size in SIZES) + "  16,384 : 8,192")
    for dialect in STREAMS:
        repeated = repeats_text(dialect)
        answers = [Answer(dialect, size) for size in (SIZES_OF_REPEATED_TEXT if repeated else SIZES)]
        costs = medians_ns(answers, REPEATS)
        if repeated:
            each = [cost / answer.bytes for cost, answer in zip(costs, answers, strict=True)]
            sizes = ", ".join(f"{size:,}" for size in SIZES_OF_REPEATED_TEXT)
            told = "".join(f"{cost:9.2f}" for cost in each) + f"  ns a byte, at {sizes} events"
        else:
            each = [cost / answer.events / 1000 for cost, answer in zip(costs, answers, strict=True)]
            told = "".join(f"{cost:9.2f}" for cost in each) + f"{costs[-1] / costs[-2]:16.2f}"
        print(f"{dialect.name:44}{told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
