"""`latency-profile cost`, as users run it, on points of the simulator's engine in virtual time; and its benchmark."""

import json
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from benchmarks import cost_split
from benchmarks.cost_split import LAWS, SHAPES, Shape, coverage, errors, refusals, run
from latency_profile import results
from latency_profile.cli import main
from latency_profile.cost import work
from latency_profile.errors import Exit
from latency_profile.records import Records
from latency_profile.simulator.profiles import CPU_135M, H100_8B
from latency_profile.statistics import NS_PER_S
from tests.make_records import SECOND, uniform_records
from tests.tool import schema


def points(lengths: Sequence[tuple[int, int]] = SHAPES, **settings: Any) -> list[Records]:
    """A point for each shape, of 24 requests, 8 at a time; an hour apart."""
    found = [run(CPU_135M, Shape(*each, 8), seed)[0] for seed, each in enumerate(lengths)]
    for hour, (records, (inputs, outputs)) in enumerate(zip(found, lengths, strict=True)):
        records.context.settings |= settings | {"input_len": inputs, "output_len": outputs}
        records.context.date = f"20260102-{hour:02d}0405"
        records.context.started_ns += hour * SECOND
    return found


def written(folder: Path, found: Sequence[Records]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [results.write(folder, *file) for records in found for file in results.point_files(records).items()]


@pytest.fixture(scope="module", name="profile")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight points of different shapes, at $4 an hour."""
    folder = tmp_path_factory.mktemp("cost") / "profile"
    written(folder, points(machine_cost=4.0))
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["cost", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def as_json(capsys: pytest.CaptureFixture[str], path: Path, *arguments: object) -> dict[str, Any]:
    code, out, err = told(capsys, *arguments, "-o", path)
    assert code == Exit.DONE, err
    assert out.splitlines()[-1] == str(path)
    found: dict[str, Any] = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    jsonschema.validate(found, schema("cost"))
    return found


def test_every_method_side_by_side(profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, tmp_path / "cost.json", profile, "--utilization=0.4")
    assert len(found["points"]) == len(SHAPES) == len(found["regression"]["points"])
    assert found["regression"]["refused"] is None and found["regression"]["decode"] == "decode_tokens"
    for row in found["points"]:
        methods = {split["method"]: split for split in row["cost"]["splits"]}
        assert list(methods) == ["measured", "gaps", "regression", "convention-1:4"]
        assert all(split["reason"] is None for split in methods.values())
        of = methods["regression"]["usd_per_million_input_tokens"]
        assert of["low"] <= of["value"] <= of["high"]
        idle = row["cost"]["with_idle"]
        assert idle["usd_per_million_total_tokens"] == pytest.approx(2.5 * row["cost"]["usd_per_million_total_tokens"])
        paid = idle["splits"][2]["usd_per_million_input_tokens"]
        assert paid == pytest.approx({name: 2.5 * value for name, value in of.items()})
    lone = [{"file": row["file"], "reached": False} for row in found["points"]]
    assert found["at_capacity"] == lone, "each is all that there is of its workload"
    # Requests of a batch share their seconds: measured is far off, and the regression's interval says so.
    texts = [each["text"] for each in found["disagreements"]]
    assert any("by measured" in text and "by regression" in text for text in texts)
    [prefill, prompts] = (found["regression"][f"prefill_s_per_million_{what}"] for what in ("tokens", "prompts"))
    assert prefill["low"] <= CPU_135M.prefill_token_ns / 1000 <= prefill["high"]
    assert prompts["low"] == 0.0


def test_the_table(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, profile, "--machine-cost=2")
    assert code == Exit.DONE
    assert out.startswith("USD per million tokens, of machines at $2 an hour\n")
    assert "8 in flight" in out and "convention-1:4" in out and "? most tokens/s" in out and "* at capacity" not in out
    assert "their seconds overlap" in out and "methods differ by more than their intervals at 8 in flight" in out
    assert "with idle time" not in out
    assert all(len(line) <= 120 for line in out.splitlines() if line[:1] != "m"), out
    assert out.count("their seconds overlap") == 1


def test_records_and_results_tell_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [records] = points([(300, 40)], machine_cost=4.0)
    [file] = written(tmp_path, [records])
    path = tmp_path / results.records_name(records.context)
    records.save(path)
    of_file = as_json(capsys, tmp_path / "a.json", file)
    of_records = as_json(capsys, tmp_path / "b.json", path)
    assert of_file["points"][0] | {"file": ""} == of_records["points"][0] | {"file": ""}
    assert len(as_json(capsys, tmp_path / "c.json", tmp_path)["points"]) == 1, "records beside their results are one"
    file.unlink()
    assert [row["file"] for row in as_json(capsys, tmp_path / "d.json", tmp_path)["points"]] == [str(path)]


def test_dear_tokens_have_no_exponent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = told(capsys, *written(tmp_path, points([(300, 40)])), "--machine-cost=123000")
    assert "e+" not in out and re.search(r"\$\d{5,}", out)


def test_one_shape_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, points([(300, 40)] * 7, machine_cost=4.0))
    found = as_json(capsys, tmp_path / "cost.json", tmp_path)
    assert "add points whose prompts are longer" in found["regression"]["refused"]
    assert found["regression"]["condition_number"] > 30
    assert found["regression"]["prefill_s_per_million_tokens"] is None
    of = next(split for split in found["points"][0]["cost"]["splits"] if split["method"] == "regression")
    assert of["usd_per_million_input_tokens"] is None and of["reason"] == found["regression"]["refused"]
    _, out, _ = told(capsys, tmp_path)
    assert out.count("add points whose prompts are longer") == 1


def test_several_models_are_one_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = uniform_records(400, models=["a", "b"], settings={"machine_cost": 2.0})
    records.columns["model"][::2] = 1
    files = written(tmp_path, [records])
    assert len(files) == 3
    found = as_json(capsys, tmp_path / "cost.json", tmp_path)
    assert [Path(row["file"]).name for row in found["points"]] == [files[0].name] and "weighted" in files[0].name
    alone = as_json(capsys, tmp_path / "alone.json", files[1])
    assert alone["points"][0]["work"] is None
    assert "one model of several" in alone["regression"]["left_out"][0]["reason"]


def test_capacity_is_of_one_workload_at_a_load_that_can_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Longer prompts alone make more tokens/s, and a burst is no load that a server could carry on with."""
    slow, fast, burst, full = (
        uniform_records(400, events=events, settings={"machine_cost": 2.0, "input_len": 10}, request_rate=rate)
        for events, rate in ((5, 10.0), (7, 11.0), (9, None), (11, 12.0))
    )
    full.columns["end_ns"][:] += np.arange(400) * SECOND // 5
    long = uniform_records(400, settings={"machine_cost": 2.0, "input_len": 500}, columns={"input_tokens": [500] * 400})
    for minute, records in enumerate((slow, fast, burst, full, long)):
        records.context.started_ns += minute * SECOND
    files = [str(path) for path in written(tmp_path, [slow, fast, burst, full, long])]
    found = as_json(capsys, tmp_path / "cost.json", *files)
    assert [row["verdict"] == "SATURATED" for row in found["points"]] == [False, False, False, True, False]
    assert all(row["barred"] is None for row in found["points"])
    assert found["at_capacity"] == [{"file": files[1], "reached": True}, {"file": files[4], "reached": False}]
    _, out, _ = told(capsys, *files)
    assert "\n*  11 req/s" in out and "\n* at capacity: most tokens/s" in out
    assert "\n?  10 req/s" in out and "no load saturates: there may be more, for less" in out
    _, out, _ = told(capsys, files[2])
    assert "No point can be called capacity" in out and "* at capacity" not in out


def test_a_point_that_lies_in_several_places_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the regression would have it twice, and its intervals would be too narrow."""
    found = points(SHAPES[:2], machine_cost=4.0)
    found[0].context.settings["save_aggregated_result"] = True
    files = [*written(tmp_path / "here", found), *written(tmp_path / "copied", found)]
    assert len(files) == 6
    of = as_json(capsys, tmp_path / "cost.json", *files, tmp_path / "copied")
    assert len(of["points"]) == len(of["regression"]["points"]) == 2


def test_a_regression_in_steps_says_nothing_of_answers_that_show_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(4)
    found = [run(CPU_135M, Shape(*each, rng.choice((2, 8, 16))), rng.getrandbits(32))[0] for each in SHAPES]
    whole = uniform_records(100, streaming=False)
    whole.columns["status"][:2] = 8  # is left out
    for hour, records in enumerate([*found, whole]):
        records.context.settings |= {"machine_cost": 4.0}
        records.context.date = f"20260102-{hour:02d}0405"
        records.context.started_ns += hour * SECOND
    of = as_json(capsys, tmp_path / "cost.json", *written(tmp_path, [*found, whole]))
    assert of["regression"]["decode"] == "decode_steps"
    split = next(split for split in of["points"][-1]["cost"]["splits"] if split["method"] == "regression")
    assert split["prefill_share"] is None and "--stream-request" in split["reason"]


def test_what_is_left_out_of_the_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = points([*SHAPES, (100, 100), (200, 50)], machine_cost=4.0)
    found[-1].columns["status"][:2] = 8
    found[-2].context.cut_short = "SIGTERM"
    files = written(tmp_path, found)
    earlier = json.loads(files[0].read_text())
    del earlier["work"], earlier["cost"]["with_idle"], earlier["cost"]["splits"]
    files[0].write_text(json.dumps(earlier))
    of = as_json(capsys, tmp_path / "cost.json", *files)
    reasons = {each["file"]: each["reason"] for each in of["regression"]["left_out"]}
    assert "by another version" in reasons[str(files[0])]
    assert reasons[str(files[-2])] == "cut short by SIGTERM"
    assert of["points"][-2]["barred"] == "cut short by SIGTERM" and not of["points"][-2]["cost"]["splits"]
    assert len(of["regression"]["points"]) == len(SHAPES) - 1
    assert len(reasons) == 3
    methods = {split["method"]: split for split in of["points"][0]["cost"]["splits"]}
    assert methods["convention-1:4"]["reason"] is None and "not known" in methods["gaps"]["reason"]


def test_what_another_version_says_of_the_work_and_points_analysed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [file] = written(tmp_path, points([(300, 40)], machine_cost=4.0))
    newer = json.loads(file.read_text())
    newer["work"]["of_next_year"] = 1.0
    file.write_text(json.dumps(newer))
    of = as_json(capsys, tmp_path / "cost" / "a.json", tmp_path)
    assert of["points"][0]["work"] is None and "by another version" in of["regression"]["left_out"][0]["reason"]
    again = written(tmp_path / "later", points([(300, 40)], machine_cost=4.0))
    of = as_json(capsys, tmp_path / "cost" / "b.json", file, *again)
    assert [row["file"] for row in of["points"]] == [str(again[0])]


def test_points_of_earlier_versions_are_priced_beside_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Schema 1.2 had no fingerprint: what was asked is not known, what it took is."""
    files = written(tmp_path, points([(300, 40), (100, 100)], machine_cost=4.0))
    old = json.loads(files[0].read_text())
    del old["fingerprint"]
    for missing in ("cost", "throughput"):
        files[0].write_text(json.dumps(old))
        of = as_json(capsys, tmp_path / "cost" / f"{missing}.json", tmp_path, "--machine-cost=2")
        assert {row["file"] for row in of["points"]} == set(map(str, files))
        assert [each["file"] for each in of["at_capacity"]] == [str(files[1])]
        del old[missing]
    del old["cache"]
    old["fingerprint"] = {"sha256": "0" * 16, "of": {"endpoint": "completions"}}
    files[0].write_text(json.dumps(old))
    code, _, err = told(capsys, files[0], "--machine-cost=2")
    assert code == Exit.DONE, err


def test_a_file_whose_name_is_no_text_has_a_sign_in_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [file] = written(tmp_path, points([(300, 40)], machine_cost=4.0))
    odd = file.rename(file.with_name(os.fsdecode(b"odd-\xff.json")))
    of = as_json(capsys, tmp_path / "cost" / "a.json", odd)
    assert of["points"][0]["file"] == str(tmp_path / "odd-?.json")


def test_prompts_out_of_a_cache_that_nobody_counts_are_in_no_regression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = points(SHAPES[:2], machine_cost=4.0, shared_prefix=100)
    found[1].columns["cached_tokens"][:] = 64
    files = written(tmp_path, found)
    of = as_json(capsys, tmp_path / "cost.json", *files)
    assert [each["file"] for each in of["regression"]["left_out"]] == [str(files[0])]
    assert "does not tell what came out of its cache" in of["regression"]["left_out"][0]["reason"]


def test_points_that_must_not_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = uniform_records(400, settings={"machine_cost": 7.2})
    records.columns["sent_ns"] = records.columns["sent_ns"] + 50_000_000
    code, out, _ = told(capsys, *written(tmp_path, [records]))
    assert code == Exit.UNUSABLE and "CLIENT_LIMITED" in out and "No point can be called capacity" in out
    assert "The whole price divided" not in out


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--machine-cost=0"], "--machine-cost: got '0', takes a number from 1e-06"),
        (["--machine-cost=-1"], "--machine-cost: got '-1', takes a number from 1e-06"),
        (["--machine-cost=nan"], "--machine-cost: got 'nan', takes a number from 1e-06"),
        (["--machine-cost=inf"], "--machine-cost: got 'inf', takes a number from 1e-06"),
        (["--utilization=nan"], "--utilization: got 'nan', takes a share above 0 and at most 1"),
        (["--utilization=0"], "--utilization: got '0', takes a share above 0 and at most 1"),
        (["--utilization=1.1"], "--utilization: got '1.1', takes a share above 0 and at most 1"),
        (["--surprise"], "cost: "),
    ],
)
def test_bad_flags(flags: list[str], text: str, profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, profile, *flags)
    assert (code, out) == (Exit.USAGE, "")
    assert err.count("\n") == 1 and text in err


