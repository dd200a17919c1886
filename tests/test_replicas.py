"""`latency-profile replicas`: what points are evidence of, the arithmetic, and the command as users run it."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from latency_profile import results
from latency_profile.cli import main
from latency_profile.errors import Exit
from latency_profile.records import Records, Status
from latency_profile.replicas.bracket import carried
from latency_profile.replicas.sizing import plan_cost, sizing
from latency_profile.replicas.structure import Basis, Evidence
from latency_profile.slo.structure import Outcome
from tests.make_records import SECOND, make_records
from tests.tool import schema

KEPT, BROKEN, UNRESOLVED = Outcome.KEPT, Outcome.BROKEN, Outcome.UNRESOLVED


def said(
    rate: float | None, outcome: Outcome | None, *, saturated: bool = False, offered: float | None = None
) -> Evidence:
    return Evidence(
        file=f"{rate}.json",
        load="",
        request_rate=rate,
        concurrency=None,
        offered_requests_per_s=rate if offered is None else offered,
        completed_requests_per_s=rate,
        verdict="VALID",
        remarks=[],
        outcome=outcome,
        saturated=saturated,
        basis=Basis.RESULTS,
        reason="",
    )


def test_the_highest_rate_that_is_kept_below_all_that_break() -> None:
    found = carried([said(20, BROKEN), said(5, KEPT), said(10, KEPT), said(15, UNRESOLVED), said(2, UNRESOLVED)], 1)
    assert found is not None
    assert (found.kept, found.kept_of, found.broken) == (10, 10, 20)
    assert (found.unresolved, found.skipped, found.not_monotone) == ([15], [2], [])


def test_a_curve_that_is_not_monotone_is_used_up_to_where_it_first_breaks() -> None:
    found = carried([said(5, KEPT), said(10, BROKEN), said(20, KEPT)], 1)
    assert found is not None
    assert (found.kept, found.broken, found.not_monotone) == (5, 10, [20])


def test_what_is_no_evidence() -> None:
    assert carried([said(5, None), said(None, KEPT)], 1) is None
    assert carried([said(5, UNRESOLVED)], 1) is None, "an estimate is not enough"
    assert carried([said(5, BROKEN), said(10, KEPT)], 1) is None
    found = carried([said(5, KEPT), said(10, None), said(20, KEPT, saturated=True)], 1)
    assert found is not None
    assert (found.kept, found.broken) == (5, 20), "no replica carries a load whose backlog grows"


def test_repeats_of_a_rate_have_to_agree() -> None:
    assert carried([said(5, KEPT), said(5, BROKEN)], 1) is None
    found = carried([said(5, KEPT), said(5, UNRESOLVED)], 1)
    assert found is not None and found.kept == 5 and found.broken is None


def test_only_what_was_offered_is_known_to_be_kept() -> None:
    found = carried([said(10, KEPT, offered=9.4), said(20, BROKEN, offered=21.0)], 2)
    assert found is not None
    assert (found.kept, found.kept_of, found.broken) == (4.7, 10, 10.5), "each of two that served together"
    more = carried([said(10, KEPT, offered=10.8)], 1)
    assert more is not None and more.kept == 10


def test_the_arithmetic() -> None:
    found = sizing(target=120, headroom=0.2, kept=9.6, broken=12)
    assert found.replicas == 15, "144 / 9.6 is 15, whatever floats make of it"
    assert found.at_least == 13, "12 replicas would get the 12 req/s that break"
    assert found.requests_per_s == 8 and found.utilization == pytest.approx(8 / 9.6)
    assert found.imbalance == pytest.approx(1.2)
    assert found.one_down is not None
    assert found.one_down.requests_per_s == pytest.approx(120 / 14) and found.one_down.outcome is KEPT
    assert found.with_one_spare == 14, "13 of them carry 9.23 each"


@pytest.mark.parametrize(
    ("kept", "broken", "outcome"), [(60, 100, BROKEN), (60, 130, UNRESOLVED), (60, None, UNRESOLVED)]
)
def test_what_remains_when_one_of_two_fails(kept: float, broken: float | None, outcome: Outcome) -> None:
    found = sizing(target=100, headroom=0.0, kept=kept, broken=broken)
    assert found.replicas == 2 and found.one_down is not None and found.one_down.outcome is outcome
    assert found.with_one_spare == 3
    assert found.at_least == (None if broken is None else 2 if broken == 100 else 1)


def test_one_replica_leaves_nothing_when_it_fails() -> None:
    found = sizing(target=1, headroom=0.0, kept=60, broken=None)
    assert (found.replicas, found.one_down, found.with_one_spare) == (1, None, 2)


def test_what_they_cost() -> None:
    found = plan_cost(sizing(100, 0.0, 50, None), 100, usd_per_hour=3.6, output_tokens_mean=200)
    assert (found.usd_per_hour, found.usd_per_month) == (7.2, 7.2 * 730)
    assert found.usd_per_million_output_tokens == pytest.approx(7.2 / 3600 / (100 * 200) * 1e6)
    assert plan_cost(sizing(100, 0.0, 50, None), 100, 3.6, None).usd_per_million_output_tokens is None


def point(rate: float, took_s: float, number: int, *slo: str, n: int = 600, **context: Any) -> Records:
    """Requests at equal distances whose E2E is about took_s; not streamed; four output tokens an answer."""
    due = np.arange(n) / rate
    spread = np.random.default_rng(number).uniform(0.9, 1.1, n)
    settings = {"file_prefix": "benchmark", "find_warmup": False, "machine_cost": 3.6, "slo": list(slo)}
    return make_records(
        due,
        end_s=due + took_s * spread,
        columns={"output_tokens": np.full(n, 4)} | context.pop("columns", {}),
        **{
            "streaming": False,
            "duration_s": n / rate,
            "request_rate": rate,
            "settings": settings,
            "started_ns": 1_767_323_045_000_000_123 + number * SECOND,
            "date": f"20260102-0304{number:02d}",
            "point": number,
        }
        | context,
    )


def written(folder: Path, *points: Records, with_records: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for records in points:
        for name, data in results.point_files(records).items():
            results.write(folder, name, data)
        if with_records:
            records.save(folder / results.records_name(records.context))
    return folder


@pytest.fixture(scope="module", name="profile")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Points of 5, 10 and 20 req/s that take 0.1, 0.2 and 0.4 s, whose run was given e2e:p90<0.3s."""
    loads = [(5.0, 0.1), (10.0, 0.2), (20.0, 0.4)]
    return written(
        tmp_path_factory.mktemp("replicas") / "profile",
        *(point(rate, took, number, "e2e:p90<0.3s") for number, (rate, took) in enumerate(loads)),
    )


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["replicas", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object, code: Exit = Exit.DONE) -> dict[str, Any]:
    exit_code, out, err = told(capsys, *arguments, "--json", "-")
    assert exit_code == code, err
    found: dict[str, Any] = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    jsonschema.validate(found, schema("replicas"))
    return found


