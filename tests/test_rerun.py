"""A profile can be run again from a point's file, and two can be told to be alike or not."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.truth import simulator
from latency_profile import records
from latency_profile.cli import main
from latency_profile.errors import Exit, UsageError
from latency_profile.fingerprint import COMPARED, FREE, differences, fingerprint
from latency_profile.rerun import comparable, recorded_settings
from latency_profile.settings.definition import BY_NAME
from tests.make_records import make_context
from tests.tool import benchmark, called, latency_profile_command, only_point, point_files


def test_every_setting_is_compared_or_free() -> None:
    """A new setting has to be put into one of the two lists."""
    assert sorted(COMPARED + FREE) == sorted(BY_NAME)


def context(workload: dict[str, Any] | None = None, **settings: Any) -> Any:
    made = make_context(settings={"warmup_seconds": 0.0, "arrival": "poisson", **settings})
    made.provenance = {"workload": {"tokenizer_sha256": "aa", "nonce": "1", "seed": 3, **(workload or {})}}
    return made


def test_what_is_asked_makes_the_fingerprint() -> None:
    same = fingerprint(context())
    assert fingerprint(context(workload={"nonce": "2", "seed": 4}, host="elsewhere", machine_cost=3.0)) == same
    others = [
        fingerprint(context(arrival="constant")),
        fingerprint(context(shared_prefix=64)),
        fingerprint(context(workload={"tokenizer_sha256": "bb"})),
        fingerprint(context(workload={"dataset_sha256": "cc"})),
    ]
    assert len({each.sha256 for each in [same, *others]}) == 5
    assert differences(same, others[0]) == ['arrival: "poisson", "constant"']
    assert differences(same, others[3]) == ['dataset_sha256: null, "cc"']
    assert differences(same, same) == []
    closed = make_context(settings={}, request_rate=None, concurrency=4)
    burst = make_context(settings={"num_prompts": 10}, request_rate=None)
    larger = make_context(settings={"num_prompts": 11}, request_rate=None)
    rate = make_context(settings={"num_prompts": 11}, request_rate=5.0)
    assert len({fingerprint(each).sha256 for each in (closed, burst, larger, rate)}) == 4


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A profile of two rates, and a server that is still there."""
    folder = tmp_path_factory.mktemp("first")
    with simulator("--fixed-timing", "5,1") as port:
        flags = [f"--port={port}", "--tokenizer=bundled", "--input-len=24", "--output-len=5", "--output-len-stddev=2"]
        flags += ["--stream-request", "--request-rates=20,40", "--num-prompts=30", "--seed=7", "--save-json-results"]
        done = benchmark("--host=127.0.0.1", *flags, f"--output-dir={folder}")
        assert done.returncode in MEASURED, done.stderr
        yield folder


MEASURED = (Exit.DONE, Exit.UNUSABLE)  # a busy machine's verdict is not the matter here


def columns(folder: Path) -> list[tuple[Any, ...]]:
    """Of each point: due times, lengths in and out, and the nonce."""
    found = []
    for path in sorted(folder.glob("*.records.npz")):
        point = records.load(path)
        wanted = ("due_ns", "input_tokens", "wanted_tokens")
        found.append((*(point[name].tolist() for name in wanted), point.context.nonce))
    return found


def test_a_rerun_has_the_plan_and_the_lengths_and_prompts_of_its_own(first: Path, tmp_path: Path) -> None:
    point = point_files(first)[0]
    done = latency_profile_command("rerun", str(point), f"--output-dir={tmp_path}")
    assert done.returncode in MEASURED, done.stderr
    before, after = columns(first), columns(tmp_path)
    assert len(before) == 2 and [row[:3] for row in before] == [row[:3] for row in after]
    assert {row[3] for row in before}.isdisjoint(row[3] for row in after)
    done = latency_profile_command("comparable", str(point), str(point_files(tmp_path)[1]))
    assert done.returncode == 0 and done.stdout.startswith("may be compared")


