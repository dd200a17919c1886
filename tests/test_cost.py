"""What tokens cost: each kind alone, divided by each method, with idle time; and what a point's work is."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_profile import results
from latency_profile.cost import Estimate, Split, Work, cost, phases, usd_per_million, work
from latency_profile.cost.regression import CONDITION_LIMIT, Fit, Refusal, non_negative, regress
from latency_profile.cost.split import splits
from latency_profile.errors import UsageError
from latency_profile.offline import flags
from latency_profile.rates import Rates
from latency_profile.records import NONE, Records, Status
from latency_profile.report.rows import table_row
from latency_profile.report.table_row import CostFigures
from latency_profile.settings import help_text, load
from latency_profile.telemetry.readings import Buckets
from tests.make_records import SECOND, make_records, uniform_records
from tests.test_server_view import told

AMOUNT = st.floats(0.01, 1e6)


def some_work(**changes: Any) -> Work:
    values: dict[str, Any] = {
        "busy_s": 100.0,
        "in_flight": 8.0,
        "prompts": 50,
        "prefill_tokens": 50_000.0,
        "decode_tokens": 10_000.0,
        "context_tokens": 1e7,
        "decode_steps": 1_000.0,
        "decode_step_s": 0.06,
        "decode_step_low_s": 0.05,
        "decode_step_high_s": 0.12,
        "server_prefill_s": 30.0,
        "server_decode_s": 270.0,
    }
    return Work(**(values | changes))


def dollars(split: Split) -> tuple[float, float]:
    """Of a million input and of a million output tokens."""
    assert split.usd_per_million_input_tokens and split.usd_per_million_output_tokens
    return split.usd_per_million_input_tokens.value, split.usd_per_million_output_tokens.value


def by_method(found: list[Split]) -> dict[str, Split]:
    return {split.method: split for split in found}


def test_each_kind_alone_and_with_idle_time() -> None:
    found = cost(3.6, Rates(1.0, 600.0, 400.0), True, some_work(), 0.4)
    assert found is not None and found.with_idle is not None
    assert found.usd_per_million_input_tokens == pytest.approx(0.001 / 600 * 1e6)
    assert found.usd_per_million_output_tokens == pytest.approx(0.001 / 400 * 1e6)
    assert found.usd_per_million_total_tokens == pytest.approx(1.0)
    assert found.with_idle.usd_per_million_total_tokens == pytest.approx(2.5)
    assert found.with_idle.utilization == 0.4
    for here, paid in zip(found.splits, found.with_idle.splits, strict=True):
        assert dollars(paid) == pytest.approx([figure / 0.4 for figure in dollars(here)])
        assert paid.prefill_share == here.prefill_share
    assert cost(None, Rates(1.0, 1.0, 1.0), True) is None
    assert usd_per_million(1.0, 0.0) is None


def test_a_barred_point_has_no_figures_and_no_split() -> None:
    found = cost(3.6, Rates(1.0, 600.0, 400.0), False, some_work(), 0.4)
    assert found is not None and found.with_idle is not None
    assert found.usd_per_million_total_tokens is None and found.with_idle.usd_per_million_total_tokens is None
    assert found.splits == found.with_idle.splits == []


def test_the_methods_of_one_point() -> None:
    found = by_method(splits(3.6, 600.0, 400.0, some_work()))
    shares = {method: split.prefill_share.value for method, split in found.items() if split.prefill_share}
    assert shares == pytest.approx({"measured": 0.1, "gaps": 0.4, "convention-1:4": 600 / 2200})
    assert found["gaps"].prefill_share == Estimate(value=pytest.approx(0.4), low=0.0, high=pytest.approx(0.5))
    of_input, of_output = dollars(found["convention-1:4"])
    assert of_output == pytest.approx(4 * of_input)
    # GKE's own formula: $/output token = $/s / (input tokens/s / 4 + output tokens/s)
    assert of_output == pytest.approx(0.001 / (600 / 4 + 400) * 1e6)
    assert "several requests were in flight" in (found["measured"].remark or "")
    assert by_method(splits(3.6, 600.0, 400.0, some_work(in_flight=1.0)))["measured"].remark is None


@given(AMOUNT, AMOUNT, AMOUNT, st.floats(0, 1))
def test_what_a_split_gives_adds_up_to_the_price(price: float, inputs: float, outputs: float, share: float) -> None:
    done = some_work(server_prefill_s=share, server_decode_s=1 - share, decode_step_s=0.1 * (1 - share))
    for split in splits(price, inputs, outputs, done):
        of_input, of_output = dollars(split)
        assert inputs * of_input + outputs * of_output == pytest.approx(price / 3600 * 1e6)


@pytest.mark.parametrize(
    ("changes", "method", "reason"),
    [
        ({"server_prefill_s": None}, "measured", "the server tells no prefill and decode time"),
        ({"server_prefill_s": 0.0, "server_decode_s": 0.0}, "measured", "are 0"),
        ({"decode_steps": None}, "gaps", "--stream-request"),
        ({"decode_step_s": 0.2}, "gaps", "would have taken 200 s of 100 s"),
    ],
)
def test_a_method_that_cannot_tell_says_why(changes: dict[str, Any], method: str, reason: str) -> None:
    found = by_method(splits(3.6, 600.0, 400.0, some_work(**changes)))[method]
    assert found.usd_per_million_input_tokens is None and found.prefill_share is None
    assert reason in (found.reason or "")


def test_without_tokens_of_a_kind_there_is_no_split() -> None:
    assert {split.reason for split in splits(3.6, 600.0, 0.0, some_work())} == {"no output tokens were received"}
    assert "no tokens" in (splits(3.6, 0.0, 0.0, None)[-1].reason or "")


def test_phases_of_an_offline_engine() -> None:
    found = phases(7.2, 25.0, 100.0, 10_000, 5_000)
    assert found.prefill_share == Estimate(value=0.25)
    assert dollars(found) == pytest.approx((0.002 * 25 / 10_000 * 1e6, 0.002 * 75 / 5_000 * 1e6))
    longer = phases(7.2, 101.0, 100.0, 10_000, 5_000)
    assert longer.usd_per_million_input_tokens is None and "prefill alone took 101 s" in (longer.reason or "")
    for price, prefill_s, total_s in ((0.0, 1.0, 2.0), (1.0, 0.0, 2.0), (1.0, 1.0, 0.0)):
        with pytest.raises(ValueError, match="above 0"):
            phases(price, prefill_s, total_s, 1, 1)


def two_answers(**changes: Any) -> Records:
    """Requests of 10 and 20 prompt tokens: three tokens a second apart, from 1 s and 2 s on; and an hour later a third,
    alone, that fails after 2 s, whose tokens nobody knows."""
    return make_records(
        [0.0, 0.5, 3600.0],
        token_times_s=[[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], []],
        end_s=[3.0, 4.5, 3602.0],
        columns={"input_tokens": [10, 20, 30], "status": [Status.OK, Status.OK, Status.RESET]} | changes,
        duration_s=None,
    )


def test_work_by_hand() -> None:
    found = work(two_answers(), None)
    assert found is not None
    assert found.busy_s == pytest.approx(4.5)
    assert found.in_flight == pytest.approx((3 + 4) / 4.5)
    assert (found.prompts, found.prefill_tokens, found.decode_tokens) == (2, 30, 4)
    assert found.context_tokens == (10 + 1) + (10 + 2) + (20 + 1) + (20 + 2)
    assert found.decode_steps == pytest.approx(1 + 1 + 1)  # alone, together, alone
    assert found.decode_step_s == found.decode_step_low_s == found.decode_step_high_s == pytest.approx(1.0)
    assert found.server_prefill_s is None and found.server_decode_s is None
    assert work(two_answers(server_input_tokens=[12, NONE, NONE]), 5) == msgspec.structs.replace(
        found, prefill_tokens=32 - 5, context_tokens=found.context_tokens + 4
    )


def test_a_request_that_hangs_or_is_cut_short_changes_no_split() -> None:
    """It is one of two hundred, and waits ten times as long as all of the point."""
    steady = uniform_records(200)
    hung = uniform_records(200)
    hung.columns["status"][100] = Status.STALLED
    hung.columns["end_ns"][100] += 200 * SECOND
    cut = uniform_records(200)
    cut.columns["status"][100], cut.columns["end_ns"][100] = Status.CANCELLED, NONE
    cut.context.measured_ns = 220 * SECOND
    [share, *others] = (
        by_method(splits(3.6, 600.0, 400.0, work(each, None)))["gaps"].prefill_share for each in (steady, hung, cut)
    )
    assert share is not None
    for other in others:
        assert other is not None and other.value == pytest.approx(share.value, abs=0.01)


def test_several_tokens_an_event_are_so_many_steps() -> None:
    found = work(make_records([0.0], token_times_s=[[1.0, 2.0, 3.0]], event_tokens=[[1, 4, 4]]), None)
    assert found is not None and found.decode_tokens == 8
    assert found.decode_steps == pytest.approx(8) and found.decode_step_s == pytest.approx(0.25)


def test_a_prompt_between_two_tokens_makes_no_steps() -> None:
    """The second one's long prefill holds up the first one's second token; then both are made together."""
    found = work(make_records([0.0, 1.5], token_times_s=[[1.0, 5.0, 6.0, 7.0], [5.0, 6.0, 7.0]]), None)
    assert found is not None and found.decode_steps == pytest.approx(3)


def test_work_of_answers_that_are_not_streamed() -> None:
    found = work(uniform_records(20, streaming=False), None)
    assert found is not None and found.decode_steps is None and found.decode_step_s is None


def test_work_that_cannot_be_known() -> None:
    assert work(make_records([]), None) is None
    assert work(two_answers(output_tokens=[3, NONE, 0]), None) is None
    beams = two_answers()
    beams.context.settings["best_of"] = 4
    assert work(beams, None) is None


def test_the_servers_phases_by_its_answers_else_by_its_histograms() -> None:
    answers = two_answers(server_prefill_ns=[SECOND, 2 * SECOND, NONE], server_decode_ns=[2 * SECOND, SECOND, NONE])
    found = work(answers, None)
    assert found is not None and (found.server_prefill_s, found.server_decode_s) == (3.0, 3.0)
    both = {
        name: Buckets(bounds=[1.0], counts=[2.0, 0.0], total=total)
        for name, total in (("prefill", 0.5), ("decode", 4.0))
    }
    counted = two_answers()
    counted.context.server_readings = [told(histograms=both, unlike="restarted"), told(histograms=both)]
    found = work(counted, None)
    assert found is not None and (found.server_prefill_s, found.server_decode_s) == (0.5, 4.0)
    counted.context.server_readings = [told(histograms=both, unlike="restarted")]
    found = work(counted, None)
    assert found is not None and found.server_prefill_s is None


def test_a_points_result_has_its_work_and_its_idle_time() -> None:
    settings = {"machine_cost": 7.2, "utilization": 0.5}
    text = json.loads(msgspec.json.encode(results.point_result(uniform_records(400, settings=settings))))
    assert text["cost"]["with_idle"]["utilization"] == 0.5
    total = text["cost"]["usd_per_million_total_tokens"]
    assert text["cost"]["with_idle"]["usd_per_million_total_tokens"] == pytest.approx(2 * total)
    assert [split["method"] for split in text["cost"]["splits"]] == ["measured", "gaps", "convention-1:4"]
    assert text["work"]["prompts"] == 400
    plain = json.loads(msgspec.json.encode(results.point_result(uniform_records(400, settings={"machine_cost": 7.2}))))
    assert plain["cost"]["with_idle"] is None


def test_the_profiles_table_has_each_kind_alone_idle_time_and_the_splits() -> None:
    columns = {"server_prefill_ns": [SECOND] * 400, "server_decode_ns": [3 * SECOND] * 400}
    records = uniform_records(400, columns=columns, settings={"machine_cost": 7.2, "utilization": 0.5})
    found = results.point_result(records)
    of = table_row("4", found).cost
    assert found.cost is not None and of.utilization == 0.5
    assert of.alone.input == found.cost.usd_per_million_input_tokens
    assert of.alone.output == found.cost.usd_per_million_output_tokens
    assert of.with_idle.total == pytest.approx(2 * found.cost.usd_per_million_total_tokens)
    whole = by_method(found.cost.splits)
    assert (of.measured, of.gaps, of.convention) == tuple(
        (*dollars(whole[method]), None) for method in ("measured", "gaps", "convention-1:4")
    )
    records.columns["sent_ns"] = records.columns["sent_ns"] + 50_000_000
    assert table_row("4", results.point_result(records)).cost == CostFigures(utilization=0.5), "barred"
    assert table_row("4", results.point_result(uniform_records(400))).cost == CostFigures()


def test_one_of_several_models_has_no_work_of_its_own() -> None:
    records = uniform_records(60, models=["a", "b"])
    records.columns["model"] = np.arange(60, dtype=np.uint16) % 2
    assert results.point_result(records).work is not None
    assert results.point_result(records, "a").work is None


def test_utilization_is_a_setting_beside_the_price() -> None:
    enough = ["--tokenizer=t", "--use-dummy-text"]
    assert load([*enough, "--machine-cost=2", "--utilization=40%"], {}).utilization == 0.4
    assert load([*enough, "--machine-cost=2", "--utilization=1"], {}).utilization == 1.0
    with pytest.raises(UsageError, match="takes effect only with --machine-cost"):
        load([*enough, "--utilization=0.4"], {})


def test_one_gpus_price_and_that_of_all_machines_are_told_as_one_thing(capsys: pytest.CaptureFixture[str]) -> None:
    assert flags.read(["--gpu-price=2.5", "--tensor-parallel-size=4"]).machine_cost_per_hour_usd == 10
    with pytest.raises(SystemExit):
        flags.read(["--help"])
    offline = " ".join(capsys.readouterr().out.split())
    assert "the machine cost is this times --tensor-parallel-size" in offline
    assert "--gpu-price of benchmark_offline.py" in " ".join(help_text().split())


# --- The regression ---------------------------------------------------------------------------------------------------

TRUE = (20e-6, 0.01, 0.5e-3, 40e-9)  # s for a prefill token, a prompt, a decode token, a context token


def priced(inputs: float, outputs: float, prompts: int = 100, noise: float = 0.0) -> Work:
    """The work of so many requests, and the time that it takes by TRUE."""
    amounts = prompts * inputs, prompts, prompts * (outputs - 1), prompts * ((outputs - 1) * inputs + outputs**2 / 2)
    busy = sum(price * amount for price, amount in zip(TRUE, amounts, strict=True))
    return some_work(
        busy_s=busy * (1 + noise),
        prompts=prompts,
        prefill_tokens=amounts[0],
        decode_tokens=amounts[2],
        context_tokens=amounts[3],
        decode_steps=amounts[2] / 8,
    )


def shapes(rng: np.random.Generator, count: int, noise: float = 0.0) -> list[Work]:
    lengths = np.exp(rng.uniform(np.log([64, 16]), np.log([2000, 400]), (count, 2)))
    return [priced(*pair, noise=noise * rng.standard_normal()) for pair in lengths.tolist()]


def fitted(points: list[Work]) -> Fit:
    found = regress(points)
    assert isinstance(found, Fit), found
    return found


def test_exact_times_give_back_the_prices() -> None:
    points = shapes(np.random.default_rng(3), 9)
    found = fitted(points)
    assert [each.value for each in found.coefficients] == pytest.approx(TRUE, rel=1e-6)
    assert found.decode == "decode_tokens" and 1 < found.condition_number < CONDITION_LIMIT
    for point in points:
        truth = (TRUE[0] * point.prefill_tokens + TRUE[1] * point.prompts) / point.busy_s
        assert found.prefill_share(point).value == pytest.approx(truth)
        assert found.prefill_s(point).value == pytest.approx(truth * point.busy_s)


def test_the_intervals_hold_the_truth_of_noisy_points() -> None:
    rng = np.random.default_rng(8)
    held = [0, 0]
    runs = 0
    while runs < 200:
        found = regress(shapes(rng, 9, noise=0.03))
        if isinstance(found, Refusal):
            continue
        runs += 1
        for k, which in enumerate((0, 2)):
            low, high = found.coefficients[which].low, found.coefficients[which].high
            assert low is not None and high is not None and 0 <= low <= high
            held[k] += low <= TRUE[which] <= high
    assert min(held) >= 0.93 * runs, held
    assert max(held) < runs, "an interval that always holds it says nothing"


def test_decode_is_counted_in_steps_where_batches_differ() -> None:
    points = [
        msgspec.structs.replace(point, decode_steps=point.decode_tokens / batch)
        for point, batch in zip(shapes(np.random.default_rng(3), 9), [4, 8, 16] * 3, strict=True)
    ]
    assert fitted(points).decode == "decode_steps"
    unseen = [msgspec.structs.replace(points[0], decode_steps=None), *points[1:]]
    assert fitted(unseen).decode == "decode_tokens"


def test_shapes_that_cannot_be_told_apart_are_refused() -> None:
    rng = np.random.default_rng(5)
    one = [priced(512, 128, prompts=100 + k, noise=0.01 * rng.standard_normal()) for k in range(12)]
    found = regress(one)
    assert isinstance(found, Refusal)
    assert found.condition_number is None or found.condition_number > CONDITION_LIMIT
    assert "add points whose prompts are longer" in found.reason
    answers = regress([priced(512, outputs) for outputs in (16, 32, 64, 128, 256, 512, 1024)])
    assert isinstance(answers, Refusal), "prompts of one length: their tokens and their number are one column"


@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_few_points_are_refused(count: int) -> None:
    found = regress(shapes(np.random.default_rng(3), count))
    assert isinstance(found, Refusal) and found.condition_number is None
    assert f"{count} point" in found.reason and "6 are needed" in found.reason


def test_points_without_decode_are_refused() -> None:
    points = [msgspec.structs.replace(point, decode_tokens=0.0) for point in shapes(np.random.default_rng(3), 9)]
    found = regress(points)
    assert isinstance(found, Refusal) and found.reason == "no point has any decode"


@given(st.integers(0, 10_000))
def test_the_non_negative_solution_is_the_best_of_all(seed: int) -> None:
    """Karush, Kuhn and Tucker: no step to another one that is not negative makes the error less."""
    rng = np.random.default_rng(seed)
    rows, wanted = rng.normal(size=(7, 4)), rng.normal(size=7)
    found = non_negative(rows, wanted)
    slope = rows.T @ (rows @ found - wanted)
    assert (found >= 0).all()
    assert (slope >= -1e-9).all()
    assert np.abs(slope * found).max() < 1e-9


def test_a_price_that_would_be_negative_is_0_and_no_interval_is_sure_of_it() -> None:
    """Points that want it below 0 do not follow the model: all that it says is as uncertain as it fits badly."""
    points = [
        msgspec.structs.replace(point, busy_s=point.busy_s - 1.1 * TRUE[3] * point.context_tokens)
        for point in shapes(np.random.default_rng(3), 20)
    ]
    found = fitted(points)
    context = found.coefficients[3]
    assert context.value == 0.0 == context.low
    assert context.high is not None and 0 < context.high < math.inf
    assert found.residual_sd > 0.001
    for estimate, truth in zip(found.coefficients[:3], TRUE, strict=False):
        assert estimate.low is not None and estimate.high is not None and estimate.low <= truth <= estimate.high
    for point in points:
        share = found.prefill_share(point)
        truth = (TRUE[0] * point.prefill_tokens + TRUE[1] * point.prompts) / point.busy_s
        assert share.low is not None and share.high is not None and share.low <= truth <= share.high <= 1
