"""`latency-profile export`: the same numbers in every form, on a real profile of the simulator and on made records."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import llmd_benchmark_report
import numpy as np
import pyarrow.parquet
import pytest
from markdown_it import MarkdownIt

from benchmarks.truth import simulator
from latency_profile import records, results
from latency_profile.cli import main
from latency_profile.errors import Exit
from latency_profile.records import NONE, Records, Status
from latency_profile.report.console import milliseconds, number
from latency_profile.report.rows import table_row
from latency_profile.statistics import NS_PER_S
from tests.make_records import SECOND, make_records, uniform_records
from tests.servers import vllm_server
from tests.tool import ROOT, benchmark, environment, point_files

FLAGS = (
    *("--stream-request", "--ignore-eos", "--tokenizer=bundled", "--save-json-results", "--scrape-server-metrics"),
    *("--input-len=64", "--output-len=16", "--output-len-stddev=4", "--num-prompts=30", "--request-rates=20,40"),
    *("--machine-cost=4", "--utilization=0.4", "--goodput", "ttft:100 e2e:500", "--slo=e2e:p50<60s"),
)
Row = dict[str, str]


@dataclass(frozen=True)
class Measured:
    """A real profile: its folder and the table that it printed."""

    folder: Path
    table: str

    @cached_property
    def points(self) -> list[dict[str, Any]]:
        """The JSON of its points, in the order in which they ran."""
        return sorted(map(read_json, point_files(self.folder)), key=lambda point: point["dimensions"]["date"])


@pytest.fixture(scope="module", name="measured")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("profile")
    with simulator() as port:
        done = benchmark("--host=127.0.0.1", f"--port={port}", f"--output-dir={folder}", *FLAGS)
    assert done.returncode in (0, 4), done.stderr
    return Measured(folder, done.stdout)


Export = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="export")
def exported(capsys: pytest.CaptureFixture[str]) -> Export:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["export", *map(str, arguments)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def rows_of(text: str) -> list[Row]:
    return list(csv.DictReader(io.StringIO(text)))


def cell(value: Any) -> str:
    """As CSV has it."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def cells(line: str) -> list[str]:
    """Of a line of a Markdown table, without what marks it."""
    return [each.strip().replace("~~", "").replace("**", "") for each in line.strip("|").split("|")]


def written(folder: Path, *found: Records) -> Path:
    """A folder with the points' files and records."""
    folder.mkdir(parents=True, exist_ok=True)
    for number_of, point in enumerate(found):
        point.context.started_ns += number_of * SECOND
        for name, data in results.point_files(point).items():
            results.write(folder, name, data)
        point.save(folder / results.records_name(point.context))
    return folder


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in {path}"))
    return found


