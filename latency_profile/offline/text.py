"""What the terminal shows: a table for each study, what was found, and the block of a throughput run. Pure."""

from collections.abc import Callable, Sequence

from latency_profile.offline.structure import (
    CellResult,
    EngineSaid,
    Estimate,
    OfflineResult,
    Phase,
    Spread,
    Study,
    TokenCost,
)
from latency_profile.offline.studies import BATCH_SIZE, DATASET, REQUEST_COUNT, SEQUENCE_LENGTH, SHAPES

HEADINGS = {
    BATCH_SIZE: "batch size",
    SEQUENCE_LENGTH: "length",
    REQUEST_COUNT: "requests",
    SHAPES: "in x out",
    DATASET: "prompts",
}
TITLES = {
    BATCH_SIZE: "Batch Size",
    SEQUENCE_LENGTH: "Sequence Length",
    REQUEST_COUNT: "Request Count",
    SHAPES: "Shapes",
    DATASET: "Data set",
}
_NONE = "-"
UNBOUNDED = "≥"


def lines(result: OfflineResult) -> list[str]:
    """Everything, study by study."""
    said = _engines(result.engines)
    for study in result.studies:
        said += ["", *_study(study, result.machine_cost_per_hour_usd is not None)]
    said += ["", *summary(result.studies)]
    if any(UNBOUNDED in line for line in said):
        said.append(f"{UNBOUNDED}: the runs give no upper bound")
    if result.cut_short is not None:
        said.append(f"Cut short by {result.cut_short}: what had been measured until then.")
    return said


def _engines(engines: Sequence[EngineSaid]) -> list[str]:
    """What they are once, and each start's own settings."""
    first = engines[0]
    dtype = f" ({first.dtype})" if first.dtype else ""
    batching = "continuous" if first.continuous_batching else "static"
    said = [f"{first.engine} {first.version}: {first.model}{dtype} on {first.device}, {batching} batches"]
    for engine in engines:
        at_once = "" if engine.requests_at_once is None else f"{engine.requests_at_once} requests at once, "
        said.append(f"  {at_once}{engine.max_model_len} tokens each at most, loaded in {engine.load_s:.1f} s")
    return said


_Column = tuple[str, Callable[[CellResult], str]]


def _study(study: Study, priced: bool) -> list[str]:
    """Throughput and latency; then, under the same sizes, the phases and the cost."""
    size: _Column = (HEADINGS[study.name], lambda cell: cell.label)
    columns: list[_Column] = [
        size,
        ("runs", lambda cell: str(cell.runs)),
        ("output tokens/s", lambda cell: _interval(cell.output_tokens_per_s)),
        ("all", lambda cell: _figure(cell.total_tokens_per_s)),
        ("requests/s", lambda cell: _figure(cell.requests_per_s)),
        ("batch ms p50", lambda cell: _ms(cell.batch_latency, "p50_s")),
        ("p95", lambda cell: _ms(cell.batch_latency, "p95_s")),
        ("request ms p50", lambda cell: _ms(cell.request_latency, "p50_s")),
        ("p95", lambda cell: _ms(cell.request_latency, "p95_s")),
    ]
    phases: list[_Column] = [
        size,
        ("prefill tokens/s", lambda cell: _phase(cell.prefill)),
        ("generation tokens/s", lambda cell: _phase(cell.generation)),
    ]
    if priced:
        phases += [
            ("$/M in", lambda cell: _usd(cell, "input")),
            ("out", lambda cell: _usd(cell, "output")),
            ("total", lambda cell: _usd(cell, "total")),
        ]
        if any(cell.usd_per_million_tokens_with_idle for cell in study.cells):
            phases.append(("with idle time", lambda cell: _usd(cell, "total", "usd_per_million_tokens_with_idle")))
    said = [*_grid(columns, study.cells), "", *_grid(phases, study.cells)]
    said += [f"  {study.name} {cell.label}: {cell.trouble}" for cell in study.cells if cell.trouble]
    if study.name == DATASET:
        said += [line for cell in study.cells for line in throughput_block(cell)]
    return said + [f"  {sentence}" for sentence in study.finding]


def _grid(columns: Sequence[_Column], cells: Sequence[CellResult]) -> list[str]:
    rows = [[heading for heading, _ in columns], *([text(cell) for _, text in columns] for cell in cells)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(columns))]
    return ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]


def throughput_block(cell: CellResult) -> list[str]:
    """The form in which the example of an offline batch prints it; nothing without figures."""
    time, requests, outputs = cell.batch_generation_time_s, cell.requests_per_s, cell.output_tokens_per_s
    if time is None or requests is None or outputs is None:
        return []
    figures = [
        ("Total Time:", f"{time.value:.2f}"),
        ("Total Generations:", str(cell.requests)),
        None,
        ("Generations / Sec:", f"{requests.value:.2f}"),
        ("Generation Tok / Sec:", f"{outputs.value:.2f}"),
        ("Prompt Tok / Sec:", f"{cell.input_tokens / time.value:.2f}"),
        None,
        ("Avg Generation Tokens:", f"{cell.output_tokens / cell.requests:.2f}"),
        ("Avg Prompt Tokens:", f"{cell.input_tokens / cell.requests:.2f}"),
    ]
    rule = f"* {'=' * 58}"
    said = [rule]
    for figure in figures:
        said += ["", ""] if figure is None else [f"* {figure[0]:<29} {figure[1]}"]
    return [*said, rule]


def summary(studies: Sequence[Study]) -> list[str]:
    """One row a study, as the notebook's results summary has it; nothing where no study compares anything."""
    rows = []
    for study in studies:
        measured = [(cell, rate) for cell in study.cells if (rate := cell.output_tokens_per_s) and not cell.trouble]
        if study.best is None:
            continue
        rates = [rate.value for _, rate in measured]
        top = next(rate for cell, rate in measured if cell.label == study.best)
        heading = HEADINGS[study.name]
        rows.append(
            f"| {TITLES[study.name]} | {measured[0][0].label} to {measured[-1][0].label} | "
            f"{min(rates):,.0f}-{max(rates):,.0f} tok/s | {heading} {study.best} (~{top.value:,.0f} tok/s) |"
        )
    head = "| Experiment Type | Parameter Range | Throughput Range | Optimal Point |"
    return [head, "|---|---|---|---|", *rows] if rows else []


def _figure(value: Estimate | None) -> str:
    return _NONE if value is None else f"{value.value:,.1f}"


def _interval(value: Estimate | None) -> str:
    if value is None or value.low is None:
        return _figure(value)
    if value.high is None:
        return f"{value.value:,.1f} ({UNBOUNDED}{value.low:,.1f})"
    return f"{value.value:,.1f} ({value.low:,.1f} to {value.high:,.1f})"


def _ms(spread: Spread | None, name: str) -> str:
    if spread is None:
        return _NONE
    unknown = UNBOUNDED if name == "p95_s" and spread.p95_high_s is None else ""
    return f"{unknown}{getattr(spread, name) * 1e3:,.1f}"


def _phase(phase: Phase | None) -> str:
    return _figure(None if phase is None else phase.tokens_per_s)


def _usd(cell: CellResult, tokens: str, costs: str = "usd_per_million_tokens") -> str:
    found: TokenCost | None = getattr(cell, costs)
    cost = None if found is None else getattr(found, tokens)
    return _NONE if cost is None else f"{cost:,.3f}"
