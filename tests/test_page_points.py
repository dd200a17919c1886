"""What the page shows of single points: the very numbers of their JSON, on real profiles of the simulator and on made
records, and figures that Vega-Lite takes without a word."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import vl_convert

from benchmarks.report import synthetic
from benchmarks.truth import simulator
from latency_profile import measures, records
from latency_profile.hardware.structure import GpuReadings, HardwareReadings, HostReadings
from latency_profile.measures import Span
from latency_profile.page.points.bins import bins_over
from latency_profile.rates import output_tokens_by, rates_in
from latency_profile.records import NONE, Records, Status
from tests.make_records import SECOND, make_records, uniform_records
from tests.page_points import NAME, Shown, shown, step_s, whole_spec
from tests.tool import benchmark, point_files

MS = 1_000_000
COMMON = ("--tokenizer=bundled", "--save-json-results", "--ignore-eos", "--input-len=32", "--output-len=12")
RUNS = {
    "open": (
        *("--stream-request", "--models=a,b", "--request-rates=40,inf", "--num-prompts=50"),
        "--scrape-server-metrics",
    ),
    "closed": ("--stream-request", "--models=a", "--concurrencies=4", "--num-prompts=40"),
    "whole": ("--models=a", "--request-rates=40", "--num-prompts=40"),
}
LATENCIES = {
    "waits": {
        "TTFT": ("service", "ttft"),
        "TTFT from due": ("response", "ttft"),
        "visible TTFT": ("service", "ttft_visible"),
        "E2E": ("service", "e2e"),
        "E2E from due": ("response", "e2e"),
    },
    "paces": {"ITL": ("service", "itl"), "TPOT": ("service", "tpot"), "NTPOT": ("service", "ntpot")},
}


@pytest.fixture(scope="module", name="measured")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    """Points of real profiles, some of whose requests failed, by run, load and model."""
    found = {}
    with simulator("--model=a", "--model=b", "--fault=429:0.05,reset:0.05", "--engine=h100-8b") as port:
        for run, flags in RUNS.items():
            folder = tmp_path_factory.mktemp(run)
            done = benchmark("--host=127.0.0.1", f"--port={port}", f"--output-dir={folder}", *COMMON, *flags)
            assert done.returncode in (0, 4), done.stderr
            for path in point_files(folder):
                tree = json.loads(path.read_text())
                [of] = [
                    each
                    for each in map(records.load, folder.glob("*.records.npz"))
                    if each.context.date == tree["dimensions"]["date"]
                ]
                found[f"{run} {tree['metrics']['request_rate']} {tree['config']['model']}"] = Shown(tree, of)
    return found


def test_all_kinds_of_points_were_measured(measured: dict[str, Shown]) -> None:
    names = {f"open {load} {model}" for load in ("40.0", "inf") for model in ("a", "b", "weighted")}
    assert set(measured) == names | {"closed inf a", "whole 40.0 a"}
    assert any(sum(point.tree["errors_by_kind"].values()) for point in measured.values())


def test_curves_go_through_the_percentiles_of_the_json(measured: dict[str, Shown]) -> None:
    looked_at = 0
    for point in measured.values():
        for name, latencies in LATENCIES.items():
            shares = point.data(name, "quantiles")["share"]
            for latency, (of, metric) in latencies.items():
                tree = (point.tree["latency"][of] or {}).get(metric)
                if tree is None:
                    assert latency not in point.figures[name].data["quantiles"]
                    continue
                curve = dict(zip(shares, point.data(name, "quantiles")[latency], strict=True))
                expected = {100: tree["max_s"], 0: tree["min_s"]}
                expected |= {level: tree[f"p{level}"]["value_s"] for level in (50, 90, 95, 99)}
                for level, value in expected.items():
                    if curve[level] is None:  # a logarithmic axis has no place for it
                        assert value == 0
                    else:
                        assert curve[level] == pytest.approx(1000 * value, rel=1e-3)
                    looked_at += 1
    assert looked_at > 200


def test_drawn_percentiles_are_those_of_the_json(measured: dict[str, Shown]) -> None:
    point = measured["open 40.0 weighted"]
    data = point.data("waits", "percentiles")
    rows = list(zip(*data.values(), strict=True))
    assert len(rows) == 4 * 4
    for series, level, _, value, low, high in rows:
        of, metric = LATENCIES["waits"][series]
        tree = point.tree["latency"][of][metric][level]
        assert value == pytest.approx(1000 * tree["value_s"], rel=1e-3)
        for ours, theirs in ((low, tree["low_s"]), (high, tree["high_s"])):
            assert (ours is None) == (theirs is None)
            assert ours is None or ours == pytest.approx(1000 * theirs, rel=1e-3)


def test_steps_add_up_to_the_counts_of_the_json(measured: dict[str, Shown]) -> None:
    for name, point in measured.items():
        counts, width = point.tree["load"]["counts"], step_s(point.figures["rates"])
        rates = point.data("rates", "steps")
        came = {"offered": counts["planned"]} if name.startswith(("open 40", "whole")) else {"sent": counts["sent"]}
        for series, expected in (came | {"completed": counts["succeeded"]}).items():
            assert width * sum(rates[series]) == pytest.approx(expected, rel=1e-3), name
        tokens = point.data("output-tokens", "steps")["received"]
        total = point.tree["metrics"]["total_output_token"]
        assert step_s(point.figures["output-tokens"]) * sum(tokens) == pytest.approx(total, rel=1e-3)
        assert len(tokens) <= 120


def test_failures_add_up_to_those_of_the_json(measured: dict[str, Shown]) -> None:
    for point in measured.values():
        by_kind = {kind: n for kind, n in point.tree["errors_by_kind"].items() if n}
        if not by_kind:
            assert "failures" not in point.figures
            assert "succeeded" in point.said("Requests that did not succeed")
            continue
        data = point.data("failures", "failures")
        drawn = dict.fromkeys(data["kind"], 0)
        for kind, n in zip(data["kind"], data["requests"], strict=True):
            drawn[kind] += n
        assert drawn == by_kind
        [table] = point["Requests that did not succeed"].tables
        assert {row[0]: int(row[1]) for row in table.table.rows} == by_kind


def test_the_slowest_are_the_largest_of_the_json(measured: dict[str, Shown]) -> None:
    for name, point in measured.items():
        of = point.tree["latency"]["service" if name.startswith("closed") else "response"]
        by_e2e = point.data("slowest-e2e", "requests")
        assert by_e2e["end"][0] == pytest.approx(of["e2e"]["max_s"], rel=1e-3)
        assert by_e2e["end"] == sorted(by_e2e["end"], reverse=True)
        if not point.tree["load"]["streaming"]:
            assert "slowest-ttft" not in point.figures
            continue
        by_ttft = point.data("slowest-ttft", "requests")
        assert by_ttft["first"][0] == pytest.approx(of["ttft"]["max_s"], rel=1e-3)
        assert by_ttft["first"] == sorted(by_ttft["first"], reverse=True)


def test_tables_have_the_figures_numbers(measured: dict[str, Shown]) -> None:
    """For who cannot see a figure: of lines what can be told in a row, of all else every number."""
    point = measured["open 40.0 weighted"]
    drawn = point.data("in-flight", "steps")["in flight"]
    table = point.figures["in-flight"].table
    assert table is not None
    [[name, steps, mean, least, most]] = table.rows
    assert (name, int(steps), float(least), float(most)) == ("in flight", len(drawn), min(drawn), max(drawn))
    assert float(mean) == pytest.approx(sum(drawn) / len(drawn), rel=0.01)
    slowest = point.figures["slowest-e2e"].table
    assert slowest is not None
    requests = point.data("slowest-e2e", "requests")
    assert [int(row[0]) for row in slowest.rows] == requests["request"]
    ended = [float(row[4]) for row in slowest.rows]
    assert ended == pytest.approx([1000 * end for end in requests["end"]], rel=0.01)
    parts = point.figures["ttft-parts"].table
    assert parts is not None
    assert parts.header[:2] == ("TTFT, mean, ms", "whole")
    for _, whole, *means in parts.rows:
        assert float(whole) == pytest.approx(sum(map(float, means)), rel=0.01)


def test_parts_of_the_ttft_add_up_to_its_mean(measured: dict[str, Shown]) -> None:
    point = measured["open 40.0 weighted"]
    data = point.data("ttft-parts", "parts")
    whole = sum(mean for band, mean in zip(data["band"], data["mean"], strict=True) if band == "all")
    assert whole == pytest.approx(1000 * point.tree["latency"]["response"]["ttft"]["mean_s"], rel=2e-3)
    split = point.tree["server"]["reconciliation"]["ttft_split"]
    total = sum(point.data("ttft-mean", "parts")["mean"])
    assert total == pytest.approx(1000 * split["total_s"], rel=2e-3)


def test_what_a_point_does_not_have_is_said(measured: dict[str, Shown]) -> None:
    whole = measured["whole 40.0 a"]
    assert "no TTFT, TPOT and ITL" in whole.said("Latencies")
    assert "no TTFT to be split" in whole.said("Parts of the TTFT")
    closed = measured["closed inf a"]
    assert "lateness" not in closed.figures
    assert "no due times" in closed.said("Over time")
    assert "backlog" not in closed.figures
    burst = measured["open inf weighted"]
    assert "due at once" in burst.said("Over time")
    for point in (whole, closed):
        assert point.said("What the server said") == "No metrics of the server were read over this point."
        assert point.said("The machines") == "No machine was watched over this point."


def test_a_closed_loops_requests_in_flight_are_its_concurrency(measured: dict[str, Shown]) -> None:
    in_flight = measured["closed inf a"].data("in-flight", "steps")["in flight"]
    assert max(in_flight) == 4


def cases(measured: dict[str, Shown]) -> Iterator[tuple[str, Shown]]:
    yield from measured.items()
    yield "without records", Shown(measured["open 40.0 weighted"].tree, None)
    yield "machines", shown(on_gpus())
    yield "saturated", shown(saturated())
    yield "cut short", shown(cut_short())
    yield "all failed", shown(all_failed())
    yield "many kinds", shown(many_kinds())
    yield "nothing", shown(make_records([], measured_ns=0))


def test_vega_lite_takes_every_figure_without_a_warning(
    measured: dict[str, Shown], capfd: pytest.CaptureFixture[str]
) -> None:
    looked_at, drawn = set(), set()
    for name, point in cases(measured):
        for figure in point.figures.values():
            text = json.dumps(figure.spec)
            drawn.add(figure.name)
            if text in looked_at:
                continue
            vega = vl_convert.vegalite_to_vega(whole_spec(figure), vl_version="6.4", show_warnings=True)
            assert capfd.readouterr().err == "", f"{name}: {figure.name}"
            titles = [axis["title"] for axis in vega["axes"] if axis.get("title")]
            assert titles, f"{name}: {figure.name} has no axis with a title"
            looked_at.add(text)
    assert len(drawn) == 17


def test_the_form_of_every_figure(measured: dict[str, Shown]) -> None:
    """Named columns of one length, none without use, no colour of text or ground, strict JSON, unique names."""
    for name, point in cases(measured):
        figures = [figure for section in point.sections for figure in section.figures]
        assert len({figure.name for figure in figures}) == len(figures)
        for figure in figures:
            assert figure.name.startswith(f"{NAME}-")
            text = json.dumps(figure.spec)
            assert not {"$schema", "config", "background", "width", "title"} & set(figure.spec)
            assert '"values": [{' not in text
            assert '"type": "text"' not in text
            for table, columns in figure.data.items():
                assert f'"name": "{table}"' in text, f"{name}: {figure.name} does not use {table}"
                assert len({len(values) for values in columns.values()}) == 1
        encoded = msgspec.json.encode(point.sections)
        json.loads(encoded, parse_constant=lambda constant: pytest.fail(f"{constant} in a section"))


def test_without_records_the_json_is_shown(measured: dict[str, Shown]) -> None:
    known = measured["open 40.0 weighted"]
    point = Shown(known.tree, None)
    assert set(point.figures) >= {"waits", "paces", "ttft-mean", "server-requests"}
    assert "quantiles" not in point.figures["waits"].data
    assert point.data("waits", "percentiles") == known.data("waits", "percentiles")
    for heading in ("Latencies", "Parts of the TTFT", "Over time", "Slowest requests"):
        assert "records are not there" in point.said(heading), heading


def test_figures_of_the_server_are_what_was_read(measured: dict[str, Shown]) -> None:
    point = measured["open 40.0 weighted"]
    series = point.tree["server"]["readings"][0]["series"]
    read = point.data("kv-cache", "steps")
    within = [
        100 * value
        for at, value in zip(series["times_s"], series["gauges"]["kv_cache_use"], strict=True)
        if 0 <= at <= point.tree["metrics"]["benchmark_time"]
    ]
    assert read["KV cache"] == pytest.approx(within, rel=1e-3)


def saturated() -> Records:
    """Ten requests a second of which five are answered: the last one waits for half of the time."""
    due = np.arange(400) / 10
    first = np.arange(1, 401) / 5
    return make_records(due, due, [[at, at + 0.1] for at in first], duration_s=40.0)


def test_the_backlog_is_what_the_verdict_was_read_from() -> None:
    point = shown(saturated())
    assert point.tree["verdict"]["verdict"] == "SATURATED"
    [reason] = [reason for reason in point.tree["verdict"]["reasons"] if "backlog" in reason]
    assert reason in point.said("Evidence")
    [table] = point["Evidence"].tables
    [row] = [row for row in table.table.rows if row[1] == "SATURATED"]
    assert row[2].lstrip("+") in reason
    assert row[3] in f"{reason[:-1]} requests/s."
    data = point.data("backlog", "backlog")
    assert len(data["s"]) == 21
    slope, _ = np.polyfit(data["s"], data["requests"], 1)
    assert f"{slope:+.2f} requests/s" == row[2]
    found, limit = np.array(point.data("backlog", "lines")["requests"]).reshape(2, 2)
    assert found[1] - found[0] > limit[1] - limit[0]


def cut_short() -> Records:
    """Of 200 requests the last twenty were waiting at the stop, and five more had not been sent."""
    made = uniform_records(205, measured_ns=20 * SECOND, cut_short="SIGTERM")
    made.columns["status"][180:200] = Status.CANCELLED
    made.columns["status"][200:] = Status.NOT_SENT
    for name in ("first_token_ns", "last_token_ns", "end_ns"):
        made.columns[name][180:] = NONE
    made.columns["sent_ns"][200:] = NONE
    return made


def test_curves_end_with_the_slowest_that_finished() -> None:
    point = shown(cut_short())
    tree = point.tree["latency"]["response"]["e2e"]
    assert tree["unfinished"] == 20
    curve = point.data("waits", "quantiles")["E2E from due"]
    drawn = [value for value in curve if value is not None]
    assert max(drawn) <= 1000 * tree["max_s"] * 1.001
    assert curve[-1] is None
    assert "20 requests had not ended" in point.said("Latencies")
    failures = point.data("failures", "failures")
    assert dict(zip(failures["kind"], failures["requests"], strict=True)) == {"CANCELLED": 20, "NOT_SENT": 5}
    slowest = point.data("slowest-e2e", "requests")
    assert slowest["status"][0] == "CANCELLED"


def all_failed() -> Records:
    made = uniform_records(50)
    made.columns["status"][:] = Status.TIMEOUT
    return made


def test_where_nothing_succeeded_nothing_is_drawn_as_0() -> None:
    point = shown(all_failed())
    assert set(point.figures) == {"backlog", "rates", "in-flight", "output-tokens", "lateness", "failures"}
    assert "No request has a figure of: TTFT" in point.said("Latencies")
    assert "there is no TTFT" in point.said("Parts of the TTFT")
    assert "none is the slowest" in point.said("Slowest requests")


def test_a_point_of_no_requests() -> None:
    point = shown(make_records([], measured_ns=0))
    assert point.figures == {}
    assert "No request was sent" in point.said("Over time")


def many_kinds() -> Records:
    made = uniform_records(100)
    for place, kind in enumerate(kind for kind in Status if kind not in (Status.OK, Status.NOT_SENT)):
        made.columns["status"][place] = kind
    return made


def test_more_kinds_of_failures_than_colours() -> None:
    point = shown(many_kinds())
    data = point.data("failures", "failures")
    assert sum(data["requests"]) == sum(point.tree["errors_by_kind"].values()) == 25
    assert len(set(data["kind"])) == 8
    assert "others" in data["kind"]


@pytest.mark.parametrize("width_ns", [SECOND // 7, SECOND, 30 * SECOND])
def test_tokens_of_a_step_are_the_throughput_of_its_time(width_ns: int) -> None:
    """Of answers whose usage is not their events' number, of whole ones and failed ones."""
    made = uniform_records(150)
    made.columns["output_tokens"][::3] = 8
    made.columns["status"][::7] = Status.RESET
    rows, count = measures.all_rows(made), -(-made.context.measured_ns // width_ns)
    for records_of in (made, uniform_records(50, streaming=False, events=0)):
        by_step = output_tokens_by(records_of, rows[: len(records_of)], width_ns, count)
        for place in range(count):
            found = rates_in(records_of, rows[: len(records_of)], Span(place * width_ns, (place + 1) * width_ns))
            assert found is not None
            assert by_step[place] == pytest.approx(found.output_tokens * width_ns / SECOND)


@pytest.mark.parametrize("length_ns", [1, 999, 7 * SECOND, 20 * SECOND + 1, 601 * SECOND, 86_400 * SECOND])
@pytest.mark.parametrize("most", [1, 20, 120])
def test_steps_are_round_and_few(length_ns: int, most: int) -> None:
    bins = bins_over(length_ns, most)
    assert bins is not None
    assert bins.count <= most
    assert (bins.count - 1) * bins.width_ns < length_ns <= bins.count * bins.width_ns
    assert str(bins.width_ns).rstrip("0") in {"1", "2", "5"}
    assert bins_over(0) is None


def test_the_drawn_events_tell_of_the_longest_gap() -> None:
    times = [list(1.0 + 0.001 * np.arange(500)), [2.0, 2.1]]
    times[0][300:] = [at + 5 for at in times[0][300:]]
    point = shown(make_records([0.5, 1.5], token_times_s=times))
    events = point.data("slowest-e2e", "events")
    of_first = [at for request, at in zip(events["request"], events["s"], strict=True) if request == 0]
    assert len(of_first) <= 20
    assert max(np.diff(of_first)) == pytest.approx(5.001, rel=1e-3)
    assert of_first[0] == pytest.approx(0.5)
    assert of_first[-1] == pytest.approx(5.999, rel=1e-3)
    assert "longest gaps" in point.said("Slowest requests")


def test_parts_where_answers_tell_of_them() -> None:
    """TTFT from due 500 ms: 20 late, 100 queue, 300 prefill, 80 left; every second answer tells."""
    n = 40
    due = np.arange(n) / 4
    told = np.arange(n) % 2 == 0
    columns = {
        "server_queue_ns": np.where(told, 100 * MS, NONE),
        "server_prefill_ns": np.where(told, 300 * MS, NONE),
    }
    point = shown(make_records(due, due + 0.02, [[at + 0.5, at + 0.6] for at in due], columns=columns))
    data = point.data("ttft-parts", "parts")
    rows = zip(data["band"], data["part"], data["mean"], strict=True)
    means = {part: mean for band, part, mean in rows if band == "all"}
    expected = {"lateness of sending": 20, "server's queue": 100, "prefill": 300, "what remains": 80}
    assert means == pytest.approx(expected)
    assert "Of 20 of 40 requests" in point.said("Parts of the TTFT")


def test_a_visible_ttft_has_a_curve_of_its_own() -> None:
    """Of 300 answers every second one begins with hidden tokens, for 40 to 120 ms."""
    made = uniform_records(300)
    second = made.event_ns[made.event_start[:-1] + 2]
    made.columns["first_visible_ns"] = np.where(made["index"] % 2, made["first_token_ns"], second)
    point = shown(made)
    tree = point.tree["latency"]["service"]["ttft_visible"]
    curves = point.data("waits", "quantiles")
    assert curves["visible TTFT"][-1] == pytest.approx(1000 * tree["max_s"], rel=1e-3)
    assert curves["visible TTFT"][-1] > curves["TTFT"][-1]


def on_gpus() -> Records:
    """Two GPUs that were read ten times a second, the second one idle and without a sensor of power."""
    times = [k / 10 for k in range(-1, 100)]

    def gpu(index: int, busy: float, watts: float | None) -> GpuReadings:
        return GpuReadings(
            index=index,
            uuid=None,
            name="H100",
            driver=None,
            memory_bytes=80 * 2**30,
            power_limit_w=700.0,
            times_s=[at + 0.001 * index for at in times],  # one after the other
            energy_j=None,
            power_w=None if watts is None else [watts] * len(times),
            utilization=[busy] * len(times),
            memory_used_bytes=[40 * 2**30] * len(times),
            temperature_c=None,
            sm_clock_mhz=None,
            memory_clock_mhz=None,
            clock_reasons=None,
        )

    host = HostReadings(
        cpus=8,
        memory_bytes=2**36,
        times_s=[0.0, 1.0, 2.0],
        cpu_busy=[None, 0.5, 0.25],
        memory_available_bytes=[2**35] * 3,
    )
    hardware = HardwareReadings(gpus=[gpu(0, 0.75, 600.0), gpu(1, 0.0, None)], source="nvml", host=host)
    return uniform_records(100, hardware=hardware)


def test_machines_are_drawn_and_a_gpu_without_a_sensor_is_left_out() -> None:
    point = shown(on_gpus())
    busy = point.data("accelerators", "steps")
    assert {name: set(values) - {None} for name, values in busy.items()} == {"GPU 0": {75}, "GPU 1": {0}}
    assert set(point.data("power", "steps")) == {"s", "GPU 0"}
    assert point.data("cpu", "steps") == {"s": [0, 1, 2], "all CPUs": [None, 50, 25]}
    [table] = point["The machines"].tables
    assert [row[:5] for row in table.table.rows[:2]] == [
        ("GPU 0 H100", "75.0%", "75.0%", "40.0 GiB", "600 W"),
        ("GPU 1 H100", "0.0%", "0.0%", "40.0 GiB", "–"),
    ]


def test_sections_of_a_large_point_stay_small() -> None:
    """As JSON, before the page packs it."""
    point = shown(synthetic(5_000, seed=0))
    assert len(msgspec.json.encode(point.sections)) < 48_000


def test_evidence_holds_each_limit_beside_what_was_found(measured: dict[str, Shown]) -> None:
    point = measured["open 40.0 weighted"]
    [table] = point["Evidence"].tables
    rows: dict[str, Any] = {row[0]: row for row in table.table.rows}
    lateness_ms = 1000 * point.tree["load"]["lateness"]["p99_s"]
    found = rows["lateness of sending, p99"]
    assert float(found[2].removesuffix(" ms")) == pytest.approx(lateness_ms, rel=0.01, abs=0.01)
    assert (found[1], found[3]) == ("CLIENT_LIMITED", "10 ms")
    failed = rows["requests that failed, of the window"]
    assert failed[1] == "FAILED"
    others = rows["the server's work for others, by its metrics (direct)"]
    assert others[1:] == ("CONTAMINATED", "0.0%", "1.0%")
    assert point.tree["verdict"]["verdict"] in point.said("Evidence")
