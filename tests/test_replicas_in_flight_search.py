"""`latency-profile replicas` by points of a closed loop, with and without a search for the capacity."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.truth import simulator
from latency_profile import results
from latency_profile.capacity.structure import Capacity, Ended, Of
from latency_profile.errors import Exit
from latency_profile.records import Records
from latency_profile.replicas.bracket import carried
from latency_profile.replicas.sizing import sizing
from latency_profile.replicas.structure import Evidence
from latency_profile.slo.structure import Outcome
from tests.make_records import SECOND, make_records
from tests.test_replicas import BROKEN, KEPT, UNRESOLVED, as_json, point, said, told, written
from tests.test_replicas_searched import capacity
from tests.test_replicas_searched import searched as searched_rates
from tests.tool import benchmark

SLO = "e2e:p90<0.3s"
OF_RATES = ("Poisson", "req/s", "Little")


def users(concurrency: int, took_s: float, number: int, *slo: str, n: int = 600, **context: Any) -> Records:
    """A closed loop of so many users (a divisor of n), whose answers of four output tokens take about took_s."""
    took = took_s * np.random.default_rng(number).uniform(0.9, 1.1, (n // concurrency, concurrency))
    end = np.cumsum(took, axis=0)
    order = np.argsort((end - took).ravel(), kind="stable")
    return make_records(
        np.full(n, -1.0),
        (end - took).ravel()[order],
        end_s=end.ravel()[order],
        columns={"output_tokens": np.full(n, 4)},
        **{
            "streaming": False,
            "duration_s": n / concurrency * took_s,
            "request_rate": None,
            "concurrency": concurrency,
            "settings": {"file_prefix": "benchmark", "find_warmup": False, "machine_cost": 3.6, "slo": list(slo)},
            "started_ns": 1_767_323_045_000_000_123 + number * SECOND,
            "date": f"20260102-0304{number:02d}",
            "point": number,
        }
        | context,
    )


def of_users(low: float | None, high: float | None, ended: Ended = Ended.CONFIRMED, **changes: Any) -> Capacity:
    return capacity(low, high, ended, **{"of": Of.CONCURRENCY, **changes})


def searched(folder: Path, found: Capacity | None, slo: str = SLO, first: int = 0) -> Path:
    """A profile of 2, 4 and 8 users, whose answers take 0.1, 0.2 and 0.4 s; its search came to `found`."""
    outcomes = []
    for number, (concurrency, took_s) in enumerate([(2, 0.1), (4, 0.2), (8, 0.4)], first):
        records = users(concurrency, took_s, number, slo)
        written(folder, records, with_records=False)
        outcomes.append(results.Outcome(records.context, results.point_result(records), list(_names(records))))
    results.write(folder, *results.profile_file(outcomes, found))
    return folder


def _names(records: Records) -> list[str]:
    return list(results.point_files(records))


def waited(concurrency: int, outcome: Outcome | None) -> Evidence:
    return msgspec.structs.replace(
        said(None, outcome), concurrency=concurrency, offered_requests_per_s=None, completed_requests_per_s=20.0
    )


def test_the_highest_concurrency_that_is_kept_below_all_that_break() -> None:
    points = [waited(16, BROKEN), waited(4, KEPT), waited(8, KEPT), waited(12, UNRESOLVED), waited(2, UNRESOLVED)]
    found = carried(points, 2)
    assert found is not None
    assert (found.kept, found.kept_of, found.broken) == (4, 8, 8), "each of two that served together"
    assert (found.unresolved, found.skipped, found.not_monotone) == ([6], [1], [])
    assert carried([waited(1, BROKEN), waited(2, KEPT)], 1) is None


@pytest.mark.parametrize(
    ("kept", "broken", "measured", "replicas", "at_least"),
    [
        (4, 5, 1, 15, 15),  # 4 and no more: 60 / 4
        (4, 6, 1, 15, 12),  # 5 perhaps: 60 / 5, which is exact, and yet 5 are kept
        (4, None, 1, 15, None),
        (4, 4.5, 2, 15, 15),  # 8 at two, and not 9
        (4, 5, 2, 15, 14),  # 9 at two perhaps: 60 / 4.5
    ],
)
def test_users_come_whole(
    kept: float, broken: float | None, measured: int, replicas: int, at_least: int | None
) -> None:
    found = sizing(50, 0.2, kept, broken, Of.CONCURRENCY, 1 / measured)
    assert (found.replicas, found.at_least) == (replicas, at_least)
    assert found.per_replica == pytest.approx(50 / 15) and found.requests_per_s is None
    assert found.one_down is not None
    assert found.one_down.per_replica == pytest.approx(50 / 14) and found.one_down.requests_per_s is None


def test_the_plan_rests_on_the_lower_end_of_the_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path, of_users(5, 6))
    found = as_json(capsys, folder, "--target-concurrency=50")
    assert found["of"] == "concurrency" and found["target_rate"] is None
    assert (found["searched"]["low"], found["searched"]["high"]) == (5, 6)
    assert (found["carried"]["kept"], found["carried"]["kept_of"], found["carried"]["broken"]) == (5, 5, 7)
    sized = found["sizing"]
    assert (sized["replicas"], sized["at_least"], sized["with_one_spare"]) == (12, 10, 11), "60 / 5, 60 / 6, 50 / 5 + 1"
    assert sized["per_replica"] == pytest.approx(50 / 12) and sized["requests_per_s"] is None
    assert sized["one_down"]["requests_per_s"] is None and sized["one_down"]["outcome"] == "kept"
    of = found["in_flight"]
    assert (of["target"], of["e2e_mean_s"], of["limit"]) == (50, None, 5)
    assert of["per_replica"] == pytest.approx(50 / 12) and of["scale_at"] == pytest.approx(5 / 1.2)
    assert math.ceil(50 / of["scale_at"] - 1e-9) == sized["replicas"], "what an autoscaler makes of it"


def test_the_text_is_of_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path, of_users(10, 12))
    _, out, _ = told(capsys, folder, "--target-concurrency=50", "--measured-replicas=2")
    assert out.startswith("Replicas for 50 requests in flight, with a headroom of 0.2 for 60\n")
    assert "By the search for the capacity, one replica keeps all objectives at 5 in flight, the lower end of" in out
    assert "it may carry 6 in flight at most, the upper end" in out
    assert "12 replicas (at least 10, were the truth just below 6.5 in flight): each has 4.167 in flight" in out
    assert "When one fails, each other has 4.545 in flight: the objectives are kept." in out
    assert "may aim at 4.167 a replica" in out and "A gateway's limit may be 5 in flight a replica" in out
    assert "its users wait at the others" in out and "ask again at once" in out and "splits users unevenly" in out
    assert not any(word in out for word in OF_RATES)
    assert "Points at 4 in flight a replica break the objectives all the same, by intervals" in out, "8 at two"
    exact = searched(tmp_path / "exact", of_users(4, 4), first=5)
    _, out, _ = told(capsys, exact, "--target-concurrency=1")
    assert "keeps all objectives at 4 in flight, and not at 5 in flight: both ends of the 95% interval." in out
    assert "When it fails, nothing remains." in out and "its users wait at the others" not in out


def test_a_limit_is_a_whole_number_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path, of_users(5, 6))
    for measured, limit in ((2, 2), (4, 1), (8, None)):
        found = as_json(capsys, folder, "--target-concurrency=50", f"--measured-replicas={measured}")
        assert found["in_flight"]["limit"] == limit and found["carried"]["kept"] == 5 / measured
    assert "A gateway's limit" not in told(capsys, folder, "--target-concurrency=50", "--measured-replicas=8")[1]


def test_without_a_search_the_points_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path, None)
    found = as_json(capsys, folder, "--target-concurrency=50")
    assert found["searched"] is None
    assert [(each["concurrency"], each["outcome"]) for each in found["points"]] == [
        (2, "kept"),
        (4, "kept"),
        (8, "broken"),
    ]
    assert all(each["request_rate"] is None and each["offered_requests_per_s"] is None for each in found["points"])
    assert (found["carried"]["kept"], found["carried"]["broken"]) == (4, 8)
    assert (found["sizing"]["replicas"], found["sizing"]["at_least"]) == (15, 9), "60 / 4, and 60 / 7"
    _, out, _ = told(capsys, folder, "--target-concurrency=50")
    assert "One replica keeps all objectives at 4 in flight; not at 8 in flight." in out
    assert not any(word in out for word in OF_RATES)
    kept = as_json(capsys, folder, "--target-concurrency=50", "--slo=e2e:p90<9s")
    assert (kept["carried"]["kept"], kept["carried"]["broken"]) == (8, None)


@pytest.mark.parametrize("ended", [Ended.SERVER_SUFFERS, Ended.CUT_SHORT])
def test_a_search_without_an_answer_leaves_it_to_the_points(
    ended: Ended, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capsys, searched(tmp_path, of_users(5, 6, ended)), "--target-concurrency=50")
    assert found["searched"] is None and found["carried"]["kept"] == 4
    assert any("gives no concurrency that is kept" in each for each in found["assumptions"])
    _, out, _ = told(capsys, tmp_path, "--target-concurrency=50", "--slo=e2e:p50<9s")
    assert "was for other objectives" in out


def test_a_search_that_no_concurrency_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path, of_users(None, None, Ended.MAX_CONCURRENCY_KEPT, highest_kept=12.0))
    found = as_json(capsys, folder, "--target-concurrency=50")
    assert (found["carried"]["kept"], found["carried"]["broken"], found["sizing"]["at_least"]) == (12, None, None)
    assert "the highest concurrency that was tried" in told(capsys, folder, "--target-concurrency=50")[1]
    first = of_users(None, None, Ended.FIRST_CONCURRENCY_BROKEN, highest_kept=None, lowest_broken=1.0)
    assert as_json(capsys, searched(tmp_path / "first", first), "--target-concurrency=50")["searched"] is None


def test_tokens_cost_what_was_measured_at_about_that_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four users whose answers take 0.2 s get 20 a second, of four tokens each."""
    folder = searched(tmp_path, None)
    found = as_json(capsys, folder, "--target-concurrency=40", "--headroom=0")
    cost = found["cost"]
    assert found["sizing"]["replicas"] == 10 and cost["usd_per_hour"] == pytest.approx(36)
    assert cost["requests_per_s"] == pytest.approx(200, rel=0.05) and cost["output_tokens_mean"] == 4
    assert cost["usd_per_million_output_tokens"] == pytest.approx(36 / 3600 / (cost["requests_per_s"] * 4) * 1e6)
    [four] = [each for each in found["points"] if each["concurrency"] == 4]
    assert cost["requests_per_s"] == pytest.approx(10 * four["completed_requests_per_s"]) and cost["reason"] == ""
    halved = as_json(capsys, folder, "--target-concurrency=40", "--headroom=0", "--measured-replicas=2")["cost"]
    assert halved["requests_per_s"] == pytest.approx(cost["requests_per_s"]), "twice as many, of half as much each"
    assert "as measured at about the target $" in told(capsys, folder, "--target-concurrency=40", "--headroom=0")[1]
    between = as_json(capsys, folder, "--target-concurrency=50")["cost"]
    assert between["usd_per_million_output_tokens"] is None and between["requests_per_s"] is None
    assert "measured at about 3.333 in flight a replica" in between["reason"]
    _, out, _ = told(capsys, folder, "--target-concurrency=50")
    assert "$54 an hour ($3.6 each)" in out and "per output token unknown, as no point that keeps" in out


