"""deployment.yaml's pod, run by `podman kube play` with the image of this tree. `make test-image`."""

import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.containers.engine import podman
from tests.manifests.objects import Object, of_kind, read
from tests.manifests.rendering import DEPLOY
from tests.servers.process import free_port
from tests.servers.simulator import Simulator, simulator

pytestmark = [
    pytest.mark.image,
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not here: nothing plays the pod"),
]

POD = "latency-profile-generator-pod-0"
CONTAINER = f"{POD}-latency-profile-generator"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("server")) as running:
        yield running


def deployment(image: str, port: int, metrics: int) -> Object:
    """That of the file, with what a test has in place of a cluster's: the image, the server, a short load, and the
    host's network, where podman maps no ports."""
    [found] = of_kind(read((DEPLOY / "deployment.yaml").read_text()), "Deployment")
    [container] = found["spec"]["template"]["spec"]["containers"]
    container["image"] = image
    given = {"IP": "127.0.0.1", "PORT": str(port), "METRICS_PORT": str(metrics), "MODELS": "simulated"}
    given |= {"TOKENIZER": "bundled", "REQUEST_RATES": "4", "BENCHMARK_TIME_SECONDS": "5", "WARMUP_SECONDS": "1"}
    for entry in container["env"]:
        if entry["name"] in given:
            entry["value"] = given[entry["name"]]
    del container["ports"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        container[probe]["httpGet"]["port"] = metrics
    return found


@dataclass(frozen=True)
class Played:
    """The pod while it runs."""

    metrics: str

    def page(self, path: str) -> str:
        """What it answers; "" where it does not, or not with 200."""
        try:
            with urllib.request.urlopen(self.metrics + path, timeout=2) as answer:
                text: str = answer.read().decode()
        except (urllib.error.URLError, OSError):
            return ""
        return text

    def logs(self) -> str:
        done = podman("logs", CONTAINER)
        return done.stdout + done.stderr

    def until(self, holds: Callable[[], bool], within_s: float = 60) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.2)


@pytest.fixture(scope="module")
def played(image: str, server: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    metrics = free_port()
    file = tmp_path_factory.mktemp("play") / "pod.yaml"
    file.write_text(yaml.safe_dump(deployment(image, urlsplit(server.url).port or 0, metrics)))
    done = podman("kube", "play", "--network=host", str(file))
    try:
        assert done.returncode == 0, done.stderr
        yield Played(f"http://127.0.0.1:{metrics}")
    finally:
        podman("kube", "down", str(file))


def test_it_profiles_and_then_stays_for_logs_and_copies(played: Played, tmp_path: Path) -> None:
    played.until(lambda: "Exit code" in played.page("/ready"))
    assert "LatencyProfileGenerator:request_count" in played.page("/metrics")
    assert played.page("/healthz")
    assert "4 req/s" in played.logs()
    listed = podman("exec", CONTAINER, "ls", "-R").stdout
    [name] = [line for line in listed.splitlines() if line.startswith("benchmark-vllm-4.0qps-") and "simulated" in line]
    found = podman("exec", CONTAINER, "find", ".", "-name", name).stdout.strip()
    copied = podman("exec", CONTAINER, "tar", "cf", "-", found).stdout  # as `kubectl cp` does
    assert '"schema_version"' in copied


def test_it_is_run_as_the_manifest_says(played: Played) -> None:
    shown = podman("inspect", "--format", "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}", CONTAINER).stdout.split()
    assert shown == ["10001:10001", "true"]
    status = podman("exec", CONTAINER, "cat", "/proc/self/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["CapBnd"].strip("0") == ""
    assert fields["NoNewPrivs"] == "1"
    assert podman("exec", CONTAINER, "touch", "/opt/x").returncode != 0
    assert podman("exec", CONTAINER, "touch", "/results/x", "/tmp/x").returncode == 0


@pytest.mark.slow  # on a busy machine podman has not brought the container back within a minute
def test_a_container_that_restarts_does_not_start_over(played: Played) -> None:
    played.until(lambda: "Exit code" in played.page("/ready"))
    before = played.logs().count("4 req/s: started")
    done = podman("restart", "--time=20", CONTAINER)
    if done.returncode:  # on a busy machine podman gives up, where a kubelet would try again
        done = podman("start", CONTAINER)
    assert done.returncode == 0, done.stderr
    played.until(lambda: played.logs().count("Exit code") > 1, within_s=120)
    assert before == played.logs().count("4 req/s: started") == 1
