"""What an estimate says to people. It lays out what it is given and computes nothing but the bars."""

from collections.abc import Iterator, Sequence
from typing import TextIO

from latency_profile.datasets.structure import Estimate, Law, LengthsFound

_WIDTH = 40  # of the longest bar


def show(found: Estimate, source: str, out: TextIO) -> None:
    """Prints it; the bars are coloured on a terminal."""
    if not out.isatty():
        bar = "█" if "utf" in (out.encoding or "").lower() else "#"
        for line, _ in lines(found, source, bar):
            print(line, file=out)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, highlight=False, soft_wrap=True)
    bar = "#" if console.options.ascii_only else "█"
    for line, style in lines(found, source, bar):
        console.print(Text(line, style=style))


def lines(found: Estimate, source: str, bar: str) -> Iterator[tuple[str, str]]:
    """Each line with its style."""
    rows = found.rows
    drawn = f", {rows.used:,} of them drawn with the seed {rows.seed}" if rows.sample is not None else ""
    yield f"{found.dataset} ({found.form}), tokenizer {found.tokenizer}: {rows.rows:,} rows{drawn}", "bold"
    left_out = {
        "have no prompt": rows.no_prompt,
        "have no answer": rows.no_answer,
        "are not valid Unicode": rows.not_unicode,
    }
    for what, number in left_out.items():
        if number:
            yield f"  left out, as they {what}: {number:,} rows", "yellow"
    if rows.duplicate_prompts:
        yield f"  used, though their prompt came before: {rows.duplicate_prompts:,} rows", "yellow"
    if rows.too_short:
        yield f"  used here, though a profile leaves out what is so short: {rows.too_short:,} rows", "yellow"
    yield from _side("Input", found.input, found.synthetic_input, bar)
    if found.output is None:
        yield "", ""
        yield "Output: the set has neither answers nor output lengths", "yellow"
    else:
        yield from _side("Output", found.output, found.synthetic_output, bar)
    together = found.correlation
    if together is not None and together.pearson is not None:
        yield "", ""
        figures = f"{together.pearson:+.2f} (Pearson), {together.spearman:+.2f} (Spearman) over {together.n:,} rows"
        yield f"Correlation of input and output length: {figures}; synthetic lengths are drawn independently", ""
    yield from _flags(found, source)


def _side(name: str, found: LengthsFound, law: Law | None, bar: str) -> Iterator[tuple[str, str]]:
    interval = "" if found.mean_low is None else f" (95 % interval {found.mean_low:.1f} to {found.mean_high:.1f})"
    sd = "" if found.sd is None else f", standard deviation {found.sd:.1f}"
    yield "", ""
    yield f"{name} tokens of {found.n:,} rows: mean {found.mean:.1f}{interval}{sd}", "bold"
    yield (
        (f"  min {found.min:.0f}, p50 {found.p50:.0f}, p90 {found.p90:.0f}, p99 {found.p99:.0f}, max {found.max:.0f}"),
        "",
    )
    if found.normal is not None:
        normal = f"{found.normal.share_below_1:.1%} of its draws are below one token, p99 {found.normal.p99:.0f}"
        yield f"  a normal distribution of this mean and deviation: {normal},", ""
        yield f"  distance from the data {found.normal.ks_distance:.2f} (Kolmogorov-Smirnov)", ""
    if law is not None:
        yield f"  nearest synthetic lengths: mean {law.mean:.1f}, standard deviation {law.sd:.1f}", ""
    else:
        yield "  no synthetic lengths come near: too skewed, or mostly shorter than a unique prompt is", "yellow"
    bins = log2_bins(found.histogram)
    most = max(rows for _, _, rows in bins)
    widest = len(f"{bins[-1][0]}-{bins[-1][1]}")
    for low, high, rows in bins:
        length = max(1, round(_WIDTH * rows / most)) if rows else 0
        label = f"{low}-{high}" if high > low else f"{low}"
        yield f"  {label:>{widest}}  {bar * length} {rows:,}", "cyan"


def log2_bins(histogram: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(least, greatest, rows) of 0, 1, 2-3, 4-7, …: from the first bin with rows to the last, empty ones between."""
    rows: dict[int, int] = {}
    for length, number in histogram:
        rows[length.bit_length()] = rows.get(length.bit_length(), 0) + number
    return [
        (1 << (size - 1) if size else 0, (1 << size) - 1, rows.get(size, 0)) for size in range(min(rows), max(rows) + 1)
    ]


def _flags(found: Estimate, source: str) -> Iterator[tuple[str, str]]:
    yield "", ""
    yield "Flags of benchmark_serving.py", "bold"
    yield f"  these rows:  latency-profile dataset import {source} -o prompts.jsonl, then", ""
    yield f"               --dataset=prompts.jsonl {' '.join(found.dataset_flags)}", ""
    if found.synthetic_input is not None and found.synthetic_output is not None:
        flags = [*found.synthetic_input.flags, *found.synthetic_output.flags]
        yield f"  synthetic:   {' '.join(flags)}", ""
