"""What is printed of the engines: a block for each as it ends, and all of them side by side. Computes nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TextIO

from latency_profile.hardware.summary import Gauge, GpuSummary
from latency_profile.launch.structure import EngineRun
from latency_profile.launch.summary import gpus_at_work
from latency_profile.report.console import Column, grid, render_table
from latency_profile.report.line import spelled
from latency_profile.report.rows import MS_PER_S, table_row
from latency_profile.report.table_row import TableRow, number
from latency_profile.statistics import Percentile

MIB = 1 << 20
NONE = "-"


def block(run: EngineRun) -> str:
    """The results of one engine, over all of its requests; then its GPUs, and the verdict."""
    return "\n".join([f"=== RESULTS FOR {run.backend} ===", *_results(run), "", *_gpus(run), "", *_verdict(run)])


def _results(run: EngineRun) -> Iterator[str]:
    flat = run.metrics
    if not flat:
        yield "Nothing was measured."
        return
    failed = flat["num_prompts_attempted"] - flat["num_prompts_succeeded"]
    yield f"Total Requests: {flat['num_prompts_attempted']}" + (f" ({failed} without an answer)" if failed else "")
    yield f"Duration:       {_two(flat['benchmark_time'])}s"
    yield f"System TPS:     {_two(flat['throughput'])} tok/s"
    yield f"TTFT (ms):      Mean: {_two(flat.get('avg_TTFT_ms'))} | P99: {_two(flat.get('p99_TTFT_ms'))}"
    yield f"E2E (ms):       Mean: {_two(flat['avg_latency_ms'])} | P99: {_two(flat['p99_latency_ms'])}"
    yield f"TPOT (ms):      {_two(flat.get('avg_TPOT_ms'))}"
    yield f"ITL P99 (ms):   {_two(flat.get('p99_ITL_ms'))}"


def _gpus(run: EngineRun) -> Iterator[str]:
    gpus = gpus_at_work(run)
    if not gpus:
        telemetry = None if run.result is None else run.result.telemetry
        unwatched = "no point was measured" if run.result is None else "the machine was not watched"
        why = telemetry.absent if telemetry and telemetry.absent else unwatched
        yield f"No GPU metrics: {why}."
    for place, gpu in enumerate(gpus):
        if place:
            yield ""
        yield from _gpu(gpu)


def _gpu(gpu: GpuSummary) -> Iterator[str]:
    total = NONE if gpu.memory_bytes is None else f"{gpu.memory_bytes / MIB:.0f}MB"
    yield f"=== GPU METRICS ({gpu.name or f'GPU {gpu.index}'}) ==="
    yield f"GPU Util:       {_mean_and_max(gpu.utilization, lambda share: f'{share:.1%}')}"
    yield f"Memory:         {_mean_and_max(gpu.memory_used_bytes, lambda used: f'{used / MIB:.0f}MB')} / {total}"
    yield f"Power:          {_mean_and_max(gpu.power_w, lambda watts: f'{watts:.1f}W')}"
    yield f"Temperature:    {_mean_and_max(gpu.temperature_c, lambda degrees: f'{degrees:.1f}C')}"


def _mean_and_max(gauge: Gauge | None, spelled: Callable[[float], str]) -> str:
    mean, most = (None, None) if gauge is None else (gauge.mean, gauge.max)
    return f"Mean: {NONE if mean is None else spelled(mean)} | Max: {NONE if most is None else spelled(most)}"


def _verdict(run: EngineRun) -> Iterator[str]:
    yield f"Verdict:        {run.verdict}"
    for reason in run.reasons:
        yield f"                {reason}"


def _two(value: Any) -> str:
    return NONE if value is None else f"{value:.2f}"


def comparison(runs: Sequence[EngineRun], stream: TextIO) -> None:
    """All engines in one table, with their verdicts; then the intervals that their points have."""
    render_table([_row(run) for run in runs], stream, load=("", "engine"))
    measured = {run.backend: run for run in runs if run.result is not None}
    columns = [Column("", "engine", lambda row: row.load), *_interval_columns(measured)]
    if len(columns) == 1:
        return
    stream.write("\n95 % intervals (measured window)\n")
    for line in grid(columns, [_row(run) for run in measured.values()]):
        stream.write(spelled(line.text, stream) + "\n")


def _row(run: EngineRun) -> TableRow:
    if run.result is None:
        row = TableRow(
            load=run.backend,
            verdict=run.verdict,
            sent_per_s=None,
            completed_per_s=None,
            ok=0,
            failed=0,
            output_tokens_per_s=None,
        )
    else:
        row = table_row(run.backend, run.result)
    return replace(row, verdict=run.verdict, reasons=tuple(run.reasons))


def _interval_columns(runs: dict[str, EngineRun]) -> list[Column]:
    """Those in which any engine has an interval."""

    def throughput(run: EngineRun) -> str:
        found = run.result.throughput if run.result else None
        return _interval(found.output_tokens_per_s_low, found.output_tokens_per_s_high) if found else ""

    def latency(name: str, level: str) -> Callable[[EngineRun], str]:
        def cell(run: EngineRun) -> str:
            found = getattr(run.result.latency.service, name) if run.result else None
            if found is None:
                return ""
            at: Percentile = getattr(found, level)
            return _interval(*(None if end is None else end * MS_PER_S for end in (at.low_s, at.high_s)))

        return cell

    cells: list[tuple[str, str, Callable[[EngineRun], str]]] = [
        ("output", "tok/s", throughput),
        *(
            (f"{name.upper()} ms", level, latency(name, level))
            for name in ("ttft", "tpot", "e2e")
            for level in ("p50", "p99")
        ),
    ]

    def column(group: str, heading: str, cell: Callable[[EngineRun], str]) -> Column:
        return Column(group, heading, lambda row: cell(runs[row.load]))

    return [column(*each) for each in cells if any(each[2](run) for run in runs.values())]


def _interval(low: float | None, high: float | None) -> str:
    if high is None:
        return "" if low is None else f"≥ {number(low)}"
    return f"to {number(high)}" if low is None else f"{number(low)} to {number(high)}"


def closing(runs: Sequence[EngineRun], not_run: Sequence[str], code: int) -> str:
    """The last line."""
    parts = [f"{sum(run.usable for run in runs)} of {len(runs) + len(not_run)} engines have numbers to use"]
    parts += [f"{run.backend} {run.verdict}" for run in runs]
    if not_run:
        parts.append(f"not run: {', '.join(not_run)}")
    return f"{'; '.join(parts)}. Exit code {code}."