def test_every_form_has_the_same_numbers(measured: Measured, export: Export, tmp_path: Path) -> None:
    points = measured.points
    code, text, _ = export(measured.folder, "--format=csv")
    rows = rows_of(text)
    assert code == (Exit.DONE if any(row["usable"] == "true" for row in rows) else Exit.UNUSABLE)
    assert [row["load"] for row in rows] == ["20", "40"]
    path = tmp_path / "points.parquet"
    assert export(measured.folder, "--format=parquet", "-o", path)[1] == f"{path}\n"
    stored = pyarrow.parquet.read_table(path).to_pylist()
    _, table, _ = export(measured.folder, "--format=markdown")
    heading, _, *lines = [cells(line) for line in table.splitlines() if line.startswith("|")]
    profile = json.loads(next(measured.folder.glob("*-profile-*.json")).read_text())
    for point, row, typed, line, brief in zip(points, rows, stored, lines, profile["points"], strict=True):
        assert row == {name: cell(value) for name, value in typed.items()}, "CSV and Parquet"
        for name in ("requests_per_s", "input_tokens_per_s_low", "total_tokens_per_s_high"):
            assert typed[name] == point["throughput"][name]
        for side, prefix in (("service", ""), ("response", "response_")):
            for name, found in point["latency"][side].items():
                if found is None:
                    assert typed[f"{prefix}{name}_n"] is None
                    continue
                assert typed[f"{prefix}{name}_n"] == found["n"]
                for figure in ("mean_s", "mean_low_s", "mean_high_s", "max_s"):
                    assert typed[f"{prefix}{name}_{figure}"] == found[figure]
                for level in ("p50", "p90", "p95", "p99"):
                    ends = ("value_s", "low_s", "high_s")
                    told = [typed[f"{prefix}{name}_{level}{end}_s"] for end in ("", "_low", "_high")]
                    assert told == [found[level][end] for end in ends], (name, level)
        assert typed["response_e2e_p99_s"] == brief["e2e"]["p99"]["value_s"], "the profile's own file"
        assert typed["verdict"] == point["verdict"]["verdict"] == brief["verdict"]["verdict"]
        assert typed["succeeded"] == point["load"]["counts"]["succeeded"] > 0
        assert typed["goodput_requests_per_s"] == point["goodput"]["requests_per_s"] is not None
        assert typed["slo"] == point["slo"]["outcome"]
        assert typed["goodput_ttft_ms"] == 100.0 and typed["goodput_tpot_ms"] is None
        assert typed["usd_per_million_output_tokens"] == point["cost"]["usd_per_million_output_tokens"]
        assert (
            typed["with_idle_usd_per_million_total_tokens"]
            == point["cost"]["with_idle"]["usd_per_million_total_tokens"]
        )
        splits = {each["method"]: each for each in point["cost"]["splits"]}
        for told, method in (("gaps", "gaps"), ("convention_1_4", "convention-1:4")):
            split = splits.get(method, {}).get("usd_per_million_input_tokens") or {}
            assert typed[f"split_{told}_usd_per_million_input_tokens"] == split.get("value")
            assert typed[f"split_{told}_usd_per_million_input_tokens_high"] == split.get("high")
        gauges = point["server"]["readings"][0]["gauges"]  # a short point may have ended between two looks
        assert typed["server_running_mean"] == gauges.get("running", {}).get("mean")
        assert typed["total_output_tokens"] == point["metrics"]["total_output_token"]
        shown = dict(zip(heading, line, strict=True))
        assert shown["load"] == f"{point['load']['request_rate']:g} req/s"
        assert point["verdict"]["verdict"] in shown["verdict"]
        assert shown["req/s"].split()[0] == number(point["throughput"]["requests_per_s"])
        for name in ("ttft", "tpot", "e2e"):
            for level in ("p50", "p99"):
                found = point["latency"]["service"][name][level]
                value, low, high = (found[end] and found[end] * 1000 for end in ("value_s", "low_s", "high_s"))
                ends = ["–" if low is None else number(low), "∞" if high is None else number(high)]
                told = re.findall(r"[\d.]+|∞|–", shown[f"{name.upper()} {level}"])
                assert told == [number(value), *(ends if found["low_s"] or found["high_s"] else [])]
                assert ("≥" in shown[f"{name.upper()} {level}"]) == (high is None)


def test_the_table_of_the_log_says_the_same(measured: Measured, export: Export) -> None:
    """What a profile prints at its end, from the records, and what is exported, from the JSON."""
    _, table, _ = export(measured.folder, "--format=markdown")
    lines = [cells(line) for line in table.splitlines() if line.startswith("| ")][2:]
    paths = sorted(measured.folder.glob("*.records.npz"), key=lambda path: records.load_context(path).started_ns)
    assert len(lines) == len(paths) == 2
    for path, line in zip(paths, lines, strict=True):
        row = table_row("", results.point_result(records.load(path)))
        figures = [row.ttft_p50_ms, row.ttft_p99_ms, row.tpot_p50_ms, row.tpot_p99_ms, row.e2e_p50_ms, row.e2e_p99_ms]
        assert [each.partition(" (")[0] for each in line[4:10]] == list(map(milliseconds, figures))
        assert line[3].split()[0] == number(row.output_tokens_per_s)
        assert all(milliseconds(figure)[:4] in measured.table for figure in figures[::2])


