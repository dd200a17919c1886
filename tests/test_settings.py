"""Where settings come from, what they become, and how they are told on to results."""

import json
import math
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from latency_profile.settings import Settings, Source, help_text, load
from latency_profile.settings.definition import ROWS

ROOT = Path(__file__).parents[1]
ENOUGH = ["--tokenizer=t", "--use-dummy-text"]

# A setting of each type: what else it needs, then text and value for flag, environment and file, then the default.
LEVELS: list[tuple[str, list[str], tuple[str, Any], tuple[str, Any], tuple[Any, Any], Any]] = [
    ("file_prefix", [], ("a", "a"), ("b", "b"), ("c", "c"), "benchmark"),
    ("port", [], ("81", 81), ("82", 82), (83, 83), 7080),
    ("request_timeout", [], ("1.5", 1.5), ("2", 2.0), (3, 3.0), 10800.0),
    (
        "url",
        [],
        ("http://a,HTTPS://b/c/", ("http://a", "https://b/c")),
        ("https://d:9000", ("https://d:9000",)),
        (["http://e", "http://[::1]:80"], ("http://e", "http://[::1]:80")),
        (),
    ),
    ("retries", [], ("20", 20), ("0", 0), (3, 3), 0),
    ("wait_for_server", [], ("600", 600.0), ("0.5", 0.5), (3, 3.0), None),
    ("request_rate", [], ("inf", math.inf), ("2", 2.0), (0.5, 0.5), math.inf),
    ("ignore_eos", [], ("", True), ("false", False), (True, True), False),
    ("models", [], ("a,b", ("a", "b")), ("c", ("c",)), (["d", "e"], ("d", "e")), ()),
    ("request_rates", [], ("1, 2,inf", (1.0, 2.0, math.inf)), ("3", (3.0,)), ([1, "inf"], (1.0, math.inf)), ()),
    ("concurrencies", [], ("1,8", (1, 8)), ("2", (2,)), ([32], (32,)), ()),
    (
        "traffic_split",
        ["--models=a,b"],
        ("0.9,0.1", (0.9, 0.1)),
        ("0.5,0.5", (0.5, 0.5)),
        ([0.2, 0.8], (0.2, 0.8)),
        None,
    ),
    ("top_k", [], ("1", 1), ("2", 2), (3, 3), None),
    ("temperature", [], ("0", 0.0), ("0.5", 0.5), (1, 1.0), None),
    (
        "arrival",
        ["--request-rate=1"],
        ("constant", "constant"),
        ("gamma", "gamma"),
        ("constant", "constant"),
        "poisson",
    ),
    ("cache_dir", [], ("/a", Path("/a")), ("b", Path("b")), ("/c", Path("/c")), None),
    ("nonce", [], ("AB", "ab"), ("01", "01"), ("0e1", "0e1"), None),
    (
        "extra_body",
        [],
        ('{"a": [1]}', {"a": [1]}),
        ('{"b": null}', {"b": None}),
        ({"c": {"d": 0.5}}, {"c": {"d": 0.5}}),
        {},
    ),
    (
        "additional_metadata_metrics_to_save",
        [],
        ("{'a': True}", {"a": True}),
        ('{"b": true}', {"b": True}),
        ({"c": "d"}, {"c": "d"}),
        {},
    ),
    (
        "goodput",
        ["--stream-request"],
        ("ttft:500", {"ttft": 500.0}),
        ("tpot:50 e2el:10000", {"tpot": 50.0, "e2e": 10000.0}),
        ({"e2e": 900}, {"e2e": 900.0}),
        {},
    ),
    (
        "slo",
        ["--stream-request", "--request-rate=1"],
        ("ttft:p99<500ms, e2el:mean<10s", ("ttft:p99<500ms", "e2e:mean<10s")),
        ("errors<1.0%", ("errors<1%",)),
        (["itl:p99.9<0.1s", "tpot:p95<50ms"], ("itl:p99.9<0.1s", "tpot:p95<50ms")),
        (),
    ),
    (
        "header",
        [],
        ("A: 1", (("A", "1"),)),
        ("B: 2\nC: x:y", (("B", "2"), ("C", "x:y"))),
        (["D: 4"], (("D", "4"),)),
        (),
    ),
]


