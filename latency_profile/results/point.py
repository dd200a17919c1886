"""Builds the result of one point. Pure: the same records give the same structure."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from latency_profile import measures
from latency_profile.client_health import client_health
from latency_profile.cost import cost, work
from latency_profile.fingerprint import fingerprint
from latency_profile.goodput import goodput
from latency_profile.hardware.summary import telemetry
from latency_profile.measures import Rows, Span, Window
from latency_profile.prefix_cache import prefix_cache
from latency_profile.rates import RateBounds, Rates, bounded_rates, rates_in
from latency_profile.records import NONE, PointContext, Records
from latency_profile.results.errors import errors_by_kind, seed_errors
from latency_profile.results.latency import by_metric, latency, server_times, stalls
from latency_profile.results.server import server
from latency_profile.results.structure import (
    FLAT,
    SCHEMA_VERSION,
    STATISTICS,
    STREAMED,
    Config,
    Drifts,
    Lateness,
    Load,
    Mean,
    Metrics,
    PointResult,
    RequestCounts,
    StartTime,
    SummaryStat,
    SummaryStats,
    Throughput,
    UrlResult,
    WindowBounds,
)
from latency_profile.results.tokens import tokens
from latency_profile.server_view.reconcile import reconciled
from latency_profile.shards.parts import shards
from latency_profile.slo.judge import slo
from latency_profile.statistics import NS_PER_MS, NS_PER_S, Sample, Summary, quantile, summarize
from latency_profile.until_ci.result import describer, until_ci
from latency_profile.verdict import judge

ALL_MODELS = "weighted"  # the name of all models together


def point_result(records: Records, model: str | None = None) -> PointResult:
    """The result of a point's requests to `model`, or of all. Raises ValueError where the point has no such model."""
    if model is None:
        models = records.context.models
        return build(records, None, ALL_MODELS if len(models) > 1 else models[0])
    return build(records, model, model)


