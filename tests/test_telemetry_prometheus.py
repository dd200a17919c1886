"""Server metrics from a real Prometheus that scrapes an exporter with vLLM's recorded metrics."""

import base64
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from google.auth.credentials import Credentials

from latency_profile.errors import ServerUnavailable
from latency_profile.telemetry.google import google_api, likely_on_google, open_google
from latency_profile.telemetry.names import VLLM
from latency_profile.telemetry.prometheus import Api, PrometheusSource
from latency_profile.telemetry.source import MetricsSource, MetricsSpec, open_source
from tests.servers.process import free_port
from tests.servers.prometheus import Exporter, exporter, prometheus

DATA = Path(__file__).parent / "data" / "telemetry"
BEFORE = (DATA / "vllm_before.txt").read_text()
AFTER = (DATA / "vllm_after.txt").read_text()
LABELS = '{namespace="default",job="vllm-podmonitoring"}'


def with_running(text: str, requests: float) -> str:
    """The exposition with that many requests running."""
    changed, count = re.subn(r"(?m)^(vllm:num_requests_running\{.*\}) .*$", rf"\g<1> {requests}", text)
    assert count == 1
    return changed


def ask(url: str, query: str, at: float | None = None) -> Any:
    """Prometheus' own answer, by plain HTTP."""
    parameters = {"query": query} | ({"time": str(at)} if at else {})
    with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def value(url: str, query: str, at: float | None = None) -> float:
    (row,) = ask(url, query, at)
    return float(row["value"][1])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Exporter, str]]:
    """An exporter and a Prometheus that scrapes it: it takes 5 s until its first scrape."""
    with exporter(BEFORE) as running, prometheus(tmp_path_factory.mktemp("shared"), [running.port]) as url:
        yield running, url


@pytest.fixture
def url(shared: tuple[Exporter, str]) -> str:
    return shared[1]


@pytest.fixture
def server(shared: tuple[Exporter, str]) -> Exporter:
    """The exporter, as Prometheus has seen it since the last test."""
    running, url = shared
    running.text, running.status = BEFORE, 200
    wait_for(url, f"vllm:generation_tokens_total{LABELS} == 47")
    return running


def wait_for(url: str, query: str) -> None:
    """Until the query has a result."""
    deadline = time.monotonic() + 20
    while not ask(url, query):
        assert time.monotonic() < deadline, f"{url} never has {query}"
        time.sleep(0.1)


def open_it(server: Exporter, url: str, **changes: object) -> MetricsSource:
    values: dict[str, object] = {
        "kind": "prometheus",
        "base_url": server.url,
        "prometheus_url": url,
        "backend": "vllm",
        "namespace": "default",
        "job": "vllm-podmonitoring",
        "settle_s": 5.0,
    }
    return open_source(MetricsSpec(**(values | changes)))  # type: ignore[arg-type]


def alone(url: str, settle_s: float = 5.0) -> MetricsSource:
    """Prometheus without the server's own metrics, which would fill in what it lacks."""
    api = Api(url, requests.Session())
    return PrometheusSource(api, VLLM, namespace="default", job="vllm-podmonitoring", settle_s=settle_s, ready_s=10.0)


def a_point(source: MetricsSource, server: Exporter, seconds: float = 3.6) -> tuple[float, float]:
    """Moves the exporter as a point would: requests run, then the counters stand where the load left them."""
    time.sleep(0.7)
    start = time.time()
    source.point_started()
    steps = 8
    for step in range(steps):
        server.text = with_running(BEFORE if step < steps / 2 else AFTER, 10.0 * (step + 1))
        time.sleep(seconds / steps)
    server.text = AFTER
    return start, time.time()