def test_points_of_two_servers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = points([(300, 40), (100, 100)], machine_cost=4.0)
    other.context.models = ["org/other"]
    code, out, err = told(capsys, *written(tmp_path, [one, other]))
    assert (code, out) == (Exit.USAGE, "")
    assert err == "error: cost: takes points of one server, got org/model by vllm; org/other by vllm\n"
    two = uniform_records(400, settings={"machine_cost": 4.0}, urls=["http://a", "http://b"])
    code, _, err = told(capsys, *written(tmp_path / "urls", [one, two]))
    assert code == Exit.USAGE and "got org/model by vllm; org/model by vllm at 2 URLs" in err
    two = uniform_records(400, settings={"machine_cost": 4.0}, models=["a", "b"])
    other = uniform_records(400, settings={"machine_cost": 4.0}, models=["a", "c"], started_ns=1)
    code, _, err = told(capsys, *(written(tmp_path / name, [each])[0] for name, each in (("b", two), ("c", other))))
    assert code == Exit.USAGE and "got a, b by vllm; a, c by vllm" in err


def test_points_of_other_prices_take_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [written(tmp_path / str(price), points([(300, 40)], machine_cost=price)) for price in (2.0, 4.0)]
    code, out, err = told(capsys, tmp_path / "2.0", tmp_path / "4.0")
    assert code == Exit.DONE, "the same point twice"
    later = points([(300, 40), (100, 100)], machine_cost=8.0)[1:]
    places = [*files[0], *written(tmp_path / "later", later)]
    code, out, err = told(capsys, *places)
    assert (code, out) == (Exit.USAGE, "")
    assert err.startswith(
        "error: --machine-cost: got nothing, takes a number from 1e-06 to 1e+09: the points' own prices differ"
    )
    assert "($2, $8 an hour)" in err
    code, out, err = told(capsys, *places, "--machine-cost=3")
    assert code == Exit.DONE and out.startswith("USD per million tokens, of machines at $3 an hour\n")


