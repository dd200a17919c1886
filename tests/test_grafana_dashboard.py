"""deploy/grafana-dashboard.json: whatever it asks, a real Prometheus that scrapes a real profile has an answer to."""

import itertools
import json
import math
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from latency_profile.live.exposition import PREFIX, exposition
from latency_profile.live.view import View
from latency_profile.verdict import Kind
from tests.manifests.rendering import DEPLOY
from tests.prometheus_points import value, wait_for
from tests.servers.process import free_port
from tests.servers.prometheus import prometheus
from tests.servers.simulator import simulator
from tests.tool import ROOT, SYNTHETIC, command, environment

TEXT = (DEPLOY / "grafana-dashboard.json").read_text()
DASHBOARD: dict[str, Any] = json.loads(TEXT)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
EXPRESSIONS = sorted({target["expr"] for panel in PANELS for target in panel["targets"]})
JOB = "monitoring/latency-profile-generator"
NEWEST_SCHEMA = 42  # of Grafana 12.2 to 13.2; no dashboard of this kind will have a later one


def asked(text: str, **chosen: str) -> str:
    """A query as Grafana sends it, with what was chosen; All is the rest's."""
    variables = {"__rate_interval": "20s", "namespace": ".*", "job": ".*", "pod": ".*"} | chosen
    return re.sub(r"\$(\w+)", lambda found: variables[found[1]], text)


def get(url: str, path: str, **parameters: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.load(answer)["data"]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, float]]:
    """The URL of a Prometheus that has seen a whole profile of two points, in which requests failed, and its start."""
    folder, port = tmp_path_factory.mktemp("profile"), free_port()
    with (
        prometheus(folder / "prometheus", [port], job=JOB, namespace="benchmarks") as at,
        simulator(folder, "--fixed-timing", "20,5,0.5", "--fault", "500:0.2") as server,
    ):
        flags = ("--stream-request", "--request-rates=30,60", "--benchmark-time-seconds=1.5", "--warmup-seconds=0")
        where = ("--host=127.0.0.1", f"--port={server.url.rpartition(':')[2]}", f"--metrics-port={port}", "--stay")
        wait_for(at, "up")  # it begins to scrape up to five seconds after it is ready
        started = time.time()
        with (folder / "log").open("wb") as log:
            profile = subprocess.Popen(
                command("--backend=vllm", "--models=simulated", *SYNTHETIC, *flags, *where),
                stdout=log,
                stderr=log,
                env=environment(),
                cwd=ROOT,
            )
        try:
            wait_for(at, f"count_over_time({PREFIX}exit_code[1m]) > 1")  # twice, for what grew at the last point's end
            yield at, started
        finally:
            profile.terminate()
            profile.wait(timeout=20)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_has_figures(scraped: tuple[str, float], expression: str) -> None:
    url, started = scraped
    for chosen in ({}, {"namespace": "benchmarks", "job": JOB}, {"namespace": "benchmarks|other", "pod": ""}):
        span = {"start": str(started), "end": str(time.time()), "step": "0.25"}
        series = get(url, "query_range", query=asked(expression, **chosen), **span)["result"]
        figures = [float(figure) for each in series for _, figure in each["values"]]
        assert any(math.isfinite(figure) for figure in figures), (chosen, series)
    assert not get(url, "query_range", query=asked(expression, job="another"), **span)["result"]


def test_what_is_counted_at_the_end_is_the_profiles(scraped: tuple[str, float]) -> None:
    url, _ = scraped
    texts = {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in PANELS}
    assert [value(url, asked(query)) for query in texts["Points done"]] == [2, 2]
    kinds = get(url, "query", query=f"{PREFIX}failures_total > 0")["result"]
    assert [each["metric"]["kind"] for each in kinds] == ["HTTP_SERVER_ERROR"]
    assert float(kinds[0]["value"][1]) == value(url, f"{PREFIX}requests_failed_total")


def test_every_choice_has_its_values(scraped: tuple[str, float]) -> None:
    url, _ = scraped
    found = {}
    for variable in VARIABLES[1:]:
        parts = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert parts
        found[variable["name"]] = get(url, f"label/{parts[2]}/values", **{"match[]": asked(parts[1])})
    assert found == {"namespace": ["benchmarks"], "job": [JOB], "pod": []}  # no pods outside of a cluster


def test_each_metric_is_asked_for() -> None:
    shown = set(re.findall(rf"{PREFIX}(\w+)", TEXT))
    known = {
        family.name.removeprefix(PREFIX)
        for family in text_string_to_metric_families(exposition(View()).decode())  # counters without their _total
    } | {"lateness_p99_ms", "point_load", "last_point_timestamp_seconds", "exit_code"}  # told once they are known
    assert {name for name in known if not any(each.startswith(name) for each in shown)} == {"ready"}  # the phase tells


def test_it_is_bound_to_no_data_source_of_anybody() -> None:
    assert DASHBOARD["schemaVersion"] == NEWEST_SCHEMA
    assert "id" not in DASHBOARD
    sources = [each["datasource"] for each in (*PANELS, *VARIABLES[1:], *(t for p in PANELS for t in p["targets"]))]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert [variable["name"] for variable in VARIABLES] == ["datasource", "namespace", "job", "pod"]
    assert VARIABLES[0]["type"] == "datasource"
    assert VARIABLES[0]["query"] == "prometheus"


def test_each_panel_has_a_unit_words_and_a_place_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"].endswith(".")
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_each_verdict_has_its_colour() -> None:
    for title in ("Last verdict", "Points by verdict"):
        (panel,) = (each for each in PANELS if each["title"] == title)
        coloured = [rule["matcher"]["options"] for rule in panel["fieldConfig"]["overrides"]]
        assert sorted(coloured) == sorted(kind.value for kind in Kind)
