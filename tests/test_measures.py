"""What each latency, rate and count means, on records small enough to reckon by hand."""

import numpy as np
import pytest

from latency_profile import measures
from latency_profile.rates import rates_in
from latency_profile.records import NONE, Flag, Status
from latency_profile.results import point_result
from latency_profile.statistics import CHUNK
from tests.make_records import SECOND, make_records, nanoseconds

MS = 1_000_000


def two_answers(**changes):
    """Due at 1 and 2 s, the second sent 0.25 s late; three and two events; ends 0.1 s after the last event."""
    return make_records(
        [1.0, 2.0],
        [1.0, 2.25],
        [[1.5, 1.6, 1.9], [2.5, 2.6]],
        [2.0, 2.7],
        event_tokens=[[1, 2, 1], [1, 1]],
        columns={"input_tokens": [6, 8]},
        **changes,
    )


def everything(records):
    return measures.all_rows(records)


def test_latencies_by_hand():
    records = two_answers()
    rows = everything(records)
    assert measures.time_to_first_token(records, rows, "sent_ns").values.tolist() == [500 * MS, 250 * MS]
    assert measures.time_to_first_token(records, rows, "due_ns").values.tolist() == [500 * MS, 500 * MS]
    assert measures.end_to_end(records, rows, "sent_ns").values.tolist() == [1000 * MS, 450 * MS]
    assert measures.end_to_end(records, rows, "due_ns").values.tolist() == [1000 * MS, 700 * MS]
    assert measures.time_per_output_token(records, rows).values == pytest.approx([400 * MS / 3, 100 * MS])
    assert measures.normalized_time_per_output_token(records, rows).values == pytest.approx([250 * MS, 225 * MS])
    assert measures.time_per_token(records, rows).values == pytest.approx([100 * MS, 45 * MS])
    assert measures.lateness_ns(records, rows).tolist() == [0, 250 * MS]


def test_an_event_of_several_tokens_ends_one_gap():
    found = measures.gaps(two_answers(), everything(two_answers()))
    assert found.values.tolist() == [100 * MS, 300 * MS, 100 * MS]
    assert found.per_request.tolist() == [2, 1]
    assert measures.largest_gaps(found).tolist() == [300 * MS, 100 * MS]


def test_gaps_skip_failed_answers_and_answers_without_gaps():
    records = make_records(
        [0, 1, 2, 3, 4, 5],
        token_times_s=[[], [1.1, 1.2], [2.1], [3.1, 3.4, 3.5], [4.1, 4.5], []],
        columns={"status": [Status.OK, Status.OK, Status.OK, Status.TRUNCATED, Status.OK, Status.EMPTY]},
    )
    found = measures.gaps(records, everything(records))
    assert found.values.tolist() == [100 * MS, 400 * MS]
    assert found.per_request.tolist() == [0, 1, 0, 1]
    assert measures.largest_gaps(found).tolist() == [100 * MS, 400 * MS]
    assert measures.gaps(records, np.zeros(6, dtype=bool)).values.tolist() == []


def test_gaps_are_the_same_across_the_edges_of_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, 200)
    events = [np.cumsum(rng.uniform(0.01, 0.1, n)) + i for i, n in enumerate(lengths)]
    status = rng.choice([Status.OK, Status.RESET], 200)
    records = make_records(np.arange(200), token_times_s=events, columns={"status": status})
    plain = [np.diff(np.rint(times * SECOND)) for times, kind in zip(events, status, strict=True) if kind == Status.OK]
    assert CHUNK > 200 * 9
    for chunk in (1, 7, 64, CHUNK):
        monkeypatch.setattr(measures, "CHUNK", chunk)
        found = measures.gaps(records, everything(records))
        assert found.values.tolist() == np.concatenate(plain).tolist()
        assert found.per_request.tolist() == [len(steps) for steps in plain]
        assert measures.tokens_in_events(records).tolist() == lengths.tolist()


def test_only_succeeded_requests_have_latencies():
    records = make_records([0, 1, 2], columns={"status": [Status.OK, Status.TIMEOUT, Status.HTTP_SERVER_ERROR]})
    assert len(measures.end_to_end(records, everything(records), "sent_ns").values) == 1
    assert len(measures.normalized_time_per_output_token(records, everything(records)).values) == 1


def test_one_token_has_no_tpot_and_unknown_tokens_no_ntpot():
    records = make_records([0, 1], token_times_s=[[0.5], [1.5, 1.6]], columns={"output_tokens": [1, NONE]})
    assert len(measures.time_per_output_token(records, everything(records)).values) == 0
    assert len(measures.normalized_time_per_output_token(records, everything(records)).values) == 1


