"""`latency-profile replicas` of a capacity that was searched for, and of a target in requests in flight."""

import math
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latency_profile import results
from latency_profile.capacity.structure import Capacity, Ended, Of
from latency_profile.errors import Exit
from latency_profile.replicas.in_flight import Curve, Measured
from latency_profile.replicas.searched import of_objectives, search_of
from latency_profile.slo.grammar import parse
from tests.test_replicas import as_json, point, told

SLO = "e2e:p90<0.3s"


def capacity(low: float | None, high: float | None, ended: Ended = Ended.CONFIRMED, **changes: Any) -> Capacity:
    found = Capacity(
        estimate=None if low is None or high is None else math.sqrt(low * high),
        low=low,
        high=high,
        confidence=0.95,
        binding=SLO,
        highest_kept=10.0,
        lowest_broken=20.0,
        probes=3,
        requests=1800,
        seconds=210.0,
        ended=ended,
        reason="",
    )
    return msgspec.structs.replace(found, **changes)


def searched(folder: Path, found: Capacity | None, slo: str = SLO, first: int = 0) -> Path:
    """A profile of 5, 10 and 20 req/s, which take 0.1, 0.2 and 0.4 s; its search came to `found`."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for number, (rate, took_s) in enumerate([(5.0, 0.1), (10.0, 0.2), (20.0, 0.4)]):
        records = point(rate, took_s, first + number, slo)
        names = [results.write(folder, name, data).name for name, data in results.point_files(records).items()]
        outcomes.append(results.Outcome(records.context, results.point_result(records), names))
    results.write(folder, *results.profile_file(outcomes, found))
    return folder


def test_the_plan_rests_on_the_lower_end_of_the_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path / "a", capacity(14.0, 16.0))
    found = as_json(capsys, folder, "--target-rate=60")
    assert (found["searched"]["low"], found["searched"]["high"]) == (14, 16)
    assert (found["carried"]["kept"], found["carried"]["kept_of"], found["carried"]["broken"]) == (14, 14, 16)
    assert (found["sizing"]["replicas"], found["sizing"]["at_least"]) == (6, 5), "72 / 14, and 72 / 16"
    assert found["cost"]["output_tokens_mean"] == 4
    assert found["assumptions"][0].startswith("Capacity: 14.97 req/s (14 to 16, 95%)")
    _, out, _ = told(capsys, folder, "--target-rate=60", "--measured-replicas=2")
    assert "By the search for the capacity, one replica keeps all objectives at 7 req/s, the lower end of the " in out
    assert "it may carry 8 req/s at most, the upper end" in out
    assert "11 replicas (at least 10, were the truth just below 8 req/s)" in out
    assert f"{folder}" in found["searched"]["files"][0]


def test_objectives_are_the_same_however_they_are_spelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path / "a", capacity(14.0, 16.0))
    assert as_json(capsys, folder, "--target-rate=60", "--slo=e2e:p90<300ms")["carried"]["kept"] == 14
    for other in ("--slo=e2e:p90<310ms", "--slo=e2e:p90<300ms, errors<1%", "--slo=e2e:p95<300ms"):
        code = Exit.UNUSABLE if "errors" in other else Exit.DONE  # of which there is no interval without records
        found = as_json(capsys, folder, "--target-rate=60", other, code=code)
        assert found["searched"] is None
        if found["carried"]:
            assert found["carried"]["kept"] == 10
            assert any("was for other objectives" in each for each in found["assumptions"])


@pytest.mark.parametrize("ended", [Ended.SERVER_SUFFERS, Ended.CUT_SHORT])
def test_a_search_without_an_answer_leaves_it_to_the_points(
    ended: Ended, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capsys, searched(tmp_path, capacity(14.0, 16.0, ended)), "--target-rate=60")
    assert found["searched"] is None and found["carried"]["kept"] == 10
    assert any("gives no rate that is kept" in each for each in found["assumptions"])
    _, out, _ = told(capsys, tmp_path, "--target-rate=60", "--slo=e2e:p50<1ms")
    assert "No number of replicas" in out and "was for other objectives" in out
    none = as_json(capsys, searched(tmp_path / "none", None), "--target-rate=60")
    assert none["searched"] is None and none["carried"]["kept"] == 10
    assert not any("search" in each for each in none["assumptions"])


def test_a_search_that_no_rate_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path / "kept", capacity(None, None, Ended.MAX_RATE_KEPT, highest_kept=12.0))
    found = as_json(capsys, folder, "--target-rate=60")
    assert (found["carried"]["kept"], found["carried"]["broken"], found["sizing"]["at_least"]) == (12, None, None)
    assert "the highest rate that was tried" in told(capsys, folder, "--target-rate=60")[1]
    first = capacity(None, None, Ended.FIRST_RATE_BROKEN, highest_kept=None)
    assert as_json(capsys, searched(tmp_path / "first", first), "--target-rate=60")["searched"] is None


def test_of_several_searches_the_widest_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "both"
    searched(folder / "a", capacity(14.0, 16.0))
    searched(folder / "b", capacity(13.0, 15.0), first=5)
    found = as_json(capsys, folder, "--target-rate=60")
    assert (found["searched"]["low"], found["searched"]["high"], len(found["searched"]["files"])) == (13, 16, 2)
    assert "By 2 searches" in told(capsys, folder, "--target-rate=60")[1]


def test_a_point_that_breaks_them_below_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path, capacity(21.0, 22.0))
    assert as_json(capsys, folder, "--target-rate=60")["carried"]["broken_below"] == [20]
    assert (
        "Points at 20 req/s a replica break the objectives all the same" in told(capsys, folder, "--target-rate=6")[1]
    )


def test_what_is_no_search_for_a_rate(tmp_path: Path) -> None:
    [path] = searched(tmp_path, capacity(14.0, 16.0)).glob("*-profile-*.json")
    profile = msgspec.json.decode(path.read_bytes())
    assert search_of(path.read_bytes(), "a") is not None
    for changed in (
        {"capacity": profile["capacity"] | {"of": Of.CONCURRENCY.value}},
        {"capacity": profile["capacity"] | {"new": 1}},
        {"slo": None},
        {"slo": profile["slo"] | {"objectives": ["of another version"]}},
    ):
        assert search_of(msgspec.json.encode(profile | changed), "a") is None
    assert search_of(b"{", "a") is None
    assert of_objectives([], [parse(SLO)]) is None


def test_a_target_in_flight_is_a_rate_by_littles_law(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path, None)
    found = as_json(capsys, folder, "--target-concurrency=60")
    # At 10 / 1.2 = 8.33 req/s E2E is 0.1 + (8.33 - 5) / 5 * 0.1 s, so that 1.389 are in flight at a replica.
    assert found["sizing"]["replicas"] == 44
    each = found["sizing"]["requests_per_s"]
    assert each * (0.1 + (each - 5) / 5 * 0.1) == pytest.approx(60 / 44, rel=0.01)
    of = found["in_flight"]
    assert of["target"] == 60 and of["per_replica"] == pytest.approx(60 / 44)
    assert found["target_rate"] * of["e2e_mean_s"] == pytest.approx(60)
    assert each * 1.2 <= found["carried"]["kept"]
    _, out, _ = told(capsys, folder, "--target-concurrency=60")
    assert out.startswith("Replicas for 60 requests in flight, of 0.16") and "Little's law" in out


def test_a_target_in_flight_where_nothing_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path, None)
    found = as_json(capsys, folder, "--target-concurrency=60", "--slo=e2e:p50<1ms", code=Exit.UNUSABLE)
    assert found["target_rate"] is None and found["in_flight"]["per_replica"] is None and found["sizing"] is None
    code, out, _ = told(capsys, folder, "--target-concurrency=60", "--slo=e2e:p50<1ms")
    assert code == Exit.UNUSABLE and out.startswith("Replicas for 60 requests in flight, with a headroom of 0.2\n")


def test_in_flight_by_a_searched_capacity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its lower end lies between two measured rates, of which the upper one breaks the objectives: there E2E is none
    of a load that goes on."""
    folder = searched(tmp_path, capacity(11.0, 12.0))
    found = as_json(capsys, folder, "--target-concurrency=60")
    assert found["sizing"]["requests_per_s"] * 1.2 <= 11
    code, _, err = told(capsys, folder, "--target-concurrency=60", "--headroom=0")
    assert code == Exit.USAGE and "planned at 11 req/s, above all measured rates whose E2E may be used (5 to 10" in err


