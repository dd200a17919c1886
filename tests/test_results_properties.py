"""What holds for the result of any point: finite numbers, no request lost, no dependence on the order of rows."""

import math

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_profile import results
from latency_profile.records import Status
from tests.make_records import SECOND, SERVER_TIMES, make_records, uniform_records


def numbers(value):
    if isinstance(value, dict):
        for one in value.values():
            yield from numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, float):
        yield value


@st.composite
def points(draw):
    n = draw(st.integers(0, 12))

    def each(value):
        return st.lists(value, min_size=n, max_size=n)

    statuses = draw(each(st.sampled_from(list(Status))))
    steps = [draw(st.lists(st.floats(0, 5), max_size=4)) for _ in range(n)]
    due = np.sort(draw(each(st.floats(0, 9))))
    closed = draw(st.booleans())
    return make_records(
        [-1.0] * n if closed else due,
        due,
        [list(at + np.cumsum(row)) for at, row in zip(due, steps, strict=True)],
        columns={
            "status": statuses,
            "output_tokens": draw(each(st.integers(-1, 4))),
            "url": draw(each(st.integers(0, 1))),
            "retries": draw(each(st.integers(0, 255))),
            **{name: draw(each(st.integers(-1, 5 * SECOND))) for name in (*SERVER_TIMES, "first_visible_ns")},
        },
        urls=["http://a", "http://b"],
        concurrency=2 if closed else None,
        request_rate=None if closed else draw(st.sampled_from([None, 1.5])),
        duration_s=draw(st.sampled_from([None, 0.0, 4.0, 10.0])),
        warmup_s=draw(st.sampled_from([0.0, 2.0])),
        streaming=draw(st.booleans()),
        cut_short=draw(st.sampled_from([None, "SIGTERM"])),
        settings={"machine_cost": 3.0},
    )


@settings(max_examples=150)
@given(points())
def test_no_number_is_nan_or_infinite_and_no_request_is_lost(records):
    result = results.point_result(records)
    assert all(math.isfinite(value) for value in numbers(msgspec.to_builtins(result)))
    load = result.load.counts
    assert load.planned == load.succeeded + load.failed + load.unfinished + load.not_sent == len(records)
    assert sum(result.errors_by_kind.values()) == load.planned - load.succeeded
    assert sum(one.planned for one in result.by_url) == result.window.requests
    for one in result.by_url:
        assert sum(one.errors_by_kind.values()) == one.planned - one.succeeded


@settings(max_examples=40)
@given(st.randoms())
def test_the_order_of_rows_changes_no_compatibility_key(random):
    records = uniform_records(40)
    order = list(range(40))
    random.shuffle(order)
    events = records.event_ns.reshape(40, 5)[order]
    shuffled = make_records(
        records["due_ns"][order] / SECOND,
        records["sent_ns"][order] / SECOND,
        list(events / SECOND),
        duration_s=4.0,
    )
    assert results.point_result(shuffled).metrics == results.point_result(records).metrics