def test_unfinished_requests_count_as_slow_as_they_are_already():
    records = make_records(
        [0, 1, 2, 3],
        [0, 1, 2.5, -1],
        [[0.5, 1.0], [2.0, 2.5], [], []],
        [1.5, 5.0, 5.0, -1],
        columns={"status": [Status.OK, Status.CANCELLED, Status.CANCELLED, Status.NOT_SENT]},
        measured_ns=5 * SECOND,
        cut_short="SIGTERM",
    )
    rows = everything(records)
    e2e = measures.end_to_end(records, rows, "due_ns")
    assert (e2e.values / SECOND).tolist() == [1.5, 4, 3, 2]
    assert e2e.unfinished.tolist() == [False, True, True, True]
    service = measures.end_to_end(records, rows, "sent_ns")  # what was never sent has no service time
    assert (service.values / SECOND).tolist() == [1.5, 4, 2.5]
    ttft = measures.time_to_first_token(records, rows, "due_ns")  # the second's first token had come
    assert (ttft.values / SECOND).tolist() == [0.5, 1, 3, 2]
    assert ttft.unfinished.tolist() == [False, False, True, True]
    assert (measures.lateness_ns(records, rows) / SECOND).tolist() == [0, 0, 0.5, 2]


def test_of_an_answer_that_was_cut_short_the_gaps_are_known_and_the_token_times_are_not():
    records = make_records(
        [0, 1, 2, 3],
        [0, 1, 2, -1],
        [[0.5, 1.0], [2.0, 2.5, 3.5], [], []],
        [1.5, 5.0, 5.0, -1],
        columns={"status": [Status.OK, Status.CANCELLED, Status.CANCELLED, Status.NOT_SENT]},
        measured_ns=5 * SECOND,
        cut_short="SIGTERM",
    )
    rows = everything(records)
    assert measures.gaps(records, rows).values.tolist() == [500 * MS, 500 * MS, 1000 * MS]
    for sample in (
        measures.time_per_output_token(records, rows),
        measures.normalized_time_per_output_token(records, rows),
    ):
        assert sample.unfinished.tolist() == [False, True, True]
        assert sample.values[0] > 0 and sample.values[1:].tolist() == [0, 0]


def reasoning(**changes):
    """Hidden tokens first, nothing hidden, hidden only, cut short among hidden ones, cut short before any, failed."""
    return make_records(
        [0, 1, 2, 3, 4, 5],
        [0, 1.25, 2, 3, 4, 5],
        [[0.5, 0.75, 1.0], [1.5, 1.75], [2.5, 3.0], [3.5, 4.0], [], [5.5, 5.75]],
        [1.0, 1.75, 3.0, 6.0, 6.0, 6.0],
        columns={
            "first_visible_ns": nanoseconds([0.75, 1.5, -1, -1, -1, 5.75]),
            "status": [Status.OK] * 3 + [Status.CANCELLED] * 2 + [Status.TRUNCATED],
        },
        measured_ns=6 * SECOND,
        cut_short="SIGTERM",
        **changes,
    )


def test_the_visible_answer_begins_behind_hidden_tokens():
    records = reasoning()
    rows = everything(records)
    any_token = measures.time_to_first_token(records, rows, "sent_ns")
    assert (any_token.values / SECOND).tolist() == [0.5, 0.25, 0.5, 0.5, 2]
    assert any_token.unfinished.tolist() == [False] * 4 + [True]
    visible = measures.time_to_first_visible(records, rows, "sent_ns")
    assert (visible.values / SECOND).tolist() == [0.75, 0.25, 3, 2]  # the third never had a visible token
    assert visible.unfinished.tolist() == [False, False, True, True]
    from_due = measures.time_to_first_visible(records, rows, "due_ns")
    assert (from_due.values / SECOND).tolist() == [0.75, 0.5, 3, 2]
    assert measures.hidden_first(records, rows).tolist() == [True, False, True, True, False, False]
    assert measures.hidden_only(records, rows).tolist() == [False, False, True, False, False, False]
    assert not measures.hidden_first(records, ~rows).any()


def test_an_answer_without_times_of_tokens_hides_nothing():
    records = make_records([0, 1], streaming=False)
    assert not measures.hidden_first(records, everything(records)).any()
    assert not measures.hidden_only(records, everything(records)).any()


