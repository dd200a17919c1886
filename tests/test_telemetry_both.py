"""Real servers, read directly and through a real Prometheus at the same time."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from latency_profile.server import server_at
from latency_profile.telemetry.direct import DirectSource
from latency_profile.telemetry.doors import own_doors
from latency_profile.telemetry.prometheus import Api, PrometheusSource
from latency_profile.telemetry.readings import Readings
from latency_profile.telemetry.vocabulary import METRICS
from tests.prometheus_points import ask, value
from tests.servers.prometheus import prometheus
from tests.servers.smollm2 import MODEL_NAME

REQUESTS = 24
TOKENS = 32  # of each answer


def seen_by_both(url: str, backend: str, generated: str, folder: Path) -> tuple[Readings, Readings]:
    """What the two sources say of one point of REQUESTS answers, four at a time; on the way PromQL's `increase` is held
    to how wrong it may be. `generated`: the server's name for generated tokens."""
    direct = DirectSource(own_doors([server_at("", 0, url, (), None, True)], None), backend)
    with prometheus(folder, [int(url.rpartition(":")[2])], job="real", interval="1s") as at:
        api = Api(at, requests.Session())
        through = PrometheusSource(api, METRICS[backend], job="real", models=(MODEL_NAME,), settle_s=10.0, ready_s=30.0)
        _answer(url, 0)
        through.check()
        direct.check()
        time.sleep(2.1)
        start = time.time()
        direct.point_started()
        with ThreadPoolExecutor(4) as pool:
            answered = list(pool.map(lambda number: _answer(url, number), range(1, REQUESTS + 1)))
        end = time.time()
        assert sum(answered) == REQUESTS * TOKENS
        own = direct.point_finished(start, end)
        told = through.point_finished(start, end)
        window = f'{{job="real"}}[{round((end - start) * 1000)}ms]'
        theirs = value(at, f"sum(increase({generated}{window}))", end)
        pairs = ask(at, f"{generated}{window}", end)[0]["values"]

    for found in (own, told):
        assert found.metrics[generated]["Increase"] == REQUESTS * TOKENS
    # What increase cannot see: what was counted before its first sample and after its last one. What it adds: a share
    # of what it sees, of up to 1.1 intervals at each edge.
    print(f"truth {REQUESTS * TOKENS}, increase() {theirs:.1f}, {len(pairs)} samples")
    seen = float(pairs[-1][1]) - float(pairs[0][1])
    assert len(pairs) >= 3
    assert abs(theirs - REQUESTS * TOKENS) <= (REQUESTS * TOKENS - seen) + seen * 2.2 / (len(pairs) - 1)
    assert own.readings is not None
    assert told.readings is not None
    assert told.readings.at_least is None
    return own.readings, told.readings


def _answer(url: str, number: int) -> int:
    body = {
        "model": MODEL_NAME,
        "prompt": f"{number} is a number that",
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "cache_prompt": False,  # llama.cpp's; vLLM ignores it
    }
    answer = requests.post(f"{url}/v1/completions", json=body, timeout=120)
    answer.raise_for_status()
    tokens: int = answer.json()["usage"]["completion_tokens"]
    return tokens


def test_a_real_llamacpp(llamacpp_server: str, tmp_path: Path) -> None:
    own, told = seen_by_both(llamacpp_server, "llamacpp", "llamacpp:tokens_predicted_total", tmp_path)
    assert own.counters["generated_tokens"] == REQUESTS * TOKENS
    assert told.counters == pytest.approx(own.counters, rel=1e-6)
    assert own.counters["prompt_tokens"] > REQUESTS
    assert told.names == own.names


@pytest.mark.vllm
def test_a_real_vllm(vllm_server: str, tmp_path: Path) -> None:
    own, told = seen_by_both(vllm_server, "vllm", "vllm:generation_tokens_total", tmp_path)
    assert own.counters["requests"] == REQUESTS
    # CPU time also passes while the server rests: the two looked at different moments.
    seconds = [found.counters.pop("process_cpu_seconds") for found in (own, told)]
    assert min(seconds) > 0
    assert told.counters == pytest.approx(own.counters)
    assert sum(own.histograms["e2e"].counts) == REQUESTS
    assert told.histograms.keys() == own.histograms.keys()
    for name, histogram in own.histograms.items():
        assert told.histograms[name].bounds == histogram.bounds
        assert told.histograms[name].counts == histogram.counts
        assert told.histograms[name].total == pytest.approx(histogram.total)
    assert told.models == own.models == [MODEL_NAME]
    assert told.names == own.names
