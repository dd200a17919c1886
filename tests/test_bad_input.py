"""Bad input: one line that says what is wrong, the right exit code, and nothing is sent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import NAMES
from benchmarks.truth import simulator
from latency_profile.cli import profile
from latency_profile.simulator.log import read_log
from tests.servers.odd import Call, Odd
from tests.servers.process import free_port
from tests.tool import SYNTHETIC, benchmark, called


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server whose log shows, after all tests, that nobody asked it anything."""
    log = tmp_path_factory.mktemp("log") / "log.npz"
    with simulator("--fixed-timing", "5,1", "--log", str(log)) as port:
        yield port
    assert len(read_log(log)) == 0


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


CASES: dict[str, tuple[list[str], str]] = {
    "unknown backend": (["--backend=nope"], "--backend"),
    "split does not sum to 1": (["--models=a,b", "--traffic-split=0.5,0.4"], "--traffic-split"),
    "split does not match the models": (["--models=a,b", "--traffic-split=0.5,0.3,0.2"], "--traffic-split"),
    "model not served": (["--models=nope"], "--models"),
    "one of the models not served": (["--models=simulated,nope"], "--models"),
    "bucket path without a bucket": (["--output-bucket-filepath=x"], "--output-bucket-filepath"),
    "metadata is a list": (["--additional-metadata-metrics-to-save=[1]"], "--additional-metadata-metrics-to-save"),
    "metadata is code": (
        ["--additional-metadata-metrics-to-save=__import__('os')"],
        "--additional-metadata-metrics-to-save",
    ),
    "rate 0": (["--request-rate=0"], "--request-rate"),
    "rate -1": (["--request-rate=-1"], "--request-rate"),
    "rate abc": (["--request-rate=abc"], "--request-rate"),
    "rate nan": (["--request-rates=1,nan"], "--request-rates"),
    "unknown flag": (["--reqest-rate=1"], "--request-rate"),
    "unknown endpoint": (["--endpoint=nope"], "--endpoint"),
    "beam search in a stream": (["--use-beam-search", "--stream-request"], "--use-beam-search"),
    "more retries than are bounded": (["--retries=21"], "--retries"),
    "no time to wait": (["--wait-for-server=0"], "--wait-for-server"),
    "URL beside host and port": (["--url=http://a,http://b"], "--url"),
    "one door's stream without streaming": (
        ["--backend=tgi", "--no-ignore-eos", "--endpoint=/generate_stream"],
        "--stream-request is needed for /generate_stream",
    ),
}

# A setting that the backend's first door has no word for.
UNSPOKEN = {
    "vllm": ["--best-of=2"],
    "tgi": ["--ignore-eos"],
    "naive_transformers": ["--temperature=0.5"],
    "tensorrt_llm_triton": ["--best-of=2"],
    "sax": ["--stream-request"],
    "jetstream": ["--top-k=5"],
    "sglang": ["--best-of=2"],
    "llamacpp": ["--use-beam-search", "--best-of=2"],
    "openai": ["--ignore-eos"],
}
CASES |= {
    f"no word in {backend}": ([f"--backend={backend}", "--no-ignore-eos", *arguments], arguments[-1].partition("=")[0])
    for backend, arguments in UNSPOKEN.items()
}
CASES |= {
    "a path that is no ASCII": (["--endpoint=completions=/v1/über"], "--endpoint"),
}


def test_each_backend_has_a_setting_that_it_refuses() -> None:
    assert set(UNSPOKEN) == set(NAMES)


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_exit_2(name: str, server: int) -> None:
    arguments, flag = CASES[name]
    done = called(profile, "--host=127.0.0.1", f"--port={server}", "--num-prompts=3", *SYNTHETIC, *arguments)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert flag in done.stderr
    assert not done.stdout


def test_certificates_that_are_none() -> None:
    done = benchmark("--url=https://127.0.0.1:1", "--models=m", f"--ca-file={__file__}", *SYNTHETIC)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "--ca-file" in done.stderr


DATASETS: dict[str, str | None] = {
    "missing": None,
    "empty": "",
    "malformed": '[{"conversations": [{"from": "human", "value": "Hi',
    "no data set": '{"a": 1}',
    "no prompt passes": '[{"conversations": [{"value": "a"}, {"value": "b"}]}]',
}


@pytest.mark.parametrize("name", DATASETS)
def test_bad_dataset(name: str, server: int, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    text = DATASETS[name]
    if text is not None:
        path.write_text(text)
    done = called(
        profile, "--host=127.0.0.1", f"--port={server}", "--tokenizer=bundled", f"--dataset={path}", "--num-prompts=3"
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "--dataset" in done.stderr


def test_unreachable_host_is_one_line_and_exit_3() -> None:
    done = benchmark("--host=127.0.0.1", f"--port={free_port()}", "--models=m", "--num-prompts=3", *SYNTHETIC)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "refused" in done.stderr


def test_unknown_host_is_one_line_and_exit_3() -> None:
    done = benchmark("--host=no-such-host.invalid", "--models=m", "--num-prompts=3", *SYNTHETIC)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "no-such-host.invalid" in done.stderr


def test_a_port_that_speaks_no_http_fails_the_point() -> None:
    """Accepts and says nothing that is HTTP: each request fails, and the exit code says that no number may be used."""

    def mail(call: Call) -> None:
        call.send(b"220 mail.example ESMTP\r\n")
        call.hang_up()

    with Odd(mail) as server:
        done = benchmark("--host=127.0.0.1", f"--port={server.port}", "--models=m", "--num-prompts=3", *SYNTHETIC)
    assert done.returncode == 4, done.stderr
    assert "FAILED" in done.stdout
    assert "NOT_HTTP" in done.stderr
