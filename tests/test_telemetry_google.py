"""Google Managed Prometheus: google.auth and the queries against a stand-in before a real Prometheus."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from latency_profile.errors import ServerUnavailable
from latency_profile.telemetry.google import open_google
from latency_profile.telemetry.on_google import likely_on_google
from latency_profile.telemetry.prometheus import PrometheusSource
from latency_profile.telemetry.prometheus_api import Api, Refused
from latency_profile.telemetry.promql import RESETS, histogram, histogram_and_resets, samples, selector
from latency_profile.telemetry.vocabulary import METRICS, VLLM
from tests.prometheus_points import BEFORE, WHERE, a_point, increase, wait_for
from tests.servers.google_prometheus import PROJECT, Faults, GooglePrometheus, google_prometheus, refused
from tests.servers.process import free_port
from tests.servers.prometheus import Exporter, exporter, prometheus


class Real(NamedTuple):
    """Two exporters, and what scrapes them. All are started together: it takes 5 s until a first scrape."""

    server: Exporter
    other: Exporter
    url: str  # of a Prometheus that scrapes the first one
    both: str  # of one that scrapes both


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    folder = tmp_path_factory.mktemp("real")
    with (
        exporter(BEFORE) as server,
        exporter(BEFORE) as other,
        prometheus(folder / "one", [server.port]) as url,
        prometheus(folder / "both", [server.port, other.port]) as both,
    ):
        yield Real(server, other, url, both)


@pytest.fixture
def server(real: Real) -> Exporter:
    """The exporter, as Prometheus has seen it since the last test."""
    real.server.text, real.server.status = BEFORE, 200
    wait_for(real.url, f"vllm:generation_tokens_total{WHERE} == 47")
    return real.server


@pytest.fixture
def google(real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GooglePrometheus]:
    """The stand-in, with a service account's key where google.auth looks for one."""
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with google_prometheus(real.url, tmp_path / "google") as stand_in:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(stand_in.key_file))
        yield stand_in


def source(api: Api, settle_s: float = 5.0, ready_s: float = 10.0) -> PrometheusSource:
    return PrometheusSource(
        api,
        VLLM,
        source="google",
        namespace="default",
        job="vllm-podmonitoring",
        models=("smollm2-135m",),
        settle_s=settle_s,
        ready_s=ready_s,
    )


def test_a_point_and_every_query_has_a_whole_name(server: Exporter, google: GooglePrometheus) -> None:
    seen_by = source(open_google(root=google.url))
    seen_by.check()
    told = seen_by.point_finished(*a_point(server))
    assert increase(told, "vllm:generation_tokens_total") == 1216.0
    assert told.metrics["vllm:e2e_request_latency_seconds"]["Count"] == 19.0
    assert told.metrics["vllm:num_requests_running"]["Max"] > 40.0
    assert told.notices == []
    assert told.readings is not None
    assert told.readings.source == "google"
    assert len(google.tokens) == 1
    assert google.rejected == 0
    assert len(google.queries) > len(VLLM)
    assert [query for query in google.queries if refused(query)] == []
    assert [query for query in google.queries if "_over_time" in query] == []


@pytest.mark.parametrize("backend", METRICS)
def test_no_backend_asks_by_pattern(backend: str) -> None:
    where = selector(cluster="c", namespace="n", job='a "{b}" job')
    for metric in METRICS[backend]:
        for name in metric.names:
            for query in (samples(name, where, 1.5), histogram(name, where), histogram_and_resets(name, where, 9.0)):
                assert refused(query) is None
    assert RESETS in histogram_and_resets("a", where, 9.0)


def test_a_pattern_is_refused_and_the_answer_is_not_printed(server: Exporter, google: GooglePrometheus) -> None:
    api = open_google(root=google.url)
    for query in ('{__name__=~"vllm:generation_tokens(_total)?"}', 'sum({job="vllm-podmonitoring"})'):
        with pytest.raises(Refused) as caught:
            api.query(query)
        assert str(caught.value) == (
            "Google Managed Prometheus of project some-project refuses the query (HTTP status 400)"
        )
    assert len(api.query('{__name__="vllm:generation_tokens_total"}')) == 1


def test_a_token_that_expires_is_refreshed(server: Exporter, google: GooglePrometheus) -> None:
    """google.auth takes a token for expired 225 s before its end: this one lasts 2 s, and 3 more on its way."""
    google.claimed_s = 227
    google.lasting_s = 5.0
    seen_by = source(open_google(root=google.url))
    seen_by.check()
    first = seen_by.point_finished(*a_point(server, seconds=1.2))
    had = len(google.tokens)
    server.text = BEFORE
    time.sleep(4.5)
    second = seen_by.point_finished(*a_point(server, seconds=1.2))
    assert len(google.tokens) > had >= 1
    assert google.rejected == 0
    assert increase(first, "vllm:generation_tokens_total") == 1216.0
    assert increase(second, "vllm:generation_tokens_total") == 1216.0