@pytest.mark.parametrize("case", LEVELS, ids=[case[0] for case in LEVELS])
def test_flag_then_environment_then_file_then_default(case: Any, tmp_path: Path) -> None:
    name, more, flag, variable, file, default = case
    spelled, key = "--" + name.replace("_", "-"), "LATENCY_PROFILE_" + name.upper()
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({name: file[0]}))
    argv = [*ENOUGH, *more]
    by_file = [*argv, f"--config={config}"]
    environ = {key: variable[0]}
    by_flag = [*by_file, spelled] if flag[0] == "" else [*by_file, spelled, flag[0]]

    def got(argv: list[str], environ: dict[str, str]) -> tuple[Any, Source]:
        settings = load(argv, environ)
        return getattr(settings, name), settings.sources[name]

    assert got(by_flag, environ) == (flag[1], Source("flag", spelled))
    assert got(by_file, environ) == (variable[1], Source("environment", key))
    assert got(by_file, {}) == (file[1], Source("file", str(config)))
    assert got(argv, {}) == (default, Source("default"))
    value = got(by_flag, {})[0]
    assert type(value) is type(flag[1])


def test_every_type_of_value_has_its_precedence_tested() -> None:
    tested = {name for name, *_ in LEVELS}
    assert {row.kind.type for row in ROWS} == {row.kind.type for row in ROWS if row.name in tested}


def test_a_switch_can_be_turned_off_again() -> None:
    environ = {"LATENCY_PROFILE_STREAM_REQUEST": "True"}
    assert load(ENOUGH, environ).stream_request is True
    assert load([*ENOUGH, "--no-stream-request"], environ).stream_request is False
    assert load([*ENOUGH, "--no-unique-prompts"], {}).unique_prompts is False


@pytest.mark.parametrize(("word", "value"), [("1", True), ("Yes", True), ("on", True), ("0", False), ("OFF", False)])
def test_words_for_a_switch_in_the_environment(word: str, value: bool) -> None:
    assert load(ENOUGH, {"LATENCY_PROFILE_IGNORE_EOS": word}).ignore_eos is value


def test_the_first_command_of_the_documents() -> None:
    command = """--save-json-results --host=10.0.0.7 --port=8000 --dataset=ShareGPT.json --tokenizer=org/model
        --request-rate=5.5 --backend=vllm --num-prompts=200 --max-input-length=512 --max-output-length=256
        --file-prefix=night"""
    settings = load(command.split(), {})
    chosen = {name: getattr(settings, name) for name, source in settings.sources.items() if source.level != "default"}
    assert chosen == {
        "save_json_results": True,
        "host": "10.0.0.7",
        "port": 8000,
        "dataset": Path("ShareGPT.json"),
        "tokenizer": "org/model",
        "request_rate": 5.5,
        "backend": "vllm",
        "num_prompts": 200,
        "max_input_length": 512,
        "max_output_length": 256,
        "file_prefix": "night",
    }


def test_second_names() -> None:
    settings = load(["--tokenizer=t", "--model", "a", "--dataset-path", "d.json"], {})
    assert (settings.models, settings.dataset) == (("a",), Path("d.json"))
    assert settings.sources["models"] == Source("flag", "--model")


def test_file_keys_with_either_dash_and_second_names(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "num-prompts: 3\nmax_input_length: 7\nmodel: a\nport:\nrequest-rate: .inf\n"
        "header: {X-Tenant: blue, X-Number: 7}\ndataset-path: d.json\ntokenizer: t\n"
    )
    settings = load([], {"LATENCY_PROFILE_CONFIG": str(config)})
    assert (settings.num_prompts, settings.max_input_length, settings.models) == (3, 7, ("a",))
    assert settings.header == (("X-Tenant", "blue"), ("X-Number", "7"))
    assert settings.port == 7080 and settings.sources["port"].level == "default"