def test_no_fewer_replicas_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path, None)
    for target in (2, 3.7, 25, 1000):
        found = as_json(capsys, folder, f"--target-concurrency={target}")
        count = found["sizing"]["replicas"]
        most = (10 / 1.2) * (0.1 + (10 / 1.2 - 5) / 5 * 0.1)  # in flight at a replica
        assert count == pytest.approx(target / most, abs=1.02) and count >= target / most * 0.99


def queue(rate: float, service: float = 30.0) -> float:
    """Mean time in an M/M/1 queue, s."""
    return 1 / (service - rate)


def test_the_curve_and_its_inverse() -> None:
    curve = Curve.of(Measured(rate, queue(rate), 1000) for rate in (4, 8, 12, 16, 20, 24))
    for rate in (4, 5.5, 8, 13.7, 23.9, 24):
        assert curve.rate_at(rate * curve.e2e_at(rate)) == pytest.approx(rate, rel=1e-9)
    assert curve.e2e_at(8) == pytest.approx(queue(8))
    assert curve.e2e_at(6) == pytest.approx((queue(4) + queue(8)) / 2)
    assert curve.e2e_at(14) >= queue(14), "a chord of a curve that bends upward lies above it"


def test_the_curve_ends_where_it_was_measured() -> None:
    curve = Curve.of(Measured(rate, queue(rate), 1000) for rate in (4, 8))
    for rate in (3.9, 8.1):
        with pytest.raises(ValueError, match="nothing is extrapolated"):
            curve.e2e_at(rate)
    with pytest.raises(ValueError, match="fewer than the lowest measured rate has"):
        curve.rate_at(3.9 * queue(4))
    with pytest.raises(ValueError, match="more than the highest measured rate"):
        curve.rate_at(8.1 * queue(8))
    with pytest.raises(ValueError, match="no point that may be used"):
        Curve.of([])


def test_a_mean_that_falls_with_the_load_is_chance() -> None:
    draw = random.Random(3)
    points = [Measured(rate, queue(rate) * draw.gauss(1, 0.1), draw.randint(100, 900)) for rate in range(2, 20)]
    curve = Curve.of([*points, Measured(2, 0.5, 10)])
    assert list(curve.e2e_s) == sorted(curve.e2e_s) and curve.rates == tuple(range(2, 20))
    for rate in (2.0, 3.3, 11.0, 18.9):
        assert curve.rate_at(rate * curve.e2e_at(rate)) == pytest.approx(rate)
    flat = Curve.of([Measured(1, 0.5, 100), Measured(2, 0.3, 300)])
    assert flat.e2e_s == (0.35, 0.35) and flat.rate_at(0.5) == pytest.approx(0.5 / 0.35)
