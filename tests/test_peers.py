"""The benchmark against peers: each tool's result file as it wrote it, the server's log, and the tables of both."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.__main__ import TOOLS, measure, write_tokenizer
from benchmarks.peers.process import Ran, run
from benchmarks.peers.rows import Row, accuracy_table, behind, cost_table, row
from benchmarks.peers.tool import Load, NoResult, Report
from benchmarks.peers.truth import Truth, read_truth
from latency_profile.simulator.log import Finish, LogWriter

DATA = Path(__file__).parent / "data" / "peers"
MS = 1_000_000
LOAD = Load("http://127.0.0.1:1", 150.0, 3000, 100, Path("results"), Path("tokenizer"))
TRUTH = Truth(3000, 3000, 5_000_000_000, 50.0, 60.0, 149.0, 0.99, 300_000, 0.3)


@pytest.mark.parametrize(
    ("name", "folder", "p50", "p99", "rate", "succeeded"),
    [
        ("vllm", "vllm", 57.1559, 107.6688, 14.8367, 60),
        ("guidellm", "guidellm", 133.9417, 590.1852, 28.5107, 120),
        ("aiperf", "aiperf", 63.0380, 256.6601, 21.9828, 90),
        ("inference-perf", "inference_perf", 92.8167, 323.6391, 34.5348, 90),
    ],
)
def test_each_tools_own_percentiles_are_read(
    name: str, folder: str, p50: float, p99: float, rate: float, succeeded: int
) -> None:
    report = TOOLS[name].read(DATA / folder, "")
    assert report.ttft_p50_ms == pytest.approx(p50, abs=1e-4)
    assert report.ttft_p99_ms == pytest.approx(p99, abs=1e-4)
    assert report.requests_per_s == pytest.approx(rate, abs=1e-4)
    assert report.succeeded == succeeded
    assert report.plan is None


def test_what_a_tool_warned_of_is_kept_in_its_words() -> None:
    said = TOOLS["aiperf"].read(DATA / "aiperf", (DATA / "aiperf" / "output.txt").read_text()).said
    assert said == (
        "in its log, 5 ×: Event loop for … is taking too long to run. Overhead: …ms",
        "in its log, 1 ×: Event loop for timing_manager is taking too long to run. Overhead: …ms",
    )
    assert TOOLS["guidellm"].read(DATA / "guidellm", "").said == (
        "p95 root dispatch delay was 1.136s over 120 samples (threshold 0.200s).",
    )
    assert TOOLS["inference-perf"].read(DATA / "inference_perf", "").said == (
        "load_summary.schedule_delay: negative minimum -0.00022583100144402124",
    )


@pytest.mark.parametrize("name", list(TOOLS))
def test_a_run_without_a_result_is_no_crash(name: str, tmp_path: Path) -> None:
    with pytest.raises(NoResult, match="no result"):
        TOOLS[name].read(tmp_path, "Traceback")


@pytest.mark.parametrize("name", list(TOOLS))
def test_each_command_line_asks_for_the_load(name: str, tmp_path: Path) -> None:
    load = Load("http://127.0.0.1:18000", 150.0, 3000, 100, tmp_path, tmp_path / "tokenizer")
    asked = " ".join(TOOLS[name].command(load)) + "".join(file.read_text() for file in tmp_path.glob("*.json"))
    for wanted in ("http://127.0.0.1:18000", "150", "100", "32"):
        assert wanted in asked
    assert "3000" in asked or '"duration": 20' in asked


def test_the_truth_is_of_answered_requests_and_of_all_arrivals(tmp_path: Path) -> None:
    log = LogWriter()
    for index, (arrival, ttft, finish) in enumerate(
        [(0, 40, Finish.LENGTH), (100, 50, Finish.LENGTH), (300, 60, Finish.LENGTH), (400, 900, Finish.ABORT)]
    ):
        log.begin(f"r-{index}", arrival * MS, 32)
        log.event(index, (arrival + ttft - 1) * MS, (arrival + ttft) * MS, 1)
        log.event(index, (arrival + ttft + 9) * MS, (arrival + ttft + 10) * MS, 1)
        log.end(index, (arrival + ttft + 10) * MS, arrival * MS, 2, finish)
    log.save(tmp_path / "log.npz")
    truth = read_truth(tmp_path / "log.npz")
    assert truth is not None
    assert (truth.answered, truth.arrived, truth.events, truth.first_arrival_ns) == (3, 4, 8, 0)
    assert truth.ttft_p50_ms == pytest.approx(50)
    assert truth.ttft_p99_ms == pytest.approx(59.8)
    assert truth.requests_per_s == pytest.approx(3 / 0.4)
    gaps = np.array([100, 200, 100])
    assert truth.variation == pytest.approx(gaps.std() / gaps.mean())
    assert truth.write_late_p99_ms == pytest.approx(1)


def test_errors_and_costs_of_a_row() -> None:
    # 2 s of CPU until the first arrival, which comes 3 s after the command; 11 s in all
    ran = Ran(2_000_000_000, 4, (4_000_000_000, 6_000_000_000, 9_000_000_000), (1.0, 3.0, 11.0), 123.0)
    one = row("ours", "ours", LOAD, 10.0, ran, TRUTH, Report(50.25, 59.5, 149.0, 3000))
    assert one.ttft_p50_error_ms == pytest.approx(0.25)
    assert one.ttft_p99_error_ms == pytest.approx(-0.5)
    assert one.startup_s == pytest.approx(3.0)
    assert one.cpu_us_per_event == pytest.approx((11 - 2) / 300_000 * 1e6)
    assert (one.cpu_s, one.peak_mb, one.exit_code, one.said) == (11.0, 123.0, 4, ["exit code 4"])


def test_tables_show_what_is_known_and_dashes_for_the_rest() -> None:
    ran = Ran(0, 0, (9_000_000_000,), (9.0,), 123.0)
    whole = row("ours", "latency-profile", LOAD, 353.2, ran, TRUTH, Report(50.25, 1059.5, 149.0, 3000, ("a | b",)))
    died = row("aiperf", "AIPerf", LOAD, 1209.0, happened="stopped after 180 s")
    lines = accuracy_table([whole, died]).splitlines()
    assert lines[2] == "| 150 | latency-profile | +0.25 / +999.50 | 149.0 | 0.990 | 3,000 / 3,000 / 3,000 | a / b |"
    assert lines[3] == "| 150 | AIPerf | – | – | – | – / 0 / 3,000 | stopped after 180 s |"
    costs = cost_table([whole, died]).splitlines()
    assert costs[2] == "| 150 | latency-profile | 13.3 | 9.0 | 123 | 5.00 | 353 |"
    assert costs[3] == "| 150 | AIPerf | – | – | – | – | 1,209 |"


def _row(tool: str, rate: float, error: float, cpu: float | None = 20.0) -> Row:
    return Row(tool=tool, title=tool, offered=rate, requests=1, ttft_p99_error_ms=error, cpu_us_per_event=cpu)


def test_a_peer_that_did_better_is_named_and_a_tie_is_not() -> None:
    assert behind([_row("ours", 150, 0.3), _row("vllm", 150, -0.21)]) == []
    assert behind([_row("ours", 150, 0.3), _row("vllm", 300, 0.0)]) == []  # another rate
    assert behind([_row("ours", 150, -0.35), _row("vllm", 150, 0.2, cpu=10)]) == [
        "vllm at 150 requests/s: TTFT p99 error (ms) 0.20, ours 0.35",
        "vllm at 150 requests/s: CPU µs per token event 10.00, ours 20.00",
    ]
    assert behind([_row("ours", 150, 0.0, cpu=None), _row("vllm", 150, 0.0)]) == [
        "vllm at 150 requests/s: CPU µs per token event 20.00, ours –"
    ]


def test_all_processes_of_a_command_are_counted(tmp_path: Path) -> None:
    burn = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    shell = f"{sys.executable} -c '{burn}' & {sys.executable} -c '{burn}'; wait; exit 3"
    ran = run(["sh", "-c", shell], {}, tmp_path, tmp_path / "output", 60)
    assert ran.exit_code == 3
    assert 1.0 <= ran.total_cpu_s < 2.0
    assert ran.cpu_since(ran.began_ns) == pytest.approx(ran.total_cpu_s)


def test_a_command_that_takes_too_long_is_stopped_with_its_children(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    child = f"while true; do date +%s%N > {file}; sleep 0.05; done"
    ran = run(
        ["sh", "-c", f"setsid sh -c '{child}' & sleep 60"], {"PATH": "/usr/bin:/bin"}, tmp_path, tmp_path / "o", 4
    )
    assert ran.exit_code is None
    last = file.read_text()
    time.sleep(0.3)
    assert file.read_text() == last


def test_the_tokenizer_folder_loads_as_hugging_face_wants_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    loaded = transformers.AutoTokenizer.from_pretrained(str(write_tokenizer(tmp_path / "tokenizer")))
    assert loaded.decode(loaded.encode("a plain sentence")) == "a plain sentence"
    assert loaded.eos_token == "<|endoftext|>"


def test_this_tool_runs_against_the_server_of_known_timing(tmp_path: Path) -> None:
    one = measure(TOOLS["ours"], 20, 2, 10, tmp_path)
    assert one.happened == ""
    assert one.counted == one.answered == one.arrived == one.requests == 40
    assert one.ttft_p50_error_ms is not None and abs(one.ttft_p50_error_ms) < 20
    assert one.plan_requests_per_s is not None and one.delivered_requests_per_s == pytest.approx(
        one.plan_requests_per_s, rel=0.2
    )
    assert one.startup_s is not None and one.startup_s > 0.1
    assert one.cpu_us_per_event is not None and one.cpu_us_per_event > 0
