"""How much too long TTFT is by late reads, against what is known to have happened."""

import numpy as np
import pytest
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.first_event_errors import first_event_errors_s
from latency_profile.records import Records
from tests.make_records import make_records

MS = 1_000_000
GAP_S = 0.010
STREAMS, EVENTS = 200, 40
ASLEEP_S = 1.0  # when the server loses its CPU


def alone(blind_ms: float, n: int = 400) -> Records:
    """Answers one after the other, of 20 gaps of 10 ms; of every fifth the first four events have the fourth's stamp,
    from a read before which the loop had not looked for `blind_ms`."""
    due = np.arange(n) * 0.5
    events = due[:, None] + 0.05 + np.arange(20) * GAP_S
    events[::5, :4] = events[::5, 3:4]
    early = np.where(np.arange(n) % 5 == 0, round(blind_ms * MS), 0)
    return make_records(due, due, list(events), columns={"first_early_ns": early}, duration_s=n / 2)


def errors_s(records: Records) -> tuple[float | None, float | None]:
    return first_event_errors_s(records, measures.window(records).rows)


@pytest.mark.parametrize(("blind_ms", "error_s"), [(100, 0.030), (29.9, 0.0299), (7, 0.007), (0.9, 0.0)])
def test_a_first_event_came_gaps_earlier_and_after_the_last_look(blind_ms: float, error_s: float):
    p50, p99 = errors_s(alone(blind_ms))
    assert p50 == pytest.approx(0, abs=1e-9)
    assert p99 == pytest.approx(error_s, abs=1e-4)


def woken(pause_s: float, rush_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(when requests were sent, when the events of each were written) by a server that sleeps for `pause_s` and then
    writes all that was due meanwhile within `rush_s`, in order. A third of the answers begins shortly before it wakes,
    the others are on their way."""
    draw = np.random.default_rng(1)
    first = np.where(np.arange(STREAMS) % 3 == 0, draw.uniform(0, pause_s, STREAMS), draw.uniform(-0.3, 0, STREAMS))
    meant = ASLEEP_S + first[:, None] + np.cumsum(GAP_S * draw.uniform(0.8, 1.2, (STREAMS, EVENTS)), axis=1) - GAP_S
    late = (meant >= ASLEEP_S) & (meant < ASLEEP_S + pause_s)
    written = np.where(late, ASLEEP_S + pause_s + (meant - ASLEEP_S) / pause_s * rush_s, meant)
    return ASLEEP_S + first - 0.05, written


def seen_blindly(sent: NDArray[np.float64], written: NDArray[np.float64], blind_s: float, look_s: float) -> Records:
    """What a client records that looks at `look_s`, and had not for `blind_s`."""
    stamps = written.copy()
    early = np.zeros(len(sent), dtype=np.int64)
    for row, events in enumerate(written):
        inside = np.flatnonzero((events > look_s - blind_s) & (events <= look_s))
        if len(inside):
            stamps[row, inside] = events[inside[-1]]
            if inside[0] == 0 and len(inside) > 1:
                early[row] = round((events[inside[-1]] - (look_s - blind_s)) * 1e9)
    return make_records(sent, sent, list(stamps), columns={"first_early_ns": early}, duration_s=3)


@pytest.mark.parametrize(
    ("pause_s", "rush_s", "blind_s"),
    [(0.020, 0.001, 0.012), (0.030, 0.003, 0.033), (0.020, 0.019, 0.021)],
    ids=["asleep together", "asleep together, longer", "the client alone"],
)
def test_a_server_that_made_up_for_lost_time_had_not_sent_before(pause_s: float, rush_s: float, blind_s: float):
    """By the gaps alone, 10 ms and more would be said of events that the server wrote within one."""
    sent, written = woken(pause_s, rush_s)
    records = seen_blindly(sent, written, blind_s, ASLEEP_S + pause_s + rush_s)
    hidden = records["first_early_ns"] > 0
    assert hidden.sum() > 15
    true_s = (records["first_token_ns"][hidden] / 1e9 - written[hidden, 0]).mean()
    p50, _ = first_event_errors_s(records, hidden)
    assert p50 is not None
    assert true_s / 2 < p50 < true_s * 2


def test_no_first_tokens_no_error():
    records = alone(7)
    assert first_event_errors_s(records, np.zeros(len(records["sent_ns"]), dtype=bool)) == (None, None)