def test_no_price_of_tokens_from_a_point_that_breaks_the_objectives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (slo, users_each) in enumerate([(SLO, 8), ("e2e:p90<0.05s", 4)]):  # one is broken, all are
        folder = searched(tmp_path / str(number), of_users(users_each, users_each), slo)
        cost = as_json(capsys, folder, f"--target-concurrency={users_each}", "--headroom=0")["cost"]
        assert cost["usd_per_million_output_tokens"] is None
        assert f"{users_each} in flight a replica" in cost["reason"]


def test_none_that_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path, None)
    found = as_json(capsys, folder, "--target-concurrency=50", "--slo=e2e:p50<1ms", code=Exit.UNUSABLE)
    assert found["sizing"] is None and found["carried"] is None
    assert found["in_flight"] == dict.fromkeys(found["in_flight"]) | {"target": 50}
    _, out, _ = told(capsys, folder, "--target-concurrency=50", "--slo=e2e:p50<1ms")
    assert "no measured concurrency is known" in out and "Fewer may keep them" in out
    one = written(tmp_path / "one", users(1, 0.1, 9), with_records=False)
    _, out, _ = told(capsys, one, "--target-concurrency=50", "--slo=e2e:p50<1ms")
    assert "A single request in flight breaks them already" in out and "Fewer" not in out


