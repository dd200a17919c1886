# ruff: noqa: RUF009 -- setting() makes a dataclass field
"""Where results go, what watches the run, and configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_profile.compare import names as compared
from latency_profile.settings import kinds
from latency_profile.settings.kinds import BOOLEAN, PRICE, SECONDS, UTILIZATION
from latency_profile.settings.rows import setting


@dataclass(frozen=True, kw_only=True)
class Results:
    file_prefix: str = setting(
        kinds.text("a file name without /", "TEXT", "[^/]+"), "benchmark", "Prefix for output files."
    )
    output_dir: Path = setting(kinds.path("a folder that can be written"), Path(), "Folder for output files.")
    save_json_results: bool = setting(BOOLEAN, False, "Whether to save benchmark results to a json file.")
    html_report: bool = setting(
        BOOLEAN,
        True,
        "With --save-json-results, also write the profile as one HTML page: curves, tables, and where the numbers come "
        "from. `latency-profile report` makes it of results that are there.",
    )
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
        SECONDS,
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
        kinds.objectives(
            'objectives such as "ttft:500 tpot:50 e2e:10000", in ms, above 0; names are ttft, tpot, e2e; or '
            '"ttft<500ms, e2e<10s"'
        ),
        {},
        "Objectives of a request, for the rate of those that keep all of them: ttft and e2e (or e2el) from due, in a "
        "closed loop from sent; tpot. ttft and tpot need --stream-request.",
        unit="ms",
    )
    slo: tuple[str, ...] = setting(
        kinds.load_objectives(),
        (),
        'Objectives of each load, such as "ttft:p99<500ms, tpot:p95<50ms, e2e:mean<10s, errors<1%", for ttft, tpot, '
        "itl, ntpot and e2e: each point keeps or breaks each of them, or its sample does not tell (exit code 4). From "
        "due, in a closed loop from sent; a request that failed keeps none. ttft, tpot and itl need --stream-request.",
    )
    machine_cost: float | None = setting(
        PRICE,
        None,
        "Price of all machines together that serve the model, for the cost of tokens: that of one GPU (--gpu-price of "
        "benchmark_offline.py) times their number.",
        unit="$/h",
    )
    utilization: float | None = setting(
        UTILIZATION,
        None,
        "Share of the paid time in which the machines serve such a load: the cost of tokens is told with the idle time "
        "too.",
    )
    compare_with: str | None = setting(
        kinds.text(compared.PLACES, "WHERE"),
        None,
        "At the end, compare with earlier profiles of the same fingerprint; exit code 5 for a regression. latest: in "
        "the same store, the latest nights as the base but those called regressed; all: with the first ones; or in "
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