def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "none.npz").write_bytes(b"")
    [free] = written(tmp_path / "free", points([(300, 40)]))
    cases = {
        tmp_path / "empty": "there is no point in it",
        tmp_path / "other.json": "is no point of latency-profile",
        tmp_path / "broken.json": "is no JSON",
        tmp_path / "none.npz": "is no records file",
        tmp_path / "missing.json": "No such file",
        free: "--machine-cost: got nothing, takes a number from 1e-06",
    }
    for place, text in cases.items():
        code, out, err = told(capsys, place)
        assert (code, out) == (Exit.USAGE, "") and err.count("\n") == 1 and text in err, place
    code, _, err = told(capsys, free, "--machine-cost=1", "-o", tmp_path / "nowhere" / "x" / "other.json" / "y")
    assert code == Exit.DONE, err  # folders are made
    code, _, err = told(capsys, free, "--machine-cost=1", "-o", tmp_path / "other.json" / "y")
    assert code == Exit.NOT_STORED and "cannot write" in err


def test_each_method_against_the_engines_truth() -> None:
    """The benchmark's first table; the figures are in docs/architecture.md."""
    found = errors(H100_8B, 64, seed=1)
    assert max(abs(each.gaps) for each in found.values()) < cost_split.GAPS_LIMIT
    assert sum(each.held for each in found.values()) >= len(SHAPES) - 1
    assert max(abs(each.regression) for each in found.values()) < 0.12
    assert max(abs(each.phases) for each in found.values()) < 0.12
    assert all(each.measured < 0 for each in found.values()), "requests of a batch share their seconds"


