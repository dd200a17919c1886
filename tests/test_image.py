"""The image, built and run as a strict cluster runs it. `make test-image`."""

import json
import os
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from latency_profile import __version__
from latency_profile.workload import tokenizer
from tests.containers import engine
from tests.containers.engine import SMALL, podman, run, running
from tests.servers.fake_gcs import fake_gcs, listed, make_bucket
from tests.servers.process import answers, free_port
from tests.servers.simulator import Simulator, simulator
from tests.tool import ROOT, SYNTHETIC, point_files

pytestmark = pytest.mark.image

MOST_BYTES = 150e6  # over the base image
USER = 10001
PROGRAM = "/opt/latency-profile"
LENGTHS = {"INPUT_LEN": "32", "OUTPUT_LEN": "8", "IGNORE_EOS": "true"}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder that belongs to the image's user, as a volume with an fsGroup does."""
    folder = tmp_path / "results"
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("server")) as running_here:
        yield running_here


def mounted(folder: Path) -> str:
    return f"--volume={folder}:/results"


def until(holds: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def flags(server: Simulator) -> list[str]:
    return [f"--url={server.url}", *SYNTHETIC, "--request-rate=20", "--save-json-results"]


def environment(server: Simulator, **variables: str) -> list[str]:
    """What latency_throughput_curve.sh is told, as options of podman."""
    host, port = server.url.removeprefix("http://").split(":")
    told = {"IP": host, "PORT": port, "TOKENIZER": "bundled", "REQUEST_RATES": "20", **variables}
    return [f"--env={name}={value}" for name, value in told.items()]


def test_alone_it_runs_the_demo_on_one_cpu_and_512_mb(image: str, results: Path) -> None:
    done = run(image, options=(*SMALL, mounted(results)), timeout=300)
    # Server and client share the one CPU: the profile may have to say that the client was not free enough.
    assert done.returncode in (0, 4), done.stdout + done.stderr
    points = [json.loads(path.read_text()) for path in point_files(results)]
    assert sorted(point["metrics"]["request_rate"] for point in points) == [2, 4, 8, 16, 32]
    for point in points:
        assert point["metrics"]["num_prompts_succeeded"] == point["metrics"]["num_prompts_attempted"]
        assert point["client"]["processor"]["limit_cores"] == 1
    assert {path.stat().st_uid for path in results.iterdir()} == {USER}


def test_a_server_elsewhere_is_measured(image: str, results: Path, server: Simulator) -> None:
    command = ("benchmark_serving.py", *flags(server), "--num-prompts=40")
    done = run(image, *command, options=("--tty", mounted(results)))  # on a terminal rich draws the progress
    assert done.returncode in (0, 4), done.stdout
    (path,) = point_files(results)
    assert json.loads(path.read_text())["metrics"]["num_prompts_succeeded"] == 40


def test_results_go_to_a_bucket(image: str, server: Simulator, tmp_path: Path) -> None:
    with fake_gcs(tmp_path) as store:
        bucket = make_bucket(store, "nightly")
        command = ("benchmark_serving.py", *flags(server), "--num-prompts=5", f"--output-bucket={bucket}")
        done = run(image, *command, options=(f"--env=STORAGE_EMULATOR_HOST={store}",))
        assert done.returncode in (0, 4), done.stderr
        assert any("-profile-" in name for name in listed(store, bucket))


def test_prometheus_is_asked(image: str, server: Simulator) -> None:
    """By its client without the parts that the image leaves out: the simulator is none, and its 404 comes back."""
    program = f"""
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
try:
    PrometheusConnect({server.url!r}).custom_query("up")
except PrometheusApiClientException as error:
    print(error)
"""
    done = run(image, "python3", "-c", program)
    assert "HTTP Status Code 404" in done.stdout, done.stderr


def test_any_other_user_writes_results_too(image: str, server: Simulator) -> None:
    """Clusters that give each namespace a user of its own run images as that user and group 0; no volume is mounted."""
    command = ("benchmark_serving.py", *flags(server), "--num-prompts=5")
    done = run(image, *command, options=("--user=123456:0",))
    assert done.returncode in (0, 4), done.stderr


def test_the_curve_script_keeps_the_container_for_a_copy_and_ends_at_a_signal(
    image: str, server: Simulator, tmp_path: Path
) -> None:
    options = environment(server, **LENGTHS, MAX_NUM_PROMPTS="20", POST_BENCHMARK_SLEEP_TIME="infinity")
    with running(image, "latency_throughput_curve.sh", options=options) as container:
        until(lambda: "-profile-" in container.execute("ls").stdout)
        # `kubectl cp` runs tar in the container.
        packed = container.execute("tar", "cf", "/tmp/results.tar", "-C", "/results", ".")
        assert packed.returncode == 0, packed.stderr
        assert podman("cp", f"{container.name}:/tmp/results.tar", str(tmp_path)).returncode == 0
        with tarfile.open(tmp_path / "results.tar") as archive:
            archive.extractall(tmp_path / "copied", filter="data")
        assert len(point_files(tmp_path / "copied")) == 1
        container.signal("TERM")
        assert container.exit_code(within_s=5) in (0, 4)


@pytest.mark.parametrize("command", ["benchmark_serving.py", "latency-profile profile", "latency_throughput_curve.sh"])
def test_sigterm_ends_it_and_what_was_measured_is_there(
    command: str, image: str, results: Path, server: Simulator
) -> None:
    if command.endswith(".sh"):
        options, arguments = environment(server, **LENGTHS, BENCHMARK_TIME_SECONDS="60"), [command]
    else:
        options, arguments = [], [*command.split(), *flags(server), "--benchmark-time-seconds=60"]
    with running(image, *arguments, options=[*options, mounted(results)]) as container:
        until(lambda: "req/s" in container.output() or "sent" in container.output())
        time.sleep(3)
        container.signal("TERM")
        assert container.exit_code(within_s=10) == 143, container.output()
    (path,) = point_files(results)
    assert json.loads(path.read_text())["metrics"]["num_prompts_attempted"] > 20


def test_two_containers_meet(image: str, results: Path) -> None:
    port = free_port()
    command = ("latency-profile", "simulate", f"--port={port}")
    with running(image, *command) as other:
        until(lambda: answers(f"http://127.0.0.1:{port}/health"))
        measure = ("benchmark_serving.py", f"--url=http://127.0.0.1:{port}", *SYNTHETIC, "--request-rate=20")
        done = run(image, *measure, "--num-prompts=20", "--save-json-results", options=(mounted(results),))
        assert done.returncode in (0, 4), done.stderr
        other.signal("TERM")
        assert other.exit_code(within_s=5) == 0, other.output()
    assert len(point_files(results)) == 1


def test_it_is_small(image: str) -> None:
    size, base = (int(podman("image", "inspect", "--format={{.Size}}", name).stdout) for name in (image, engine.BASE))
    assert 0 < size - base <= MOST_BYTES


def test_it_says_what_it_is(image: str) -> None:
    (found,) = json.loads(podman("image", "inspect", image).stdout)
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.base.name"] == engine.BASE
    assert found["Config"]["User"] == f"{USER}:{USER}"
    assert found["Config"]["WorkingDir"] == "/results"
    assert set(found["Config"]["Volumes"]) == {"/results", "/tmp"}
    assert not found["Config"].get("Entrypoint")
    assert run(image, "latency-profile", "--version").stdout == f"latency-profile {__version__}\n"
    assert run(image, "python3", "-m", "latency_profile", "--version").stdout == f"latency-profile {__version__}\n"


def test_it_has_the_program_whole_and_nothing_else_of_the_tree(image: str) -> None:
    def wanted(path: Path) -> bool:
        return path.is_file() and "__pycache__" not in path.parts

    here = [path for folder in ("backends", "latency_profile") for path in (ROOT / folder).rglob("*")]
    here += [ROOT / "benchmark_serving.py", ROOT / "latency_throughput_curve.sh"]
    expected = {str(path.relative_to(ROOT)) for path in here if wanted(path)} | {"latency-profile"}
    listed = run(image, "find", PROGRAM, "-type", "f", "-not", "-name", "*.pyc", "-printf", "%P\n").stdout
    assert set(listed.split()) == expected


def test_it_has_no_compiler_no_test_tool_and_nothing_that_may_be_changed(image: str) -> None:
    programs = "for name in cc gcc g++ clang make git pytest mypy ruff; do command -v $name; done; true"
    assert run(image, "sh", "-c", programs).stdout == ""
    modules = (
        "import importlib.util as u; print([m for m in ('torch','scipy','pytest','hypothesis') if u.find_spec(m)])"
    )
    assert run(image, "python3", "-c", modules).stdout == "[]\n"
    folders = "find /opt /root/.cache -name tests -o -name '*.whl' -o -name '*.a' 2>/dev/null; true"
    assert run(image, "sh", "-c", folders).stdout == ""
    assert run(image, "sh", "-c", "find / -xdev -user 10001 ! -path '/results*' ! -path '/proc/*'").stdout == ""
    for place in ("/", "/opt", PROGRAM, "/usr/local", "/etc"):
        assert run(image, "touch", f"{place}/file").returncode != 0


def test_byte_code_is_there_for_all_that_a_run_imports(image: str) -> None:
    """Otherwise each process compiles it anew: nothing can be kept on a read-only root."""
    program = """
import importlib.util, os, sys
import benchmark_serving, latency_profile.profile, latency_profile.sender.__main__, latency_profile.storage
import google.cloud.storage, prometheus_api_client, rich.live, yaml
for name, module in list(sys.modules.items()):
    path = getattr(module, "__file__", None) or ""
    if path.endswith(".py") and not os.path.exists(importlib.util.cache_from_source(path)):
        print(path)
"""
    done = run(image, "python3", "-c", program)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_tokenizer_without_tokenizer_json_can_be_read(image: str, tmp_path: Path) -> None:
    """transformers is there without the models' code: it still has to convert an old tokenizer's files."""
    folder = tmp_path / "gpt2"
    folder.mkdir()
    letters = [chr(code) for code in range(33, 127)] + ["Ġ"]
    vocabulary = {token: number for number, token in enumerate([*letters, "he", "ll", "hell", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nh e\nl l\nhe ll\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    for path in (tmp_path, folder, *folder.iterdir()):
        path.chmod(0o755)
    program = "from latency_profile.workload.tokenizer import load; print(load('/tokenizer').counts(['hello'], True))"
    options = (f"--volume={folder}:/tokenizer:ro", "--env=HF_HUB_OFFLINE=1")
    done = run(image, "python3", "-c", program, options=options)
    assert done.stdout == "[2]\n", done.stderr  # hell, o


def test_a_tokenizer_of_the_hub_comes_over_plain_http(image: str) -> None:
    """hf-xet is left out. The hub here has one file, with the two headers that its client asks for."""
    content = (ROOT / "latency_profile/simulator/tokenizer.json").read_bytes()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path == "/team/model/resolve/main/tokenizer.json" else 404)
            self.send_header("ETag", '"one"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content)

    program = "from latency_profile.workload.tokenizer import load; print(load('team/model').counts(['hello'], True))"
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        options = (f"--env=HF_ENDPOINT=http://127.0.0.1:{hub.server_port}",)
        done = run(image, "python3", "-c", program, options=options)
        hub.shutdown()
    assert done.stdout == f"{tokenizer.load('bundled').counts(['hello'], True)}\n", done.stderr


def test_a_data_set_can_be_baked_in(image: str, tmp_path: Path, server: Simulator) -> None:
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("backends", "image", "latency_profile", "tests/containers"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for name in (
        "Dockerfile",
        ".dockerignore",
        "requirements.lock",
        "benchmark_serving.py",
        "latency_throughput_curve.sh",
    ):
        shutil.copy2(ROOT / name, tree / name)
    lines = [json.dumps({"prompt": f"What is {number} times {number}?", "output_len": 8}) for number in range(50)]
    (tree / "datasets").mkdir()
    (tree / "datasets" / "prompts.jsonl").write_text("\n".join(lines))
    tag = "localhost/inference-benchmark:test-dataset"
    engine.build(tag, "--build-arg=DATASET=prompts.jsonl", tree=tree)
    try:
        done = run(tag, "latency_throughput_curve.sh", options=environment(server, MAX_NUM_PROMPTS="10"))
        assert done.returncode in (0, 4), done.stdout + done.stderr
        assert run(image, "ls", "/datasets").stdout == ""
    finally:
        podman("image", "rm", tag)