def test_a_row_a_request(measured: Measured, export: Export, tmp_path: Path) -> None:
    _, text, _ = export(measured.folder, "--format=csv", "--of=requests")
    rows = rows_of(text)
    path = tmp_path / "requests.parquet"
    assert export(measured.folder, "--format=parquet", "--of=requests", "-o", path)[0] in (0, 4)
    assert rows == [{k: cell(v) for k, v in row.items()} for row in pyarrow.parquet.read_table(path).to_pylist()]
    for point, load in zip(measured.points, ("20", "40"), strict=True):
        mine = [row for row in rows if row["load"] == load]
        assert len(mine) == point["load"]["counts"]["planned"] == 30
        assert {row["verdict"] for row in mine} == {point["verdict"]["verdict"]}
        window = [row for row in mine if row["in_window"] == "true"]
        assert len(window) == point["window"]["requests"]
        for side, prefix, names in (("service", "", "ttft tpot e2e ntpot"), ("response", "response_", "ttft e2e")):
            for name in names.split():
                found = [float(row[f"{prefix}{name}_s"]) for row in window if row[f"{prefix}{name}_s"]]
                assert np.mean(found) == pytest.approx(point["latency"][side][name]["mean_s"], rel=1e-12)
                assert max(found) == pytest.approx(point["latency"][side][name]["max_s"], rel=1e-12)
        assert sum(int(row["output_tokens"]) for row in mine) == point["metrics"]["total_output_token"]
    by_records = next(measured.folder.glob("*20.0qps*.records.npz"))
    loaded = records.load(by_records)
    mine = [row for row in rows if row["point"] == by_records.name]
    for name in ("due", "sent", "first_token", "last_token", "end"):
        assert [float(row[f"{name}_s"]) for row in mine] == (loaded[f"{name}_ns"] / NS_PER_S).tolist()
    assert {row["cached_tokens"] for row in mine} <= {
        cell(v) for v in loaded["cached_tokens"].tolist() if v != NONE
    } | {""}


