"""The files of an offline benchmark, by name: JSON of all, a CSV and a picture for each study. Pure."""

import csv
import io

import msgspec

from latency_profile.offline import pictures
from latency_profile.offline.structure import CellResult, Estimate, OfflineResult, Phase, Spread


def files(result: OfflineResult) -> dict[str, bytes]:
    """Bytes by name; pictures only where they can be made."""
    stem = f"{result.settings['engine']}-offline"
    found = {f"{stem}-{result.date}.json": msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"}
    drawn = pictures.available()
    first = result.engines[0]
    subtitle = f"{first.model}, {first.engine} {first.version}, {first.device}"
    for study in result.studies:
        name = f"{stem}-{study.name}-{result.date}"
        found[f"{name}.csv"] = _csv(study.cells)
        if drawn and (picture := pictures.picture(study, subtitle)) is not None:
            found[f"{name}.svg"] = picture
    return found


def _csv(cells: list[CellResult]) -> bytes:
    rows = [_row(cell) for cell in cells]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _row(cell: CellResult) -> dict[str, object]:
    """Empty where there is no figure."""
    cost, idle = cell.usd_per_million_tokens, cell.usd_per_million_tokens_with_idle
    return {
        "label": cell.label,
        "requests": cell.requests,
        "input_tokens": cell.input_tokens,
        "output_tokens": cell.output_tokens,
        "runs": cell.runs,
        **_estimate("batch_generation_time_s", cell.batch_generation_time_s),
        **_spread("batch", cell.batch_latency),
        **_spread("request", cell.request_latency),
        **_spread("ttft", cell.ttft),
        **_estimate("requests_per_s", cell.requests_per_s),
        **_estimate("output_tokens_per_s", cell.output_tokens_per_s),
        **_estimate("total_tokens_per_s", cell.total_tokens_per_s),
        **_phase("prefill", cell.prefill),
        **_phase("generation", cell.generation),
        "usd_per_million_input_tokens": cost and cost.input,
        "usd_per_million_output_tokens": cost and cost.output,
        "usd_per_million_total_tokens": cost and cost.total,
        "usd_per_million_input_tokens_with_idle": idle and idle.input,
        "usd_per_million_output_tokens_with_idle": idle and idle.output,
        "usd_per_million_total_tokens_with_idle": idle and idle.total,
        "trouble": cell.trouble,
    }


def _estimate(name: str, value: Estimate | None) -> dict[str, object]:
    return {name: value and value.value, f"{name}_low": value and value.low, f"{name}_high": value and value.high}


def _phase(name: str, phase: Phase | None) -> dict[str, object]:
    return {
        **_estimate(f"{name}_s", None if phase is None else phase.seconds),
        **_estimate(f"{name}_tokens_per_s", None if phase is None else phase.tokens_per_s),
    }


def _spread(name: str, spread: Spread | None) -> dict[str, object]:
    return {
        f"{name}_p50_s": spread and spread.p50_s,
        f"{name}_p50_low_s": spread and spread.p50_low_s,
        f"{name}_p50_high_s": spread and spread.p50_high_s,
        f"{name}_p95_s": spread and spread.p95_s,
        f"{name}_p95_low_s": spread and spread.p95_low_s,
        f"{name}_p95_high_s": spread and spread.p95_high_s,
        f"{name}_max_s": spread and spread.max_s,
    }
