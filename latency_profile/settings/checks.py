"""What settings must hold together. Each refusal is one UsageError: the flag, what it got, what it takes."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import backends
from backends.base import DEFAULT_ENDPOINT
from latency_profile.compare.names import ALL, LATEST
from latency_profile.errors import UsageError
from latency_profile.local_path import local_path
from latency_profile.settings.definition import BY_NAME, Settings
from latency_profile.settings.shown import shown
from latency_profile.slo.grammar import STREAMED, parse

# Stores where of all who create one name exactly one wins. At other URLs fsspec may look first and write then.
_EXCLUSIVE = frozenset({"gs", "s3", "file"})
NARROWEST = 1.2  # times: ends that are closer have no room for points that differ
MOST_REQUESTS = 1 << 40  # of a search: each has a prompt of its own, and more can hardly be counted
SPLIT_TOLERANCE = 1e-6  # how far from 1 the parts of a traffic split may sum


def _refuse(settings: Settings, name: str, takes: str) -> NoReturn:
    got = shown(BY_NAME[name], getattr(settings, name))
    raise UsageError(f"{settings.spelled(name)}: got {got}, {takes}")


def _one_of(settings: Settings, *names: str) -> None:
    """Of settings that exclude each other, at most one may be given."""
    given = [name for name in names if settings.given(name)]
    if len(given) > 1:
        takes = f"takes no {BY_NAME[given[1]].flag} beside it"
        where = settings.source(given[1])
        _refuse(settings, given[0], takes + (f", which {where.spelled} gives" if where.level != "flag" else ""))


def _needs(settings: Settings, name: str, condition: bool, what: str) -> None:
    """A setting that somebody chose, other than off or 0, and that would do nothing is refused."""
    if settings.given(name) and getattr(settings, name) and not condition:
        _refuse(settings, name, f"takes effect only with {what}")


def _paced(settings: Settings) -> bool:
    return any(math.isfinite(rate) for rate in settings.rates)


def _check_load(settings: Settings) -> None:
    _one_of(settings, "request_rate", "request_rates")
    _one_of(settings, "request_rate", "concurrencies")
    _one_of(settings, "request_rates", "concurrencies")
    paced = _paced(settings)
    for name in ("arrival", "burstiness"):
        _needs(settings, name, paced, "a finite --request-rate or --request-rates")
    for name in ("benchmark_time_seconds", "warmup_seconds", "cooldown_seconds"):
        _needs(settings, name, paced or bool(settings.concurrencies), "a finite request rate or --concurrencies")
    _needs(settings, "calibration_search", settings.calibrate, "--calibrate")
    _needs(settings, "calibration_cadence", settings.calibrate, "--calibrate")
    cadence = settings.calibration_cadence
    if len(cadence) != 3 or not cadence[1] > 0 or not cadence[2] < 1:
        _refuse(settings, "calibration_cadence", "takes TTFT,GAP,JITTER: a gap above 0 ms and a jitter below 1")
    if settings.adaptive_rates is not None:
        _check_adaptive(settings)
    if settings.find_capacity:
        _check_capacity(settings)
    for name in ("capacity_precision", "max_rate", "max_duration"):
        _needs(settings, name, settings.find_capacity, "--find-capacity")
    constant = settings.given("burstiness") and settings.arrival == "constant"
    if constant or (settings.burstiness != 1.0 and settings.arrival != "gamma"):
        _refuse(settings, "burstiness", f"takes --arrival gamma, not {settings.arrival}")
    timed = settings.benchmark_time_seconds
    if settings.until_ci is not None:
        if any(math.isinf(rate) for rate in settings.rates):
            _refuse(settings, "until_ci", "takes finite request rates or --concurrencies: a burst is sent at once")
        if timed is None:
            _refuse(settings, "until_ci", "takes --benchmark-time-seconds beside it, the longest that a point may take")
    if timed is not None:
        counted = bool(settings.concurrencies) or any(math.isinf(rate) for rate in settings.rates)
        what = "an unlimited rate or --concurrencies where --benchmark-time-seconds is given"
        _needs(settings, "num_prompts", counted, what)
        if settings.warmup_seconds + settings.cooldown_seconds >= timed:
            name = "warmup_seconds" if settings.warmup_seconds > 0 else "cooldown_seconds"
            _refuse(
                settings,
                name,
                "takes a time that, with --warmup-seconds and --cooldown-seconds together, is under the "
                f"{timed:g} s of --benchmark-time-seconds",
            )


def _check_adaptive(settings: Settings) -> None:
    rates = settings.request_rates
    if len(rates) != 2 or not all(map(math.isfinite, rates)) or rates[1] < NARROWEST * rates[0]:
        ends = "the ends of the curve, HIGH 1.2 times LOW or more and finite"
        _refuse(settings, "adaptive_rates", f"takes --request-rates LOW,HIGH beside it: {ends}")
    if settings.calibrate:
        _refuse(
            settings, "calibrate", "takes no --adaptive-rates beside it: it runs each point's plan before the first"
        )
    if settings.compare_with is not None:
        why = "nights are compared at equal rates"
        _refuse(settings, "compare_with", f"takes no --adaptive-rates beside it: {why}")
    if settings.shards > 1:
        _refuse(settings, "shards", "takes no --adaptive-rates beside it: shards plan all points before the first")


def _check_capacity(settings: Settings) -> None:
    if not settings.slo:
        _refuse(settings, "find_capacity", "takes --slo beside it: a capacity is a load that keeps objectives")
    if any(objective.metric == "itl" for objective in map(parse, settings.slo)):
        _refuse(settings, "slo", "takes no itl beside --find-capacity: gaps are not of one request each; tpot is")
    if settings.concurrencies:
        _check_capacity_of_users(settings)
    elif settings.max_rate is None or not math.isfinite(settings.request_rate) or settings.request_rates:
        ways = "--request-rate, where it begins, and --max-rate beside it; or --concurrencies LOW,HIGH"
        _refuse(settings, "find_capacity", f"takes {ways}")
    elif settings.max_rate <= settings.request_rate:
        _refuse(settings, "max_rate", f"takes more than --request-rate, {settings.request_rate:.12g}")
    elif settings.max_rate > MOST_REQUESTS / settings.max_duration:
        most = f"{MOST_REQUESTS / settings.max_duration:.3g} for the {settings.max_duration:.12g} s of --max-duration"
        _refuse(settings, "max_rate", f"takes at most {most}: there are no prompts for more")
    whys = {
        "adaptive_rates": "it chooses rates itself",
        "benchmark_time_seconds": "each point is as long as it takes to tell; --max-duration bounds all",
        "num_prompts": "each point is as long as it takes to tell; --max-duration bounds all",
        "until_ci": "each point is as long as it takes to tell",
        "warmup_seconds": "it leaves out what it finds to be transient",
        "cooldown_seconds": "it leaves out what it finds to be transient",
        "calibrate": "that runs each point's plan before the first",
        "compare_with": "nights are compared at equal rates",
    }
    for name, why in whys.items():
        if settings.given(name) and getattr(settings, name):
            _refuse(settings, name, f"takes no --find-capacity beside it: {why}")
    if settings.shards > 1:
        _refuse(settings, "shards", "takes no --find-capacity beside it: shards plan all points before the first")


def _check_capacity_of_users(settings: Settings) -> None:
    ends = settings.concurrencies
    if len(ends) != 2 or ends[0] >= ends[1]:
        why = "beside --find-capacity: where it begins, and the highest that it may try"
        _refuse(settings, "concurrencies", f"takes LOW,HIGH {why}")
    if settings.max_rate is not None:
        _refuse(settings, "max_rate", "takes no --concurrencies beside it: HIGH of LOW,HIGH is their limit")


def _check_workload(settings: Settings) -> None:
    synthetic = settings.input_len is not None or settings.output_len is not None
    ways = "--dataset FILE, --use-dummy-text, or --input-len N with --output-len N"
    if not (settings.dataset or settings.use_dummy_text or synthetic):
        raise UsageError(f"--dataset: got nothing, takes a data set file; a workload is one of {ways}")
    if settings.dataset and settings.use_dummy_text:
        _refuse(settings, "dataset", f"takes no --use-dummy-text beside it; a workload is one of {ways}")
    for name in ("input_len", "output_len"):
        if getattr(settings, name) is not None and (settings.dataset or settings.use_dummy_text):
            other = "--dataset" if settings.dataset else "--use-dummy-text"
            _refuse(settings, name, f"takes no {other} beside it; a workload is one of {ways}")
    for side, other in (("input", "output"), ("output", "input")):
        mean, spread = getattr(settings, f"{side}_len"), getattr(settings, f"{side}_len_stddev")
        least, greatest = getattr(settings, f"{side}_len_min"), getattr(settings, f"{side}_len_max")
        if mean is not None and getattr(settings, f"{other}_len") is None:
            _refuse(settings, f"{side}_len", f"takes --{other}-len beside it")
        _needs(settings, f"{side}_len_stddev", mean is not None, f"--{side}-len")
        for name in (f"{side}_len_min", f"{side}_len_max"):
            _needs(settings, name, mean is not None and spread > 0, f"--{side}-len-stddev above 0")
        if mean is not None and least is not None and least > mean:
            _refuse(settings, f"{side}_len_min", f"takes at most the {mean} of --{side}-len")
        if mean is not None and greatest is not None and greatest < mean:
            _refuse(settings, f"{side}_len_max", f"takes at least the {mean} of --{side}-len")
        _needs(settings, f"max_{side}_length", not synthetic, "--dataset or --use-dummy-text")
    if settings.nonce is not None and not settings.unique_prompts:
        _refuse(settings, "nonce", "takes no --no-unique-prompts beside it")
    _check_shared_prefix(settings, synthetic)


def _check_shared_prefix(settings: Settings, synthetic: bool) -> None:
    _needs(settings, "shared_prefix_groups", settings.shared_prefix > 0, "--shared-prefix")
    if not settings.shared_prefix:
        return
    if not settings.unique_prompts:
        _refuse(settings, "shared_prefix", "takes no --no-unique-prompts beside it: what follows the prefix is unique")
    limit, flag = settings.max_input_length, "max-input-length"
    if synthetic:
        limit, flag = settings.input_len or 0, "input-len"
    if settings.shared_prefix >= limit:
        _refuse(settings, "shared_prefix", f"takes less than the {limit} tokens of --{flag}, of which they are a part")


def _check_models(settings: Settings) -> None:
    models, split = settings.models, settings.traffic_split
    if len(set(models)) < len(models):
        _refuse(settings, "models", "takes each model once")
    if split is None:
        return
    if not models:
        _refuse(settings, "traffic_split", "takes --models beside it, one for each part")
    if len(split) != len(models):
        _refuse(settings, "traffic_split", f"takes one part for each of the {len(models)} models of --models")
    total = math.fsum(split)
    if abs(total - 1) > SPLIT_TOLERANCE:
        _refuse(settings, "traffic_split", f"takes parts that sum to 1 within 0.000001; these sum to {total:.9g}")


def _check_answers(settings: Settings) -> None:
    if settings.use_beam_search and settings.best_of < 2:
        raise UsageError(
            f"{settings.spelled('use_beam_search')}: got --best-of {settings.best_of}, takes --best-of 2 or more, the "
            "beam's width"
        )
    if settings.stream_request and settings.best_of > 1:
        _refuse(settings, "best_of", "takes no --stream-request beside it: the best answer is known at its end only")
    if settings.sax_model is not None and settings.backend != "sax":
        _refuse(settings, "sax_model", f"takes --backend sax, not {settings.backend}")


def _check_readable(settings: Settings, name: str) -> None:
    path: Path | None = getattr(settings, name)
    if path is None:
        return
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        _refuse(settings, name, f"takes {BY_NAME[name].kind.takes} ({error.strerror})")


def _check_urls(settings: Settings) -> None:
    count = len(settings.url)
    if not count:
        return
    grpc = {url.startswith("grpc") for url in settings.url}
    if len(grpc) > 1:
        _refuse(settings, "url", "takes URLs of http and https, or of grpc and grpcs, not both kinds")
    doors = backends.load(settings.backend).doors
    if True in grpc and not any(door.stream_framing == "grpc" for door in doors.values()):
        _refuse(settings, "url", f"takes http or https with --backend {settings.backend}, which speaks no gRPC")
    for name, door in doors.items():
        if settings.endpoint == DEFAULT_ENDPOINT:  # whatever door is the first for such a URL
            break
        named = settings.endpoint.partition("=")[0] == name
        speaks = door.stream_framing == "grpc"
        if (named or settings.endpoint.strip("/") == door.path.strip("/")) and speaks not in grpc:
            schemes = "grpc or grpcs" if speaks else "http or https"
            _refuse(settings, "url", f"takes {schemes} with --endpoint {settings.endpoint}")
    if 0 < settings.tcp_conn_limit < count:
        _refuse(settings, "tcp_conn_limit", f"takes {count} or more, one for each URL")
    if settings.given("num_prompts") and settings.num_prompts < count:
        _refuse(settings, "num_prompts", f"takes {count} or more, one for each URL")


def _check_server(settings: Settings, environ: Mapping[str, str]) -> None:
    _one_of(settings, "url", "host")
    _one_of(settings, "url", "port")
    _check_urls(settings)
    for name in ("ca_file", "insecure"):
        secure = any(url.startswith(("https:", "grpcs:")) for url in settings.url)
        _needs(settings, name, secure, "a --url of https or grpcs")
    if settings.ca_file is not None and settings.insecure:
        _refuse(settings, "ca_file", "takes no --insecure beside it")
    _check_readable(settings, "ca_file")
    _check_certificates(settings)
    _one_of(settings, "api_key_file", "api_key_env")
    if settings.given("api_key_env") and not environ.get(settings.api_key_env, "").strip():
        _refuse(settings, "api_key_env", f"takes {BY_NAME['api_key_env'].kind.takes}")
    settings.api_key(environ)
    for name in ("prometheus_url", "metrics_urls", "pm_cluster", "pm_project"):
        _needs(settings, name, settings.scrape_server_metrics, "--scrape-server-metrics")
    _one_of(settings, "pm_project", "prometheus_url")
    if settings.reset_cache and backends.load(settings.backend).cache_reset is None:
        able = " or ".join(name for name in backends.NAMES if backends.load(name).cache_reset is not None)
        _refuse(
            settings,
            "reset_cache",
            f"takes --backend {able}: {settings.backend} has no door that drops all of its cache",
        )


def _check_certificates(settings: Settings) -> None:
    if settings.ca_file is None:
        return
    import ssl

    try:
        ssl.create_default_context(cafile=settings.ca_file)
    except ssl.SSLError as error:
        _refuse(settings, "ca_file", f"takes {BY_NAME['ca_file'].kind.takes} ({error.reason})")


def _can_be_written(folder: Path) -> bool:
    """What is not there yet is made in the nearest folder that is."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    except OSError:  # a folder on the way that may not be entered, a name that is too long
        return False


