"""benchmark_offline.py: what is run, and the figures made of it."""

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_profile.engines.exchange import Batch, Failed, Load, Ran, Ready, Refused, read
from latency_profile.offline import studies
from latency_profile.offline.finding import best, finding, knee
from latency_profile.offline.flags import read as read_flags
from latency_profile.offline.measure import NOT_COUNTED, CellRuns, turns_of
from latency_profile.offline.numbers import cell_result
from latency_profile.offline.pictures import figure, picture
from latency_profile.offline.structure import CellResult, Estimate, Study
from latency_profile.offline.text import summary, throughput_block
from latency_profile.page.pictures import svg
from latency_profile.workload import Lengths


def ran(cell: studies.Cell, took_s: float, outputs: list[int] | None = None, inputs: list[int] | None = None) -> Ran:
    n = len(cell)
    ends = np.linspace(took_s / 2, took_s, n).tolist()
    return Ran(took_s + 0.001, [0.1] * n, ends, inputs or list(cell.inputs), outputs or list(cell.outputs))


CELL = studies.batch_size([4], Lengths.fixed(128), Lengths.fixed(64), seed=0)[0]
FULL_S = [2.0, 2.2, 1.8, 2.1, 1.9]
PREFILL_S = [0.5, 0.6, 0.4]


def runs(cell: studies.Cell = CELL) -> CellRuns:
    prefill = [ran(cell, seconds, outputs=[1] * len(cell)) for seconds in PREFILL_S]
    return CellRuns(cell, [ran(cell, seconds) for seconds in FULL_S], prefill)


# What is run


def test_the_studies_are_those_of_the_notebook() -> None:
    flags = read_flags(["--study", "all"])
    assert flags.batch_sizes == (4, 8, 16, 32, 64, 128)
    assert flags.repeats(studies.BATCH_SIZE) == 20
    assert flags.load(studies.BATCH_SIZE, 192).max_num_batched_tokens == 2048
    assert flags.load(studies.REQUEST_COUNT, 192).max_num_batched_tokens == 4096
    long = studies.sequence_length(flags.sequence_lengths, flags.num_requests, 0)
    assert [(len(cell), cell.inputs[0], cell.outputs[-1]) for cell in long] == [
        (64, length, length) for length in (32, 64, 128, 256, 512)
    ]
    counts = studies.request_count(flags.request_counts, flags.inputs, flags.outputs, 0)
    assert [len(cell) for cell in counts] == [10, 50, 100, 200, 500]
    assert {(cell.inputs[0], cell.outputs[0], cell.longest) for cell in counts} == {(128, 64, 192)}


def test_shapes_are_the_grid_of_both_lengths() -> None:
    grid = studies.shapes([128, 512], [16, 64], 3, 0)
    assert [(cell.label, cell.inputs, cell.outputs[0]) for cell in grid] == [
        ("128 x 16", (128,) * 3, 16),
        ("128 x 64", (128,) * 3, 64),
        ("512 x 16", (512,) * 3, 16),
        ("512 x 64", (512,) * 3, 64),
    ]


