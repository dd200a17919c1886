"""A real vLLM with a prefix cache: its counters, its hook, and the verdict that follows from them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_profile import Profiled, profile
from tests.servers.vllm_server import MODEL, Vllm, installed, serve_process
from tests.tool import benchmark

pytestmark = pytest.mark.vllm

PROMPTS, INPUT = 8, 300
BLOCK = 128  # tokens, of vLLM on a CPU


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    if not installed():
        pytest.skip("no vLLM here: `make test-vllm` installs it")
    log = tmp_path_factory.mktemp("cached") / "server.log"
    with serve_process(log, "--enable-prefix-caching", "--block-size", str(BLOCK), VLLM_SERVER_DEV_MODE="1") as running:
        yield running


def measure(server: Vllm, folder: Path, *flags: str) -> Profiled:
    folder.mkdir()
    return profile(
        folder, f"--url={server.url}", f"--tokenizer={MODEL}", "--ignore-eos", "--temperature=0", "--stream-request",
        f"--input-len={INPUT}", "--output-len=2", f"--num-prompts={PROMPTS}", "--concurrencies=2", *flags, timeout=300,
    )  # fmt: skip


def contaminated(profiled: Profiled) -> bool:
    """Whether that is among the reasons: on a busy machine CLIENT_LIMITED may come before it."""
    return any(
        "of the prompt tokens in its prefix cache already" in why for why in profiled.point["verdict"]["reasons"]
    )


def test_repeated_prompts_contaminate_own_prompts_do_not_and_a_reset_cleans(server: Vllm, tmp_path: Path) -> None:
    own = [measure(server, tmp_path / name) for name in ("one", "two")]
    first = measure(server, tmp_path / "first", "--nonce=ab12")
    again = measure(server, tmp_path / "again", "--nonce=ab12")
    reset = measure(server, tmp_path / "reset", "--nonce=ab12", "--reset-cache")
    for clean in (*own, first, reset):
        cache = clean.point["cache"]
        assert (cache["source"], cache["queries_tokens"], cache["hits_tokens"]) == ("counters", PROMPTS * INPUT, 0)
        assert not contaminated(clean)
    assert again.point["cache"]["hits_tokens"] == PROMPTS * (INPUT // BLOCK) * BLOCK
    assert contaminated(again)
    assert again.done.returncode == 4


def test_a_chat_template_is_no_contamination(server: Vllm, tmp_path: Path) -> None:
    measure(server, tmp_path / "first", "--endpoint=chat")
    chat = measure(server, tmp_path / "second", "--endpoint=chat")
    assert not contaminated(chat)
    assert chat.point["cache"]["unavoidable_hit_rate"] > 0


def test_a_shared_prefix_hits_as_it_is_meant_to(server: Vllm, tmp_path: Path) -> None:
    flags = ("--shared-prefix=256", "--concurrencies=1")
    shared = measure(server, tmp_path / "shared", *flags)
    cache = shared.point["cache"]
    assert cache["hits_tokens"] == (PROMPTS - 1) * 256
    assert cache["intended_hit_rate"] == pytest.approx((PROMPTS - 1) * 256 / (PROMPTS * INPUT))
    assert not contaminated(shared)


def test_without_developer_mode_the_hook_is_named(vllm_server: str, tmp_path: Path) -> None:
    done = benchmark(
        f"--url={vllm_server}", f"--tokenizer={MODEL}", "--input-len=32", "--output-len=2", "--num-prompts=1",
        "--reset-cache",
    )  # fmt: skip
    assert done.returncode == 2
    assert "answered 404; vLLM has this door where it is started with VLLM_SERVER_DEV_MODE=1" in done.stderr