def test_a_token_that_is_no_longer_valid_is_refreshed(server: Exporter, google: GooglePrometheus) -> None:
    seen_by = source(open_google(root=google.url))
    seen_by.check()
    google.tokens = dict.fromkeys(google.tokens, 0.0)
    told = seen_by.point_finished(*a_point(server, seconds=1.2))
    assert google.rejected == 1
    assert len(google.tokens) == 2
    assert increase(told, "vllm:generation_tokens_total") == 1216.0


def test_samples_that_arrive_late_are_waited_for(server: Exporter, google: GooglePrometheus) -> None:
    google.late_s = 2.5
    seen_by = source(open_google(root=google.url), settle_s=15.0)
    time.sleep(3.0)  # what the last test did has arrived
    start, end = a_point(server, seconds=1.2)
    told = seen_by.point_finished(start, end)
    assert time.time() - end >= 2.5
    assert increase(told, "vllm:generation_tokens_total") == 1216.0
    assert told.metrics["vllm:e2e_request_latency_seconds"]["Count"] == 19.0
    assert told.notices == ["fewer than 5 scrapes inside the point: gauges are rough"]


def test_samples_that_arrive_too_late_are_no_zeros(server: Exporter, google: GooglePrometheus) -> None:
    google.late_s = 30.0
    told = source(open_google(root=google.url), settle_s=1.0).point_finished(*a_point(server, seconds=1.2))
    assert told.metrics == {}
    assert told.readings is None
    assert told.notices[0].startswith("server metrics of this point are missing: ")


def test_one_metric_that_fails_takes_no_other_with_it(server: Exporter, google: GooglePrometheus) -> None:
    seen_by = source(open_google(root=google.url))
    seen_by.check()
    google.faults = Faults(
        status={"vllm:generation_tokens_total": 403, "vllm:num_requests_waiting": 400},
        nan={"vllm:prompt_tokens_total", "vllm:kv_cache_usage_perc", "vllm:e2e_request_latency_seconds"},
        empty={"vllm:request_success_total"},
    )
    told = seen_by.point_finished(*a_point(server))
    gone = {
        "vllm:generation_tokens_total",
        "vllm:num_requests_waiting",
        "vllm:prompt_tokens_total",
        "vllm:kv_cache_usage_perc",
        "vllm:e2e_request_latency_seconds",
        "vllm:request_success_total",
    }
    assert told.metrics.keys().isdisjoint(gone)
    assert told.metrics["vllm:request_generation_tokens"]["Count"] == 19.0
    assert told.metrics["vllm:num_preemptions_total"]["Increase"] == 0.0  # what is truly 0 stays
    assert told.readings is not None
    assert {"generated_tokens", "prompt_tokens", "requests"}.isdisjoint(told.readings.counters)
    assert {"waiting", "kv_cache_use"}.isdisjoint(told.readings.gauges)
    assert "e2e" not in told.readings.histograms
    place = f"Google Managed Prometheus of project {PROJECT}"
    assert told.notices == [
        "Google Managed Prometheus has only values that are no numbers: vllm:kv_cache_usage_perc, "
        "vllm:prompt_tokens_total, vllm:e2e_request_latency_seconds",
        f"{place} refuses the query (HTTP status 400): vllm:num_requests_waiting",
        f"{place} denies access (HTTP status 403), the credentials need roles/monitoring.viewer there: "
        "vllm:generation_tokens_total",
        "Google Managed Prometheus does not have vllm:request_success_total",
    ]


@pytest.mark.parametrize(
    "how", [{"status": {"vllm:kv_cache_usage_perc": 403}}, {"empty": {"vllm:kv_cache_usage_perc"}}]
)
def test_the_metric_by_which_it_finds_replicas_may_fail_too(
    server: Exporter, google: GooglePrometheus, how: dict[str, Any]
) -> None:
    seen_by = source(open_google(root=google.url))
    seen_by.check()
    assert "vllm:kv_cache_usage_perc" in google.queries[0]
    google.faults = Faults(**how)
    told = seen_by.point_finished(*a_point(server, seconds=1.2))
    assert increase(told, "vllm:generation_tokens_total") == 1216.0
    assert "vllm:kv_cache_usage_perc" not in told.metrics


