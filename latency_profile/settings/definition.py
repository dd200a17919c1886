# ruff: noqa: RUF009 -- setting() makes a dataclass field
"""Every setting, once. The classes are the groups of the help and of docs/settings.md; `Settings` is all of them.

Each field's `setting(...)` holds its kind, default and help; flags, environment variables, configuration keys, help
and table are made from these rows, and attribute types are held against them by the type checker.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from backends import NAMES
from latency_profile.compare import names as compared
from latency_profile.errors import UsageError
from latency_profile.settings import kinds
from latency_profile.settings.kinds import BOOLEAN, Headers, Kind
from latency_profile.settings.rows import Setting, Source, required, rows_of, setting
from latency_profile.settings.shown import plain

Arrival = Literal["poisson", "gamma", "constant"]

_BACKEND: Kind[str] = kinds.choice(NAMES)
_ARRIVALS: tuple[Arrival, ...] = get_args(Arrival)

_COUNT = kinds.whole(1)
_SECONDS = kinds.number(minimum=0)
_RATE = kinds.number(above=0, unlimited=True)


@dataclass(frozen=True, kw_only=True)
class Server:
    backend: str = setting(_BACKEND, NAMES[0], "Model server to measure.")
    endpoint: str = setting(
        kinds.text("the name of a door, its path, or NAME=/path, in visible ASCII characters", pattern=r"[\x21-\x7e]+"),
        "generate",
        "The endpoint to send requests to. The name of one of the backend's doors, its path, or NAME=/path for that "
        'door at another path. "generate" is the backend\'s first.',
    )
    host: str = setting(
        kinds.text("a host name or an address, without scheme and port", "HOST", r"[^\s/?#@]+"),
        "localhost",
        "The host address of the server.",
        script="IP",
    )
    port: int = setting(kinds.whole(1, 65535), 7080, "The port number of the server.")
    url: tuple[str, ...] = setting(
        kinds.listed(
            kinds.url("", "http", "https", "grpc", "grpcs"),
            "a URL such as https://gateway:8443/prefix or grpc://host:9000, or different ones separated by commas",
            metavar="URL",
            repeatable=True,
            once=True,
        ),
        (),
        "Base URL of the server in place of host and port: http, https, grpc or grpcs, with a path prefix where there "
        "is one. Several (separated by commas, or the flag repeated) are asked in turn.",
    )
    models: tuple[str, ...] = setting(
        kinds.listed(kinds.text("a model name"), "model names separated by commas"),
        (),
        "Comma separated list of models to benchmark. The server is asked where none is given.",
        aliases=("--model",),
    )
    request_timeout: float = setting(
        kinds.number(above=0),
        3.0 * 60.0 * 60.0,
        "Individual request timeout, of each attempt.",
        unit="s",
    )
    retries: int = setting(
        kinds.whole(0, 20),
        0,
        "Further attempts for a request that was refused (429, 502, 503, 504), found no connection or lost it before "
        "the answer began. Off by default: a retried request keeps its first due time.",
    )
    wait_for_server: float | None = setting(
        kinds.number(above=0),
        None,
        "Wait so long for the server: until it says that it is healthy, and has answered a first request. Not at all "
        "where it is not given.",
        unit="s",
    )
    tcp_conn_limit: int = setting(
        kinds.whole(0), 0, "Most connections at a time, to all URLs together; 0 means no limit."
    )
    header: Headers = setting(
        kinds.headers('"Name: value"'),
        (),
        "A header for every request; may be repeated. Other users of the machine can read flags: hand over a secret in "
        "the environment variable (one header a line) or in a configuration file.",
        secret=True,
    )
    api_key_env: str = setting(
        kinds.text("the name of an environment variable that is set", "VARIABLE", r"[A-Za-z_][A-Za-z0-9_]*"),
        "OPENAI_API_KEY",
        "Name of the environment variable that holds the server's API key; sent as a bearer token if it is set.",
        secret=True,  # people put the key itself here
    )
    api_key_file: Path | None = setting(
        kinds.path("a readable file that holds the key"), None, "File that holds the server's API key."
    )
    ca_file: Path | None = setting(
        kinds.path("a readable PEM file"), None, "Certificates to trust in place of the system's, for https and grpcs."
    )
    insecure: bool = setting(BOOLEAN, False, "Do not check the server's certificate.")


@dataclass(frozen=True, kw_only=True)
class Answers:
    stream_request: bool = setting(BOOLEAN, False, "Whether to stream the request. Needed for TTFT metric.")
    ignore_eos: bool = setting(BOOLEAN, False, "Ask the server to generate all wanted tokens, past the end of text.")
    best_of: int = setting(_COUNT, 1, "Answers that the server generates for each prompt, to keep the best.")
    use_beam_search: bool = setting(BOOLEAN, False, "Beam search; its width is --best-of.")
    top_k: int | None = setting(_COUNT, None, "Sample from the k likeliest tokens. Not sent where it is not given.")
    temperature: float | None = setting(
        kinds.number(minimum=0), None, "Sampling temperature. The backend's choice where it is not given."
    )
    extra_body: dict[str, Any] = setting(
        kinds.dictionary("a JSON object"), {}, "JSON object of further fields for every request body."
    )
    sax_model: str | None = setting(
        kinds.text("a model path", "PATH"), None, "Model path, for backend sax only.", aliases=("--sax_model",)
    )


@dataclass(frozen=True, kw_only=True)
class Workload:
    tokenizer: str = required(
        kinds.text("the name or path of a tokenizer"),
        "Name or path of the tokenizer. You can specify the model ID in HuggingFace for the tokenizer of a model.",
    )
    trust_remote_code: bool = setting(BOOLEAN, False, "Let a tokenizer from the hub run its own code.")
    dataset: Path | None = setting(
        kinds.path("a data set file"),
        None,
        "Path to the dataset. ShareGPT JSON, or JSON Lines of prompt and output_len.",
        aliases=("--dataset-path",),
        script="PROMPT_DATASET_FILE",
    )
    use_dummy_text: bool = setting(
        BOOLEAN, False, "No data set: dummy prompts of --max-input-length tokens, answers of --max-output-length."
    )
    input_len: int | None = setting(
        _COUNT, None, "No data set: synthetic prompts of this (mean) length. Goes with --output-len.", unit="tokens"
    )
    input_len_stddev: float = setting(
        _SECONDS, 0.0, "Standard deviation of synthetic input lengths (normal distribution).", unit="tokens"
    )
    input_len_min: int | None = setting(_COUNT, None, "Least synthetic input length.", unit="tokens")
    input_len_max: int | None = setting(_COUNT, None, "Greatest synthetic input length.", unit="tokens")
    output_len: int | None = setting(
        _COUNT, None, "Wanted (mean) output length of synthetic requests. Goes with --input-len.", unit="tokens"
    )
    output_len_stddev: float = setting(
        _SECONDS, 0.0, "Standard deviation of synthetic output lengths (normal distribution).", unit="tokens"
    )
    output_len_min: int | None = setting(_COUNT, None, "Least synthetic output length.", unit="tokens")
    output_len_max: int | None = setting(_COUNT, None, "Greatest synthetic output length.", unit="tokens")
    max_input_length: int = setting(
        _COUNT,
        1024,
        "Maximum number of input tokens for filtering the benchmark dataset.",
        unit="tokens",
        script="INPUT_LENGTH",
    )
    max_output_length: int = setting(
        _COUNT, 1024, "Maximum number of output tokens.", unit="tokens", script="OUTPUT_LENGTH"
    )
    num_prompts: int = setting(
        _COUNT,
        1000,
        "Number of prompts to process at each point. With --benchmark-time-seconds, a finite rate takes its number "
        "from that time instead.",
        script="MAX_NUM_PROMPTS",
    )
    traffic_split: tuple[float, ...] | None = setting(
        kinds.listed(kinds.number(above=0), "numbers above 0, separated by commas, that sum to 1"),
        None,
        "Comma-separated list of traffic split proportions for the models, e.g. '0.9,0.1'. Sum must equal 1.0 (within "
        "0.000001). Equal shares where it is not given.",
    )
    unique_prompts: bool = setting(
        BOOLEAN,
        True,
        "Make every prompt differ from its first tokens on, so that no prefix cache helps; --no-unique-prompts sends "
        "a data set's text as it is.",
    )
    shared_prefix: int = setting(
        kinds.whole(0),
        0,
        "Begin every prompt with so many tokens that its whole group shares, so that a prefix cache helps as it is "
        "meant to. They are others in every run, part of --input-len, and come before a data set's text.",
        unit="tokens",
    )
    shared_prefix_groups: int = setting(_COUNT, 1, "Groups of prompts, in turn, each with a shared prefix of its own.")
    nonce: str | None = setting(
        kinds.hex_digits("1 to 64 hexadecimal digits"),
        None,
        "What makes prompts unique from one run to the next. Drawn anew for each run where it is not given.",
    )
    seed: int = setting(
        kinds.whole(0), 0, "Seed of arrival times, prompt order and lengths. The same seed gives the same plan."
    )
    cache_dir: Path | None = setting(
        kinds.path("a folder"), None, "Where prepared data sets are kept. latency-profile in the user's cache folder."
    )


@dataclass(frozen=True, kw_only=True)
class Load:
    request_rate: float = setting(
        _RATE,
        math.inf,
        "Number of requests per second. If this is inf, then all the requests are sent at time 0. Otherwise, we use "
        "Poisson process to synthesize the request arrival times.",
        unit="requests/s",
    )
    request_rates: tuple[float, ...] = setting(
        kinds.listed(_RATE, 'numbers above 0 (or "inf"), separated by commas'),
        (),
        "Comma-separated list of request rates: one point for each.",
        unit="requests/s",
    )
    concurrencies: tuple[int, ...] = setting(
        kinds.listed(_COUNT, "whole numbers of 1 or more, separated by commas"),
        (),
        "Comma-separated list of concurrencies: a closed loop, one point for each, in place of rates.",
    )
    benchmark_time_seconds: float | None = setting(
        kinds.number(above=0),
        None,
        "Length of each point; the number of requests follows from its rate. Without it, and at an unlimited rate, "
        "--num-prompts bounds a point; concurrencies end with whichever comes first.",
        unit="s",
    )
    until_ci: float | None = setting(
        kinds.share("a share above 0 and below 1, such as 5% or 0.05"),
        None,
        "Stop sending at each point as soon as p50, p95 and p99 of response TTFT (streaming) and E2E (service in a "
        "closed loop) are known to that: with 95 % confidence for all together, whole intervals within that share of "
        "the value. Needs --benchmark-time-seconds, which each point takes at most.",
    )
    warmup_seconds: float = setting(_SECONDS, 0.0, "Start of each point that is not measured.", unit="s")
    find_warmup: bool = setting(
        BOOLEAN,
        True,
        "Leave out also what is found to be a warm-up after --warmup-seconds; --no-find-warmup measures it.",
    )
    cooldown_seconds: float = setting(_SECONDS, 0.0, "End of each point that is not measured.", unit="s")
    sleep_seconds: float = setting(_SECONDS, 0.0, "Pause between points.", unit="s", script="SLEEP_TIME")
    arrival: Arrival = setting(
        kinds.choice(_ARRIVALS),
        "poisson",
        "Law of the times between arrivals. gamma takes its shape from --burstiness.",
    )
    burstiness: float = setting(
        kinds.number(above=0),
        1.0,
        "Shape of gamma arrivals: below 1 burstier than Poisson, above 1 steadier. Selects --arrival gamma.",
    )
    workers: int = setting(kinds.whole(0), 0, "Sending processes; 0 lets the rate and the number of cores decide.")
    shards: int = setting(
        _COUNT,
        1,
        "Pods (or processes of this command) that measure together: each sends its slice of the one plan, they meet "
        "through the results' store, and shard 0 merges their records and judges the whole. Needs --run-id.",
    )
    shard_index: int | None = setting(
        kinds.whole(0),
        None,
        "Which of --shards this one is, from 0 on. JOB_COMPLETION_INDEX where it is not given, as an Indexed Job sets.",
    )
    shard_timeout: float = setting(
        kinds.number(above=0),
        300.0,
        "How long shard 0 waits for the others before the first point, and for their records after each; then it goes "
        "on without those that are missing, and says so. The others wait three times as long for shard 0.",
        unit="s",
    )
    reset_cache: bool = setting(
        BOOLEAN, False, "Have every server drop its prefix cache before each point, by a door that it has for that."
    )
    calibrate: bool = setting(
        BOOLEAN,
        False,
        "Before the first point, measure this client: each point's plan for 10 s or less (and answers of its lengths) "
        "against a server of known timing inside this machine or pod. Results and verdicts have what was found. "
        "Nothing of it goes to the server under test.",
    )
    calibration_search: bool = setting(
        BOOLEAN,
        True,
        "With --calibrate, search the highest event rate that this client can stamp too: once for all points, in half "
        "a minute.",
    )
    calibration_cadence: tuple[float, ...] = setting(
        kinds.listed(kinds.number(minimum=0), "three numbers separated by commas: TTFT in ms, gap in ms, jitter"),
        (50.0, 10.0, 0.2),
        "Assumed cadence of the answers for --calibrate: time to the first token (ms), gap to each further one (ms), "
        "and the share by which each of these times varies, up or down.",
    )
    dry_run: bool = setting(BOOLEAN, False, "Print the plan and the first request, and send nothing.")


@dataclass(frozen=True, kw_only=True)
class Results:
    file_prefix: str = setting(
        kinds.text("a file name without /", "TEXT", "[^/]+"), "benchmark", "Prefix for output files."
    )
    output_dir: Path = setting(kinds.path("a folder that can be written"), Path(), "Folder for output files.")
    save_json_results: bool = setting(BOOLEAN, False, "Whether to save benchmark results to a json file.")
    save_aggregated_result: bool = setting(BOOLEAN, False, "Also save one result over all models, as model weighted.")
    output_bucket: str | None = setting(
        kinds.text("the name of a bucket", "BUCKET", r"[^\s/]+"),
        None,
        "Specifies the Google Cloud Storage bucket to which JSON-format results will be uploaded. If not provided, no "
        "upload will occur.",
    )
    output_bucket_filepath: str | None = setting(
        kinds.text("a path in the bucket", "PATH"),
        None,
        "Specifies the destination path within the bucket provided by --output-bucket for uploading the JSON results. "
        "This argument requires --output-bucket to be set. If not specified, results will be uploaded to the root of "
        "the bucket. If the filepath doesnt exist, it will be created for you.",
    )
    output_url: str | None = setting(
        kinds.location("a URL such as s3://bucket/folder, without user, password and query"),
        None,
        "Where results go beside --output-dir, as any URL that fsspec opens: s3://, az://, hdfs://, sftp://, … with "
        "the package that it takes for that (s3fs, …); gs:// is the same as --output-bucket.",
    )
    upload_patience_seconds: float = setting(
        _SECONDS,
        300.0,
        "How long each upload to --output-bucket or --output-url is tried again before it counts as failed; the file "
        "then stays in --output-dir, and the exit code is 6.",
        unit="s",
    )
    run_id: str | None = setting(
        kinds.text("1 to 128 letters, digits, - _ and ., not first a dot", "ID", r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"),
        None,
        "Name of this run, the same when it is started again (in Kubernetes the Job's name and uid). Its files go into "
        "a folder of that name, with an index of its points.",
    )
    resume: bool = setting(
        BOOLEAN,
        True,
        "With --run-id, do not measure again the points that the index of this run has; one that was cut short is "
        "measured again. --no-resume measures all.",
    )
    additional_metadata_metrics_to_save: dict[str, Any] = setting(
        kinds.dictionary("a dictionary, as JSON or as a Python literal", python=True),
        {},
        "Additional metadata about the workload. Should be a dictionary in the form of a string.",
    )
    goodput: dict[str, float] = setting(
        kinds.objectives('objectives such as "ttft:500 tpot:50 e2e:10000", in ms, above 0; names are ttft, tpot, e2e'),
        {},
        "Objectives of a request, for the rate of those that keep all of them: ttft and e2e (or e2el) from due, in a "
        "closed loop from sent; tpot. ttft and tpot need --stream-request.",
        unit="ms",
    )
    machine_cost: float | None = setting(
        _SECONDS, None, "Price of all machines that serve the model, for the cost of tokens.", unit="$/h"
    )
    compare_with: str | None = setting(
        kinds.text(compared.PLACES, "WHERE"),
        None,
        "At the end, compare with earlier profiles of the same fingerprint; exit code 5 for a regression. latest: in "
        "the same store, the latest nights as the base, though never a regression; all: with the first ones; or in "
        "another folder or URL.",
    )
    compare_measure: str = setting(
        kinds.choice(compared.NAMES),
        compared.AUTO,
        "What decides whether it is a regression, at the highest load that is mostly usable. auto: output tokens/s "
        "where the server sets the pace (saturated, closed loop, unlimited), else p50 of E2E.",
    )
    compare_margin: float = setting(
        kinds.share("a share above 0 and below 1, such as 5% or 0.05"),
        compared.MARGIN,
        "Shifts that are smaller are no regression, and count as equivalent.",
    )
    compare_since: str | None = setting(
        kinds.text("a date such as 2026-11-22 or 20261122-013000 (UTC)", "DATE", compared.DATE),
        None,
        "Compare with profiles from this date on only: what changed before is accepted.",
    )


@dataclass(frozen=True, kw_only=True)
class ServerMetrics:
    scrape_server_metrics: bool = setting(BOOLEAN, False, "Whether to scrape server metrics.")
    prometheus_url: str | None = setting(
        kinds.url("a URL such as http://prometheus:9090"),
        None,
        "Prometheus to read server metrics from in place of Google Managed Prometheus.",
    )
    pm_namespace: str = setting(
        kinds.text("the name of a namespace"),
        "default",
        "Namespace of the pod monitoring object, ignored if scrape-server-metrics is false.",
    )
    pm_job: str = setting(
        kinds.text("the name of a pod monitoring object"),
        "vllm-podmonitoring",
        "Name of the pod monitoring object, ignored if scrape-server-metrics is false.",
    )


@dataclass(frozen=True, kw_only=True)
class Pod:
    metrics_port: int = setting(
        kinds.whole(0, 65535),
        0,
        "Answer /metrics (for Prometheus), /ready and /healthz (for probes) at this port while the process lives; 0: "
        "at none.",
    )
    termination_log: Path | None = setting(
        kinds.path("a file that can be written"),
        None,
        "File for the profile's last line: verdicts and exit code, or the error. /dev/termination-log where there is "
        "one, as in a pod.",
    )
    stay: bool = setting(
        BOOLEAN,
        False,
        "After the profile stay up, idle, until SIGTERM or Ctrl-C, so that logs and files can be fetched. Not after "
        "exit codes 2 and 3.",
    )


@dataclass(frozen=True, kw_only=True)
class Files:
    config: Path | None = setting(
        kinds.path("a readable YAML file"), None, "YAML file of settings. Its keys are the flags' names."
    )


GROUPS: tuple[tuple[str, type[Any]], ...] = (
    ("Server", Server),
    ("Answers", Answers),
    ("Workload", Workload),
    ("Load", Load),
    ("Results", Results),
    ("Server metrics", ServerMetrics),
    ("Pod", Pod),
    ("Configuration", Files),
)
ROWS: tuple[Setting, ...] = tuple(row for group, of in GROUPS for row in rows_of(group, fields(of)))
BY_NAME: Mapping[str, Setting] = {row.name: row for row in ROWS}


@dataclass(frozen=True, kw_only=True)
class Settings(Server, Answers, Workload, Load, Results, ServerMetrics, Pod, Files):
    """One profile's settings, checked. Lengths are in tokens, times in seconds, rates in requests/s."""

    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, compare=False)

    def source(self, name: str) -> Source:
        """Where the setting's value came from."""
        return self.sources.get(name, Source("default"))

    def given(self, name: str) -> bool:
        """Whether somebody chose the setting's value."""
        return self.source(name).level != "default"

    def spelled(self, name: str) -> str:
        """The setting's flag and where its value came from, as error lines begin."""
        return BY_NAME[name].spelled(self.source(name))

    @property
    def rates(self) -> tuple[float, ...]:
        """Rates of the open-loop points in order; empty in a closed loop."""
        return () if self.concurrencies else self.request_rates or (self.request_rate,)

    def api_key(self, environ: Mapping[str, str]) -> str | None:
        """The server's API key: from its file, else from its environment variable; None where there is none. Raises
        UsageError where the file cannot be read, or where the key cannot stand in a header."""
        name = "api_key_env" if self.api_key_file is None else "api_key_file"
        if self.api_key_file is None:
            key = environ.get(self.api_key_env, "").strip()
            if not key:
                return None
        else:
            try:
                key = self.api_key_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
                takes = f"takes {BY_NAME[name].kind.takes} ({reason})"
                raise UsageError(f"{self.spelled(name)}: got {str(self.api_key_file)!r}, {takes}") from None
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            raise UsageError(
                f"{self.spelled(name)}: got a key that is not shown, takes a key of printable ASCII characters"
            )
        return key

    def as_dict(self) -> dict[str, Any]:
        """Every setting by its name as JSON values, for results; values that are or may be secret are replaced."""
        return {row.name: plain(row, getattr(self, row.name)) for row in ROWS}
