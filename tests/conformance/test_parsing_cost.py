"""An answer of twice as many events costs twice as much to read, through every streaming door."""

import pytest

from benchmarks.parsing import Answer, medians_ns, repeats_text
from tests.conformance.dialect import Dialect
from tests.conformance.table import STREAMS

MOST = 2.2
TRIES, REPEATS = 10, 5  # another try where the machine was disturbed; what is quadratic has a ratio of 4 in each


@pytest.mark.parametrize("dialect", STREAMS, ids=lambda dialect: dialect.name)
def test_the_cost_is_linear(dialect: Dialect) -> None:
    """In the events; where each event repeats the text so far, in the bytes."""
    repeated = repeats_text(dialect)
    small, large = (Answer(dialect, size) for size in ((1024, 2048) if repeated else (8192, 16384)))
    more = large.bytes / small.bytes if repeated else 2.0
    ratios: list[float] = []
    while not ratios or (ratios[-1] > MOST and len(ratios) < TRIES):
        costs = medians_ns([small, large], REPEATS)
        ratios.append(2 * costs[1] / costs[0] / more)
    assert min(ratios) <= MOST, ratios