def test_two_series_are_two_replicas(google: GooglePrometheus, server: Exporter, real: Real) -> None:
    google.prometheus = real.both
    wait_for(real.both, f"count(vllm:generation_tokens_total{WHERE} == 47) == 2")
    told = source(open_google(root=google.url)).point_finished(*a_point(server, real.other, seconds=1.2))
    assert increase(told, "vllm:generation_tokens_total") == 2432.0
    assert told.metrics["vllm:e2e_request_latency_seconds"]["Count"] == 38.0
    assert told.readings is not None
    assert len(told.readings.replicas) == 2


def test_no_access_at_all_names_the_role(server: Exporter, google: GooglePrometheus) -> None:
    seen_by = source(open_google(root=google.url))
    seen_by.check()
    google.faults = Faults(status={"": 403})
    told = seen_by.point_finished(*a_point(server, seconds=0.4))
    assert told.metrics == {}
    assert told.readings is None
    assert len(told.notices) == 1
    assert "denies access (HTTP status 403), the credentials need roles/monitoring.viewer there" in told.notices[0]
    with pytest.raises(ServerUnavailable, match=r"roles/monitoring\.viewer"):
        seen_by.check()


def test_too_many_requests_are_sent_again(server: Exporter, google: GooglePrometheus) -> None:
    seen_by = source(open_google(root=google.url))
    seen_by.check()
    google.faults = Faults(
        status={"vllm:prompt_tokens_total": 429, "vllm:generation_tokens_total": 503},
        times={"vllm:prompt_tokens_total": 2, "vllm:generation_tokens_total": 1},
        retry_after="1",
    )
    start, end = a_point(server, seconds=1.2)
    began = time.monotonic()
    told = seen_by.point_finished(start, end)
    assert time.monotonic() - began >= 3.0  # as Retry-After says
    assert increase(told, "vllm:prompt_tokens_total") == 1471.0
    assert increase(told, "vllm:generation_tokens_total") == 1216.0
    assert told.notices == ["fewer than 5 scrapes inside the point: gauges are rough"]


def test_too_many_requests_for_too_long_are_said(server: Exporter, google: GooglePrometheus) -> None:
    """Nobody waits an hour because an answer says so."""
    pauses: list[float] = []
    api = open_google(root=google.url)
    api._sleep = pauses.append
    google.faults = Faults(status={"": 429}, retry_after="3600")
    told = source(api, settle_s=0.0).point_finished(*a_point(server, seconds=0.4))
    assert told.readings is None
    assert "has had too many requests (HTTP status 429)" in told.notices[0]
    assert pauses == [10.0, 10.0, 10.0]


def test_a_failing_service_and_what_is_no_service(server: Exporter, google: GooglePrometheus) -> None:
    seen_by = source(open_google(root=google.url))
    seen_by.check()
    google.faults = Faults(status={"": 500})
    told = seen_by.point_finished(*a_point(server, seconds=0.4))
    assert told.readings is None
    assert "fails (HTTP status 500)" in told.notices[0]
    html = Api(server.url + "/metrics?", requests.Session())
    told = PrometheusSource(html, VLLM, settle_s=0.0, ready_s=0.0).point_finished(time.time() - 1, time.time())
    assert "does not answer like a Prometheus" in told.notices[0]


def test_no_token_is_a_reason(google: GooglePrometheus) -> None:
    account = json.loads(google.key_file.read_text())
    google.key_file.write_text(json.dumps(account | {"token_uri": f"http://127.0.0.1:{free_port()}/token"}))
    with pytest.raises(ServerUnavailable, match=r"no access token for the credentials \(TransportError\)"):
        source(open_google(root=google.url)).check()
    google.key_file.write_text(json.dumps(account | {"client_email": "nobody@else.iam.gserviceaccount.com"}))
    with pytest.raises(ServerUnavailable, match=r"no access token for the credentials \(RefreshError\)"):
        source(open_google(root=google.url)).check()


def test_whose_project(google: GooglePrometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(open_google()).endswith(f"project {PROJECT}")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-the-environment")
    assert str(open_google()).endswith("project of-the-environment")
    assert str(open_google("of-the-flag")).endswith("project of-the-flag")
    with pytest.raises(ServerUnavailable, match="HTTP status 404"):
        source(open_google(root=google.url)).check()


@pytest.mark.parametrize("content", ["", "{}", '{"type": "service_account", "private_key": "x"}'])
def test_a_key_file_that_is_none(google: GooglePrometheus, content: str) -> None:
    google.key_file.write_text(content)
    with pytest.raises(ServerUnavailable, match="no Google Cloud credentials"):
        open_google()


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
