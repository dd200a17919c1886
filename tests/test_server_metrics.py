"""A real server's metrics, read directly and through a real Prometheus at once, against what the client counted."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.real_profile import Profiled, profile
from tests.servers.prometheus import prometheus

REQUESTS = 16
INPUT, OUTPUT = 60, 24


def measure(url: str, prometheus_url: str | None, tokenizer: Path, folder: Path, *flags: str) -> Profiled:
    asked = [f"--prometheus-url={prometheus_url}"] if prometheus_url else []
    return profile(
        folder,
        f"--url={url}",
        f"--tokenizer={tokenizer}",
        f"--input-len={INPUT}",
        f"--output-len={OUTPUT}",
        f"--num-prompts={REQUESTS}",
        "--stream-request",
        "--ignore-eos",
        "--scrape-server-metrics",
        *asked,
        *flags,
        timeout=300,
    )


def by_source(point: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {readings["source"]: readings for readings in point["server"]["readings"]}


def check_exact(profiled: Profiled, *, requests: bool) -> None:
    """Both sources' increases are the client's own counts, to the token; nothing is in dispute."""
    rows, found = profiled.rows, by_source(profiled.point)
    assert set(found) == {"direct", "prometheus"}, profiled.done.stderr
    told = {"prompt_tokens": rows["server_input_tokens"].sum(), "generated_tokens": rows["output_tokens"].sum()}
    if requests:
        told["requests"] = len(rows)
    for source, readings in found.items():
        assert readings["at_least"] is None, (source, readings["at_least"])
        increases = {name: counter["increase"] for name, counter in readings["counters"].items()}
        assert {name: increases[name] for name in told} == told, source
    both = profiled.point["server"]["reconciliation"]
    assert both["source"] == "direct"
    assert (both["prompt_tokens"]["excess"], both["generated_tokens"]["lack"]) == (0, 0)
    counts = {"OTHER_TRAFFIC", "ROUTER", "RETRIES", "WRONG_WINDOW", "OTHER_MODEL", "OTHER_COUNT"}
    assert not [each for each in both["disagreements"] if each["cause"] in counts], both["disagreements"]


@pytest.mark.parametrize("load", ["--request-rate=4", pytest.param("--concurrencies=3", marks=pytest.mark.slow)])
def test_llamacpp(llamacpp_server: str, smollm2_tokenizer: Path, tmp_path: Path, load: str) -> None:
    with prometheus(tmp_path / "prometheus", [urlsplit(llamacpp_server).port or 0]) as url:
        profiled = measure(
            llamacpp_server,
            url,
            smollm2_tokenizer,
            tmp_path,
            "--backend=llamacpp",
            load,
            '--extra-body={"cache_prompt": false}',
        )
    check_exact(profiled, requests=False)
    direct = by_source(profiled.point)["direct"]
    assert 0 < direct["gauges"]["running"]["max"] <= 4
    looks = len(direct["series"]["times_s"])  # one a second, unless the server keeps the machine to itself
    assert looks >= profiled.point["metrics"]["benchmark_time"] / 2
    split = profiled.point["server"]["reconciliation"]["ttft_split"]
    assert split["prefill_s"] == pytest.approx(profiled.rows["server_prefill_ns"].mean() / 1e9, rel=0.02)
    parts = [split[name] or 0.0 for name in ("lateness_s", "outside_s", "queue_s", "prefill_s", "rest_s")]
    assert sum(parts) == pytest.approx(split["total_s"])


@pytest.mark.vllm
@pytest.mark.parametrize("load", ["--request-rate=2", "--concurrencies=4"])
def test_vllm(vllm_server: str, smollm2_tokenizer: Path, tmp_path: Path, load: str) -> None:
    with prometheus(tmp_path / "prometheus", [urlsplit(vllm_server).port or 0]) as url:
        profiled = measure(vllm_server, url, smollm2_tokenizer, tmp_path, "--backend=vllm", load)
    check_exact(profiled, requests=True)
    both = profiled.point["server"]["reconciliation"]
    assert both["ttft"]["client_n"] == both["ttft"]["server_n"] == REQUESTS
    assert both["ttft"]["agrees"], both["ttft"]
    assert both["e2e"]["agrees"], both["e2e"]
    assert both["itl"]["server_n"] == REQUESTS * (OUTPUT - 1)
    split = both["ttft_split"]
    assert 0 <= split["outside_s"] < split["total_s"]
    for source, readings in by_source(profiled.point).items():
        assert readings["counters"]["process_cpu_seconds"]["increase"] > 0, source
        assert 1e8 < readings["gauges"]["process_memory_bytes"]["mean"] < 1e11, source
