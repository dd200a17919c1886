"""Every refusal: one line that names the flag, what it got and what it takes; exit code 2."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from latency_profile.errors import Exit, UsageError
from latency_profile.settings import load

ROOT = Path(__file__).parents[1]
TOKENIZER = ["--tokenizer=t"]
DUMMY = [*TOKENIZER, "--use-dummy-text"]
SYNTHETIC = [*TOKENIZER, "--input-len=100", "--output-len=10"]


def refusal(argv: list[str], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as refused:
        load(argv, environ or {})
    line = str(refused.value)
    assert refused.value.exit_code is Exit.USAGE and int(Exit.USAGE) == 2
    assert len(line.splitlines()) == 1
    return line


VALUES = [
    # flag, what it got, a part of what the line says it takes
    ("--backend", "vlm", "takes one of vllm, tgi, naive_transformers, tensorrt_llm_triton, sax, jetstream, sglang, "),
    ("--backend", "vlm", "; did you mean vllm?"),
    ("--backend", "jet-stream", "; did you mean jetstream?"),
    ("--host", "http://server", "takes a host name or an address, without scheme and port"),
    ("--port", "0", "takes a whole number from 1 to 65535"),
    ("--port", "65536", "takes a whole number from 1 to 65535"),
    ("--port", "8e3", "takes a whole number"),
    ("--url", "gateway:8443", "takes a URL such as"),
    ("--url", "ftp://gateway", "takes a URL such as"),
    ("--url", "http://gateway:70000", "takes a URL such as"),
    ("--prometheus-url", "grpc://p", "takes a URL such as http://prometheus:9090"),
    ("--retries", "-1", "takes a whole number from 0 to 20"),
    ("--retries", "21", "takes a whole number from 0 to 20"),
    ("--wait-for-server", "0", "takes a number above 0"),
    ("--wait-for-server", "inf", "takes a number above 0"),
    ("--models", "a,,b", "takes model names separated by commas"),
    ("--request-timeout", "0", "takes a number above 0"),
    ("--request-timeout", "inf", "takes a number above 0"),
    ("--tcp-conn-limit", "-1", "takes a whole number, 0 or more"),
    ("--best-of", "0", "takes a whole number, 1 or more"),
    ("--top-k", "0", "takes a whole number, 1 or more"),
    ("--temperature", "-0.1", "takes a number, 0 or more"),
    ("--extra-body", "[1]", "(no dictionary), takes a JSON object"),
    ("--extra-body", "{'a': 1}", "(no JSON at character 2), takes a JSON object"),
    ("--input-len", "0", "takes a whole number, 1 or more"),
    ("--output-len", "0", "takes a whole number, 1 or more"),
    ("--max-input-length", "0", "takes a whole number, 1 or more"),
    ("--max-output-length", "-3", "takes a whole number, 1 or more"),
    ("--num-prompts", "0", "takes a whole number, 1 or more"),
    ("--num-prompts", "1.5", "takes a whole number, 1 or more"),
    ("--traffic-split", "1.5,-0.5", "takes numbers above 0, separated by commas, that sum to 1"),
    ("--traffic-split", "-0.5,1.5", "takes numbers above 0, separated by commas, that sum to 1"),
    ("--traffic-split", "a", "takes numbers above 0"),
    ("--nonce", "xyz", "takes 1 to 64 hexadecimal digits"),
    ("--seed", "-1", "takes a whole number, 0 or more"),
    ("--request-rate", "0", 'takes a number above 0, or "inf"'),
    ("--request-rate", "-1", 'takes a number above 0, or "inf"'),
    ("--request-rate", "-inf", 'takes a number above 0, or "inf"'),
    ("--request-rate", "abc", 'takes a number above 0, or "inf"'),
    ("--request-rate", "nan", 'takes a number above 0, or "inf"'),
    ("--request-rate", "1_0", 'takes a number above 0, or "inf"'),
    ("--request-rates", "1,0", 'takes numbers above 0 (or "inf"), separated by commas'),
    ("--request-rates", "1 2", 'takes numbers above 0 (or "inf"), separated by commas'),
    ("--concurrencies", "0,1", "takes whole numbers of 1 or more, separated by commas"),
    ("--concurrencies", "1.5", "takes whole numbers of 1 or more, separated by commas"),
    ("--benchmark-time-seconds", "0", "takes a number above 0"),
    ("--warmup-seconds", "-1", "takes a number, 0 or more"),
    ("--arrival", "poison", "takes one of poisson, gamma, constant; did you mean poisson?"),
    ("--burstiness", "0", "takes a number above 0"),
    ("--workers", "-1", "takes a whole number, 0 or more"),
    ("--file-prefix", "a/b", "takes a file name without /"),
    ("--machine-cost", "cheap", "takes a number from 1e-06"),
    ("--machine-cost", "0", "takes a number from 1e-06"),
    ("--utilization", "0", "takes a share above 0 and at most 1"),
    ("--utilization", "140%", "takes a share above 0 and at most 1"),
    ("--goodput", "ttft", 'takes objectives such as "ttft:500 tpot:50 e2e:10000", in ms, above 0; names are'),
    ("--goodput", "ttft:0", "takes objectives such as"),
    ("--goodput", "ttft:nan", "takes objectives such as"),
    ("--goodput", "ttft:-5", "takes objectives such as"),
    ("--goodput", "ttft<500", "(a limit without ms or s), takes objectives such as"),
    ("--goodput", "ttft<0ms", "takes objectives such as"),
    ("--goodput", "itl:50", "names are ttft, tpot, e2e"),
    ("--goodput", "e2e:500 e2el:600", "(the same twice), takes objectives such as"),
    ("--slo", "ttft", 'takes objectives such as "ttft:p99<500ms, e2e:mean<10s, errors<1%": METRIC:STAT<LIMIT'),
    ("--slo", "ttft:p99<500", "(a limit without ms or s), takes objectives such as"),
    ("--slo", "ttft:p99<500us", "(a limit without ms or s), takes"),
    ("--slo", "ttft<500ms", "(no statistic), takes"),
    ("--slo", "ttft:p100<500ms", "(no such statistic), takes"),
    ("--slo", "ttft:p0<500ms", "(no such statistic), takes"),
    ("--slo", "ttft:max<500ms", "STAT a percentile (p50, p99.9) or mean"),
    ("--slo", "tokens:p99<500ms", "METRIC of ttft, tpot, itl, ntpot, e2e"),
    ("--slo", "ttft:p99<0ms", "LIMIT above 0 in ms or s"),
    ("--slo", "ttft:p99<-5ms", "LIMIT above 0 in ms or s"),
    ("--slo", "ttft:p99<nanms", "takes objectives such as"),
    ("--slo", "ttft:p99>500ms", "takes objectives such as"),
    ("--slo", "ttft:p99<500ms,", "takes objectives such as"),
    ("--slo", "errors<1", "(errors take a share in %, below 100%), takes"),
    ("--slo", "errors<100%", "(errors take a share in %, below 100%), takes"),
    ("--slo", "errors:p99<1%", "(errors have no statistic), takes"),
    ("--slo", "e2e:p99<5s, e2el:p99.0<9s", "(the same figure twice), takes"),
    ("--additional-metadata-metrics-to-save", "[1]", "(no dictionary), takes a dictionary"),
    ("--additional-metadata-metrics-to-save", "a=b", "(neither JSON nor a Python literal), takes a dictionary"),
    ("--additional-metadata-metrics-to-save", "{1: 2}", "keys must be text"),
    ("--additional-metadata-metrics-to-save", "{'a': (1,)}", "values JSON values"),
    ("--additional-metadata-metrics-to-save", '{"a": NaN}', "without NaN or Infinity"),
    ("--additional-metadata-metrics-to-save", "__import__('os').getcwd()", "neither JSON nor a Python literal"),
]


@pytest.mark.parametrize(("flag", "got", "takes"), VALUES)
def test_a_wrong_value(flag: str, got: str, takes: str) -> None:
    line = refusal([*DUMMY, flag, got])
    assert line.startswith(f"{flag}: got {got!r}")
    assert takes in line


@pytest.mark.parametrize("flag", ["--host", "--models", "--request-rate", "--num-prompts", "--output-dir", "--seed"])
def test_an_empty_value(flag: str) -> None:
    """An unset variable of a shell: `--request-rate=$RATE`."""
    assert refusal([*DUMMY, f"{flag}="]).startswith(f"{flag}: got ''")


COMBINATIONS = [
    # what is given, how the line begins, what else it says
    (
        ["--use-dummy-text"],
        "--tokenizer: got nothing, takes the name or path of a tokenizer",
        "LATENCY_PROFILE_TOKENIZER",
    ),
    (TOKENIZER, "--dataset: got nothing", "--dataset FILE, --use-dummy-text, or --input-len N with --output-len N"),
    ([*DUMMY, "--dataset=d"], "--dataset: got 'd', takes no --use-dummy-text", "one of --dataset"),
    ([*SYNTHETIC, "--dataset=d"], "--input-len: got 100, takes no --dataset", "one of --dataset"),
    ([*SYNTHETIC, "--use-dummy-text"], "--input-len: got 100, takes no --use-dummy-text", "one of --dataset"),
    ([*TOKENIZER, "--input-len=5"], "--input-len: got 5, takes --output-len beside it", ""),
    ([*TOKENIZER, "--output-len=5"], "--output-len: got 5, takes --input-len beside it", ""),
    ([*DUMMY, "--input-len-stddev=5"], "--input-len-stddev: got 5, takes effect only with --input-len", ""),
    ([*SYNTHETIC, "--output-len-min=5"], "--output-len-min: got 5, takes effect only with --output-len-stddev", ""),
    (
        [*SYNTHETIC, "--input-len-stddev=9", "--input-len-min=101"],
        "--input-len-min: got 101, takes at most the 100 of --input-len",
        "",
    ),
    (
        [*SYNTHETIC, "--output-len-stddev=9", "--output-len-max=9"],
        "--output-len-max: got 9, takes at least the 10 of --output-len",
        "",
    ),
    ([*SYNTHETIC, "--max-input-length=9"], "--max-input-length: got 9, takes effect only with --dataset or", ""),
    ([*DUMMY, "--nonce=aa", "--no-unique-prompts"], "--nonce: got 'aa', takes no --no-unique-prompts", ""),
    ([*DUMMY, "--request-rate=2", "--request-rates=1,2"], "--request-rate: got 2, takes no --request-rates", ""),
    ([*DUMMY, "--request-rate=inf", "--concurrencies=1"], "--request-rate: got inf, takes no --concurrencies", ""),
    (
        [*DUMMY, "--request-rates=1,inf", "--concurrencies=1"],
        "--request-rates: got 1,inf, takes no --concurrencies",
        "",
    ),
    ([*DUMMY, "--concurrencies=1", "--arrival=gamma"], "--arrival: got 'gamma', takes effect only with a finite", ""),
    ([*DUMMY, "--concurrencies=1", "--burstiness=2"], "--burstiness: got 2, takes effect only with a finite", ""),
    ([*DUMMY, "--arrival=constant"], "--arrival: got 'constant', takes effect only with a finite", ""),
    (
        [*DUMMY, "--request-rate=1", "--burstiness=2", "--arrival=constant"],
        "--burstiness: got 2, takes --arrival gamma, not constant",
        "",
    ),
    (
        [*DUMMY, "--request-rate=1", "--burstiness=2", "--arrival=poisson"],
        "--burstiness: got 2, takes --arrival gamma, not poisson",
        "",
    ),
    ([*DUMMY, "--benchmark-time-seconds=9"], "--benchmark-time-seconds: got 9, takes effect only with a finite", ""),
    ([*DUMMY, "--warmup-seconds=9"], "--warmup-seconds: got 9, takes effect only with a finite", ""),
    (
        [*DUMMY, "--request-rate=1", "--benchmark-time-seconds=9", "--warmup-seconds=5", "--cooldown-seconds=4"],
        "--warmup-seconds: got 5, takes a time that, with --warmup-seconds and --cooldown-seconds together, is under",
        "the 9 s of --benchmark-time-seconds",
    ),
    (
        [*DUMMY, "--request-rate=1", "--benchmark-time-seconds=9", "--cooldown-seconds=9"],
        "--cooldown-seconds: got 9, takes a time",
        "",
    ),
    (
        [*DUMMY, "--request-rate=1", "--benchmark-time-seconds=9", "--num-prompts=5"],
        "--num-prompts: got 5, takes effect only with an unlimited rate or --concurrencies",
        "",
    ),
    ([*DUMMY, "--traffic-split=1"], "--traffic-split: got 1, takes --models beside it", ""),
    (
        [*DUMMY, "--models=a,b,c", "--traffic-split=0.5,0.5"],
        "--traffic-split: got 0.5,0.5, takes one part for each of the 3 models",
        "",
    ),
    (
        [*DUMMY, "--models=a,b", "--traffic-split=0.5,0.4"],
        "--traffic-split: got 0.5,0.4, takes parts that sum to 1 within 0.000001; these sum to 0.9",
        "",
    ),
    ([*DUMMY, "--models=a,a"], "--models: got a,a, takes each model once", ""),
    ([*DUMMY, "--use-beam-search"], "--use-beam-search: got --best-of 1, takes --best-of 2 or more", ""),
    ([*DUMMY, "--stream-request", "--best-of=2"], "--best-of: got 2, takes no --stream-request", ""),
    ([*DUMMY, "--sax_model=/m"], "--sax_model: got '/m', takes --backend sax, not vllm", ""),
    ([*DUMMY, "--url=http://a", "--host=b"], "--url: got http://a, takes no --host beside it", ""),
    ([*DUMMY, "--url=http://a", "--port=1"], "--url: got http://a, takes no --port beside it", ""),
    ([*DUMMY, "--insecure"], "--insecure: got True, takes effect only with a --url of https or grpcs", ""),
    ([*DUMMY, "--url=http://a", "--insecure"], "--insecure: got True, takes effect only with a --url of https", ""),
    ([*DUMMY, "--ca-file=ca.pem"], "--ca-file: got 'ca.pem', takes effect only with a --url of https", ""),
    (
        [*DUMMY, "--url=https://a", "--ca-file=/no/ca"],
        "--ca-file: got '/no/ca', takes a readable PEM file (No such",
        "",
    ),
    ([*DUMMY, "--url=https://a", "--ca-file=c", "--insecure"], "--ca-file: got 'c', takes no --insecure beside it", ""),
    ([*DUMMY, "--api-key-file=/no/key"], "--api-key-file: got '/no/key', takes a readable file that holds", "(No such"),
    ([*DUMMY, "--prometheus-url=http://p"], "--prometheus-url: got 'http://p', takes effect only with --scrape", ""),
    (
        [*DUMMY, "--output-bucket-filepath=a/b"],
        "--output-bucket-filepath: got 'a/b', takes --output-bucket beside it",
        "",
    ),
    ([*DUMMY, "--output-bucket=b"], "--output-bucket: got 'b', takes effect only with --save-json-results", ""),
    (
        [*DUMMY, "--save-aggregated-result"],
        "--save-aggregated-result: got True, takes effect only with --save-json-results",
        "",
    ),
    ([*DUMMY, "--goodput=e2e:900 tpot:50"], "--goodput: got ", "takes --stream-request with ttft and tpot"),
    ([*DUMMY, "--slo=e2e:p9<1s,itl:p9<1s"], "--slo: got e2e:p9<1s,itl:p9<1s, takes --stream-request with ttft", ""),
    ([*DUMMY, "--slo=e2e:p99<1s"], "--slo: got e2e:p99<1s, takes effect only with a finite request rate or", ""),
    ([*DUMMY, "--output-dir=/dev/null"], "--output-dir: got '/dev/null', takes a folder that can be written", ""),
    ([*DUMMY, "--output-dir=~nobody-1/x"], "--output-dir: got '~nobody-1/x' (nobody of this name has a home", ""),
    ([*DUMMY, "--output-dir=/dev/null/x"], "--output-dir: got '/dev/null/x', takes a folder that can be written", ""),
]


@pytest.mark.parametrize(("argv", "begins", "says"), COMBINATIONS)
def test_a_wrong_combination(argv: list[str], begins: str, says: str) -> None:
    line = refusal(argv)
    assert line.startswith(begins)
    assert says in line


@pytest.mark.parametrize(
    "split", ["0.9,0.1", "0.3333333,0.3333333,0.3333334", "0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1"], ids=len
)
def test_splits_that_sum_to_one(split: str) -> None:
    models = ",".join(f"m{index}" for index, _ in enumerate(split.split(",")))
    assert load([*DUMMY, f"--models={models}", f"--traffic-split={split}"], {}).traffic_split


@pytest.mark.parametrize(
    ("parts", "good"), [("0.5,0.5000009", True), ("0.5,0.5000011", False), ("0.5,0.4999989", False)]
)
def test_the_tolerance_of_a_split(parts: str, good: bool) -> None:
    argv = [*DUMMY, "--models=a,b", f"--traffic-split={parts}"]
    if good:
        load(argv, {})
    else:
        assert refusal(argv).startswith("--traffic-split: got ")


@pytest.mark.parametrize("way", ["itself", "on the way"])
def test_a_folder_that_cannot_be_written(way: str) -> None:
    """Asked by a process that is not root, whom permissions would not stop."""
    code = """