def test_the_regressions_intervals_hold_the_truth_and_one_shape_is_refused() -> None:
    """`benchmarks.cost_split` with few runs: 95 % of 25 are 23 or more, but for one draw in thirty."""
    law = LAWS[2]
    found = coverage(law, 25, seed=4)
    assert found.prefill >= 0.85 and found.share >= 0.9
    assert refusals(law, 5, seed=4) == 1.0


def test_open_loops_tell_their_prices_too() -> None:
    """From a tenth of what the server can do to nine tenths: idle time is in no busy time, and batches differ."""
    records, engine = run(CPU_135M, Shape(200, 20, 8, rate=0.2), 5)
    done = work(records, None)
    machine_s = (engine.prefill_ns + engine.decode_ns) / NS_PER_S
    assert done is not None and done.busy_s == pytest.approx(machine_s, rel=0.02)
    assert records.context.measured_ns / NS_PER_S > 3 * machine_s, "it rested most of the time"
    found = coverage(LAWS[3], 6, seed=4)
    assert found.share >= 0.9 and found.gaps >= 0.9 and found.error_p50 < 0.05


def test_a_clients_records_tell_the_engines_time_and_steps() -> None:
    """A closed loop never rests: its steps, and the wait before the first, are the busy time."""
    rng = random.Random(2)
    for concurrency in (1, 8, 16):
        shape = Shape(rng.randrange(50, 500), rng.randrange(20, 100), concurrency)
        records, engine = run(CPU_135M, shape, rng.getrandbits(32))
        done = work(records, None)
        assert done is not None and done.decode_steps is not None
        assert done.busy_s == pytest.approx((engine.prefill_ns + engine.decode_ns) / NS_PER_S, rel=0.03)
        assert done.decode_steps == pytest.approx(engine.decode_steps, rel=0.001)