def test_a_point_seen_through_prometheus(server: Exporter, url: str) -> None:
    source = open_it(server, url)
    source.check()
    start, end = a_point(source, server)
    metrics, notices = source.point_finished(start, end)
    seen = time.time()

    assert metrics["vllm:generation_tokens_total"]["Increase"] == 1216.0
    assert metrics["vllm:generation_tokens_total"]["Rate"] == pytest.approx(1216.0 / (end - start))
    assert metrics["vllm:request_success_total"]["Increase"] == 19.0
    samples = ask(url, f"vllm:generation_tokens_total{LABELS}[{round((end - start) * 1000)}ms]", end)[0]["values"]
    assert metrics["vllm:generation_tokens_total"]["Sum"] == sum(float(text) for _, text in samples)

    raw = ask(url, f"vllm:num_requests_running{LABELS}[{round((end - start) * 1000)}ms]", end)[0]["values"]
    running = np.array([float(text) for _, text in raw])
    assert len(running) >= 6
    assert running.max() > 40.0
    expected = {
        "Mean": running.mean(),
        "Median": np.median(running),
        "Sd": running.std(),
        "Min": running.min(),
        "Max": running.max(),
        "P90": np.percentile(running, 90),
        "P95": np.percentile(running, 95),
        "P99": np.percentile(running, 99),
    }
    assert metrics["vllm:num_requests_running"] == pytest.approx(expected)

    for name in ("vllm:time_to_first_token_seconds", "vllm:request_generation_tokens"):
        grown = f"sum by (le) ({name}_bucket @ {seen} - {name}_bucket @ {start})"
        row = metrics[name]
        assert row["Count"] == 19.0
        for key, q in {"Median": 0.5, "P90": 0.9, "P95": 0.95, "P99": 0.99}.items():
            assert row[key] == pytest.approx(value(url, f"histogram_quantile({q}, {grown})")), key
    assert metrics["vllm:request_generation_tokens"]["Mean"] == pytest.approx(1216.0 / 19.0)

    assert "vllm:kv_cache_usage_perc" in metrics
    assert "vllm:gpu_cache_usage_perc" not in metrics  # the old name of a server that has the new one: no notice
    assert metrics["process_open_fds"].keys() == {"First", "Last"}  # from the server itself: no name for Prometheus
    assert notices == []