import os, sys
from latency_profile.settings import load
load(sys.argv[1:-1], {})  # imports what is imported late: another user may have no access to this Python
if os.geteuid() == 0:
    os.setuid(65534)
load(sys.argv[1:], {})
"""
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "results"
        folder.mkdir()
        Path(outer).chmod(0o755 if way == "itself" else 0o600)
        folder.chmod(0o555)
        argv = [*DUMMY, f"--output-dir={folder}"]
        done = subprocess.run(
            [sys.executable, "-Bc", code, *argv], cwd=ROOT, capture_output=True, text=True, check=False
        )
        Path(outer).chmod(0o755)
    line = f"UsageError: --output-dir: got '{folder}', takes a folder that can be written"
    assert done.stderr.rstrip().endswith(line)


def test_unknown_flags_name_the_nearest_one() -> None:
    assert refusal([*DUMMY, "--num-prompt=3"]) == "--num-prompt: no such flag; did you mean --num-prompts?"
    assert refusal([*DUMMY, "--zzzzzz"]) == "--zzzzzz: no such flag; --help lists them all"
    assert refusal(["--tok=t"]).startswith("--tok: no such flag")  # no abbreviations: a new flag would break them


def test_words_that_belong_to_no_flag() -> None:
    assert refusal([*DUMMY, "--models", "a", "b"]).startswith("got 'b' after --models, which belongs to no flag")
    assert refusal(["word"]).startswith("got 'word', which belongs to no flag")


def test_values_that_are_missing_or_too_many() -> None:
    assert refusal(["--port"]) == "--port: got no value, takes a whole number from 1 to 65535"
    assert refusal(["--model", "--port", "1"]) == "--models: got no value, takes model names separated by commas"
    line = refusal(["--stream-request=yes"])
    assert line == "--stream-request: got 'yes', takes no value; --no-stream-request turns it off"


def test_errors_name_the_place_that_the_value_came_from(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("port: 70000\n")
    by_file = [*DUMMY, f"--config={config}"]
    assert refusal(by_file).startswith(f"--port (file {config}): got 70000, takes a whole number")
    environ = {"LATENCY_PROFILE_PORT": "x"}
    line = refusal(by_file, environ)
    assert line.startswith("--port (environment variable LATENCY_PROFILE_PORT): got 'x', takes")
    line = refusal([*DUMMY, "--request-rate=1"], {"LATENCY_PROFILE_REQUEST_RATES": "1,2"})
    assert (
        line == "--request-rate: got 1, takes no --request-rates beside it, which LATENCY_PROFILE_REQUEST_RATES gives"
    )
    assert refusal([*DUMMY, "--dataset-path=x"]).startswith("--dataset-path: got 'x'")


def test_a_slip_in_a_variable_is_told() -> None:
    line = refusal(DUMMY, {"LATENCY_PROFILE_NUM_PROMPT": "5"})
    assert (
        line
        == "environment variable LATENCY_PROFILE_NUM_PROMPT: no such setting; did you mean LATENCY_PROFILE_NUM_PROMPTS?"
    )


FILES = [
    ("num-promts: 3", "got 'num-promts' in {}, no such setting; did you mean num-prompts?"),
    ("config: other.yaml", "got 'config' in {}, takes a file that names no other file"),
    ("num-prompts: 3\nnum_prompts: 4", "got num_prompts twice in {}, takes each setting once"),
    ("model: a\nmodels: b", "got models twice in {}, takes each setting once"),
    ("seed: 3\nport: 1\nseed: 4", "got '{}', takes a readable YAML file (line 3 gives seed again)"),
    ("- seed", "got '{}', takes a readable YAML file of settings by name (it is no mapping of names)"),
    ("1: 2", "got '{}', takes a readable YAML file of settings by name (it is no mapping of names)"),
    ("seed: 1\nport: [", "got '{}', takes a readable YAML file (no YAML in line 3)"),
    ("seed: !!python/object:os.system x", "got '{}', takes a readable YAML file (no YAML in line 1)"),
]


@pytest.mark.parametrize(("text", "says"), FILES)
def test_a_wrong_file(text: str, says: str, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text + "\n")
    assert refusal([*DUMMY, f"--config={config}"]) == "--config: " + says.format(config)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "no.yaml"
    takes = "takes a readable YAML file"
    assert refusal([*DUMMY, f"--config={missing}"]) == f"--config: got '{missing}', {takes} (No such file or directory)"
    line = refusal(DUMMY, {"LATENCY_PROFILE_CONFIG": str(tmp_path)})
    assert line.startswith(f"--config (environment variable LATENCY_PROFILE_CONFIG): got '{tmp_path}', {takes}")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"models: \xe9\n")
    assert refusal([*DUMMY, f"--config={latin}"]).endswith(f"{takes} (no UTF-8)")


TYPED = [
    ("port: true", "got True, takes a whole number"),
    ("port: 1.5", "got 1.5, takes a whole number"),
    ("nonce: 0123", "got 83 (no text; quote it), takes"),
    ("ignore_eos: maybe", "got 'maybe', takes true or false"),
    ("models: []", "got [], takes model names"),
    ("request-rates: [1, x]", "got [1, 'x'], takes numbers above 0"),
    ("num_prompts: 2026-11-21", "got 2026-11-21, takes a whole number"),
    ("header: 3", "got a value that is not shown, takes"),
    ("extra-body: {a: .nan}", "got {'a': nan} (keys must be text"),
]


@pytest.mark.parametrize(("text", "says"), TYPED)
def test_values_of_another_type_in_a_file(text: str, says: str, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text + "\n")
    line = refusal([*DUMMY, f"--config={config}"])
    assert says in line and f"(file {config})" in line


SECRETS = [
    ["--header", "Authorization Bearer hush"],  # no colon
    ["--header", "Authorization: Bearer hush\x07"],
    ["--header", "Content-Length: hush"],
    ["--header", "Authorization:", "hush"],  # quotes forgotten
    ["--api-key=hush"],  # no such flag
    ["--api-key-env=sk-hush"],  # the key in place of the variable's name
    ["--api-key-env=hush"],  # the same, and it could be a name
    ["--url=http://user:hush@host"],
    ["--url=http://host,http://user:hush@host"],
    ["--url", "http://host", "--url", "http://user:hu,hush@host"],
    ["--url=http://host/?key=hush"],
    ["--prometheus-url=http://user:hush@host"],
    ['--extra-body={"api_key": "hush"'],
]


@pytest.mark.parametrize("argv", SECRETS, ids=[argv[0] + str(index) for index, argv in enumerate(SECRETS)])
def test_what_may_be_secret_is_never_repeated(argv: list[str]) -> None:
    line = refusal([*DUMMY, *argv])
    assert "hush" not in line
    assert line.startswith(argv[0].partition("=")[0]) or " after --header" in line


def test_a_key_that_cannot_stand_in_a_header(tmp_path: Path) -> None:
    line = refusal(DUMMY, {"OPENAI_API_KEY": "hush\nhush"})
    assert line.startswith("--api-key-env: got a key that is not shown, takes") and "hush" not in line
    empty = tmp_path / "key"
    empty.write_text("\n")
    assert refusal([*DUMMY, f"--api-key-file={empty}"]).startswith("--api-key-file: got a key that is not shown, takes")
    file = tmp_path / "both"
    file.write_text("k")
    line = refusal([*DUMMY, f"--api-key-file={file}", "--api-key-env=HOME"], dict(os.environ))
    assert line == f"--api-key-file: got '{file}', takes no --api-key-env beside it"


def test_long_values_are_cut() -> None:
    line = refusal([*DUMMY, "--port=" + "9" * 500])
    assert len(line) < 200 and "…" in line
