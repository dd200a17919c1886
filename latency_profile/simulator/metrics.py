"""What every server's /metrics is made of: counts and histograms of the requests, and the Prometheus text form."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from latency_profile.simulator.job import Job, Stats
from latency_profile.simulator.log import Finish

_SECOND = 1e9


class Histogram:
    """Counts of values by upper bound (inclusive), and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count


def token_bounds(max_model_len: int) -> list[float]:
    """1, 2, 5, 10, 20, 50 … up to the greatest length (vLLM's build_1_2_5_buckets)."""
    bounds: list[float] = []
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power > max_model_len:
                return bounds
            bounds.append(float(factor * power))
        power *= 10


def labelled(labels: Mapping[str, str]) -> str:
    """`{a="b"}`, names in order; nothing where there are none."""
    pairs = ",".join(f'{key}="{escaped(text)}"' for key, text in sorted(labels.items()))
    return f"{{{pairs}}}" if pairs else ""


def escaped(text: str) -> str:
    """A label's value as the text form writes it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def heading(name: str, kind: str, text: str) -> tuple[str, str]:
    """The two comment lines of a metric."""
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def histogram_lines(name: str, histogram: Histogram, labels: Mapping[str, str]) -> Iterator[str]:
    """Buckets, count and sum, as prometheus_client writes them."""
    below = 0
    series = _bucket_series(name, tuple(histogram.bounds), tuple(labels.items()))
    for bucket, count in zip(series, histogram.counts, strict=True):
        below += count
        yield f"{bucket} {float(below)!r}"
    yield f"{name}_count{labelled(labels)} {float(below)!r}"
    yield f"{name}_sum{labelled(labels)} {float(histogram.total)!r}"


@lru_cache(maxsize=256)
def _bucket_series(name: str, bounds: tuple[float, ...], labels: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """Names and labels of all buckets: most of the text, and the answer to a scrape holds up whatever is due then."""
    every = [*(repr(float(bound)) for bound in bounds), "+Inf"]
    return tuple(f"{name}_bucket{labelled({**dict(labels), 'le': bound})}" for bound in every)


class Meter:
    """Fed by the server with the timing model's own times, so that scrapes are exact whatever the writes' delay.

    `histograms` holds what the server in question tells, by quantity: time_to_first_token, inter_token, per_token,
    e2e, queue, inference, prefill, decode (s); prompt, generation, max_tokens, computed (tokens); preemptions, answers.
    """

    def __init__(self, bounds: Mapping[str, Sequence[float]] | None = None) -> None:
        self.histograms = {quantity: Histogram(limits) for quantity, limits in (bounds or {}).items()}
        self._itl = self.histograms.get("inter_token")
        self.requests = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generation_tokens = 0
        self.prefill_s = 0.0
        self.decode_s = 0.0
        self.longest = 0  # tokens of a prompt and its answer
        self.finished = dict.fromkeys(("stop", "length", "abort", "error"), 0)

    def first(self, job: Job, due_ns: int, count: int) -> None:
        """The first event of a job is due."""
        self.prompt_tokens += job.prompt_tokens
        self.cached_tokens += job.cached_tokens
        self.generation_tokens += count
        self._observe("time_to_first_token", (due_ns - job.arrival_ns) / _SECOND)

    def next(self, gap_ns: int, count: int) -> None:
        """A later one is due, `gap_ns` after the one before it."""
        self.generation_tokens += count
        if self._itl is not None:
            self._itl.observe(gap_ns / _SECOND)

    def finish(self, job: Job, max_tokens: int, finish: Finish) -> None:
        """A job has all its tokens."""
        decode = (job.last_ns - job.first_ns) / _SECOND
        prefill = (job.first_ns - job.started_ns) / _SECOND
        self.requests += 1
        self.finished[finish.name.lower()] += 1
        self.prefill_s += prefill
        self.decode_s += decode
        self.longest = max(self.longest, job.prompt_tokens + job.output_tokens)
        for quantity, value in (
            ("prompt", job.prompt_tokens),
            ("generation", job.output_tokens),
            ("answers", 1),
            ("max_tokens", max_tokens),
            ("per_token", decode / max(1, job.output_tokens - 1)),
            ("e2e", (job.last_ns - job.arrival_ns) / _SECOND),
            ("queue", (job.started_ns - job.ready_ns) / _SECOND),
            ("inference", (job.last_ns - job.started_ns) / _SECOND),
            ("prefill", prefill),
            ("decode", decode),
            ("preemptions", job.preemptions),
            ("computed", job.prompt_tokens - job.cached_tokens),
        ):
            self._observe(quantity, value)

    def broken(self, finish: Finish) -> None:
        """A job was aborted or failed."""
        self.requests += 1
        self.finished[finish.name.lower()] += 1

    def render(self, stats: Stats) -> bytes:
        """The text exposition format; empty for a server without one."""
        return b"".join(line.encode() + b"\n" for line in self.lines(stats))

    def lines(self, stats: Stats) -> Iterator[str]:
        """The lines of the text."""
        return iter(())

    def _observe(self, quantity: str, value: float) -> None:
        histogram = self.histograms.get(quantity)
        if histogram is not None:
            histogram.observe(value)
