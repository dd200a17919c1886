"""`--adaptive-rates`: which rate comes next, how near its curves are to the truth, and the whole way to the files."""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.adaptive_rates import SETTINGS, errors, off, truth
from benchmarks.truth import simulator
from latency_profile import records
from latency_profile.adaptive.chooser import APART, Measured, middle, next_rate
from latency_profile.adaptive.measured import measured
from latency_profile.adaptive.source import AdaptiveRates
from latency_profile.errors import Exit, UsageError
from latency_profile.points import plan_points, prompts_of
from latency_profile.results import point_result
from latency_profile.results.index import changes, new_index, read_index
from latency_profile.resume import Ledger
from latency_profile.settings import load
from latency_profile.storage import open_folder
from tests.make_records import uniform_records
from tests.test_resume import MARK, planned
from tests.tool import benchmark, point_files


def served(rate: float, latency_s: float = 0.1, capacity: float = math.inf, **more: Any) -> Measured:
    return Measured(rate, rate, min(rate, capacity), (latency_s, 2 * latency_s, min(rate, capacity)), **more)


def through(low: float, high: float, count: int, of: Callable[[float], Measured]) -> list[float]:
    """The rates in the order in which they are chosen."""
    points: list[Measured] = []
    while len(points) < count and (rate := next_rate(low, high, points)) is not None:
        points.append(of(rate))
    return [point.rate for point in points]


def test_the_ends_and_the_rate_between_them_come_first() -> None:
    assert through(1, 100, 3, served) == [1, 100, 10] == [1, 100, middle(1, 100)]


def test_the_knee_is_looked_for_where_a_flat_point_says_that_it_is() -> None:
    def of(rate: float) -> Measured:
        return served(rate, 0.1 if rate < 20 else 5.0, capacity=20)

    assert through(1, 100, 5, of) == [1, 100, 10, 18, 21]


def test_a_server_that_completes_less_the_more_it_is_asked_is_bracketed_all_the_same() -> None:
    def of(rate: float) -> Measured:
        return Measured(rate, rate, rate if rate < 20 else 400 / rate, (0.1, 0.1, 1.0))

    points = sorted(map(of, through(1, 100, 8, of)), key=lambda point: point.rate)
    [pair] = [pair for pair in itertools.pairwise(points) if pair[0].flat != pair[1].flat]
    assert pair[1].flat and pair[1].rate / pair[0].rate <= 1.5


def test_intervals_where_the_curve_bends_are_halved() -> None:
    """Latency is level up to 30 req/s and grows tenfold for each doubling from there on: a line, but for one place."""

    def of(rate: float) -> Measured:
        return served(rate, 0.1 * max(1.0, (rate / 30) ** 3.3))

    rates = sorted(through(1, 100, 10, of))
    assert sum(rate > 10 for rate in rates) >= 7
    below, above = max(rate for rate in rates if rate < 30), min(rate for rate in rates if rate >= 30)
    assert above / below < 1.2


def test_a_straight_curve_is_divided_evenly() -> None:
    rates = sorted(through(1, 256, 9, lambda rate: served(rate, 0.1 * rate)))
    assert rates == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256], rel=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_was_measured_rates_are_apart_and_the_same_in_any_order(seed: int) -> None:
    rng = random.Random(seed)
    low = 10 ** rng.uniform(-1, 1)
    high = low * rng.uniform(1.2, 30)
    points: list[Measured] = []
    while (rate := next_rate(low, high, points)) is not None:
        assert low <= rate <= high
        assert all(max(rate, other.rate) >= APART * min(rate, other.rate) for other in points)
        assert next_rate(low, high, rng.sample(points, len(points))) == rate
        figures = tuple(rng.choice([None, 10 ** rng.uniform(-3, 2)]) for _ in range(2))
        completed = rng.choice([None, rate * rng.random()])
        flags = {name: rng.random() < 0.1 for name in ("saturated", "failed")}
        points.append(Measured(rate, rate, completed, (*figures, completed), usable=rng.random() < 0.8, **flags))
        assert len(points) < 100
    assert points[0].rate == low