def _check_results(settings: Settings) -> None:
    if settings.output_bucket_filepath is not None and settings.output_bucket is None:
        _refuse(settings, "output_bucket_filepath", "takes --output-bucket beside it")
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(settings.output_dir)):
        _refuse(settings, "output_dir", "takes a local folder; --output-url takes URLs")
    for name in ("output_bucket", "output_url", "run_id", "save_aggregated_result", "html_report"):
        _needs(settings, name, settings.save_json_results, "--save-json-results")
    if not settings.stream_request and settings.goodput.keys() & {"ttft", "tpot"}:
        _refuse(settings, "goodput", "takes --stream-request with ttft and tpot")
    streamed = {parse(name).metric for name in settings.slo} & STREAMED
    if streamed and not settings.stream_request:
        _refuse(settings, "slo", "takes --stream-request with ttft, tpot and itl")
    _needs(
        settings, "slo", _paced(settings) or bool(settings.concurrencies), "a finite request rate or --concurrencies"
    )
    _needs(settings, "utilization", settings.machine_cost is not None, "--machine-cost")
    _needs(settings, "compare_with", settings.save_json_results, "--save-json-results")
    for name in ("compare_measure", "compare_margin", "compare_since"):
        _needs(settings, name, settings.compare_with is not None, "--compare-with")
    place = settings.compare_with
    if place not in (None, LATEST, ALL) and "://" not in place and not local_path(place).exists():
        _refuse(settings, "compare_with", f"takes {BY_NAME['compare_with'].kind.takes}; there is no such folder")
    log = settings.termination_log
    if log is not None and (log.is_dir() or not os.access(log if log.exists() else log.absolute().parent, os.W_OK)):
        _refuse(settings, "termination_log", f"takes {BY_NAME['termination_log'].kind.takes}")
    if not _can_be_written(settings.output_dir.absolute()):
        _refuse(settings, "output_dir", f"takes {BY_NAME['output_dir'].kind.takes}")