def build(records: Records, model: str | None, name: str) -> PointResult:
    """The result of the requests to `model` (None: all), under the model's name `name`."""
    context = records.context
    rows = measures.all_rows(records) if model is None else measures.rows_of_model(records, model)
    span = measures.window(records)
    good = measures.succeeded(records, rows)
    summaries = _summaries(records, rows, good)
    both = reconciled(records)
    verdict = judge(records, model, both)
    cache = prefix_cache(records, rows)
    whole = model is None or len(context.models) == 1
    done = work(records, cache.hits_tokens if cache else None) if whole else None
    gaps = measures.gaps(records, rows & span.rows) if context.streaming else None
    bounded = bounded_rates(records, rows, span.filled)
    rates = bounded[0] if bounded else None
    metrics = _metrics(records, rows, good, summaries)
    latencies = latency(records, rows & span.rows, gaps)
    return PointResult(
        metrics=metrics,
        dimensions=_dimensions(context, name),
        config=Config(
            model=name,
            num_models=len(context.models),
            model_server=context.backend,
            start_time=StartTime(seconds=context.started_ns // 1_000_000_000, nanos=context.started_ns % 1_000_000_000),
        ),
        summary_stats=_summary_stats(context, metrics.throughput, summaries),
        schema_version=SCHEMA_VERSION,
        verdict=verdict,
        window=_window(rows, span),
        load=_load(records, rows, span),
        throughput=_throughput(*bounded) if bounded else None,
        goodput=goodput(records, rows, span),
        slo=slo(records, rows, span, verdict, by_metric(latencies), gaps),
        latency=latencies,
        stalls=None if gaps is None else stalls(gaps),
        tokens=tokens(records, rows),
        errors_by_kind=errors_by_kind(records["status"][rows]),
        by_url=_by_url(records, rows, span),
        work=done,
        cost=cost(
            context.settings.get("machine_cost"), rates, verdict.usable, done, context.settings.get("utilization")
        ),
        server=server(records, span, server_times(records, rows & span.rows), both),
        cache=cache,
        client=client_health(records, span),
        telemetry=telemetry(records, span, verdict.usable),
        calibration=context.calibration,
        provenance={**context.provenance, "settings": context.settings},
        fingerprint=fingerprint(context),
        cut_short=context.cut_short,
        until_ci=until_ci(records, rows, span),
    )


def _window(rows: Rows, span: Window) -> WindowBounds:
    found = span.steadiness
    warmup_ns = None if found is None else found.warmup_ends_ns
    return WindowBounds(
        start_s=span.start_ns / NS_PER_S,
        end_s=span.end_ns / NS_PER_S,
        requests=int((rows & span.rows).sum()),
        rates_start_s=span.filled.start_ns / NS_PER_S,
        warmup_found_s=None if warmup_ns is None else warmup_ns / NS_PER_S,
        steady=None if found is None else found.steady,
        drift=None if found is None else Drifts(ttft=found.drifts.get("ttft"), e2e=found.drifts.get("e2e")),
    )


def _summaries(records: Records, rows: Rows, good: Rows) -> dict[str, Summary]:
    """The flat metrics by their names in FLAT, over all succeeded requests."""
    known = good & (records["output_tokens"] >= 0)

    def ms(sample: Sample) -> Summary:
        return summarize(sample.values, NS_PER_MS)

    summaries = {
        "per_token_latency_ms": ms(measures.time_per_token(records, rows)),
        "latency_ms": ms(measures.end_to_end(records, good, "sent_ns")),
        "normalized_time_per_output_token_ms": ms(measures.normalized_time_per_output_token(records, good)),
        "input_len": summarize(records["input_tokens"][good].astype(np.int64)),
        "output_len": summarize(records["output_tokens"][known].astype(np.int64)),
    }
    if records.context.streaming:
        summaries |= {
            "TTFT_ms": ms(measures.time_to_first_token(records, good, "sent_ns")),
            "ITL_ms": ms(measures.gaps(records, good)),
            "TPOT_ms": ms(measures.time_per_output_token(records, good)),
        }
    return summaries


def _metrics(records: Records, rows: Rows, good: Rows, summaries: Mapping[str, Summary]) -> Metrics:
    context = records.context
    counts = measures.counts(records, rows)
    seconds = context.measured_ns / NS_PER_S
    outputs = int(records["output_tokens"][good & (records["output_tokens"] > 0)].sum())
    inputs = int(records["input_tokens"][good].sum())
    last_sent = int(records["sent_ns"][rows].max(initial=NONE))

    def per_second(amount: int) -> float | None:
        return amount / seconds if seconds > 0 else None

    flat: dict[str, Any] = {
        f"{prefix}_{name}": getattr(summaries[name], field)
        for name in FLAT
        if name not in STREAMED or context.streaming
        for prefix, field in STATISTICS.items()
    }
    return Metrics(
        num_prompts_attempted=counts.attempted,
        num_prompts_succeeded=counts.succeeded,
        request_rate=_offered(context),
        queries_per_second=counts.attempted / (last_sent / NS_PER_S) if last_sent > 0 else None,
        server_metrics=context.server_metrics,
        benchmark_time=seconds,
        throughput_rps=per_second(counts.succeeded),
        throughput=per_second(outputs),
        total_output_token=outputs,
        total_input_tokens=inputs,
        input_tokens_per_sec=per_second(inputs),
        total_tokens=inputs + outputs,
        tokens_per_sec=per_second(inputs + outputs),
        **flat,
        **seed_errors(records["status"][rows]),
    )


def _offered(context: PointContext) -> Any:
    return "inf" if context.request_rate is None else float(context.request_rate)


def _dimensions(context: PointContext, name: str) -> dict[str, str]:
    """The file's labels. As it always was, the user's metadata come last and may replace one."""
    extra = context.settings.get("additional_metadata_metrics_to_save") or {}
    return {
        "date": context.date,
        "backend": context.backend,
        "model_id": name,
        "tokenizer_id": context.tokenizer,
        **{
            str(key): value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for key, value in extra.items()
        },
    }


def _summary_stats(context: PointContext, throughput: float | None, summaries: Mapping[str, Summary]) -> SummaryStats:
    return SummaryStats(
        stats=[
            SummaryStat(
                request_rate=_offered(context),
                request_latency=summaries["latency_ms"],
                throughput=Mean(mean=throughput),
                input_length=summaries["input_len"],
                output_length=summaries["output_len"],
                tpot=summaries["normalized_time_per_output_token_ms"],
                model_server_metrics=[{"Name": name, **stats} for name, stats in context.server_metrics.items()],
            )
        ]
    )


def arrival_process(context: PointContext) -> str:
    """How the plan's requests were spaced, in a word."""
    if context.concurrency is not None:
        return "closed_loop"
    if context.request_rate is None:
        return "burst"
    return str(context.settings.get("arrival", "poisson"))


def _load(records: Records, rows: Rows, span: Window) -> Load:
    context = records.context
    closed, burst = context.concurrency is not None, measures.is_burst(context)
    sent, end = records["sent_ns"], records["end_ns"]

    def per_second(happened: Rows, over: Span = span) -> float | None:
        return int((rows & happened).sum()) / over.length_s if over.length_s > 0 else None

    def seconds(level: float) -> float | None:
        value = quantile(lateness, level)
        return None if value is None else value / NS_PER_S

    lateness = measures.lateness_ns(records, rows & span.rows)
    filled = span.filled
    ended = measures.succeeded(records, rows) & (end > filled.start_ns) & (end <= filled.end_ns)
    return Load(
        arrival_process=arrival_process(context),
        streaming=context.streaming,
        concurrency=context.concurrency,
        request_rate=context.request_rate,
        offered_requests_per_s=None if closed or burst else per_second(span.rows),
        sent_requests_per_s=per_second(np.asarray((sent >= span.start_ns) & (sent <= span.end_ns))),
        completed_requests_per_s=per_second(ended, filled),
        lateness=None if closed else Lateness(p50_s=seconds(0.5), p99_s=seconds(0.99), max_s=seconds(1.0)),
        counts=msgspec.convert(measures.counts(records, rows), RequestCounts, from_attributes=True),
        shards=shards(records),
    )


def _throughput(rates: Rates, known: RateBounds) -> Throughput:
    return Throughput(
        requests_per_s=rates.requests,
        requests_per_s_low=known.requests[0],
        requests_per_s_high=known.requests[1],
        input_tokens_per_s=rates.input_tokens,
        input_tokens_per_s_low=known.input_tokens[0],
        input_tokens_per_s_high=known.input_tokens[1],
        output_tokens_per_s=rates.output_tokens,
        output_tokens_per_s_low=known.output_tokens[0],
        output_tokens_per_s_high=known.output_tokens[1],
        total_tokens_per_s=rates.input_tokens + rates.output_tokens,
        total_tokens_per_s_low=known.total_tokens[0],
        total_tokens_per_s_high=known.total_tokens[1],
    )


def _by_url(records: Records, rows: Rows, span: Window) -> list[UrlResult] | None:
    """The window by where its requests went; None where all went to one URL."""
    context = records.context
    if len(context.urls) < 2:
        return None
    describe = describer(context)
    found = []
    for number, url in enumerate(context.urls):
        there = rows & (records["url"] == number)
        due = there & span.rows
        counts = measures.counts(records, due)
        rates = rates_in(records, there, span.filled)
        found.append(
            UrlResult(
                url=url,
                planned=counts.planned,
                succeeded=counts.succeeded,
                failed=counts.failed,
                errors_by_kind=errors_by_kind(records["status"][due]),
                ttft=describe(measures.time_to_first_token(records, due, "sent_ns")) if context.streaming else None,
                e2e=describe(measures.end_to_end(records, due, "sent_ns")),
                output_tokens_per_s=None if rates is None else rates.output_tokens,
            )
        )
    return found