def outcomes(found: dict[str, Any]) -> list[tuple[float, str | None, str | None]]:
    return [(each["request_rate"], each["outcome"], each["basis"]) for each in found["points"]]


def test_by_the_runs_own_objectives(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, profile, "--target-rate=60")
    assert found["objectives"] == ["e2e:p90<0.3s"] and found["headroom"] == 0.2
    assert outcomes(found) == [(5, "kept", "results"), (10, "kept", "results"), (20, "broken", "results")]
    assert (found["carried"]["kept"], found["carried"]["broken"]) == (10, 20)
    assert (found["sizing"]["replicas"], found["sizing"]["at_least"]) == (8, 4)
    cost = found["cost"]
    assert (cost["usd_per_hour"], cost["output_tokens_mean"]) == (pytest.approx(28.8), 4)
    assert cost["usd_per_million_output_tokens"] == pytest.approx(28.8 / 3600 / 240 * 1e6)
    assert any(each.startswith("Poisson arrivals that are split") for each in found["assumptions"])


def test_other_objectives_are_judged_from_the_records(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, profile, "--target-rate=60", "--slo=e2e:p90<0.15s, errors<2%", "--headroom=0")
    assert outcomes(found) == [(5, "kept", "records"), (10, "broken", "records"), (20, "broken", "records")]
    assert found["sizing"]["replicas"] == 12 and found["carried"]["broken"] == 10