def test_what_the_servers_own_times_leave_of_ours():
    """Sent at 1, 2, 3, 4 s; the third was retried, the fourth failed; the second's server tells no queue."""
    records = make_records(
        [1, 2, 3, 4, 5],
        token_times_s=[[1.5, 2.0], [2.25, 2.5], [3.5, 4.0], [4.5, 5.0], [5.5, 6.0]],
        columns={
            "server_queue_ns": [100 * MS, NONE, 0, 1, NONE],
            "server_prefill_ns": [380 * MS, 260 * MS, 1, 1, 2],
            "server_total_ns": [990 * MS, NONE, 1, 1, 2],
            "retries": [0, 0, 1, 0, 0],
            "flags": [0, 0, 0, 0, Flag.RESENT],  # the server speaks of the second sending, the row of the first
            "status": [Status.OK, Status.OK, Status.OK, Status.STALLED, Status.OK],
        },
    )
    rows = everything(records)
    assert measures.server_time(records, rows, "server_queue_ns").values.tolist() == [100 * MS, 0]
    assert measures.server_time(records, rows, "server_prefill_ns").values.tolist() == [380 * MS, 260 * MS, 1, 2]
    assert measures.server_time(records, rows, "server_decode_ns").values.tolist() == []
    assert measures.unexplained_end_to_end(records, rows).values.tolist() == [10 * MS]
    assert measures.unexplained_first_token(records, rows).values.tolist() == [20 * MS, -10 * MS]


def test_window_of_a_plan_bounded_by_time():
    records = make_records(
        np.arange(0, 10, 0.5), duration_s=10.0, warmup_s=2.0, cooldown_s=3.0, measured_ns=11 * SECOND
    )
    span = measures.window(records)
    assert (span.start_ns, span.end_ns, span.length_s) == (2 * SECOND, 7 * SECOND, 5)
    assert (records["due_ns"][span.rows] / SECOND).tolist() == np.arange(2, 7, 0.5).tolist()


def test_window_of_a_plan_bounded_by_requests_has_one_mean_gap_more():
    span = measures.window(make_records([0, 1, 2, 3], duration_s=None, measured_ns=30 * SECOND))
    assert (span.end_ns, span.rows.sum()) == (4 * SECOND, 4)
    alone = measures.window(make_records([0], duration_s=None, measured_ns=3 * SECOND))
    assert (alone.end_ns, alone.rows.sum()) == (3 * SECOND, 1)


def test_window_of_a_point_cut_short_ends_there():
    records = make_records([0, 1, 2, 3], duration_s=60.0, measured_ns=2 * SECOND, cut_short="SIGINT")
    span = measures.window(records)
    assert (span.end_ns, span.rows.tolist()) == (2 * SECOND, [True, True, False, False])


