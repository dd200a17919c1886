"""Profiles of a real vLLM on the CPU: token counts equal its own, latencies agree with vLLM's own client."""

import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.vllm_bench.client import BenchResult
from latency_profile import records
from latency_profile.records import NONE, Status, TokenSource
from latency_profile.statistics import binomial_ranks
from tests.real_profile import Profiled, check_refused, metric, profile, read, send_bodies
from tests.servers.vllm_server import MODEL, Vllm, bench, installed, serve_process
from tests.tool import command, environment

pytestmark = pytest.mark.vllm

PAIRS = 5
TURNS = 8
INPUT, OUTPUT, REQUESTS = 128, 16, 1
PAUSE_S = 6.0
SETTLE_S = 0.5
TOLERANCE = 0.05


def measure(server: str, folder: Path, *flags: str, stream: bool) -> Profiled:
    return profile(
        folder,
        f"--url={server}",
        f"--tokenizer={MODEL}",
        "--ignore-eos",
        "--temperature=0",
        *(["--stream-request"] if stream else []),
        *flags,
        timeout=600,
    )


def check_tokens(server: str, folder: Path, door: str, stream: bool) -> Profiled:
    """Profiles the server, and holds the tokens of the records against its counters."""
    counters = [f"vllm:{name}_tokens_total" for name in ("generation", "prompt")]
    before = [metric(f"{server}/metrics", name) for name in counters]
    load = ["--input-len=48", "--output-len=16", "--num-prompts=12", "--concurrencies=4"]
    profiled = measure(server, folder, f"--endpoint={door}", *load, stream=stream)
    rows = profiled.rows
    assert profiled.statuses == {Status.OK: 12}, profiled.messages
    assert (rows["token_source"] == TokenSource.USAGE).all()
    assert (rows["output_tokens"] == 16).all()
    grown = [metric(f"{server}/metrics", name) - was for name, was in zip(counters, before, strict=True)]
    assert grown == [rows["output_tokens"].sum(), rows["server_input_tokens"].sum()]
    if door == "completions":
        assert (rows["server_input_tokens"] == rows["input_tokens"]).all()
    if stream:
        assert profiled.tokens_by_events == rows["output_tokens"].tolist()
    return profiled