def test_a_server_is_not_asked_again_for_as_much_as_it_failed_at() -> None:
    def of(rate: float) -> Measured:
        return served(rate, failed=rate > 30, usable=rate <= 30)

    rates = through(1, 100, 20, of)
    assert len(rates) == 20 and [rate for rate in rates if rate > 30] == [100, 31.6], "31.6 lies between 10 and 100"
    assert max(rate for rate in rates if rate <= 30) > 20
    assert through(40, 100, 20, of) == [40], "it failed at the least that was to be asked"


def test_points_that_must_not_be_used_bend_no_curve() -> None:
    points = [served(rate) for rate in (1, 2, 4, 8, 16, 32)]
    bent = [*points, served(2.83, 99.0, usable=False)]
    assert next_rate(1, 32, points) == next_rate(1, 32, bent) == 22.6
    assert next_rate(1, 32, [*points, served(2.83, 99.0)]) == 1.41


def test_points_that_must_not_be_used_leave_other_rates() -> None:
    def of(rate: float) -> Measured:
        return served(rate, usable=rate in (1, 10, 100))

    assert len(through(1, 100, 20, of)) == 20


def test_what_is_taken_of_a_point() -> None:
    result = point_result(uniform_records(400))
    found = measured(result)
    ttft = result.latency.service.ttft
    assert ttft is not None
    assert found.figures == (ttft.p50.value_s, ttft.p99.value_s, result.load.completed_requests_per_s)
    assert found.rate == 10.0 and not found.flat and not found.failed
    whole = measured(point_result(uniform_records(400, streaming=False)))
    assert whole.figures[0] == point_result(uniform_records(400, streaming=False)).latency.service.e2e.p50.value_s


def test_chosen_points_are_nearer_to_the_truth_than_fixed_ones() -> None:
    """The whole tables are of `python -m benchmarks.adaptive_rates`."""
    setting = replace(SETTINGS[0], high=20)
    found = errors(setting, truth(setting, runs=1, grid=16), count=8, runs=1)
    placed = {way: float(of[0].sum()) for way, of in found.items()}
    assert placed["chosen"] < 0.8 * min(placed["in proportion"], placed["equal distances"]), placed
    assert not list(off({way: of[[0, 0]] for way, of in found.items()}))
    assert list(off({**found, "chosen": found["equal distances"]}))


def flags(*more: str, ends: str = "10,80", points: int = 4) -> list[str]:
    asked = ["--tokenizer=bundled", "--input-len=32", "--output-len=8", "--ignore-eos", "--stream-request"]
    return [*asked, f"--request-rates={ends}", f"--adaptive-rates={points}", "--benchmark-time-seconds=1.5", *more]


def test_the_points_that_are_known_from_the_start() -> None:
    settings = load(flags(ends="4,64", points=6), {})
    points = plan_points(settings)
    assert [point.rate for point in points] == [4, 64, 16]
    assert prompts_of(settings, points) == sum(point.prompts for point in points) + 3 * points[1].prompts
    said: list[str] = []
    source = AdaptiveRates(settings, 6, said.append)
    results = [point_result(uniform_records(200, request_rate=rate)) for rate in (4.0, 64.0, 16.0)]
    further = source.after(points, results, None)
    assert further is not None and further.number == 3
    assert further.first_prompt == points[2].first_prompt + points[2].prompts
    assert source.after([*points] * 2, results, None) is None and not said
    one = results[0]
    near = [
        msgspec.structs.replace(one, load=msgspec.structs.replace(one.load, request_rate=rate))
        for rate in np.geomspace(4, 64, 60).tolist()
    ]
    assert source.after(points, near, None) is None and "3 of 6 points: no rate is left" in said[0]