def test_window_of_a_burst_is_from_the_first_send_to_the_last_byte():
    records = make_records([0, 0], [0.5, 0.6], end_s=[2.0, 3.0], request_rate=None, duration_s=None)
    span = measures.window(records)
    assert (span.start_ns, span.end_ns, span.rows.all()) == (SECOND // 2, 3 * SECOND, True)


def test_window_of_a_closed_loop_goes_by_sends():
    records = make_records(
        [-1] * 5, [0, 1, 2, 3, -1], request_rate=None, concurrency=2, duration_s=4.0, warmup_s=1.0, cooldown_s=1.0
    )
    assert measures.window(records).rows.tolist() == [False, True, True, False, False]
    assert measures.lateness_ns(records, everything(records)).tolist() == []


def test_closed_loop_values_stand_in_order_of_sending():
    records = make_records([-1, -1], [1, 0], end_s=[5, 2], request_rate=None, concurrency=1)
    assert (measures.end_to_end(records, everything(records), "sent_ns").values / SECOND).tolist() == [2, 4]


def test_throughput_counts_what_was_received_inside_the_window():
    records = make_records(
        [0, 1, 2],
        token_times_s=[[0.5, 1.5], [1.5, 2.0, 3.5], [2.5, 2.6]],
        columns={"status": [Status.OK, Status.OK, Status.RESET], "output_tokens": [2, 6, 2]},
        duration_s=4.0,
    )
    found = rates_in(records, everything(records), measures.Span(SECOND, 3 * SECOND))
    assert found.output_tokens == pytest.approx((1 + 6 * 2 / 3) / 2)  # six tokens in three events: two of them inside
    assert found.requests == pytest.approx(1 / 2)  # the first ended at 1.5 s, the second after the window
    assert found.input_tokens == pytest.approx(10 / 2)  # the first's were read before the window


def test_throughput_without_events_counts_at_the_answers_end():
    records = make_records([0, 1, 2], end_s=[0.5, 1.5, 9.0], duration_s=4.0, streaming=False)
    found = rates_in(records, everything(records), measures.Span(0, 4 * SECOND))
    assert (found.requests, found.output_tokens, found.input_tokens) == (0.5, 5, 5)
    empty = make_records([0, 1], duration_s=2.0, warmup_s=1.0, cooldown_s=1.0)
    assert rates_in(empty, everything(empty), measures.window(empty)) is None


def test_rates_leave_out_the_ramp():
    """Two a second, each answered after 5 s: an empty server gives nothing for 5 s, and two a second from then on."""
    due = np.arange(0, 60, 0.5)
    records = make_records(due, end_s=due + 5, duration_s=60.0, request_rate=2.0)
    span = measures.window(records)
    assert (span.filled.start_ns, span.filled.end_ns) == (5 * SECOND, 60 * SECOND)
    assert rates_in(records, everything(records), span.filled).requests == pytest.approx(2, rel=1e-9)
    assert rates_in(records, everything(records), span).requests == pytest.approx(110 / 60, abs=0.02)
    late = make_records(due, end_s=due + 5, duration_s=60.0, request_rate=2.0, warmup_s=6.0)
    assert measures.window(late).filled.start_ns == 6 * SECOND


def test_the_ramp_does_not_wait_for_one_that_is_stuck():
    due = np.arange(0, 60, 0.5)
    ends = due + 5
    ends[3] = 55
    assert measures.window(make_records(due, end_s=ends, duration_s=60.0)).ramp_ends_ns == 5 * SECOND


def test_in_a_closed_loop_the_first_request_of_each_client_is_the_ramp():
    sent = np.sort(np.concatenate([np.arange(0, 60, 2.0)] * 40))
    took = np.where(np.arange(len(sent)) < 40, np.linspace(1, 4, len(sent) // 30).repeat(30), 2)
    records = make_records(
        [-1] * len(sent), sent, end_s=sent + took, request_rate=None, concurrency=40, duration_s=60.0
    )
    first = np.sort(took[:40])
    assert measures.window(records).ramp_ends_ns == round(first[37] * SECOND)


def test_a_window_without_an_answer_has_no_rates():
    cut = make_records(
        [0, 1, 2],
        end_s=[3, 3, 3],
        columns={"status": [Status.CANCELLED] * 3},
        duration_s=60.0,
        cut_short="SIGINT",
        measured_ns=3 * SECOND,
    )
    assert measures.window(cut).filled.length_s == 0
    assert point_result(cut).throughput is None


def test_in_flight_counts_from_due_however_late_the_send():
    records = make_records(
        [0, 1, 2], [0.5, 1, 2], end_s=[2.0, 1.5, 9.0], columns={"status": [Status.OK, Status.RESET, Status.CANCELLED]}
    )
    times = np.array([0, 0.9, 1.2, 1.7, 2.5, 20.0]) * SECOND
    assert measures.in_flight(records, everything(records), times.astype(np.int64)).tolist() == [1, 1, 2, 1, 1, 1]


def test_counts():
    kinds = [Status.OK, Status.OK, Status.CONNECT_REFUSED, Status.TIMEOUT, Status.CANCELLED, Status.NOT_SENT]
    records = make_records(
        range(6),
        [0, 1, -1, 3, 4, -1],
        columns={
            "status": kinds,
            "flags": [Flag.RESENT, 0, 0, Flag.RESENT, 0, 0],
            "retries": [200, 0, 100, 1, 0, 0],
        },
    )
    found = measures.counts(records, everything(records))
    assert (found.planned, found.attempted, found.sent, found.succeeded) == (6, 5, 4, 2)
    assert (found.failed, found.resent, found.unfinished, found.not_sent) == (2, 2, 1, 1)
    assert (found.retried, found.retries) == (3, 301)  # more than the column's type holds


def test_a_closed_loop_whose_prompts_are_used_up_ends_with_them() -> None:
    """Not with its time: in the rest of that nobody asked for anything."""
    sent = np.arange(100) / 10
    closed = {"concurrency": 2, "request_rate": None, "duration_s": 60.0}
    used_up = make_records(np.full(100, -1.0), sent, end_s=sent + 0.2, **closed)
    assert used_up.context.measured_ns < 60 * SECOND
    assert measures.window(used_up).end_ns == 10 * SECOND and measures.window(used_up).rows.all()
    assert point_result(used_up).load.completed_requests_per_s == pytest.approx(10, rel=0.05)
    cut = make_records(np.full(100, -1.0), sent, end_s=sent + 0.2, **closed, cut_short="SIGTERM")
    assert measures.window(cut).end_ns == cut.context.measured_ns
    timed = make_records(np.full(100, -1.0), sent, end_s=sent + 0.2, **(closed | {"duration_s": 10.05}))
    assert measures.window(timed).end_ns == 10.05 * SECOND