@pytest.mark.parametrize("door", ["completions", "chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_tokens_equal_the_servers_own(vllm_server: str, tmp_path: Path, door: str, stream: bool) -> None:
    check_tokens(vllm_server, tmp_path, door, stream)


@pytest.mark.parametrize(
    ("door", "flag", "http_status", "words"),
    [
        ("completions", "--input-len=2100", 400, "maximum context length"),
        ("chat", "--input-len=2100", 400, "maximum context length"),
        ("completions", '--extra-body={"max_tokens": 5000}', 400, "cannot be greater than max_model_len"),
        ("completions", '--extra-body={"max_tokens": "x"}', 400, "unable to parse string as an integer"),
        ("completions", '--extra-body={"model": "nope"}', 404, "The model `nope` does not exist"),
        ("chat", '--extra-body={"model": "nope"}', 404, "The model `nope` does not exist"),
        ("completions=/nope", "--temperature=0", 404, "Not Found"),
    ],
    ids=["long", "long-chat", "too-many", "type", "model", "model-chat", "path"],
)
@pytest.mark.parametrize("stream", [True, False])
def test_refusals_are_told_apart(
    vllm_server: str, tmp_path: Path, door: str, flag: str, http_status: int, words: str, stream: bool
) -> None:
    load = ["--input-len=48", "--output-len=4", "--num-prompts=2", "--concurrencies=1"]
    profiled = measure(vllm_server, tmp_path, f"--endpoint={door}", *load, flag, stream=stream)
    check_refused(profiled, Status.HTTP_CLIENT_ERROR, http_status, words)


def test_a_body_that_is_no_request_is_refused(vllm_server: str, tmp_path: Path) -> None:
    driven = send_bodies(vllm_server, tmp_path, "vllm", "completions", "/v1/completions", b'{"prompt":', b"{}")
    assert driven.statuses == [Status.HTTP_CLIENT_ERROR] * 2
    assert driven.records["http_status"].tolist() == [400, 400]
    assert any("JSON decode error" in line for line in driven.collected[0].errors["HTTP_CLIENT_ERROR"])


@pytest.fixture(scope="module")
def four_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """A vLLM of its own that sends four tokens an event; the last test of this module kills its engine."""
    if not installed():
        pytest.skip("no vLLM here: `make test-vllm` installs it")
    with serve_process(tmp_path_factory.mktemp("four") / "server.log", "--stream-interval", "4") as server:
        yield server


@pytest.mark.parametrize("door", ["completions", "chat"])
def test_four_tokens_an_event(four_at_a_time: Vllm, tmp_path: Path, door: str) -> None:
    profiled = check_tokens(four_at_a_time.url, tmp_path, door, stream=True)
    rows = profiled.rows
    held = set(rows.event_tokens.tolist())
    assert 4 in held
    assert profiled.point["tokens"]["tokens_per_event"]["mean"] > 2
    assert (rows["first_token_ns"] < rows["last_token_ns"]).all()


def test_latencies_agree_with_vllms_own_client(vllm_server: str, tmp_path: Path) -> None:
    """Five alternating pairs at concurrency 1, without a prefix cache: the median ratio is not provably over 5 % off.

    A shared machine has two speeds that change every few seconds (a token takes 55 ms, or 90 while a neighbour uses
    the other half of the core), and starting a Python process slows it too. So both clients are started once; within
    a pair they take turns, request by request, theirs in the pauses between the points of one profile of ours, and
    each ratio is of two neighbours. What noise is left is in the interval of the median, which the test goes by.
    """
    ours = command(
        f"--url={vllm_server}",
        f"--tokenizer={MODEL}",
        f"--output-dir={tmp_path}",
        "--save-json-results",
        "--ignore-eos",
        "--temperature=0",
        "--stream-request",
        f"--input-len={INPUT}",
        f"--output-len={OUTPUT}",
        f"--num-prompts={REQUESTS}",
        f"--concurrencies={','.join(['1'] * PAIRS * TURNS)}",
        f"--sleep-seconds={PAUSE_S}",
    )
    theirs: list[BenchResult] = []
    with (
        bench(vllm_server, tmp_path / "bench.log") as client,
        subprocess.Popen(ours, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()) as run,
    ):
        assert run.stderr
        for line in run.stderr:
            if " ok, " in line:  # a point of ours has ended
                time.sleep(SETTLE_S)
                began = time.monotonic()
                theirs.append(
                    client.measure(
                        input_tokens=INPUT, output_tokens=OUTPUT, requests=REQUESTS, seed=len(theirs), concurrency=1
                    )
                )
                assert time.monotonic() - began < PAUSE_S - SETTLE_S, "our next point has begun"
    points = sorted(map(records.load, tmp_path.glob("*.records.npz")), key=lambda point: point.context.point)
    assert len(points) == len(theirs) == PAIRS * TURNS
    turns = list(zip(points, theirs, strict=True))
    ttft = [ttft_ms(point) / bench.ttft_ms[0] for point, bench in turns]
    tpot = [tpot_ms(point) / bench.tpot_ms[0] for point, bench in turns]
    for name, ratios in (("TTFT", ttft), ("TPOT", tpot)):
        of_pairs = [statistics.median(ratios[pair * TURNS : (pair + 1) * TURNS]) for pair in range(PAIRS)]
        low_rank, high_rank = binomial_ranks(len(ratios), 0.5)
        assert low_rank is not None
        assert high_rank is not None
        low, high = sorted(ratios)[low_rank - 1], sorted(ratios)[high_rank - 1]
        print(
            f"{name}, ours / theirs: median of {PAIRS} pairs {statistics.median(of_pairs):.3f} "
            f"({', '.join(f'{ratio:.3f}' for ratio in of_pairs)}); of all turns {statistics.median(ratios):.3f}, "
            f"95 % interval {low:.3f} to {high:.3f}"
        )
        assert low < 1 + TOLERANCE, f"{name} is more than 5 % above vLLM's own"
        assert high > 1 - TOLERANCE, f"{name} is more than 5 % below vLLM's own"


def ttft_ms(point: records.Records) -> float:
    assert (point["status"] == Status.OK).all()
    return float((point["first_token_ns"] - point["sent_ns"])[0]) / 1e6


def tpot_ms(point: records.Records) -> float:
    assert (point["output_tokens"] == OUTPUT).all()
    return float((point["last_token_ns"] - point["first_token_ns"])[0]) / 1e6 / (OUTPUT - 1)


def test_the_engine_is_killed_in_mid_stream(four_at_a_time: Vllm, tmp_path: Path) -> None:
    """Every request fails, none is forgotten, and the profile ends by itself."""
    requests, concurrency = 10, 4
    ours = command(
        f"--url={four_at_a_time.url}",
        f"--tokenizer={MODEL}",
        f"--output-dir={tmp_path}",
        "--save-json-results",
        "--ignore-eos",
        "--stream-request",
        "--input-len=32",
        "--output-len=1500",
        f"--num-prompts={requests}",
        f"--concurrencies={concurrency}",
    )
    url, name = f"{four_at_a_time.url}/metrics", "vllm:generation_tokens_total"
    before = metric(url, name)
    with subprocess.Popen(ours, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()) as run:
        deadline = time.monotonic() + 60
        while metric(url, name) - before < 20 * concurrency and time.monotonic() < deadline:
            time.sleep(0.2)
        four_at_a_time.kill_engine()
        _, said = run.communicate(timeout=120)
    profiled = read(subprocess.CompletedProcess(ours, run.returncode, "", said), tmp_path)
    rows = profiled.rows
    assert run.returncode == 4, said
    assert len(rows) == requests
    assert Status.OK not in profiled.statuses
    killed = rows["first_token_ns"] != NONE
    assert killed.sum() == concurrency
    assert set(rows["status"][killed].tolist()) == {Status.ERROR_EVENT}
    assert (rows["http_status"][killed] == 200).all()
    assert "EngineCore" in profiled.messages
    late = {Status(value) for value in rows["status"][~killed]}
    assert late <= {Status.HTTP_SERVER_ERROR, Status.HTTP_UNAVAILABLE, Status.CONNECT_REFUSED, Status.RESET,
                    Status.DISCONNECTED, Status.ERROR_EVENT}, profiled.messages  # fmt: skip
    assert profiled.point["metrics"]["num_prompts_succeeded"] == 0