def test_the_keys_and_numbers_of_vllm_bench(measured: Measured, export: Export, tmp_path: Path) -> None:
    code, out, _ = export(measured.folder, "--format=vllm-bench", "--detailed", "-o", tmp_path)
    found = [read_json(Path(line)) for line in out.splitlines()]
    assert code in (0, 4) and len(found) == 2
    figures = [f"{what}_{name}_ms" for name in ("ttft", "tpot", "itl", "e2el") for what in
               ("mean", "median", "std", "p50", "p90", "p95", "p99")]  # fmt: skip
    # What `--save-result --save-detailed` writes (vLLM 0.32), less what nobody measured, and the verdict beside it.
    keys = [
        *("date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate"),
        *("burstiness", "max_concurrency", "duration", "completed", "failed", "total_input_tokens"),
        *("total_output_tokens", "request_throughput", "request_goodput", "output_throughput"),
        *("total_token_throughput", "input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "errors"),
        *("max_output_tokens_per_s", "max_concurrent_requests", "rtfx", "verdict", "verdict_reasons", *figures),
    ]
    for point, bench in zip(measured.points, found, strict=True):
        metrics = point["metrics"]
        assert sorted(bench) == sorted(keys)
        assert bench["endpoint_type"] == "openai" and bench["request_rate"] == point["load"]["request_rate"]
        assert bench["num_prompts"] == bench["completed"] == len(bench["itls"]) == 30
        for theirs, ours in (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL")):  # all requests of the point
            for what, our in (("mean", "avg"), ("median", "median"), ("std", "sd"), ("p90", "p90"), ("p99", "p99")):
                assert bench[f"{what}_{theirs}_ms"] == pytest.approx(metrics[f"{our}_{ours}_ms"], rel=1e-9)
        assert bench["output_throughput"] == pytest.approx(metrics["throughput"])
        assert bench["total_token_throughput"] == pytest.approx(metrics["tokens_per_sec"])
        assert [ttft + sum(gaps) for ttft, gaps in zip(bench["ttfts"], bench["itls"], strict=True)] == pytest.approx(
            bench["latencies"]
        )
        kept = [t <= 0.1 and e <= 0.5 for t, e in zip(bench["ttfts"], bench["latencies"], strict=True)]
        assert bench["request_goodput"] == pytest.approx(sum(kept) / bench["duration"])
    _, out, _ = export(measured.folder, "--format=vllm-bench", "-o", tmp_path / "brief")
    details = {"input_lens", "output_lens", "ttfts", "itls", "start_times", "errors"}
    for line, bench in zip(out.splitlines(), found, strict=True):
        assert read_json(Path(line)) == {name: value for name, value in bench.items() if name not in details}


def test_vllm_bench_by_its_definitions(export: Export, tmp_path: Path) -> None:
    """Worked out by hand: three requests, one of which fails. E2E ends at the last event; a peak is of a second."""
    made = make_records(
        [0.0, 0.5, 1.0],
        [0.1, 0.5, 1.0],
        [[0.2, 0.4, 0.6], [1.5, 1.7], []],
        [0.7, 2.0, 1.25],
        columns={
            "status": [Status.OK, Status.OK, Status.HTTP_UNAVAILABLE],
            "server_input_tokens": [12, NONE, NONE],
            "output_tokens": [3, 3, NONE],
        },
        settings={"file_prefix": "benchmark", "goodput": {"ttft": 150.0, "tpot": 250.0}},
    )
    _, out, err = export(written(tmp_path, made), "--format=vllm-bench", "--detailed", "-o", tmp_path / "bench")
    bench = read_json(Path(out.strip()))
    assert bench["latencies"] == pytest.approx([0.5, 1.2, 0.0])
    assert bench["ttfts"] == pytest.approx([0.1, 1.0, 0.0]) and bench["itls"][1] == pytest.approx([0.2])
    assert bench["mean_tpot_ms"] == pytest.approx((200 + 100) / 2)
    assert bench["errors"] == ["", "", "HTTP_UNAVAILABLE"] and bench["failed"] == 1
    assert bench["input_lens"] == [12, 10, 10] and bench["total_input_tokens"] == 22
    assert bench["output_lens"] == [3, 3, 0] and bench["duration"] == 2.0
    assert bench["request_goodput"] == pytest.approx(1 / 2), "of 150 ms to the first token, from sent"
    # Seconds since the first request: events at 0.1, 0.3, 0.5, and 1.4, 1.6; both were in flight in the first one.
    assert bench["max_output_tokens_per_s"] == 3.0 and bench["max_concurrent_requests"] == 2
    assert bench["start_times"][0] == pytest.approx(made.context.started_monotonic_ns / 1e9 + 0.1)
    assert "must not be used" in err or bench["verdict"] in ("VALID", "SATURATED", "TOO_FEW_SAMPLES")


@pytest.mark.vllm
def test_vllm_finds_the_same(measured: Measured, export: Export, tmp_path: Path) -> None:
    """vLLM's own code, given each request of ours, computes what the file has."""
    if not vllm_server.installed():
        pytest.skip("no vLLM here: `make test-vllm` installs it")
    _, out, _ = export(measured.folder, "--format=vllm-bench", "--detailed", "-o", tmp_path)
    python, script = vllm_server.ENVIRONMENT / "bin" / "python", Path(__file__).with_name("servers") / "vllm_metrics.py"
    for line in out.splitlines():
        command = [python, script, line, '{"ttft": 100, "e2el": 500}']
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        theirs = json.loads(done.stdout.splitlines()[-1])
        ours = read_json(Path(line))
        assert len(theirs) > 30
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-9), name


def test_llm_ds_report_is_one(measured: Measured, export: Export, tmp_path: Path) -> None:
    """Held against llm-d's own package, which refuses unknown keys and wrong units."""
    _, out, _ = export(measured.folder, "--format=llm-d", "-o", tmp_path)
    for point, line in zip(measured.points, out.splitlines(), strict=True):
        report = llmd_benchmark_report.import_benchmark_report(line).dump()
        service, found = point["latency"]["service"], report["results"]["request_performance"]["aggregate"]
        for theirs, ours in (
            *(("time_to_first_token", "ttft"), ("time_per_output_token", "tpot"), ("request_latency", "e2e")),
            *(("normalized_time_per_output_token", "ntpot"), ("inter_token_latency", "itl")),
        ):
            assert found["latency"][theirs]["mean"] == service[ours]["mean_s"]
            assert found["latency"][theirs]["p99"] == service[ours]["p99"]["value_s"]
        assert found["throughput"]["request_rate"]["mean"] == point["throughput"]["requests_per_s"]
        assert found["throughput"]["output_token_rate"]["mean"] == point["throughput"]["output_tokens_per_s"]
        assert found["requests"]["total"] == 30 and found["requests"]["failures"] == 0
        assert found["requests"]["output_length"]["mean"] == point["metrics"]["avg_output_len"]
        load = report["scenario"]["load"]["standardized"]
        assert load["rate_qps"] == point["load"]["request_rate"]
        assert load["input_seq_len"] == {"distribution": "fixed", "value": 64}
        assert load["output_seq_len"]["distribution"] == "gaussian" and load["output_seq_len"]["std_dev"] == 4.0
        assert report["run"]["keywords"][0] == point["verdict"]["verdict"]
        [component] = report["results"]["observability"]["components"]
        gauges = point["server"]["readings"][0]["gauges"]
        assert component["aggregate"].get("running_requests", {}).get("p95") == gauges.get("running", {}).get("p95")
    first = measured.points[0]
    [told], window = first["server"]["readings"], first["window"]
    looks = [at for at in told["series"]["times_s"] if window["start_s"] < at < window["end_s"]]
    assert "running" in told["gauges"] or not looks, "there is one a second, but for stalls"
    again = export(measured.folder, "--format=llm-d", "-o", tmp_path / "again")[1].splitlines()
    assert [Path(line).read_text() for line in again] == [Path(line).read_text() for line in out.splitlines()]


def failing(**context: Any) -> Records:
    """A point in which half of the requests are refused."""
    made = uniform_records(40, **context)
    made.columns["status"][::2] = Status.HTTP_UNAVAILABLE
    return made


def test_what_must_not_be_used_is_there_and_marked(export: Export, tmp_path: Path) -> None:
    good, bad = uniform_records(400, request_rate=10.0), failing(request_rate=20.0, date="20260102-030505")
    folder = written(tmp_path, good, bad)
    code, text, err = export(folder, "--format=csv")
    assert code == Exit.DONE and err == "1 of 2 points must not be used: 20 req/s (FAILED)\n"
    assert [(row["verdict"], row["usable"], bool(row["reasons"])) for row in rows_of(text)][1] == (
        "FAILED",
        "false",
        True,
    )
    code, table, _ = export(folder, "--format=markdown")
    first, second = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert "~~" not in first and "**✗ FAILED**" in second and second.count("~~") == 2 * 8
    assert "~~Struck through~~: must not be used." in table and "\n- 20 req/s: " in table
    path = next(folder.glob("*20.0qps*.npz"))
    code, _, err = export(path, "--format=llm-d", "-o", tmp_path / "out")
    assert code == Exit.UNUSABLE and "1 of 1 points" in err
    code, out, _ = export(path, "--format=vllm-bench", "-o", tmp_path / "out")
    assert code == Exit.UNUSABLE and read_json(Path(out.strip()))["verdict"] == "FAILED"
    stopped = written(tmp_path / "stopped", uniform_records(400, cut_short="SIGTERM"))
    code, table, err = export(stopped, "--format=markdown")
    assert code == Exit.UNUSABLE and "10 req/s (cut short by SIGTERM)" in err and "~~" in table


@pytest.mark.parametrize(
    "made",
    [
        uniform_records(30, streaming=False),
        uniform_records(30, request_rate=None, duration_s=None),
        uniform_records(30, request_rate=None, concurrency=8),
        make_records([0.0, 0.1], [-1, -1], end_s=[0.1, 0.2], columns={"status": [Status.CONNECT_REFUSED] * 2}),
        make_records([0.0, 0.1], [0, -1], columns={"status": [Status.CANCELLED, Status.NOT_SENT]}, cut_short="SIGINT"),
    ],
    ids=["not streamed", "burst", "closed loop", "nobody there", "stopped at once"],
)
def test_what_is_not_there_is_left_out(made: Records, export: Export, tmp_path: Path) -> None:
    folder = written(tmp_path, made)
    [row] = rows_of(export(folder, "--format=csv")[1])
    assert not {"nan", "inf", "none"} & {value.lower() for name, value in row.items() if name != "load"}
    assert export(folder, "--format=markdown")[1].startswith("### org/model by vllm")
    [_, *requests] = export(folder, "--format=csv", "--of=requests")[1].splitlines()
    assert len(requests) == len(made)
    _, out, _ = export(folder, "--format=llm-d", "-o", tmp_path)
    assert llmd_benchmark_report.import_benchmark_report(out.strip()).dump()["version"] == "0.2"
    _, out, _ = export(folder, "--format=vllm-bench", "--detailed", "-o", tmp_path)
    bench = read_json(Path(out.strip()))
    if not made.context.streaming:
        assert "mean_ttft_ms" not in bench and "itls" not in bench and bench["mean_e2el_ms"] > 0
    if made.context.request_rate is None:
        assert bench["request_rate"] == "inf" and "burstiness" not in bench
        assert bench["max_concurrency"] == made.context.concurrency
    if not (made["status"] == Status.OK).any():
        assert bench["completed"] == 0 and not any(name.endswith("_ms") for name in bench)


def test_several_models_each_and_together(export: Export, tmp_path: Path) -> None:
    made = uniform_records(60, models=["a|b", "c"], traffic_split=[0.5, 0.5])
    made.columns["model"][1::2] = 1
    folder = written(tmp_path, made)
    rows = rows_of(export(folder, "--format=csv")[1])
    assert sorted((row["model"], row["attempted"]) for row in rows) == [("a|b", "30"), ("c", "30"), ("weighted", "60")]
    lines = export(folder, "--format=markdown")[1].splitlines()
    table = [line for line in lines if line.startswith("| ")]
    notes = {line.partition(":")[0] for line in lines if line.startswith("- ")}
    assert notes == {f"- 10 req/s, {model}" for model in ("a\\|b", "c", "weighted")}
    assert [re.split(r"(?<!\\)\|", line)[2].strip() for line in table] == ["model", "---", "a\\|b", "c", "weighted"]
    requests = rows_of(export(folder, "--format=csv", "--of=requests")[1])
    assert len(requests) == 60, "each once"
    alone = next(path for path in folder.glob("*.json") if path.name.endswith("-c.json"))
    assert {row["model"] for row in rows_of(export(alone, "--format=csv", "--of=requests")[1])} == {"c"}
    _, out, _ = export(folder, "--format=vllm-bench", "-o", tmp_path / "bench")
    benches = {bench["model_id"]: bench for bench in (read_json(Path(line)) for line in out.splitlines())}
    assert {name: bench["completed"] for name, bench in benches.items()} == {"a|b": 30, "c": 30, "weighted": 60}
    [path] = folder.glob("*.npz")
    assert {row["model"] for row in rows_of(export(path, "--format=csv")[1])} == {"a|b", "c", "weighted"}


def test_names_from_outside_are_text_in_markdown(export: Export, tmp_path: Path) -> None:
    """Read by a Markdown reader that takes HTML, as many do."""
    names = ["<script>alert(1)</script>", "a|b *c* `d` [e](javascript:f) ~~g~~", r"\<img src=x onerror=alert(1)>"]
    records = uniform_records(30, models=names)
    records.columns["model"][:] = np.arange(30) % len(names)
    _, out, _ = export(written(tmp_path / "made", records), "--format=markdown")
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(out)
    inline = [token for outer in tokens for token in outer.children or []]
    assert {token.type for token in [*tokens, *inline]}.isdisjoint(
        {"html_block", "html_inline", "link_open", "code_inline", "em_open", "s_open"}
    )
    assert set(names) <= {"".join(child.content for child in token.children or []) for token in tokens}


def test_places_and_profiles(
    measured: Measured, export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A profile's file, its points' files, their records and the folder are the same points, each once."""
    [profile] = measured.folder.glob("*-profile-*.json")
    files, stored = point_files(measured.folder), sorted(measured.folder.glob("*.npz"))
    tables = [
        export(*places, "--format=markdown")[1]
        for places in ([measured.folder], [profile], files, stored, [*files, profile, measured.folder, *stored])
    ]
    assert len(set(tables)) == 1 and tables[0].count("### ") == 1
    costs = [(main(["cost", str(place)]), capsys.readouterr().out)[1] for place in (profile, measured.folder)]
    assert costs[0] == costs[1] and "40 req/s" in costs[0], "`cost` finds them likewise"
    other = written(tmp_path, uniform_records(30))
    _, table, _ = export(other, measured.folder, "--format=markdown")
    assert table.count("### ") == 2 and table.index("org/model") < table.index("simulated")
    old = json.loads(files[0].read_text())
    for name in ("goodput", "telemetry", "work", "cache"):  # of a version that did not have them
        del old[name]
    (tmp_path / "old.json").write_text(json.dumps(old | {"schema_version": "1.0"}))
    [row] = rows_of(export(tmp_path / "old.json", "--format=csv")[1])
    assert row["goodput_share"] == "" and row["ttft_p50_s"] == cell(old["latency"]["service"]["ttft"]["p50"]["value_s"])
    again = rows_of(export(tmp_path / "old.json", files[0], "--format=csv")[1])
    assert len(again) == 1 and again[0]["goodput_share"] != "", "the newer analysis"


@pytest.mark.parametrize("form", ["csv", "parquet", "markdown", "vllm-bench", "llm-d"])
def test_names_of_files_that_are_no_utf8(form: str, export: Export, tmp_path: Path) -> None:
    folder = written(tmp_path / os.fsdecode(b"caf\xe9"), uniform_records(30))
    assert export(folder, "--format", form, "-o", tmp_path / "out")[0] == Exit.DONE
    if form == "csv":
        assert "caf?" in (tmp_path / "out").read_text()


def test_nothing_is_overwritten(measured: Measured, export: Export, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("mine")
    assert export(measured.folder, "--format=csv", "-o", path)[1] == f"{tmp_path / 'points-2.csv'}\n"
    assert path.read_text() == "mine"
    assert (tmp_path / "points-2.csv").read_text() == export(measured.folder, "--format=csv")[1]
    for form in ("vllm-bench", "llm-d"):
        for count in (2, 4):
            export(measured.folder, f"--format={form}", "-o", tmp_path / form)
            assert len(list((tmp_path / form).iterdir())) == count


def bad_input(folder: Path, measured: Path) -> Iterator[tuple[Sequence[object], str]]:
    lone = folder / "lone.json"
    lone.write_bytes(point_files(measured)[0].read_bytes())
    for name, text in (
        ("other.json", "{}"),
        ("broken.json", "{"),
        ("torn.records.npz", "x"),
        ("bad.npz", "x"),
        ("list.json", '{"points": []}'),
    ):
        (folder / name).write_text(text)
    (folder / "gone.json").write_text('{"points": [{"files": ["not-there.json"]}]}')
    (folder / "empty").mkdir()
    yield [measured, "--format=xml"], "export: argument --format: invalid choice: 'xml'"
    yield [measured], "export: the following arguments are required: --format"
    yield ["--format=csv"], "export: the following arguments are required: RESULTS"
    yield (
        [measured, "--format=markdown", "--of=requests"],
        "--of: got requests with --format markdown, takes it with csv",
    )
    yield [measured, "--format=csv", "--detailed"], "--detailed: got it with --format csv, takes --format vllm-bench"
    yield [measured, "--format=parquet"], "-o: got nothing, takes a file with --format parquet"
    yield [measured, "--format=llm-d"], "-o: got nothing, takes a folder with --format llm-d"
    yield [measured, "--format=csv", "-o", folder], f"-o: got {folder}, which is a folder, takes a file"
    yield [measured, "--format=llm-d", "-o", lone], f"-o: got {lone}, which is a file, takes a folder"
    yield [measured, "--format=csv", "-o="], "-o: got '', takes a file"
    long = "n" * 300
    yield [long, "--format=csv"], f"error: {long}: File name too long"
    yield [measured, "--format=csv", "-o", long], f"error: -o: {long}: File name too long"
    yield ["~nobody-at-all/x", "--format=csv"], "~nobody-at-all/x: nobody of this name has a home folder"
    yield [folder / "nope", "--format=csv"], f"{folder / 'nope'}: No such file or directory"
    yield [folder / "empty", "--format=csv"], "there is no point in it"
    yield [folder / "other.json", "--format=csv"], "other.json is no point of latency-profile"
    yield [folder / "list.json", "--format=csv"], "list.json is no point of latency-profile"
    yield [folder / "broken.json", "--format=csv"], "broken.json is no JSON"
    yield [folder / "bad.npz", "--format=csv"], "bad.npz is no records file"
    yield [folder / "gone.json", "--format=csv"], "not-there.json: No such file or directory"
    yield [lone, "--format=csv", "--of=requests"], "lone.json: this takes the point's records"
    yield [lone, "--format=csv", "--of=requests"], "torn.records.npz is no records file of this version"
    yield [lone, "--format=vllm-bench", "-o", folder / "out"], "lone.json: this takes the point's records"


def test_bad_input(measured: Measured, export: Export, tmp_path: Path) -> None:
    for arguments, words in bad_input(tmp_path, measured.folder):
        code, out, err = export(*arguments)
        assert (code, out) == (Exit.USAGE, ""), arguments
        assert words in err and err.startswith("error: ") and err.count("\n") == 1, err
    assert not (tmp_path / "out").exists()
    unknown = make_records([0.0], [0.0], columns={"output_tokens": [NONE]})
    code, _, err = export(written(tmp_path / "unknown", unknown), "--format=vllm-bench", "-o", tmp_path / "out")
    assert code == Exit.USAGE and "how long some of its answers are is not known" in err
    code, _, err = export(measured.folder, "--format=csv", "-o", "/proc/points.csv")
    assert code == Exit.NOT_STORED and "cannot write /proc/points.csv" in err


@pytest.mark.parametrize("command", [["export", "--format=csv"], ["cost"], ["report"]])
def test_what_is_printed_into_a_full_disk_is_an_error(command: list[str], tmp_path: Path) -> None:
    folder = written(tmp_path / "made", uniform_records(30, settings={"machine_cost": 4.0}))
    arguments = [sys.executable, "-m", "latency_profile", *command, str(folder)]
    env = environment(PYTHONPATH=str(ROOT))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            arguments, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=env, check=False
        )
    assert done.returncode == Exit.NOT_STORED, done.stderr
    assert "error: cannot write what is printed: No space left on device\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_parquet_without_its_package(measured: Measured, export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = export(measured.folder, "--format=parquet", "-o", "points.parquet")
    assert code == Exit.USAGE
    assert err == "error: --format: parquet takes the package pyarrow, which is not installed: pip install pyarrow\n"
    assert export(measured.folder, "--format=csv")[0] in (0, 4)