def test_a_rate_takes_points_at_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = searched(tmp_path / "users", of_users(5, 6))
    code, _, err = told(capsys, folder, "--target-rate=9")
    assert code == Exit.USAGE and len(err.splitlines()) == 1
    assert "--target-rate: got 9, takes points of request rates" in err and "2 in flight, 4 in flight" in err
    bursts = written(tmp_path / "bursts", point(1, 0.1, 3, request_rate=None, duration_s=None))
    code, _, err = told(capsys, bursts, "--target-concurrency=9", "--slo=e2e:p50<1s")
    assert code == Exit.USAGE and "a burst has no steady load" in err
    written(folder, point(1, 0.1, 9, request_rate=None, duration_s=None))
    found = as_json(capsys, folder, "--target-concurrency=9", f"--slo={SLO}")
    [burst] = [each for each in found["points"] if each["concurrency"] is None]
    assert burst["reason"] == "a burst has no fixed number in flight" and found["carried"]["kept"] == 5


def test_rates_and_users_are_never_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    searched(tmp_path, of_users(5, 6))
    written(tmp_path, *(point(rate, took, 10 + k, SLO) for k, (rate, took) in enumerate([(5, 0.1), (10, 0.2)])))
    for target in ("--target-rate=60", "--target-concurrency=6"):
        found = as_json(capsys, tmp_path, target)
        assert found["of"] == "request rate" and found["searched"] is None and found["carried"]["kept"] == 10
        reasons = {each["reason"] for each in found["points"] if each["concurrency"]}
        assert reasons == {"a closed loop has no rate"}
        of_users_alone = any("Given alone, they take" in each for each in found["assumptions"])
        assert of_users_alone is (target == "--target-concurrency=6")


