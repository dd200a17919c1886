"""The files: names, schema, the same bytes again, and writing whole."""

import datetime
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest

import latency_profile
from latency_profile import results
from latency_profile.records import NONE, Status, load
from latency_profile.results.schema import SCHEMA_FILES, json_schema
from latency_profile.results.structure import SCHEMA_VERSION, PointResult, Profile
from tests.make_records import SERVER_TIMES, make_context, make_records, uniform_records

PACKAGE = Path(latency_profile.__file__).parent
POINT = json.loads((PACKAGE / "point.schema.json").read_text())
PROFILE = json.loads((PACKAGE / "profile.schema.json").read_text())


def validate(data, schema):
    text = json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    jsonschema.Draft202012Validator(schema).validate(text)
    return text


def varied():
    """One point of each kind that differs in structure."""
    two_models = uniform_records(60, models=["org/a", "b"], settings={"machine_cost": 2.0})
    two_models.columns["model"] = np.arange(60, dtype=np.uint16) % 2
    cut = make_records(
        [0, 1, 2], columns={"status": [Status.OK, Status.CANCELLED, Status.NOT_SENT]}, cut_short="SIGTERM"
    )
    several = uniform_records(60, urls=["http://a:1", "http://b:1/team"])
    several.columns["url"] = np.arange(60, dtype=np.uint16) % 2
    several.columns["status"][:9] = Status.MALFORMED
    several.columns["retries"][::7] = 3
    several.columns["first_visible_ns"][::5] += 1_000
    several.columns["first_visible_ns"][1::5] = NONE
    for name in SERVER_TIMES:
        several.columns[name][::3] = 10_000_000
    metrics = {"vllm:kv_cache_usage_perc": {"Mean": 0.25, "Max": None}}
    return {
        "streamed": uniform_records(60),
        "plain": uniform_records(60, streaming=False),
        "two models": two_models,
        "several urls": several,
        "closed loop": uniform_records(60, request_rate=None, concurrency=8),
        "burst": uniform_records(60, request_rate=None, duration_s=None),
        "metrics": uniform_records(60, server_metrics=metrics),
        "cut short": cut,
        "failed": make_records([0, 1], columns={"status": [Status.RESET] * 2}),
        "nothing": make_records([]),
        "metadata": uniform_records(9, settings={"additional_metadata_metrics_to_save": {"gpu": 8}}),
    }


@pytest.mark.parametrize("name", SCHEMA_FILES)
def test_schema_files_are_made_from_the_code(name):
    assert (PACKAGE / name).read_bytes() == json_schema(SCHEMA_FILES[name]), (
        "run python -m latency_profile.results.schema"
    )
    jsonschema.Draft202012Validator.check_schema(json.loads((PACKAGE / name).read_text()))


@pytest.mark.parametrize("kind", varied())
def test_every_point_file_keeps_the_schema_and_reads_back(kind):
    for data in results.point_files(varied()[kind]).values():
        validate(data, POINT)
        again = msgspec.json.decode(data, type=PointResult)
        assert msgspec.json.format(msgspec.json.encode(again), indent=2) + b"\n" == data


def changed(change):
    text = json.loads(next(iter(results.point_files(uniform_records(60)).values())))
    change(text)
    return text


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text["metrics"].pop("p99_latency_ms"),
        lambda text: text["metrics"].pop("avg_TTFT_ms"),
        lambda text: text["metrics"].update(throughput="4"),
        lambda text: text["metrics"].update(request_rate="unlimited"),
        lambda text: text["metrics"].update(surprise=1),
        lambda text: text["metrics"].update(TimeoutError=-1),
        lambda text: text["load"].update(streaming=False),
        lambda text: text["dimensions"].pop("model_id"),
        lambda text: text["dimensions"].update(nodes=8),
        lambda text: text["verdict"].update(verdict="FINE"),
        lambda text: text["latency"]["service"]["e2e"]["p99"].pop("resolved"),
        lambda text: text["summary_stats"]["stats"].clear(),
        lambda text: text["summary_stats"]["stats"][0]["model_server_metrics"].append({"Mean": 1}),
        lambda text: text.pop("cut_short"),
        lambda text: text.pop("by_url"),
        lambda text: text["server"].pop("times"),
        lambda text: text["latency"]["response"].pop("ttft_visible"),
        lambda text: text["load"]["counts"].update(retries=-1),
        lambda text: text["tokens"].update(hidden_only=-1),
    ],
)
def test_the_schema_refuses_what_is_not_a_point(change):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(POINT).validate(changed(change))


@pytest.mark.parametrize("kind", varied())
def test_saved_records_give_the_same_bytes(kind, tmp_path):
    records = varied()[kind]
    # YAML makes dates of what looks like one; after the file they are text.
    records.context.settings["additional_metadata_metrics_to_save"] = {"built": datetime.date(2026, 1, 2)}
    records.context.provenance["odd"] = float("inf")  # JSON has none: null, before and after
    first = results.point_files(records)
    records.save(tmp_path / "point.records.npz")
    assert results.point_files(load(tmp_path / "point.records.npz")) == first
    assert results.point_files(records) == first
    assert all(data.endswith(b"}\n") and data.startswith(b'{\n  "metrics"') for data in first.values())