@given(st.integers(min_value=64, max_value=200_000), st.integers(min_value=0, max_value=10))
def test_prompts_are_exactly_as_long_and_of_ordinary_tokens(vocabulary: int, seed: int) -> None:
    cell = studies.batch_size([5], Lengths(mean=20, stddev=8, high=1000), Lengths.fixed(1), seed)[0]
    prompts = studies.prompts_of(cell, vocabulary, [seed, 1])
    assert tuple(map(len, prompts)) == cell.inputs
    assert all(vocabulary // 8 <= token < vocabulary / 2 for prompt in prompts for token in prompt)


def test_the_same_key_gives_the_same_prompts_and_another_gives_others() -> None:
    once, again, other = (studies.prompts_of(CELL, 32_000, key) for key in ([0, 1], [0, 1], [0, 2]))
    assert once == again
    assert all(one != two for one, two in zip(once, other, strict=True))
    assert len({tuple(prompt) for prompt in once}) == 4


def test_lengths_are_drawn_where_a_deviation_is_given() -> None:
    flags = read_flags(["--input-len-stddev", "40", "--batch-sizes", "400"])
    (cell,) = studies.batch_size(flags.batch_sizes, flags.inputs, flags.outputs, 0)
    assert np.std(cell.inputs) == pytest.approx(40, rel=0.1)
    assert set(cell.outputs) == {64}


def test_runs_come_in_random_order_behind_one_of_each_that_is_not_counted() -> None:
    cells = studies.batch_size([1, 2, 4], Lengths.fixed(8), Lengths.fixed(4), 0)
    turns = turns_of(cells, [5, 5, 2], seed=1)
    first, counted = turns[:3], turns[3:]
    assert [(turn.cell, turn.repeat, turn.prefill) for turn in first] == [
        (cell, NOT_COUNTED, False) for cell in range(3)
    ]
    wanted = [
        (cell, repeat, alone) for cell, n in enumerate([5, 5, 2]) for repeat in range(n) for alone in (False, True)
    ]
    assert sorted(counted) == wanted != counted
    assert turns_of(cells, [5, 5, 2], seed=1) == turns != turns_of(cells, [5, 5, 2], seed=2)
    one_token = studies.batch_size([1], Lengths.fixed(8), Lengths.fixed(1), 0)
    assert not any(turn.prefill for turn in turns_of(one_token, [3], seed=1))  # it is its own prefill


# The exchange


@pytest.mark.parametrize(
    "message",
    [
        read_flags([]).load(studies.BATCH_SIZE, 192),
        Batch([[1, 2], [3]], [4, 5]),
        ran(CELL, 1.0),
        Refused("a reason"),
        Failed("another"),
    ],
)
def test_messages_come_back_as_they_were(message: Load | Batch | Ran | Refused | Failed) -> None:
    assert read(message.line(), Load, Batch, Ran, Refused, Failed) == message


@pytest.mark.parametrize(
    "line", ["{}", '{"kind": "ran"}', '{"kind": "refused", "reason": "", "more": 1}', '{"kind": 3}']
)
def test_what_is_no_message_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="unexpected message"):
        read(line, Ran, Refused, Ready)


# The figures


def test_figures_of_a_batch() -> None:
    found = cell_result(runs(), price_per_hour_usd=3.6)
    assert (found.runs, found.input_tokens, found.output_tokens, found.trouble) == (5, 512, 256, None)
    assert found.batch_generation_time_s is not None
    assert found.batch_generation_time_s.value == pytest.approx(2.0)
    # Student's t on five runs: 2.776 · 0.1581 / √5
    assert found.batch_generation_time_s.high == pytest.approx(2.0 + 0.1963, abs=2e-3)
    assert found.output_tokens_per_s is not None and found.output_tokens_per_s.value == pytest.approx(128)
    assert found.output_tokens_per_s.low == pytest.approx(256 / 2.1963, abs=0.2)
    assert found.total_tokens_per_s is not None and found.total_tokens_per_s.value == pytest.approx(384)
    assert found.requests_per_s is not None and found.requests_per_s.value == pytest.approx(2)
    assert found.batch_latency is not None
    assert (found.batch_latency.n, found.batch_latency.p50_s) == (5, 2.0)
    assert found.batch_latency.p95_high_s is None  # five runs do not bound a p95
    assert found.request_latency is not None and found.request_latency.n == 20
    assert found.request_latency.p50_s < 2.0  # each request's own end


def test_prefill_and_generation_are_told_apart_and_priced() -> None:
    found = cell_result(runs(), price_per_hour_usd=3.6)  # a thousandth of a dollar a second
    assert found.prefill is not None and found.prefill.seconds.value == pytest.approx(0.5)
    assert found.prefill.tokens_per_s.value == pytest.approx(1024)
    assert found.generation is not None and found.generation.seconds.value == pytest.approx(1.5)
    assert found.generation.tokens == 252  # all but the first of each
    assert found.usd_per_million_tokens is not None
    assert found.usd_per_million_tokens.input == pytest.approx(0.001 * 0.5 / 512 * 1e6)
    assert found.usd_per_million_tokens.output == pytest.approx(0.001 * 1.5 / 256 * 1e6)
    assert found.usd_per_million_tokens.total == pytest.approx(0.001 * 2.0 / 768 * 1e6)
    parts = found.usd_per_million_tokens.input * 512 + found.usd_per_million_tokens.output * 256
    assert parts == pytest.approx(found.usd_per_million_tokens.total * 768)  # the two may be added
    assert cell_result(runs(), None).usd_per_million_tokens is None


