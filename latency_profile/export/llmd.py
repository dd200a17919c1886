"""A point as llm-d's benchmark report, version 0.2 (llmd-benchmark-report on PyPI). Pure: it is the point's JSON, said
in that report's words.

What nobody told is left out: accelerators' parallelism, and with it the report's kind of component for engines, which
has to have it; the cluster and pod; percentiles below p50. The report has no place for intervals.
"""

import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from latency_profile.export.columns import gauge
from latency_profile.export.points import ExportPoint
from latency_profile.telemetry.vocabulary import Quantity
from latency_profile.verdict import Name

VERSION = "0.2"
TOOL = "latency-profile"
_SERVER = "server"  # the label of the one component
_PERCENTILES = ("p50", "p90", "p95", "p99")

Tree = dict[str, Any]


def report(point: ExportPoint) -> Tree:
    """Without any key that there is nothing for."""
    found: Tree = _without_nothing(
        {
            "version": VERSION,
            "run": _run(point),
            "scenario": {"stack": _stack(point), "load": _load(point)},
            "results": {
                "request_performance": {
                    "aggregate": {
                        "requests": _requests(point),
                        "latency": _latency(point),
                        "throughput": _throughput(point),
                    }
                },
                "observability": _observability(point),
            },
        }
    )
    return found


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nothing(each) for key, each in value.items() if each is not None}
    return [_without_nothing(each) for each in value] if isinstance(value, list) else value


def _run(point: ExportPoint) -> Tree:
    """uid: the same for the same point; eid: for points that may be compared. The verdict stands in the keywords, the
    reasons in the description, as there is no other place."""
    head, seconds = point.head, point.at("metrics", "benchmark_time")
    started = datetime.fromtimestamp(head.config.start_time.seconds, UTC) + timedelta(
        microseconds=head.config.start_time.nanos // 1000
    )
    verdict, fingerprint = head.verdict.verdict, point.at("fingerprint", "sha256")
    reasons = " ".join(point.reasons)
    return {
        "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{TOOL} {head.started_ns} {head.load_name} {head.config.model}")),
        "eid": None if fingerprint is None else str(uuid.uuid5(uuid.NAMESPACE_OID, f"{TOOL} {fingerprint}")),
        "time": {
            "start": started.isoformat(),
            "end": (started + timedelta(seconds=seconds)).isoformat(),
            "duration": f"PT{seconds:.6f}S",
        },
        "description": f"{head.load_name}: {verdict}" + (f". {reasons}" if reasons else ""),
        "keywords": [verdict, *(name for name, _ in point.remarks)],
    }


def _stack(point: ExportPoint) -> list[Tree] | None:
    """The server; nothing where its version is not known, which a component has to have."""
    version = point.at("provenance", "server_version")
    if version is None:
        return None
    gpus = [gpu["name"] for gpu in point.at("telemetry", "gpus") or [] if gpu.get("name")]
    known: Tree = {
        "kind": "generic",
        "tool": point.at("config", "model_server"),
        "tool_version": version,
        "model": {"name": point.at("config", "model")},
    }
    if gpus:
        known["accelerators"] = gpus
    config = hashlib.sha256(msgspec.json.encode(known, order="sorted")).hexdigest()
    return [{"metadata": {"label": _SERVER, "cfg_id": config}, "standardized": known, "native": {}}]


def _load(point: ExportPoint) -> Tree | None:
    """Nothing where this program's version or the prompts' length is not known, which it has to have."""
    version = point.at("provenance", "latency_profile")
    settings: Mapping[str, Any] = point.at("provenance", "settings") or {}
    given = point.at("provenance", "given") or []
    kind = point.at("provenance", "workload", "kind")
    lengths = {of: _lengths(point, settings, kind, of) for of in ("input", "output")}
    if version is None or lengths["input"] is None:
        return None
    return {
        "metadata": {"cfg_id": point.at("fingerprint", "sha256")},
        "standardized": {
            "tool": TOOL,
            "tool_version": version,
            "parallelism": point.at("client", "processes"),
            "source": "unknown" if kind is None else "random" if kind == "synthetic" else "sampled",
            "input_seq_len": lengths["input"],
            "output_seq_len": lengths["output"] if settings.get("ignore_eos") else None,
            "rate_qps": point.at("load", "request_rate"),
            "concurrency": point.at("load", "concurrency"),
        },
        "native": {"args": {name: settings[name] for name in given if settings.get(name) is not None}},
    }


