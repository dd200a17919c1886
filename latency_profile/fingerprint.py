"""Whether two profiles may be compared: what has to be the same, and what is free to differ. Pure.

The fingerprint covers what was asked and how it was measured. What one wants to compare is not in it: the server's
version, the machines under it, where it runs, and on which day. Nor is how high a load was, but for its kind: points
are compared at equal load. The seed is not either: other draws of the same law are what repetitions are made of.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from latency_profile.records import PointContext

# Settings that change what a request costs a server, when requests come, or what counts.
COMPARED = (
    *("tcp_conn_limit", "retries", "request_timeout"),
    *("stream_request", "ignore_eos", "best_of", "use_beam_search", "top_k", "temperature", "extra_body", "sax_model"),
    *("input_len", "input_len_stddev", "input_len_min", "input_len_max"),
    *("output_len", "output_len_stddev", "output_len_min", "output_len_max", "max_input_length", "max_output_length"),
    *("traffic_split", "unique_prompts", "shared_prefix", "shared_prefix_groups", "reset_cache"),
    *("benchmark_time_seconds", "until_ci", "warmup_seconds", "find_warmup", "cooldown_seconds"),
    *("arrival", "burstiness", "goodput"),
)
# Those that do not; a data set and a tokenizer count by their contents (below), not by their names.
FREE = (
    *("backend", "endpoint", "models"),  # by what was made of them
    *("host", "port", "url", "header", "api_key_env", "api_key_file", "ca_file", "insecure", "wait_for_server"),
    *("tokenizer", "trust_remote_code", "dataset", "use_dummy_text", "num_prompts", "nonce", "seed", "cache_dir"),
    *("request_rate", "request_rates", "adaptive_rates", "concurrencies", "sleep_seconds", "workers", "dry_run"),
    *("find_capacity", "capacity_precision", "max_rate", "max_duration"),
    *("calibrate", "calibration_search", "calibration_cadence"),
    *("file_prefix", "output_dir", "save_json_results", "save_aggregated_result", "html_report"),
    *("output_url", "upload_patience_seconds", "run_id", "resume"),
    *("output_bucket", "output_bucket_filepath", "additional_metadata_metrics_to_save", "machine_cost"),
    *("utilization", "slo"),  # what is made of the records; a run that goes on takes the same (results.index)
    *("scrape_server_metrics", "metrics_urls", "prometheus_url", "pm_namespace", "pm_job", "pm_cluster", "pm_project"),
    "config",
    *("metrics_port", "termination_log", "stay"),
    *("shards", "shard_index", "shard_timeout"),
    *("compare_with", "compare_measure", "compare_margin", "compare_since"),
)
_WORKLOAD = ("kind", "dataset_sha256", "tokenizer_sha256")
_DIGITS = 16


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Profiles of equal `sha256` may be compared; `of` tells others apart."""

    sha256: Annotated[str, Meta(pattern=f"^[0-9a-f]{{{_DIGITS}}}$", description="the first digits, of `of` as JSON")]
    of: Annotated[dict[str, Any], Meta(description="what was asked, and how it was measured")]


def fingerprint(context: PointContext) -> Fingerprint:
    load = "closed loop" if context.concurrency is not None else "burst" if context.request_rate is None else "rate"
    workload = context.provenance.get("workload", {})
    settings = {**context.settings, "backend": context.backend}
    return fingerprint_of(settings, context.endpoint, context.models, load, workload)


def fingerprint_of(
    settings: Mapping[str, Any], endpoint: str, models: Sequence[str], load: str, workload: Mapping[str, Any]
) -> Fingerprint:
    """The same, of what is known before a point has run. load: rate, burst or closed loop. workload:
    Workload.description."""
    of = {
        "backend": settings.get("backend"),
        "endpoint": endpoint,
        "load": load,
        "burst_of": settings.get("num_prompts") if load == "burst" else None,
        "models": list(models),
        **{name: settings.get(name) for name in COMPARED},
        **{name: workload.get(name) for name in _WORKLOAD},
    }
    digest = hashlib.sha256(msgspec.json.encode(of, order="sorted")).hexdigest()
    return Fingerprint(sha256=digest[:_DIGITS], of=of)


def differences(one: Fingerprint, other: Fingerprint) -> list[str]:
    """What keeps two profiles from being compared, each as "name: this, that"; none where nothing does."""
    names = sorted(one.of.keys() | other.of.keys())
    pairs = ((name, one.of.get(name), other.of.get(name)) for name in names)
    return [f"{name}: {_shown(this)}, {_shown(that)}" for name, this, that in pairs if this != that]


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