def test_one_output_token_is_all_prefill() -> None:
    cell = replace(CELL, outputs=(1,) * 4)
    found = cell_result(CellRuns(cell, [ran(cell, 0.5), ran(cell, 0.5)]), 1.0)
    assert found.generation is None
    assert found.prefill is not None and found.prefill.seconds.value == 0.5
    assert found.usd_per_million_tokens is not None and found.usd_per_million_tokens.output == 0
    assert found.usd_per_million_tokens.input == pytest.approx(1 / 3600 * 0.5 / 512 * 1e6)


def test_idle_time_is_paid_too() -> None:
    found = cell_result(runs(), 3.6, utilization=0.4)
    assert found.usd_per_million_tokens is not None and found.usd_per_million_tokens_with_idle is not None
    for kind in ("input", "output", "total"):
        used, idle = (
            getattr(of, kind) for of in (found.usd_per_million_tokens, found.usd_per_million_tokens_with_idle)
        )
        assert idle == pytest.approx(used / 0.4)
    assert cell_result(runs(), 3.6).usd_per_million_tokens_with_idle is None
    assert cell_result(runs(), None, utilization=0.4).usd_per_million_tokens_with_idle is None


def test_a_prefill_that_took_longer_than_the_full_run_prices_nothing_apart() -> None:
    measured = runs()
    measured.prefill = [ran(CELL, 2.5, outputs=[1] * 4) for _ in range(3)]
    found = cell_result(measured, 1.0)
    assert found.generation is None
    assert found.usd_per_million_tokens is not None
    assert (found.usd_per_million_tokens.input, found.usd_per_million_tokens.output) == (None, None)
    assert found.usd_per_million_tokens.total > 0


def test_a_total_price_needs_no_prefill() -> None:
    measured = runs()
    measured.prefill = []  # broken off before
    cost = cell_result(measured, 3.6).usd_per_million_tokens
    assert cost is not None and (cost.input, cost.output) == (None, None)
    assert cost.total == pytest.approx(0.001 * 2.0 / 768 * 1e6)


def test_requests_of_one_run_are_not_independent() -> None:
    """64 requests of a static batch end together: three runs tell as much as three values, not as 192."""
    cell = studies.batch_size([64], Lengths.fixed(8), Lengths.fixed(4), 0)[0]
    static = [
        Ran(seconds, [0.1] * 64, [seconds] * 64, list(cell.inputs), list(cell.outputs)) for seconds in (1.0, 2.0, 3.0)
    ]
    found = cell_result(CellRuns(cell, static), None).request_latency
    assert found is not None and found.n == 192
    assert (found.p50_s, found.p50_low_s, found.p50_high_s) == (2.0, None, None)
    assert (found.p95_s, found.p95_high_s) == (3.0, None)


def test_percentiles_of_requests_hold_the_truth_where_runs_differ() -> None:
    """Runs whose level varies: the interval of 40 runs holds the true median in 95 % of trials."""
    cell = studies.batch_size([16], Lengths.fixed(8), Lengths.fixed(4), 0)[0]
    random, held, trials = np.random.default_rng(0), 0, 200
    for _ in range(trials):
        levels = random.normal(10, 1, 40)
        made = [
            Ran(20, [0.1] * 16, (level + random.normal(0, 0.1, 16)).tolist(), list(cell.inputs), list(cell.outputs))
            for level in levels
        ]
        found = cell_result(CellRuns(cell, made), None).request_latency
        assert found is not None and found.p50_low_s is not None and found.p50_high_s is not None
        held += found.p50_low_s <= 10 <= found.p50_high_s
    assert held >= 0.92 * trials


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"outputs": [64, 64, 63, 64]}, "generated 63 tokens where 64 were asked for (request 2)"),
        ({"inputs": [128, 129, 128, 128]}, "took prompts of 129 tokens where 128 were asked for (request 1)"),
    ],
)
def test_another_number_of_tokens_gives_no_figures(wrong: dict[str, list[int]], said: str) -> None:
    measured = runs()
    measured.full.append(ran(CELL, 2.0, **wrong))
    found = cell_result(measured, 1.0)
    assert found.trouble is not None and said in found.trouble
    assert (found.runs, found.output_tokens_per_s, found.prefill, found.usd_per_million_tokens) == (0, None, None, None)


def test_a_prefill_of_another_length_counts_too() -> None:
    measured = runs()
    measured.prefill.append(ran(CELL, 0.5, outputs=[2, 1, 1, 1]))
    assert "generated 2 tokens where 1" in (cell_result(measured, None).trouble or "")


