"""The whole way, from flags to files, against the embedded model server."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import requests
import tokenizers

from benchmarks.truth import simulator
from latency_profile import records
from latency_profile.cli import main
from tests.launching import until
from tests.real_profile import metric
from tests.servers.fake_gcs import fake_gcs, flaky
from tests.servers.odd import Call, Odd, plain
from tests.tool import (
    ROOT,
    SYNTHETIC,
    benchmark,
    called,
    command,
    environment,
    latency_profile_command,
    only_point,
    point_files,
    read_point,
    schema,
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server that answers at once: 8 tokens in about 12 ms."""
    with simulator("--fixed-timing", "5,1", "--model", "first", "--model", "second") as number:
        yield number


def flags(port: int, folder: Path, *more: str) -> list[str]:
    return [
        "--save-json-results",
        "--host=127.0.0.1",
        f"--port={port}",
        f"--output-dir={folder}",
        "--models=first",
        *SYNTHETIC,
        *more,
    ]


def test_a_point_counts_what_happened(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--stream-request", "--request-rate=50", "--num-prompts=60"))
    assert done.returncode in (0, 4), done.stderr
    point = only_point(tmp_path)
    metrics = point["metrics"]
    assert metrics["num_prompts_attempted"] == metrics["num_prompts_succeeded"] == 60
    assert metrics["total_output_token"] == 60 * 8
    assert metrics["total_input_tokens"] == 60 * 32
    assert metrics["request_rate"] == 50.0
    assert metrics["median_TTFT_ms"] >= 5
    assert metrics["median_TPOT_ms"] == pytest.approx(1.0, abs=0.5)
    assert metrics["median_latency_ms"] >= 12
    assert point["tokens"]["sources"]["USAGE"] == 60
    assert point["dimensions"]["model_id"] == "first"


def test_not_streamed_has_no_ttft(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--request-rate=50", "--num-prompts=20"))
    assert done.returncode in (0, 4), done.stderr
    metrics = only_point(tmp_path)["metrics"]
    assert metrics["num_prompts_succeeded"] == 20
    assert metrics["total_output_token"] == 160
    assert not [key for key in metrics if "TTFT" in key or "ITL" in key or "TPOT" in key]


def test_sweep_writes_a_file_a_point_and_one_for_the_profile(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--request-rates=20,40,inf", "--num-prompts=20", "--file-prefix=sweep"))
    assert done.returncode in (0, 4), done.stderr
    rates = [read_point(path)["metrics"]["request_rate"] for path in point_files(tmp_path)]
    assert sorted(rates, key=str) == [20.0, 40.0, "inf"]
    names = [path.name.rsplit("-", 3)[0] for path in point_files(tmp_path)]
    assert sorted(names) == ["sweep-vllm-20.0qps", "sweep-vllm-40.0qps", "sweep-vllm-infqps"]
    [whole] = tmp_path.glob("*-profile-*.json")
    profile = json.loads(whole.read_text())
    jsonschema.validate(profile, schema("profile"))
    assert [point["request_rate"] for point in profile["points"]] == [20.0, 40.0, None]
    assert {name for point in profile["points"] for name in point["files"]} == {p.name for p in point_files(tmp_path)}
    assert not list(tmp_path.glob(".point-*")), "spools are removed when the records are whole"


def test_traffic_split_gives_a_file_a_model_and_the_weighted_one(port: int, tmp_path: Path) -> None:
    arguments = flags(port, tmp_path, "--models=first,second", "--traffic-split=0.9,0.1", "--num-prompts=200")
    done = benchmark(*arguments, "--request-rate=200")
    assert done.returncode in (0, 4), done.stderr
    by_model = {point["config"]["model"]: point["metrics"] for point in map(read_point, point_files(tmp_path))}
    assert set(by_model) == {"first", "second", "weighted"}
    assert by_model["weighted"]["num_prompts_attempted"] == 200
    assert by_model["first"]["num_prompts_attempted"] + by_model["second"]["num_prompts_attempted"] == 200
    assert 160 <= by_model["first"]["num_prompts_attempted"] <= 196  # binomial(200, 0.9), 1e-5 tails


def test_closed_loop_keeps_its_concurrency(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--concurrencies=1,4", "--num-prompts=40", "--stream-request"))
    assert done.returncode in (0, 4), done.stderr
    for path in tmp_path.glob("*.records.npz"):
        point = records.load(path)
        sent, end = point["sent_ns"], point["end_ns"]
        most = max(int(((sent <= at) & (end > at)).sum()) for at in sent)
        assert most == point.context.concurrency
        assert len(point) == 40
        assert (point["due_ns"] == records.NONE).all()


def test_closed_loop_ends_with_its_time(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--concurrencies=2", "--num-prompts=5000", "--benchmark-time-seconds=1.5"))
    assert done.returncode in (0, 4), done.stderr
    [path] = tmp_path.glob("*.records.npz")
    point = records.load(path)
    assert 10 < len(point) < 5000
    assert point["sent_ns"].max() < 1.5e9
    assert (point["status"] == records.Status.OK).all()


def test_reanalyze_gives_the_same_bytes(port: int, tmp_path: Path) -> None:
    done = benchmark(
        *flags(port, tmp_path, "--models=first,second", "--request-rate=50", "--num-prompts=30", "--stream-request")
    )
    assert done.returncode in (0, 4), done.stderr
    [path] = tmp_path.glob("*.records.npz")
    again = tmp_path / "again"
    remade = latency_profile_command("reanalyze", str(path), str(again))
    assert remade.returncode == done.returncode, remade.stderr
    assert remade.stdout.splitlines()[-1] == done.stdout.splitlines()[-1], "the verdict, and its exit code"
    before = {p.name: p.read_bytes() for p in point_files(tmp_path)}
    assert {p.name: p.read_bytes() for p in point_files(again)} == before
    assert len(before) == 3


def test_reanalyze_refuses_what_is_no_records_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_text("no")
    done = latency_profile_command("reanalyze", str(path))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    path.write_text('{"schema_version": "1.3"}')
    done = called(main, "reanalyze", str(path))
    assert done.returncode == 2 and "pickle" not in done.stderr
    done = called(main, "reanalyze", str(tmp_path / "none.npz"))
    assert done.stderr == f"error: {tmp_path}/none.npz: No such file or directory\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_point_keeps_what_was_measured(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with simulator("--fixed-timing", "200,20") as port:
        arguments = flags(port, tmp_path, "--models=simulated", "--stream-request", "--request-rates=30,60")
        process = subprocess.Popen(
            command(*arguments, "--benchmark-time-seconds=60"),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        assert process.stderr
        assert "started" in process.stderr.readline()
        until(lambda: metric(f"http://127.0.0.1:{port}/metrics", "vllm:request_success_total") > 25, within_s=60)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "req/s" in out
    point = only_point(tmp_path)
    assert point["cut_short"] == number.name
    counts = point["load"]["counts"]
    assert 20 <= counts["succeeded"] < 1000, "of 1800"
    assert counts["unfinished"] >= 1, "some were in flight"
    assert point["metrics"]["num_prompts_succeeded"] == counts["succeeded"]


def test_plain_output_has_no_control_characters(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--request-rate=20", "--num-prompts=10"))
    assert done.returncode in (0, 4), done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "TTFT" not in done.stdout
    assert "E2E ms" in done.stdout


def test_dry_run_sends_nothing() -> None:
    arguments = ["--port=9", "--request-rates=2,4", "--benchmark-time-seconds=10", "--dry-run", *SYNTHETIC]
    done = benchmark(*arguments, "--models=m", "--stream-request", OPENAI_API_KEY="sk-not-to-be-seen")
    assert done.returncode == 0, done.stderr  # nobody listens on port 9
    assert "point 2 of 2: 4 req/s" in done.stdout
    assert '"model":"m"' in done.stdout
    assert "sk-not-to-be-seen" not in done.stdout + done.stderr
    assert "authorization: (not shown)" in done.stdout


def test_key_goes_to_the_server_and_nowhere_else(port: int, tmp_path: Path) -> None:
    key = "sk-very-secret-0123456789"
    done = benchmark(*flags(port, tmp_path, "--request-rate=20", "--num-prompts=5"), OPENAI_API_KEY=key)
    assert done.returncode in (0, 4), done.stderr
    assert key not in done.stdout + done.stderr
    for path in tmp_path.iterdir():
        assert key.encode() not in path.read_bytes(), path.name


def test_curve_script_profiles_from_environment_variables(port: int, tmp_path: Path) -> None:
    prompts = [{"prompt": f"Tell me about the number {n}, please.", "output_len": 8} for n in range(12)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    variables = {
        "IP": "127.0.0.1",
        "PORT": str(port),
        "BACKEND": "vllm",
        "MODELS": "first",
        "TOKENIZER": "bundled",
        "PROMPT_DATASET_FILE": str(tmp_path / "prompts.jsonl"),
        "INPUT_LENGTH": "64",
        "OUTPUT_LENGTH": "64",
        "REQUEST_RATES": "20,0",
        "BENCHMARK_TIME_SECONDS": "1",
        "MAX_NUM_PROMPTS": "15",
        "STREAM_REQUEST": "true",
        "IGNORE_EOS": "true",
        "FILE_PREFIX": "nightly",
        "OUTPUT_DIR": str(tmp_path),
        "CACHE_DIR": str(tmp_path / "cache"),
        "PYTHON": sys.executable,
    }
    done = subprocess.run(
        [ROOT / "latency_throughput_curve.sh"],
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 4), done.stderr
    points = {read_point(path)["metrics"]["request_rate"]: read_point(path) for path in point_files(tmp_path)}
    assert set(points) == {20.0, "inf"}
    assert points["inf"]["metrics"]["num_prompts_succeeded"] == 15
    assert points["inf"]["metrics"]["avg_output_len"] == 8
    assert "median_TTFT_ms" in points[20.0]["metrics"]
    assert all(path.name.startswith("nightly-vllm-") for path in point_files(tmp_path))


def test_results_go_to_the_bucket_too(port: int, tmp_path: Path) -> None:
    with fake_gcs(tmp_path) as url:
        requests.post(f"{url}/storage/v1/b", json={"name": "profiles"}, timeout=10).raise_for_status()
        arguments = flags(port, tmp_path, "--request-rate=40", "--num-prompts=10", "--output-bucket=profiles")
        done = benchmark(*arguments, "--output-bucket-filepath=nightly/vllm", STORAGE_EMULATOR_HOST=url)
        assert done.returncode in (0, 4), done.stderr
        objects = requests.get(f"{url}/storage/v1/b/profiles/o", timeout=10).json()["items"]
        stored = {item["name"] for item in objects} - {"nightly/vllm/.latency-profile-was-here"}
        left = [path.name for path in tmp_path.iterdir() if path.name.endswith((".json", ".records.npz", ".html"))]
        assert stored == {f"nightly/vllm/{name}" for name in left}
        assert len(stored) == 4  # the point, its records, the profile, its page
        missing = benchmark(*flags(port, tmp_path, "--output-bucket=no-such-bucket"), STORAGE_EMULATOR_HOST=url)
    assert missing.returncode == 2
    assert len(missing.stderr.splitlines()) == 1, missing.stderr
    assert "no-such-bucket" in missing.stderr


def test_a_bucket_that_goes_away_is_exit_6_and_the_files_stay(port: int, tmp_path: Path) -> None:
    with fake_gcs(tmp_path) as url:
        requests.post(f"{url}/storage/v1/b", json={"name": "profiles"}, timeout=10).raise_for_status()

        def fault(method: str, path: str, number: int) -> str | None:
            del path
            return "before" if method == "POST" and number > 2 else None  # the check before the load is answered

        with flaky(url, fault, status=403) as (broken, _):
            arguments = flags(port, tmp_path, "--request-rate=40", "--num-prompts=10", "--output-bucket=profiles")
            done = benchmark(*arguments, STORAGE_EMULATOR_HOST=broken)
    assert done.returncode == 6, done.stderr
    assert only_point(tmp_path)["metrics"]["num_prompts_succeeded"] == 10


def test_the_servers_own_metrics_are_in_the_file(port: int, tmp_path: Path) -> None:
    done = benchmark(*flags(port, tmp_path, "--request-rate=40", "--num-prompts=10", "--scrape-server-metrics"))
    assert done.returncode in (0, 4), done.stderr
    metrics = only_point(tmp_path)["metrics"]["server_metrics"]
    assert metrics["vllm:generation_tokens_total"]["Increase"] == 80
    assert metrics["vllm:request_success_total"]["Increase"] == 10


def test_answers_without_a_count_are_tokenized(tmp_path: Path) -> None:
    """A server that sends no usage and no ids: the text is counted, after the run, and the source says so."""

    def answer(call: Call) -> None:
        if not call.body:
            call.send(plain(b'{"data": [{"id": "m"}]}'))
            return
        choice = {"index": 0, "text": "one two three four", "finish_reason": "stop"}
        call.send(plain(json.dumps({"choices": [choice], "object": "text_completion"}).encode()))

    with Odd(answer) as server:
        arguments = ["--save-json-results", f"--port={server.port}", f"--output-dir={tmp_path}", "--backend=openai"]
        arguments += ["--tokenizer=bundled", "--input-len=32", "--output-len=8", "--num-prompts=5", "--host=127.0.0.1"]
        done = benchmark(*arguments)
    assert done.returncode in (0, 4), done.stderr
    point = only_point(tmp_path)
    assert point["tokens"]["sources"]["TOKENIZER"] == 5
    tokenizer = tokenizers.Tokenizer.from_file(str(ROOT / "latency_profile/simulator/tokenizer.json"))
    assert point["metrics"]["avg_output_len"] == len(tokenizer.encode("one two three four").ids)