def test_a_named_run_is_measured_again(first: Path, tmp_path: Path) -> None:
    """Under the old run's name all of its points would be there."""
    point = point_files(first)[0]
    flags = ("--request-rates=50", "--save-json-results", f"--output-dir={tmp_path}")
    done = latency_profile_command("rerun", str(point), *flags, "--run-id=night")
    assert done.returncode in MEASURED, done.stderr
    [named] = (tmp_path / "night").glob("*50.0qps*.json")
    done = latency_profile_command("rerun", str(named))
    assert done.returncode in MEASURED, done.stderr
    assert "not measured again" not in done.stderr
    assert only_point(tmp_path)["load"]["counts"]["sent"] == 30


def test_a_flag_goes_before_what_is_recorded(first: Path, tmp_path: Path) -> None:
    flags = ("--request-rates=50", "--arrival=constant", f"--output-dir={tmp_path}")
    done = latency_profile_command("rerun", str(point_files(first)[0]), *flags)
    assert done.returncode in MEASURED, done.stderr
    point = only_point(tmp_path)
    assert (point["load"]["request_rate"], point["load"]["arrival_process"]) == (50.0, "constant")
    assert point["provenance"]["settings"]["seed"] == 7
    done = called(main, "comparable", str(point_files(first)[0]), str(point_files(tmp_path)[0]))
    assert done.returncode == Exit.UNUSABLE
    assert 'arrival: "poisson", "constant"' in done.stdout


def test_profiles_can_be_compared_too(first: Path) -> None:
    [profile] = first.glob("*-profile-*.json")
    assert comparable(profile, point_files(first)[0]) is Exit.DONE


def test_other_inputs_are_refused(first: Path, tmp_path: Path) -> None:
    content = json.loads(point_files(first)[0].read_text())
    content["provenance"]["workload"]["tokenizer_sha256"] = "0" * 64
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(content))
    done = called(main, "rerun", str(changed))
    assert done.returncode == 2 and "its SHA-256 was 0000" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["", "{}", '{"provenance": 3}'])
def test_what_is_no_result_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "point.json"
    path.write_text(text)
    for command in (("rerun", str(path)), ("comparable", str(path), str(path)), ("rerun", str(tmp_path / "none"))):
        done = called(main, *command)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


RECORDED = {"tokenizer": "bundled", "input_len": 8, "output_len": 8, "header": ["X-Key: (not shown)"], "seed": 9}
NAMES = list(RECORDED)


def test_secrets_have_to_be_given_again() -> None:
    path = Path("point.json")
    settings, missing = recorded_settings(path, RECORDED, NAMES, [], {})
    assert missing == ["header"] and settings.seed == 9
    environ = {"LATENCY_PROFILE_HEADER": "X-Key: abc", "LATENCY_PROFILE_SEED": "1"}
    settings, missing = recorded_settings(path, RECORDED, NAMES, [], environ)
    assert missing == [] and settings.header == (("X-Key", "abc"),)
    assert settings.seed == 9  # the environment is another run's
    assert recorded_settings(path, RECORDED, NAMES, ["--seed=4"], {})[0].seed == 4


def test_what_is_recorded_is_checked_like_anything_else() -> None:
    with pytest.raises(UsageError, match=r"--seed \(file point\.json\): got -1"):
        recorded_settings(Path("point.json"), {**RECORDED, "seed": -1}, NAMES, [], {})


def test_a_flag_takes_the_place_of_what_excludes_it() -> None:
    recorded = {**RECORDED, "request_rate": 5.0, "header": []}
    settings, _ = recorded_settings(Path("point.json"), recorded, [*NAMES, "request_rate"], ["--concurrencies=3"], {})
    assert settings.concurrencies == (3,)
    assert not settings.given("request_rate")


def test_a_default_of_then_counts_where_it_is_another_now() -> None:
    recorded = {**RECORDED, "num_prompts": 77, "header": []}
    assert recorded_settings(Path("point.json"), recorded, NAMES, [], {})[0].num_prompts == 77


def test_a_setting_that_was_given_and_is_not_recorded_is_named() -> None:
    with pytest.raises(UsageError, match=r"^point.json says that --seed was given, and not as what$"):
        recorded_settings(Path("point.json"), {}, ["seed"], [], {})