def test_an_empty_file_and_an_empty_variable_give_nothing(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("# nothing yet\n")
    settings = load([*ENOUGH, f"--config={config}"], {"LATENCY_PROFILE_PORT": "", "LATENCY_PROFILE_MODELS": " "})
    assert (settings.port, settings.models) == (7080, ())


def test_variables_of_others_with_the_prefix_are_let_be() -> None:
    # Kubernetes makes such variables in every pod for a Service called latency-profile.
    environ = {"LATENCY_PROFILE_SERVICE_HOST": "10.0.0.1", "LATENCY_PROFILE_PORT_80_TCP": "tcp://10.0.0.1:80"}
    assert load(ENOUGH, environ).port == 7080


def test_headers_repeat() -> None:
    settings = load([*ENOUGH, "--header", "X-A: 1", "--header", "X-B: 2"], {})
    assert settings.header == (("X-A", "1"), ("X-B", "2"))


def test_urls_repeat() -> None:
    argv = [*ENOUGH, "--url", "http://a, http://b", "--url=http://c", "--url", "http://d"]
    settings = load(argv, {})
    assert settings.url == ("http://a", "http://b", "http://c", "http://d")
    assert settings.as_dict()["url"] == ["http://a", "http://b", "http://c", "http://d"]
    assert load(ENOUGH, {}).url == ()


def test_what_goes_with_several_urls() -> None:
    urls = "--url=https://a,http://b,https://c"
    assert load([*ENOUGH, urls, "--insecure", "--tcp-conn-limit=3", "--num-prompts=3"], {}).insecure


def test_a_list_of_a_file_is_not_cut_at_commas_but_where_its_flag_repeats(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text('models: ["a,b", c]\nurl: ["http://a,http://b"]\n')
    settings = load([*ENOUGH, f"--config={config}"], {})
    assert settings.models == ("a,b", "c")
    assert settings.url == ("http://a", "http://b")


def test_burstiness_selects_gamma_arrivals() -> None:
    argv = [*ENOUGH, "--request-rate=2"]
    assert load([*argv, "--burstiness=0.5"], {}).arrival == "gamma"
    assert load([*argv, "--burstiness=1"], {}).arrival == "poisson"
    assert load([*argv, "--arrival=gamma"], {}).burstiness == 1.0


def test_rates_of_the_open_loop_points() -> None:
    assert load(ENOUGH, {}).rates == (math.inf,)
    assert load([*ENOUGH, "--request-rate=3"], {}).rates == (3.0,)
    assert load([*ENOUGH, "--request-rates=1,2"], {}).rates == (1.0, 2.0)
    assert load([*ENOUGH, "--concurrencies=1,8"], {}).rates == ()


def test_settings_are_frozen_and_do_not_share_their_dictionaries() -> None:
    first, second = Settings(tokenizer="t"), Settings(tokenizer="t")
    with pytest.raises(FrozenInstanceError):
        first.port = 1  # type: ignore[misc]
    first.extra_body["a"] = 1
    assert second.extra_body == {}


def test_as_dict_is_json_without_secrets(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-in-a-file\n")
    settings = load(
        [
            *ENOUGH,
            "--request-rates=1,inf",
            "--header=Authorization: Bearer sk-header",
            f"--api-key-file={key}",
            '--extra-body={"api_key": "sk-body", "max_tokens": 5, "a": [{"password": "sk-deep"}]}',
        ],
        {"OPENAI_API_KEY": "sk-environment"},
    )
    told = settings.as_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told) == {row.name for row in ROWS}
    assert told["request_rates"] == [1.0, "inf"]
    assert told["output_dir"] == "." and told["cache_dir"] is None
    assert told["header"] == ["Authorization: (not shown)"]
    assert told["extra_body"] == {"api_key": "(not shown)", "max_tokens": 5, "a": [{"password": "(not shown)"}]}
    assert "sk-" not in json.dumps(told)
    assert "sk-header" not in repr(settings)


def test_the_api_key_comes_from_its_file_or_its_variable(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("from-file\n")
    environ = {"OPENAI_API_KEY": "from-default", "MY_KEY": " from-named "}
    assert load(ENOUGH, {}).api_key({}) is None
    assert load(ENOUGH, environ).api_key(environ) == "from-default"
    assert load([*ENOUGH, "--api-key-env=MY_KEY"], environ).api_key(environ) == "from-named"
    assert load([*ENOUGH, f"--api-key-file={key}"], environ).api_key(environ) == "from-file"


def test_an_output_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert load([*ENOUGH, f"--output-dir={tmp_path}/a/b"], {}).output_dir == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load(["--port=nonsense", "--help"], {})
    assert stop.value.code == 0
    assert capsys.readouterr().out == help_text()
    for row in ROWS:
        assert all(flag in help_text() for flag in (row.flag, *row.aliases))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from latency_profile.settings import load\n"
        "try: load(['--help'], {})\n"
        "except SystemExit: pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.strip("[]\n").replace("'", "").split(", "))
    assert "latency_profile" in loaded and "--tokenizer" in done.stdout
    heavy = {
        "numpy",
        "yaml",
        "rich",
        "requests",
        "tokenizers",
        "transformers",
        "google",
        "httptools",
        "asyncio",
    }
    assert not loaded & heavy
