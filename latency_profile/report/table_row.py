"""One point as people are shown it: its figures, and how a figure is written."""

from dataclasses import dataclass
from typing import NamedTuple


class Figure(NamedTuple):
    """A number of the table; None: there is none. `at_least`: the sample cannot bound it above.

    low, high: the ends of its 95 % interval, in the number's unit; None: the sample gives none.
    """

    value: float | None
    at_least: bool = False
    low: float | None = None
    high: float | None = None


NO_FIGURE = Figure(None)


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """What the server and its GPUs told of one point; None: nobody told it."""

    running: float | None = None  # requests, mean
    waiting: float | None = None
    most_waiting: float | None = None
    kv_percent: float | None = None  # of the KV cache, at most
    outside_ms: float | None = None  # of the mean TTFT: network, gateway, HTTP
    queue_ms: float | None = None
    prefill_ms: float | None = None
    gpu_percent: float | None = None  # busy, mean over all GPUs
    watts: float | None = None  # all GPUs
    joules_per_token: float | None = None


class Dollars(NamedTuple):
    """USD for a million tokens of each kind; None: not known."""

    input: float | None = None
    output: float | None = None
    total: float | None = None


UNPRICED = Dollars()


@dataclass(frozen=True, slots=True)
class CostFigures:
    """What the tokens of one point cost; without a price nothing is known."""

    alone: Dollars = UNPRICED  # each kind of token by itself: the whole price over it
    with_idle: Dollars = UNPRICED  # the same / utilization
    utilization: float | None = None
    measured: Dollars = UNPRICED  # the whole price divided between input and output, by each method
    gaps: Dollars = UNPRICED
    convention: Dollars = UNPRICED


@dataclass(frozen=True, slots=True)
class TableRow:
    """One point, as it is shown. Rates a second, latencies in ms (service, from sent)."""

    load: str  # the offered rate or the concurrency, as the user wrote it: "4", "inf", "32"
    verdict: str
    sent_per_s: float | None
    completed_per_s: float | None
    ok: int
    failed: int
    output_tokens_per_s: float | None
    ttft_p50_ms: Figure = NO_FIGURE
    ttft_p99_ms: Figure = NO_FIGURE
    tpot_p50_ms: Figure = NO_FIGURE
    tpot_p99_ms: Figure = NO_FIGURE
    itl_p99_ms: Figure = NO_FIGURE
    e2e_p50_ms: Figure = NO_FIGURE
    e2e_p99_ms: Figure = NO_FIGURE
    response_e2e_p99_ms: Figure = NO_FIGURE  # from due; none in a closed loop
    cost: CostFigures = CostFigures()
    server: ServerFigures = ServerFigures()
    slo: str = ""  # of `line.OBJECTIVES`, all together; "" without any
    not_kept: tuple[tuple[str, str, str], ...] = ()  # outcome, name and reason of objectives that are not kept
    reasons: tuple[str, ...] = ()  # why the verdict is not VALID, one sentence each
    cut_short: str = ""  # by what; then it must not be used, whatever its verdict
    notes: tuple[str, ...] = ()  # what else one should know, a few words each; mostly nothing


def milliseconds(figure: Figure) -> str:
    """Three significant digits, whole ms from 100 on; `≥` where the sample has no upper bound; nothing for None."""
    if figure.value is None:
        return ""
    return ("≥ " if figure.at_least else "") + number(figure.value)


def number(value: float | None) -> str:
    """Three significant digits below 100, two places at most while they show anything, whole numbers above; nothing for
    None."""
    if value is None:
        return ""
    if 0 < abs(value) < 0.005:
        return f"{value:.1g}"
    for limit, places in ((9.995, 2), (99.95, 1)):
        if abs(value) < limit:
            return f"{value:.{places}f}"
    return f"{value:.0f}"