def test_without_runs_there_are_no_figures() -> None:
    found = cell_result(CellRuns(CELL, trouble="the engine was lost"), 1.0)
    assert (found.runs, found.batch_latency, found.requests_per_s, found.trouble) == (
        0,
        None,
        None,
        "the engine was lost",
    )


# Words and pictures


def cell_at(size: float, rate: float, spread: float = 0.01, trouble: str | None = None) -> CellResult:
    found = cell_result(runs(), None)
    assert found.output_tokens_per_s is not None
    estimate = Estimate(value=rate, low=rate * (1 - spread), high=rate * (1 + spread))
    kept = {name: getattr(found, name) for name in found.__struct_fields__}
    return CellResult(
        **{**kept, "label": f"{size:g}", "size": size, "output_tokens_per_s": estimate, "trouble": trouble}
    )


GROWING = [cell_at(1, 12), cell_at(2, 24), cell_at(4, 47), cell_at(8, 90), cell_at(16, 110), cell_at(32, 112)]


def test_the_knee_is_where_throughput_grows_slower_than_the_root_of_the_size() -> None:
    assert knee(studies.BATCH_SIZE, GROWING) == "8"
    assert knee(studies.BATCH_SIZE, GROWING[:4]) is None
    assert knee(studies.SEQUENCE_LENGTH, GROWING) is None
    assert knee(studies.BATCH_SIZE, [cell_at(1, 10), cell_at(4, 21)]) is None  # twice as much where √4 = 2 is asked


def test_the_knee_does_not_depend_on_the_order_of_the_sizes() -> None:
    assert knee(studies.BATCH_SIZE, GROWING[::-1]) == "8"


def test_noise_has_no_knee_and_a_dip_is_none() -> None:
    unsure = [cell_at(1, 192, 0.2), cell_at(2, 257, 0.4), cell_at(4, 434, 0.5)]
    assert knee(studies.BATCH_SIZE, unsure) is None
    assert "knee" not in " ".join(finding(studies.BATCH_SIZE, unsure))
    dipping = [cell_at(10, 214), cell_at(50, 1000), cell_at(100, 1900), cell_at(200, 1200), cell_at(500, 5000)]
    assert knee(studies.REQUEST_COUNT, dipping) is None  # it grows on behind the dip
    assert len(finding(studies.REQUEST_COUNT, dipping)) == 2  # the highest, and the fall


@pytest.mark.parametrize("rates", [[100, 100, 100], [100, 90, 70]])
def test_without_growth_the_knee_is_at_the_smallest_size_or_below(rates: list[float]) -> None:
    cells = [cell_at(size, rate) for size, rate in zip((4, 8, 16), rates, strict=True)]
    assert knee(studies.BATCH_SIZE, cells) == "4"
    (said,) = [line for line in finding(studies.BATCH_SIZE, cells) if "knee" in line]
    assert said.startswith("The knee is at batch size 4 or below it: from there to 8 throughput changes ")
    assert said.endswith(" would be the square root of the sizes' ratio; no larger size reaches its own.")


def test_two_runs_have_a_knee_by_their_values_and_say_so() -> None:
    cells = [with_rate(cell_at(size, 1), rate) for size, rate in ((1, 10.0), (2, 19.0), (4, 20.0))]
    assert knee(studies.BATCH_SIZE, cells) == "2"
    assert "1.05 times (too few runs for an interval)" in finding(studies.BATCH_SIZE, cells)[1]


def with_rate(cell: CellResult, rate: float) -> CellResult:
    return msgspec.structs.replace(cell, output_tokens_per_s=Estimate(value=rate, low=None, high=None))


def test_a_rival_without_an_interval_is_not_told_from_the_best() -> None:
    said = finding(studies.BATCH_SIZE, [cell_at(1, 10), with_rate(cell_at(2, 1), 19), cell_at(4, 40)])
    assert said[0].endswith("which is not told from 2.")


def test_shapes_have_a_best_and_no_knee_or_fall() -> None:
    cells = [msgspec.structs.replace(cell_at(1, rate), size=None, label=f"{rate} x 4") for rate in (50, 20, 80)]
    said = finding(studies.SHAPES, cells)
    assert said == ["Output throughput is highest at shape 80 x 4: 80.0 tokens/s (79.2 to 80.8)."]