def _check_shards(settings: Settings) -> None:
    shards, index = settings.shards, settings.shard_index
    _needs(settings, "shard_timeout", shards > 1, "--shards of 2 or more")
    if index is not None and index >= shards:
        _refuse(settings, "shard_index", f"takes a number below the {shards} of --shards")
    if shards == 1:
        return
    if index is None:
        _refuse(settings, "shards", "takes --shard-index (or JOB_COMPLETION_INDEX) beside it")
    for name, value in (("save_json_results", settings.save_json_results), ("run_id", settings.run_id is not None)):
        if not value:
            _refuse(settings, "shards", f"takes {BY_NAME[name].flag} beside it: shards meet in the results' store")
    if settings.output_url and urlsplit(settings.output_url).scheme not in _EXCLUSIVE:
        _refuse(
            settings,
            "output_url",
            "takes gs:// or s3:// or a folder beside --shards: of several pods that write one "
            "name exactly one must win",
        )
    if not settings.resume:
        _refuse(settings, "resume", "takes no --shards beside it: shards that come back find what their run has begun")
    for name in ("until_ci", "calibrate"):
        if getattr(settings, name):
            _refuse(settings, name, "takes no --shards beside it: it looks at one process's requests only")
    fewest = min(settings.concurrencies, default=shards)
    if fewest < shards:
        _refuse(settings, "shards", f"takes at most the {fewest} of --concurrencies: each shard keeps one in flight")
    urls = max(1, len(settings.url))
    limit, each = settings.tcp_conn_limit, urls // math.gcd(shards, urls)
    if 0 < limit < shards * each:
        _refuse(settings, "tcp_conn_limit", f"takes {shards * each} or more: {each} for each of --shards")


def check(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raises UsageError at the first combination that cannot be, or that would leave a given setting without effect."""
    _check_load(settings)
    _check_models(settings)
    _check_answers(settings)
    _check_workload(settings)
    _check_server(settings, environ)
    _check_results(settings)
    _check_shards(settings)
