"""What servers are started with: the defaults of the document that asked for it, and what the YAML file may say."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from latency_profile.errors import UsageError
from latency_profile.launch import SERVERS
from latency_profile.launch.configuration import server_settings
from latency_profile.launch.engine_run import without_secrets
from latency_profile.launch.llamacpp import LlamaCpp
from latency_profile.launch.vllm import Vllm
from latency_profile.settings import load
from latency_profile.workload import prepare
from tests.launching import dataset

LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"


@pytest.mark.parametrize(
    ("name", "port", "words"),
    [
        (
            "vllm",
            8000,
            f"{sys.executable} -m vllm.entrypoints.openai.api_server --model {LLAMA} --host h --port 9 "
            "--tensor-parallel-size 1 --gpu-memory-utilization 0.9 --dtype float16 --max-model-len 4096",
        ),
        (
            "sglang",
            30000,
            f"{sys.executable} -m sglang.launch_server --model-path {LLAMA} --host h --port 9 --tp-size 1 "
            "--mem-fraction-static 0.85 --enable-metrics",
        ),
        (
            "llamacpp",
            8080,
            "./llama-server --model ./model.gguf --host h --port 9 --ctx-size 8192 --n-gpu-layers 999 --parallel 32 "
            "--metrics",
        ),
        (
            "transformers",
            8001,
            f"{sys.executable} -m transformers.cli.transformers serve {LLAMA} --host h --port 9 --dtype float16",
        ),
    ],
)
def test_without_a_file_each_server_starts_as_documented(name: str, port: int, words: str) -> None:
    settings = server_settings(None)[name]
    assert settings.command_line("h", 9) == words.split(" ")
    assert settings.port == port
    assert settings.backend in ("vllm", "sglang", "llamacpp", "naive_transformers")


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "servers.yaml"
    path.write_text(
        "vllm:\n  dtype: bfloat16\n  max-model-len: null\n  extra_args: [--max-num-seqs, 16]\n"
        "  environment: {VLLM_CPU_KVCACHE_SPACE: 1}\nsglang:\n"
    )
    found = server_settings(path)
    assert found["sglang"] == SERVERS["sglang"]()  # type: ignore[call-arg]
    line = found["vllm"].command_line("h", 9)
    assert line[-4:] == ["--dtype", "bfloat16", "--max-num-seqs", "16"]
    assert "--max-model-len" not in line
    assert found["vllm"].variables({"HF_TOKEN": "x"}) == {"HF_TOKEN": "x", "VLLM_CPU_KVCACHE_SPACE": "1"}


def test_a_command_replaces_the_whole_program() -> None:
    settings = LlamaCpp(command=("serve", "{model}", "--at={host}:{port}"), model_path="m.gguf", extra_args=(4,))
    assert settings.command_line("::1", 9) == ["serve", "m.gguf", "--at=::1:9", "4"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vlm: {}", "got the section 'vlm'"),
        ("vllm: {modell: x}", "got vllm.modell"),
        ("vllm: {port: 0}", "vllm.port in"),
        ("vllm: {port: secret-word}", "vllm.port in"),
        ("vllm: {environment: {KEY: [secret-word]}}", "vllm.environment"),
        ("vllm: [secret-word]", "got vllm in"),
        ("vllm: {dtype: a, dtype: b}\nvllm: {}", "gives vllm again"),
        ("llamacpp: {command: secret-word}", "llamacpp.command in"),
        ("llamacpp: {ctx_size: 1, ctx-size: 2}", "got llamacpp.ctx_size in"),
        ("vllm: {gpu_memory_utilization: 90}", "vllm.gpu_memory_utilization in"),
        ("sglang: {mem_fraction_static: .nan}", "sglang.mem_fraction_static in"),
        ("vllm: {tensor_parallel_size: 0}", "vllm.tensor_parallel_size in"),
        ("vllm: {model: ''}", "vllm.model in"),
        ("vllm: {environment: {A=B: secret-word}}", "vllm.environment in"),
        ('vllm: {environment: {A: "secret-word\\0"}}', "vllm.environment[...] in"),
        ('vllm: {extra_args: ["secret-word\\0"]}', "vllm.extra_args[0] in"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_and_no_value_is_repeated(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "servers.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        server_settings(path)
    line = str(refused.value)
    assert line.startswith("--config: got") or line.startswith("--config: ")
    assert said in line
    assert "secret-word" not in line
    assert "\n" not in line


def test_what_cannot_be_started_here_is_known_before() -> None:
    assert Vllm(python="/nowhere/python").missing() == "there is no program /nowhere/python"
    assert (Vllm().missing() is None) == (importlib.util.find_spec("vllm") is not None)
    assert LlamaCpp(command=(sys.executable,)).missing() is None
    assert LlamaCpp(command=("no-such-program",)).missing() == "there is no program no-such-program"


def test_secrets_in_a_command_line_are_not_shown() -> None:
    words = [
        "vllm",
        "--api-key",
        "s1",
        "--hf-token=s2",
        "--max-num-batched-tokens",
        "8",
        "--tokenizer",
        "t",
        "-api_key=s3",
    ]
    shown = without_secrets(words)
    assert shown == [
        *("vllm", "--api-key", "***", "--hf-token=***", "--max-num-batched-tokens", "8", "--tokenizer", "t"),
        "-api_key=***",
    ]


def test_a_data_sets_own_lengths_reach_the_workload(tmp_path: Path) -> None:
    """`max_tokens` is what others call it; the categories are no matter of the workload."""
    path = tmp_path / "benchmark_dataset.json"
    dataset(path, 18)
    flags = (f"--dataset={path}", "--tokenizer=bundled", f"--cache-dir={tmp_path}", "--concurrencies=2")
    settings = load([*flags, "--num-prompts=18"], {})
    from latency_profile.parts import workload_spec

    requests = list(prepare(workload_spec(settings, ("m",), "00"), 18).requests(0, 18))
    assert sorted(request.output_length for request in requests) == sorted(8 + n % 4 for n in range(18))


def test_every_launcher_is_a_backend_of_the_profile() -> None:
    import backends

    for name, kind in SERVERS.items():
        assert "chat" in backends.load(kind.backend).doors, name
    assert os.environ.get("LATENCY_PROFILE_TOKENIZER") is None