def _lengths(point: ExportPoint, settings: Mapping[str, Any], kind: str | None, of: str) -> Tree | None:
    """As they were asked for; else, and of a data set, their mean over the requests that succeeded."""
    length, sd = settings.get(f"{of}_len"), settings.get(f"{of}_len_stddev")
    if kind == "synthetic" and length is not None:
        if not sd:
            return {"distribution": "fixed", "value": length}
        ends = {end: settings.get(f"{of}_len_{end}") for end in ("min", "max")}
        return {"distribution": "gaussian", "value": length, "std_dev": sd, **ends}
    mean = point.at("metrics", f"avg_{of}_len")
    return None if mean is None else {"distribution": "other", "value": mean}


def _requests(point: ExportPoint) -> Tree:
    """Of the whole point; lengths of the requests that succeeded."""
    return {
        "total": point.at("metrics", "num_prompts_attempted"),
        "failures": point.at("load", "counts", "failed"),
        "incomplete": point.at("load", "counts", "unfinished"),
        "input_length": _flat(point, "input_len"),
        "output_length": _flat(point, "output_len"),
    }


def _flat(point: ExportPoint, name: str) -> Tree | None:
    """A flat metric of the point."""
    theirs = {"mean": "avg", "stddev": "sd", "min": "min", "p50": "median", "p90": "p90", "p99": "p99", "max": "max"}
    found = {their: point.at("metrics", f"{our}_{name}") for their, our in theirs.items()}
    return None if found["mean"] is None else {"units": "count", **found}


def _latency(point: ExportPoint) -> Tree:
    """Service latencies of the measured window."""
    several = any(name == Name.SEVERAL_TOKENS_AN_EVENT.value for name, _ in point.remarks)
    return {
        "time_to_first_token": _distribution(point, "ttft", "s"),
        "time_per_output_token": _distribution(point, "tpot", "s/token"),
        "normalized_time_per_output_token": _distribution(point, "ntpot", "s/token"),
        # Gaps are between events: of several tokens each they are no time a token.
        "inter_token_latency": None if several else _distribution(point, "itl", "s/token"),
        "request_latency": _distribution(point, "e2e", "s"),
    }


def _distribution(point: ExportPoint, name: str, units: str) -> Tree | None:
    def figure(*path: str) -> Any:
        return point.at("latency", "service", name, *path)

    if figure("mean_s") is None:
        return None
    percentiles = {level: figure(level, "value_s") for level in _PERCENTILES}
    plain = {"mean": figure("mean_s"), "stddev": figure("sd_s"), "min": figure("min_s")}
    return {"units": units, **plain, **percentiles, "max": figure("max_s")}


def _throughput(point: ExportPoint) -> Tree | None:
    """Of the measured window."""
    if point.at("throughput") is None:
        return None
    theirs = {
        "input_token_rate": ("tokens/s", "input_tokens_per_s"),
        "output_token_rate": ("tokens/s", "output_tokens_per_s"),
        "total_token_rate": ("tokens/s", "total_tokens_per_s"),
        "request_rate": ("queries/s", "requests_per_s"),
    }
    return {their: {"units": units, "mean": point.at("throughput", our)} for their, (units, our) in theirs.items()}


def _observability(point: ExportPoint) -> Tree | None:
    """Over the measured window; of GPUs where there is one, as the report has one figure for a component."""
    gpus = point.at("telemetry", "gpus") or []
    gpu = gpus[0] if len(gpus) == 1 else {}
    hit_rate = point.at("cache", "hit_rate")
    resources = {
        "running_requests": _gauge(gauge(point, Quantity.RUNNING), "count"),
        "waiting_requests": _gauge(gauge(point, Quantity.WAITING), "count"),
        "kv_cache_usage": _gauge(gauge(point, Quantity.KV_CACHE_USE), "fraction"),
        "cache_hit_rate": None if hit_rate is None else {"units": "fraction", "mean": hit_rate},
        "gpu_utilization": _gauge(gpu.get("utilization"), "fraction"),
        "gpu_memory_usage": _gauge(gpu.get("memory_used_bytes"), "bytes"),
        "power_consumption": _gauge(gpu.get("power_w"), "Watts"),
    }
    if not any(resources.values()) or _stack(point) is None:
        return None
    return {"components": [{"component_label": _SERVER, "aggregate": resources}]}


def _gauge(of: Mapping[str, Any] | None, units: str) -> Tree | None:
    if of is None or of.get("mean") is None:
        return None
    theirs = {"mean": "mean", "stddev": "sd", "min": "min", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
    return {"units": units, **{their: of.get(our) for their, our in theirs.items()}, "max": of.get("max")}