def test_names():
    def names(**context):
        return list(results.point_files(uniform_records(3, **context)))

    stem = "benchmark-vllm-50.0qps-20260102-030405"
    assert names(request_rate=50) == [f"{stem}-org-model.json"]
    assert names(request_rate=None) == ["benchmark-vllm-infqps-20260102-030405-org-model.json"]
    assert names(request_rate=None, concurrency=8) == ["benchmark-vllm-concurrency8-20260102-030405-org-model.json"]
    assert names(request_rate=50.0, models=["a", "b"]) == [f"{stem}-weighted.json", f"{stem}-a.json", f"{stem}-b.json"]
    aggregated = names(request_rate=50.0, settings={"save_aggregated_result": True, "file_prefix": "x"})
    assert aggregated == [
        name.replace("benchmark-", "x-") for name in (f"{stem}-weighted.json", names(request_rate=50)[0])
    ]
    assert results.records_name(make_context(request_rate=0.5)) == "benchmark-vllm-0.5qps-20260102-030405.records.npz"


def test_the_name_is_the_ancestors():
    ancestor = next((Path(__file__).parent / "data" / "ancestor").glob("*.json")).name
    context = {"request_rate": 50.0, "date": "20261121-221507", "settings": {"save_aggregated_result": True}}
    assert ancestor in results.point_files(uniform_records(3, **context))


def test_models_whose_names_meet_do_not_replace_each_other():
    records = uniform_records(6, models=["a/b", "a-b", "weighted"])
    records.columns["model"] = np.arange(6, dtype=np.uint16) % 3
    files = results.point_files(records)
    assert [name.split("030405-")[1] for name in files] == [
        "weighted.json",
        "a-b.json",
        "a-b-2.json",
        "weighted-2.json",
    ]
    assert [json.loads(data)["config"]["model"] for data in files.values()] == ["weighted", "a/b", "a-b", "weighted"]


def test_a_single_model_with_the_aggregated_result_is_named_in_both():
    files = results.point_files(uniform_records(6, settings={"save_aggregated_result": True}))
    assert [json.loads(data)["dimensions"]["model_id"] for data in files.values()] == ["weighted", "org/model"]


def test_profile_file_keeps_the_schema():
    points = [
        results.Outcome(records.context, results.point_result(records), list(results.point_files(records)))
        for records in varied().values()
    ]
    name, data = results.profile_file(points)
    assert name == "benchmark-vllm-profile-20260102-030405.json"
    text = validate(data, PROFILE)
    assert msgspec.json.decode(data, type=Profile).exit_code == 4  # one of them failed
    assert len(text["points"]) == len(points)
    first = text["points"][0]
    assert first["files"] == points[0].files
    assert first["e2e"] == json.loads(msgspec.json.encode(points[0].result.latency.response.e2e))
    at = list(varied()).index("closed loop")
    closed = text["points"][at]
    assert closed["concurrency"] == 8
    assert closed["e2e"] == json.loads(msgspec.json.encode(points[at].result.latency.service.e2e))


def test_profile_file_names_the_urls_and_its_version():
    records = varied()["several urls"]
    outcome = results.Outcome(records.context, results.point_result(records), [])
    text = json.loads(results.profile_file([outcome])[1])
    assert text["urls"] == ["http://a:1", "http://b:1/team"]
    assert text["schema_version"] == SCHEMA_VERSION


def test_an_existing_file_is_never_replaced_unasked(tmp_path):
    paths = [results.write(tmp_path, "a.json", data) for data in (b"1", b"2", b"3")]
    assert [path.name for path in paths] == ["a.json", "a-2.json", "a-3.json"]
    assert [path.read_bytes() for path in paths] == [b"1", b"2", b"3"]
    assert results.write(tmp_path, "a.json", b"4", replace=True) == paths[0]
    assert paths[0].read_bytes() == b"4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.json", "a-3.json", "a.json"]


def test_a_number_stands_before_the_whole_extension(tmp_path):
    name = "x-0.5qps.records.npz"
    assert [results.write(tmp_path, name, b"").name for _ in range(2)] == [name, "x-0.5qps-2.records.npz"]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        results.write(tmp_path, "a.json", b"1")
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import resource, sys
import numpy as np
from latency_profile import results
from tests.make_records import make_records, nanoseconds
requests, events = 100_000, 100
rng = np.random.default_rng(0)
due = np.arange(requests) / 1000
records = make_records(due, end_s=due + 2.0, duration_s=100.0)
steps = rng.integers(5_000_000, 15_000_000, (requests, events))
steps[:, 0] += nanoseconds(due)
np.cumsum(steps, axis=1, out=steps)
records.event_start = np.arange(requests + 1) * events
records.event_ns = steps.reshape(-1)
records.event_tokens = np.ones(requests * events, dtype=np.uint16)
records.columns["first_token_ns"] = steps[:, 0].copy()
records.columns["last_token_ns"] = steps[:, -1].copy()
records.columns["output_tokens"][:] = events
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the high-water mark starts anew
status = lambda name: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
before = status("VmRSS")
result = results.point_result(records)
assert result.latency.service.itl.n == requests * (events - 1)
print((status("VmHWM") - before) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's high-water mark of memory")
def test_ten_million_events_are_reduced_within_400_mb():
    root = PACKAGE.parent
    command = [sys.executable, "-c", MEMORY]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 400
