# ruff: noqa: RUF009 -- setting() makes a dataclass field
"""What is measured: the server, what is asked of an answer, and its own metrics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends import NAMES
from latency_profile.settings import kinds
from latency_profile.settings.kinds import BOOLEAN, COUNT, Headers, Kind
from latency_profile.settings.rows import setting

_BACKEND: Kind[str] = kinds.choice(NAMES)


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
    best_of: int = setting(COUNT, 1, "Answers that the server generates for each prompt, to keep the best.")
    use_beam_search: bool = setting(BOOLEAN, False, "Beam search; its width is --best-of.")
    top_k: int | None = setting(COUNT, None, "Sample from the k likeliest tokens. Not sent where it is not given.")
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
class ServerMetrics:
    scrape_server_metrics: bool = setting(
        BOOLEAN,
        False,
        "Whether to scrape server metrics: the server's own once a second, those of a Prometheus where there is one, "
        "and on the server's machine those of its GPUs.",
    )
    metrics_urls: tuple[str, ...] = setting(
        kinds.listed(
            kinds.url(""),
            "a URL such as http://vllm-pods:8000/metrics, or different ones separated by commas",
            metavar="URL",
            repeatable=True,
            once=True,
        ),
        (),
        "Where the server's own metrics are, in place of its /metrics. Each address that the host name has is a "
        "replica, so that a headless Service names all of them. Only a URL at a server's own host and port gets "
        "--header and the key.",
    )
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
    pm_cluster: str | None = setting(
        kinds.text("the name of a cluster"), None, "Cluster whose metrics to take, where a Prometheus has several."
    )
    pm_project: str | None = setting(
        kinds.text("the id of a Google Cloud project", "PROJECT", r"[a-z0-9:.-]+"),
        None,
        "Google Cloud project of Managed Prometheus; that of the credentials where it is not given.",
    )