def test_without_records_the_intervals_tell(profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in profile.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    found = as_json(capsys, tmp_path, "--target-rate=60", "--slo=e2e:p90<0.15s")
    assert outcomes(found) == [(5, "kept", "intervals"), (10, "broken", "intervals"), (20, "broken", "intervals")]
    errors = as_json(capsys, tmp_path, "--target-rate=60", "--slo=e2e:p90<9s,errors<2%", code=Exit.UNUSABLE)
    assert {each["outcome"] for each in errors["points"]} == {"unresolved"} and errors["sizing"] is None
    rare = as_json(capsys, tmp_path, "--target-rate=60", "--slo=e2e:p99.9<9s", code=Exit.UNUSABLE)
    assert "e2e:p99.9<9s is unresolved (no interval)" in rare["points"][0]["reason"]


def test_failures_that_no_percentile_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = np.where(np.arange(600) % 100 == 7, Status.HTTP_UNAVAILABLE, Status.OK)
    records = point(10, 0.1, 0, columns={"status": status})
    folder = written(tmp_path, records, with_records=False)
    found = as_json(capsys, folder, "--target-rate=60", "--slo=e2e:p50<1s", code=Exit.UNUSABLE)
    assert outcomes(found) == [(10, "unresolved", "intervals")]
    records.save(folder / results.records_name(records.context))
    assert outcomes(as_json(capsys, folder, "--target-rate=60", "--slo=e2e:p50<1s")) == [(10, "kept", "records")]


def test_points_that_must_not_be_used_are_no_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(
        tmp_path,
        point(5, 0.1, 0),
        point(10, 0.1, 1, cut_short="SIGTERM"),
        point(20, 0.1, 2, columns={"sent_ns": (np.arange(600) / 20 + 0.5) * SECOND}),
        point(1, 0.1, 3, request_rate=None, duration_s=None),
    )
    found = as_json(capsys, folder, "--target-rate=60", "--slo=e2e:p90<9s")
    by_rate = {each["request_rate"]: each for each in found["points"]}
    assert [by_rate[rate]["outcome"] for rate in (5, 10, 20, None)] == ["kept", None, None, None]
    assert by_rate[10]["reason"] == "cut short by SIGTERM" and by_rate[20]["verdict"] == "CLIENT_LIMITED"
    assert (found["carried"]["kept"], found["carried"]["broken"]) == (5, None)
    _, out, _ = told(capsys, folder, "--target-rate=60", "--slo=e2e:p90<9s")
    assert out.count("no evidence") == 3 and "no measured rate breaks them" in out


def test_points_of_another_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A verdict that is not known here bars a point; a law of arrivals is named as it is."""
    folder = written(tmp_path, point(5, 0.1, 0, "e2e:p90<1s"), point(10, 0.1, 1, "e2e:p90<1s"), with_records=False)
    for path in folder.glob("*qps*.json"):
        of = json.loads(path.read_text())
        of["load"]["arrival_process"] = "weibull"
        of["verdict"]["verdict"] = "NEW" if of["load"]["request_rate"] == 10 else "VALID"
        path.write_text(json.dumps(of))
    found = as_json(capsys, folder, "--target-rate=60")
    assert outcomes(found) == [(5, "kept", "results"), (10, None, None)] and found["points"][1]["reason"] == "NEW"
    assert any("law 'weibull'" in each for each in found["assumptions"])


def test_the_ends_of_what_is_taken_give_numbers(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Never null or 0 where the structure has a number: the schema says so."""
    as_json(capsys, profile, "--target-rate=1e-6", "--machine-cost=1e-6")
    as_json(capsys, profile, "--target-rate=1e12", "--headroom=1000", "--machine-cost=1e9")


def test_a_growing_backlog_is_an_upper_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    due = np.arange(600) / 20
    slow = point(20, 0.1, 1)
    slow.columns["end_ns"] = np.rint((due + 0.1 + due) * SECOND).astype(np.int64)
    slow.context.measured_ns = int(slow.columns["end_ns"].max())
    folder = written(tmp_path, point(5, 0.1, 0), slow)
    found = as_json(capsys, folder, "--target-rate=60", "--slo=e2e:p50<99s")
    assert found["points"][1]["saturated"] and found["carried"]["broken"] >= 20


def test_the_text(profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    code, out, _ = told(capsys, profile, "--target-rate=60", "--measured-replicas=2", f"--json={file}")
    assert code == Exit.DONE and out.splitlines()[-1] == str(file)
    jsonschema.validate(json.loads(file.read_text()), schema("replicas"))
    assert "One replica keeps all objectives at 5 req/s; not at 10 req/s." in out
    assert "15 replicas (at least 8, were the truth just below 10 req/s): each gets 4 req/s" in out
    assert "$27 an hour ($1.8 each), $19710 a month of 730 h" in out
    assert "one of the 2 that were measured together behind one URL" in out
    assert "split evenly" in out and "1.25 times an even share" in out
    assert re.search(r"^20 req/s +20 +broken +\w+ +e2e:p90<0.3s is broken", out, re.MULTILINE)


def test_without_a_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = point(5, 0.1, 0)
    del records.context.settings["machine_cost"]
    folder = written(tmp_path, records)
    _, out, _ = told(capsys, folder, "--target-rate=6", "--slo=e2e:p50<1s")
    assert "No cost" in out
    assert as_json(capsys, folder, "--target-rate=6", "--slo=e2e:p50<1s", "--machine-cost=2")["cost"] is not None


def test_arrivals_that_a_balancer_does_not_leave_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = point(5, 0.1, 0)
    records.context.settings["arrival"] = "constant"
    found = as_json(capsys, written(tmp_path, records), "--target-rate=6", "--slo=e2e:p50<1s")
    assert any(each.startswith("Arrivals were evenly spaced") for each in found["assumptions"])


def test_none_that_is_kept(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, profile, "--target-rate=60", "--slo=e2e:p50<1ms")
    assert code == Exit.UNUSABLE and "No number of replicas" in out and "Lower rates" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target-rate=0"], "--target-rate: got '0', takes a number from 1e-06"),
        (["--target-rate=inf"], "--target-rate: got 'inf'"),
        (["--target-rate=5e-324"], "--target-rate: got '5e-324', takes a number from 1e-06 to 1e+12"),
        (["--target-concurrency=1e308"], "--target-concurrency: got '1e308', takes a number from 1e-06"),
        (["--target-rate=9", "--headroom=1e308"], "--headroom: got '1e308', takes a number from 0 to 1000"),
        (["--target-rate=9", "--machine-cost=1e308"], "--machine-cost: got '1e308', takes a number from 1e-06"),
        (["--target-rate=9", "--headroom=-1"], "--headroom: got '-1', takes a number from 0 to 1000"),
        (["--target-rate=9", "--slo=fast"], "--slo: got 'fast', takes objectives such as"),
        (["--target-rate=9", "--slo=ttft:p50<1s"], "--slo: got ttft:p50<1s, which takes points of streamed answers"),
        (["--target-rate=9", "--measured-replicas=0"], "--measured-replicas: got '0'"),
        ([], "--target-rate: got nothing, takes one of --target-rate and --target-concurrency"),
        (
            ["--target-rate=9", "--target-concurrency=9"],
            "--target-rate: got it with --target-concurrency, takes one of",
        ),
        (["--target-concurrency=0"], "--target-concurrency: got '0', takes a number from 1e-06"),
        (["--target-concurrency=0.1"], "in flight are fewer than the lowest measured rate has (0.5"),
        (["--target-concurrency=9", "--headroom=2"], "one replica would be planned at 3.333 req/s, below all measured"),
    ],
)
def test_bad_input(arguments: list[str], says: str, profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, profile, *arguments)
    assert code == Exit.USAGE and says in err and len(err.splitlines()) == 1


def test_what_is_no_profile_of_one_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = written(tmp_path / "closed", point(5, 0.1, 0, request_rate=None, concurrency=4))
    code, _, err = told(capsys, closed, "--target-rate=9", "--slo=e2e:p50<1s")
    assert code == Exit.USAGE and "takes points of request rates" in err and "4 in flight" in err
    mixed = written(tmp_path / "mixed", point(5, 0.1, 0), point(10, 0.1, 1, models=["org/other"]))
    code, _, err = told(capsys, mixed, "--target-rate=9", "--slo=e2e:p50<1s")
    assert code == Exit.USAGE and "differ in models" in err
    own = written(tmp_path / "own", point(5, 0.1, 0, "e2e:p50<1s"), point(10, 0.1, 1))
    code, _, err = told(capsys, own, "--target-rate=9")
    assert code == Exit.USAGE and 'own objectives are none and "e2e:p50<1s"' in err