def test_a_search_for_a_rate_rests_on_no_closed_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where none of its own points keeps the objectives."""
    slo = "e2e:p90<0.05s"
    searched_rates(tmp_path, capacity(14.0, 16.0), slo)
    written(tmp_path, users(15, 0.01, 9, slo))
    found = as_json(capsys, tmp_path, "--target-rate=60")
    assert found["carried"]["kept"] == 14 and any(each.startswith("Poisson") for each in found["assumptions"])


def test_of_a_queue_whose_capacity_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One place, 10 ms for each: four users keep a mean of 60 ms, eight do not. It serves 100 a second to either."""
    asked = ["--tokenizer=bundled", "--input-len=16", "--output-len=4", "--ignore-eos", "--stream-request"]
    asked += ["--find-capacity", "--slo=e2e:mean<60ms", "--concurrencies=4,8", "--capacity-precision=80%"]
    with simulator("--slot=10") as port:
        where = [f"--port={port}", "--host=127.0.0.1", "--save-json-results", f"--output-dir={tmp_path}"]
        done = benchmark(*asked, *where, "--machine-cost=3.6", timeout=300)
    if "CLIENT_LIMITED 3 times" in done.stdout:
        pytest.skip("this machine is too busy to send a hundred requests a second in time")
    assert done.returncode == Exit.DONE, done.stdout
    found = as_json(capsys, tmp_path, "--target-concurrency=40", "--headroom=0")
    assert (found["of"], found["searched"]["low"], found["searched"]["high"]) == ("concurrency", 4, 7)
    assert (found["sizing"]["replicas"], found["sizing"]["at_least"], found["in_flight"]["limit"]) == (10, 6, 4)
    assert found["cost"]["requests_per_s"] == pytest.approx(1000, rel=0.3) and found["cost"]["output_tokens_mean"] == 4
    code, _, err = told(capsys, tmp_path, "--target-rate=9")
    assert code == Exit.USAGE and "closed loop" in err