def test_findings_say_what_the_intervals_carry() -> None:
    said = finding(studies.BATCH_SIZE, GROWING)
    assert said[0] == (
        "Output throughput is highest at batch size 32: 112.0 tokens/s (110.9 to 113.1), which is not told from 16."
    )
    assert "The knee is at batch size 8: from there to 16 throughput changes 1.22 times (1.20 to 1.25)" in said[1]
    assert len(said) == 2


def test_a_dip_is_said_only_where_it_is_one() -> None:
    dipping = [cell_at(100, 100), cell_at(200, 80), cell_at(500, 300)]
    assert any("falls from request count 100 to 200" in line for line in finding(studies.REQUEST_COUNT, dipping))
    unsure = [cell_at(100, 100, 0.2), cell_at(200, 80, 0.2), cell_at(500, 300)]
    assert not any("falls" in line for line in finding(studies.REQUEST_COUNT, unsure))


def test_a_cell_in_trouble_is_in_no_finding() -> None:
    cells = [cell_at(1, 10), cell_at(2, 19), cell_at(4, 1000, trouble="wrong lengths")]
    assert best(cells) == "2"
    assert best(cells[1:]) is None


def study(name: str, cells: list[CellResult]) -> Study:
    return Study(
        name=name,  # type: ignore[arg-type]
        max_num_batched_tokens=2048,
        cells=cells,
        best=best(cells),
        knee=knee(name, cells),
        finding=finding(name, cells),
    )


def test_the_summary_has_the_notebooks_form() -> None:
    assert summary([study(studies.BATCH_SIZE, GROWING)])[2] == (
        "| Batch Size | 1 to 32 | 12-112 tok/s | batch size 32 (~112 tok/s) |"
    )
    assert summary([study(studies.BATCH_SIZE, GROWING[:1])]) == []


def test_the_throughput_block_has_the_examples_form() -> None:
    cell = studies.dataset([[1] * 566] * 1000, [228] * 1000)
    found = cell_result(CellRuns(cell, [ran(cell, 54.27)]), None)
    assert throughput_block(found) == [
        "* ==========================================================",
        "* Total Time:                   54.27",
        "* Total Generations:            1000",
        "",
        "",
        "* Generations / Sec:            18.43",
        "* Generation Tok / Sec:         4201.22",
        "* Prompt Tok / Sec:             10429.33",
        "",
        "",
        "* Avg Generation Tokens:        228.00",
        "* Avg Prompt Tokens:            566.00",
        "* ==========================================================",
    ]


def test_a_picture_has_every_size_and_the_knee() -> None:
    pytest.importorskip("vl_convert")
    drawn = picture(study(studies.BATCH_SIZE, GROWING), "tiny, transformers")
    assert drawn is not None
    text = " ".join(ET.fromstring(drawn).itertext())
    for wanted in (
        "Throughput by batch size",
        "tiny, transformers",
        "knee: 8",
        "tokens/s",
        *("1", "2", "4", "8", "16", "32"),
    ):
        assert re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", text), wanted
    assert picture(study(studies.BATCH_SIZE, GROWING), "tiny, transformers") == drawn
    assert picture(study(studies.BATCH_SIZE, GROWING[:1]), "") is None


def test_a_picture_has_intervals_and_an_arrow_where_there_is_no_upper_end() -> None:
    found = figure(study(studies.BATCH_SIZE, GROWING), "tiny")
    assert found is not None
    rates, latencies = found.data["rates"], found.data["latencies"]
    assert (rates["label"][0], rates["series"][0], rates["value"][0]) == ("1", "output", 12)
    assert (rates["bottom"][0], rates["top"][0]) == (pytest.approx(11.88), pytest.approx(12.12))
    assert set(rates["open_above"]) == {False}
    of = GROWING[0].request_latency
    assert of is not None and of.p95_low_s is not None and of.p95_high_s is None
    assert (latencies["series"][1], latencies["bottom"][1]) == ("request p95", of.p95_low_s * 1e3)
    assert latencies["top"][1] == latencies["value"][1] == of.p95_s * 1e3 and latencies["open_above"][1] is True
    pytest.importorskip("vl_convert")
    arrows = [text for text in ET.fromstring(svg(found)).itertext() if text.strip() == "↑"]
    assert len(arrows) == sum(map(bool, latencies["open_above"]))


def test_settings_are_json() -> None:
    flags = read_flags(["--study", "dataset", "--dataset", "a.json"])
    assert json.loads(json.dumps(flags.plain()))["dataset"] == "a.json"
    assert not any(isinstance(value, float) and math.isnan(value) for value in flags.plain().values())