def test_old_names_serve_and_what_is_lacking_is_named(server: Exporter, url: str) -> None:
    text = BEFORE.replace("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
    server.text = re.sub(r"(?m)^.*vllm:(e2e_request_latency_seconds|num_preemptions_total).*\n", "", text)
    wait_for(url, f"vllm:gpu_cache_usage_perc{LABELS}")
    source = alone(url)
    source.check()
    start = time.time()
    time.sleep(3)
    metrics, notices = source.point_finished(start, time.time())
    assert "vllm:gpu_cache_usage_perc" in metrics
    assert "vllm:e2e_request_latency_seconds" not in metrics
    assert notices == ["Prometheus does not have vllm:num_preemptions_total, vllm:e2e_request_latency_seconds"]


def test_the_end_of_a_point_waits_for_the_next_scrape(server: Exporter, tmp_path: Path) -> None:
    with prometheus(tmp_path / "slow", [server.port], interval="3s") as url:
        wait_for(url, f"vllm:num_requests_running{LABELS}")
        source = alone(url)
        start = time.time()
        server.text = AFTER
        time.sleep(0.2)
        end = time.time()
        metrics, notices = source.point_finished(start, end)
        assert metrics["vllm:generation_tokens_total"]["Increase"] == 1216.0
        assert value(url, f"timestamp(vllm:num_requests_running{LABELS})") >= end
        assert "vllm:num_requests_running" not in metrics
        assert notices == ["Prometheus did not scrape the server inside the point: gauges are left out"]


def test_without_a_scrape_after_the_point_it_says_so(server: Exporter, url: str) -> None:
    source = alone(url, settle_s=1.0)
    start, end = a_point(source, server)
    server.status = 503
    time.sleep(1.2)  # Prometheus sees the target down and ends its series
    started = time.monotonic()
    metrics, notices = source.point_finished(start, end + 1.2)
    assert time.monotonic() - started < 4.0
    assert notices[0].startswith("Prometheus has no scrape of the server from the 1 s after the point")
    assert metrics["vllm:num_requests_running"]["Max"] > 40.0


def test_a_restart_between_two_scrapes_is_said(server: Exporter, url: str) -> None:
    source = alone(url)
    start = time.time()
    server.text = AFTER
    time.sleep(1.5)
    server.text = BEFORE  # the counters fall, and end where they began
    time.sleep(1.5)
    metrics, notices = source.point_finished(start, time.time())
    assert metrics["vllm:generation_tokens_total"]["Increase"] == 0.0
    assert any("restarted during the point" in notice and "generation_tokens" in notice for notice in notices)


def test_two_replicas_add_up(server: Exporter, tmp_path: Path) -> None:
    with exporter(BEFORE) as other, prometheus(tmp_path / "two", [server.port, other.port]) as url:
        source = alone(url)
        source.check()
        other.text = with_running(BEFORE, 8.0)
        time.sleep(1)
        start = time.time()
        time.sleep(3)
        server.text = other.text = AFTER
        metrics, notices = source.point_finished(start, time.time())
    assert metrics["vllm:generation_tokens_total"]["Increase"] == 2432.0
    assert metrics["vllm:request_success_total"]["Increase"] == 38.0
    assert metrics["vllm:num_requests_running"]["Min"] == 0.0
    assert metrics["vllm:num_requests_running"]["Max"] == 8.0
    assert metrics["vllm:num_requests_running"]["Mean"] == pytest.approx(4.0)
    assert any("means over several series" in notice for notice in notices)


def test_wrong_labels_name_the_flags(server: Exporter, url: str) -> None:
    source = open_it(server, url, job='no"such', ready_s=0.5)
    expected = (
        r'has no metrics of the server with {namespace="default",job="no\\"such"}; see --pm-namespace and --pm-job'
    )
    with pytest.raises(ServerUnavailable) as caught:
        source.check()
    assert expected.replace("\\\\", "\\") in str(caught.value)


def test_check_waits_for_the_first_scrape(server: Exporter, url: str) -> None:
    server.status = 503
    wait_for(url, f"absent(vllm:num_requests_running{LABELS})")
    with pytest.raises(ServerUnavailable, match="has no metrics of the server"):
        open_it(server, url, ready_s=0.2).check()
    server.status = 200
    open_it(server, url, ready_s=10.0).check()


def test_no_prometheus_is_one_clear_error_before_the_run(server: Exporter) -> None:
    started = time.monotonic()
    with pytest.raises(
        ServerUnavailable, match=r"no server metrics from Prometheus at http://127.0.0.1:\d+: no connection"
    ):
        open_it(server, f"http://127.0.0.1:{free_port()}").check()
    assert time.monotonic() - started < 10


def test_what_is_no_prometheus(server: Exporter) -> None:
    with pytest.raises(ServerUnavailable, match="HTTP status 404"):
        open_it(server, server.url).check()
    with pytest.raises(ServerUnavailable, match="does not answer like a Prometheus"):
        open_it(server, server.url + "/metrics?").check()


def test_a_prometheus_that_goes_away_kills_nothing(server: Exporter, tmp_path: Path) -> None:
    with prometheus(tmp_path / "prometheus", [server.port]) as url:
        source = open_it(server, url)
        source.check()
        source.point_started()
        start = time.time()
    server.text = AFTER
    started = time.monotonic()
    metrics, notices = source.point_finished(start, time.time())
    assert time.monotonic() - started < 10
    assert any(notice.startswith("server metrics of this point are missing: http://") for notice in notices)
    assert metrics["vllm:generation_tokens_total"]["Increase"] == 1216.0  # the server itself still tells


class FakeCredentials(Credentials):  # type: ignore[misc]
    """What google.auth would give: a header for each request, renewed when there is none yet."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refreshed = 0

    def refresh(self, request: object) -> None:
        self.refreshed += 1
        self.token = base64.b64encode(b"google:token").decode()

    def apply(self, headers: dict[str, str], token: str | None = None) -> None:
        headers["authorization"] = f"Basic {self.token}"


# bcrypt of "token"
USERS = "basic_auth_users:\n  google: $2b$04$RooB/3sJWkEh.TKrrLeBGO9Zl7GuPYXQwI0DVvuAFpBFd1Kjp1Cje\n"


def test_google_managed_prometheus_is_the_same_behind_another_door(server: Exporter, tmp_path: Path) -> None:
    """A real Prometheus under Google's path that refuses whoever does not bring the credentials."""
    prefix = "/v1/projects/some-project/location/global/prometheus"
    options = {"route_prefix": prefix, "web_config": USERS}
    with prometheus(tmp_path / "google", [server.port], **options) as root:  # type: ignore[arg-type]
        credentials = FakeCredentials()
        source = PrometheusSource(
            google_api(credentials, "some-project", root),
            VLLM,
            namespace="default",
            job="vllm-podmonitoring",
            settle_s=5.0,
            ready_s=10.0,
        )
        source.check()
        start, end = a_point(source, server)
        metrics, notices = source.point_finished(start, end)
        with pytest.raises(ServerUnavailable, match="HTTP status 401"):
            open_it(server, root + prefix).check()
    assert credentials.refreshed == 1
    assert notices == []
    assert metrics["vllm:generation_tokens_total"]["Increase"] == 1216.0
    assert metrics["vllm:num_requests_running"]["Max"] > 40.0


def test_without_google_credentials_the_other_way_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    assert not likely_on_google()
    with pytest.raises(ServerUnavailable, match="--prometheus-url names another Prometheus"):
        open_google()


def test_google_is_likely_where_a_metadata_server_listens(
    server: Exporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "NO_GCE_CHECK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{free_port()}")
    assert not likely_on_google()
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.port}")
    assert likely_on_google()