def test_a_point_without_a_request_is_none() -> None:
    """Its time is long enough for the ends as they were drawn, and not for every rate between."""
    settings = load(flags("--seed=3", ends="0.5,64", points=6), {})
    points, said = plan_points(settings), list[str]()
    results = [point_result(uniform_records(200, request_rate=rate)) for rate in (64.0, 5.66)]
    assert AdaptiveRates(settings, 6, said.append).after(points, results, None) is None
    assert said == ["3 of 6 points: none of 0.5 req/s, as no request would be due in its time"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--request-rates=4"], "--adaptive-rates: got 4, takes --request-rates LOW,HIGH beside it"),
        (["--request-rates=4,8,16"], "takes --request-rates LOW,HIGH"),
        (["--request-rates=8,4"], "takes --request-rates LOW,HIGH"),
        (["--request-rates=4,inf"], "takes --request-rates LOW,HIGH"),
        (["--request-rates=4,4.5"], "HIGH 1.2 times LOW or more"),
        (["--adaptive-rates=2"], "--adaptive-rates: got '2', takes a whole number, 3 or more"),
        (["--calibrate"], "--calibrate: got True, takes no --adaptive-rates beside it"),
        (["--save-json-results", "--compare-with=latest"], "--compare-with: got 'latest', takes no --adaptive-rates"),
        (
            ["--save-json-results", "--run-id=a", "--shards=2", "--shard-index=0"],
            "--shards: got 2, takes no --adaptive-rates beside it",
        ),
    ],
)
def test_what_does_not_go_together(more: Sequence[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        load([*flags(), *more], {})
    assert says in str(caught.value)


def test_an_index_takes_points_as_they_come(tmp_path: Path) -> None:
    points = [planned(number, 5, rate=rate) for number, rate in enumerate((4.0, 8.0, 6.0, 7.0, 5.0))]

    def index(known: int, adaptive: int | None) -> Any:
        return new_index("run", MARK, ["http://h"], points[:known], (), adaptive)

    assert changes(index(5, 8), index(3, 8)) == []
    assert changes(index(5, 8), index(3, 6)) == ["adaptive_rates: 8, 6"]
    store = open_folder(tmp_path)
    ledger = Ledger([store], "run", lambda _: None)
    ledger.begin(index(3, 8), resume=True)
    for point in points[3:]:
        ledger.planned(point)
    again = Ledger([store], "run", lambda _: None)
    again.begin(index(3, 8), resume=True)

    def loads() -> list[str]:
        data = store.get("run/index.json")
        assert data is not None
        return [point.plan.load for point in read_index(data).points]

    again.planned(points[3])
    assert loads() == ["4", "8", "6", "7", "5"], "the same again"
    again.planned(planned(3, 5, rate=7.5))
    assert loads() == ["4", "8", "6", "7.5"], "another way: what lay beyond holds no more"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with simulator("--engine", "h100-8b") as number:
        yield number


def test_a_whole_profile_and_the_same_again(port: int, tmp_path: Path) -> None:
    arguments = [*flags("--host=127.0.0.1", f"--port={port}"), "--save-json-results", "--run-id=night"]
    arguments.append(f"--output-dir={tmp_path}")
    done = benchmark(*arguments)
    assert done.returncode in (Exit.DONE, Exit.UNUSABLE), done.stderr
    path = tmp_path / "night" / "index.json"
    index = json.loads(path.read_text())
    loads = [float(point["plan"]["load"]) for point in index["points"]]
    assert loads[:3] == [10, 80, 28.3] and len(set(loads)) == 4
    assert len(point_files(tmp_path / "night")) == 5, "with the index"
    first = [point["plan"]["first_prompt"] for point in index["points"]]
    counts = [point["plan"]["prompts"] for point in index["points"]]
    assert first == [0, *itertools.accumulate(counts[:-1])]
    (profile,) = (tmp_path / "night").glob("*-profile-*.json")
    assert [point["request_rate"] for point in json.loads(profile.read_text())["points"]] == loads
    shown = [word for line in done.stdout.splitlines() for word in line.split()[:1] if _number(word) in loads]
    assert [_number(word) for word in shown[:4]] == sorted(loads)

    last = index["points"][3]
    last["state"] = "begun"  # as if the node had gone away
    path.write_text(json.dumps(index))
    again = benchmark(*arguments)
    assert again.stderr.count("not measured again") == 3, again.stderr
    after = json.loads(path.read_text())["points"][3]
    assert after["plan"] == last["plan"] and after["state"] == "done" and len(after["attempts"]) == 2
    context = records.load(tmp_path / "night" / after["records"]).context
    assert context.first_sent == context.first_prompt == last["plan"]["first_prompt"]


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
