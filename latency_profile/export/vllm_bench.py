"""A point as the JSON of `vllm bench serve --save-result`, by the definitions of vLLM's benchmarks (0.32). Pure.

Theirs, where they differ from ours: all requests of the run count, its warm-up too; E2E ends at the last event with
output, not at the answer's last byte; goodput counts from sent; a peak is of whole seconds since the first request, and
counts events. Keys that nobody measured are left out: generated_texts, queue_times, and without a stream TTFT, TPOT and
ITL, which vLLM would give as 0. So are statistics of nothing.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.export.points import ExportPoint
from latency_profile.measures import Rows
from latency_profile.records import PointContext, Records, Status
from latency_profile.results.point import arrival_process
from latency_profile.statistics import NS_PER_S, quantile, summarize

PERCENTILES = (50, 90, 95, 99)  # of --metric-percentiles
MS_PER_S = 1000.0
_CLIENTS = {"completions": "openai", "chat": "openai-chat"}  # vLLM's name of its client for such a door

Seconds = NDArray[np.float64]


def vllm_bench(records: Records, point: ExportPoint, detailed: bool) -> dict[str, Any]:
    """Raises ValueError where an answer's length is not known, which every figure of tokens takes."""
    context = records.context
    rows = measures.all_rows(records) if point.model is None else measures.rows_of_model(records, point.model)
    run = _Run(records, rows)
    return {**_head(context, point), **run.result(), **(run.details() if detailed else {})}


def _head(context: PointContext, point: ExportPoint) -> dict[str, Any]:
    client = _CLIENTS.get(context.endpoint, context.backend)
    ended = datetime.fromtimestamp((context.started_ns + context.measured_ns) / NS_PER_S, UTC)
    head: dict[str, Any] = {
        "date": f"{ended:%Y%m%d-%H%M%S}",
        "endpoint_type": client,
        "backend": client,
        "label": context.settings.get("file_prefix"),
        "model_id": point.head.config.model,
        "tokenizer_id": context.tokenizer,
        "num_prompts": point.at("metrics", "num_prompts_attempted"),
        # As vLLM's --metadata has them: text, at this place.
        "verdict": point.head.verdict.verdict,
        "verdict_reasons": " ".join(point.reasons),
        "request_rate": "inf" if context.request_rate is None else context.request_rate,
    }
    process = arrival_process(context)
    if process in ("poisson", "gamma"):
        head["burstiness"] = context.settings.get("burstiness", 1.0)
    return head | {"max_concurrency": context.concurrency}


class _Run:
    """The requests that were sent, in the order of the plan: arrays of shape (requests,), times in ns."""

    def __init__(self, records: Records, rows: Rows) -> None:
        self._records = records
        self._chosen = np.flatnonzero(rows & (records["status"] != Status.NOT_SENT))
        sent, end = self._of("sent_ns"), self._of("end_ns")
        self._good = self._of("status") == Status.OK
        self._good_rows = measures.succeeded(records, rows)  # of all records
        # One that found no connection was never sent: it began, at the latest, when it failed.
        self._sent = np.where(sent >= 0, sent, end)
        self._last = self._of("last_token_ns") if records.context.streaming else end
        theirs = self._of("server_input_tokens").astype(np.int64)
        self._inputs = np.where(theirs >= 0, theirs, self._of("input_tokens"))
        self._outputs = np.where(self._good, self._of("output_tokens"), 0)
        if (self._outputs < 0).any():
            raise ValueError("how long some of its answers are is not known, and vllm-bench has the length of each")

    def _of(self, column: str) -> NDArray[Any]:
        return self._records[column][self._chosen]

    def result(self) -> dict[str, Any]:
        context, good = self._records.context, self._good
        inputs, outputs = int(self._inputs[good].sum()), int(self._outputs.sum())
        e2e = _seconds(self._last - self._sent)[good]
        ttft = self._ttft()
        several = good & (self._outputs > 1)
        tpot = (_seconds(self._last - self._sent) - ttft)[several] / (self._outputs[several] - 1)
        duration = context.measured_ns / NS_PER_S
        found: dict[str, Any] = {
            "duration": duration,
            "completed": int(good.sum()),
            "failed": int((~good).sum()),
            "total_input_tokens": inputs,
            "total_output_tokens": outputs,
        }
        if duration > 0:
            found |= {
                "request_throughput": len(e2e) / duration,
                "request_goodput": self._kept(ttft[good], e2e, duration),
                "output_throughput": outputs / duration,
                "total_token_throughput": (inputs + outputs) / duration,
            }
        found["latencies"] = np.where(good, _seconds(self._last - self._sent), 0.0).tolist()  # without details too
        found |= self._peaks()
        found["rtfx"] = 0.0  # of audio, which there is none of
        if context.streaming:
            gaps = _seconds(measures.gaps(self._records, self._good_rows).values)
            found |= _statistics("ttft", ttft[good]) | _statistics("tpot", tpot) | _statistics("itl", gaps)
        return found | _statistics("e2el", e2e)

    def details(self) -> dict[str, Any]:
        """Each request's own figures."""
        context, statuses = self._records.context, self._of("status").tolist()
        found: dict[str, Any] = {
            "input_lens": self._inputs.tolist(),
            "output_lens": self._outputs.tolist(),
            "start_times": _seconds(context.started_monotonic_ns + self._sent).tolist(),
            "errors": ["" if status == Status.OK else Status(status).name for status in statuses],
        }
        if context.streaming:
            edges, times = self._records.event_start, self._records.event_ns
            events = (times[edges[row] : edges[row + 1]] for row in self._chosen.tolist())
            found |= {"ttfts": self._ttft().tolist(), "itls": [_seconds(np.diff(each)).tolist() for each in events]}
        return found

    def _ttft(self) -> Seconds:
        """In s; 0 where no token came."""
        first = self._of("first_token_ns")
        return _seconds(np.where(first >= 0, first - self._sent, 0))

    def _kept(self, ttft: Seconds, e2e: Seconds, duration: float) -> float | None:
        """Requests a second that keep the objectives, from sent; None without objectives."""
        objectives: dict[str, float] = self._records.context.settings.get("goodput") or {}
        if not objectives:
            return None
        outputs = self._outputs[self._good]
        took = {"ttft": ttft, "e2e": e2e, "tpot": np.where(outputs > 1, (e2e - ttft) / np.maximum(outputs - 1, 1), 0.0)}
        kept = np.ones(len(e2e), dtype=np.bool_)
        for name, limit_ms in objectives.items():
            kept &= took[name] <= limit_ms / MS_PER_S
        return int(kept.sum()) / duration

    def _peaks(self) -> dict[str, Any]:
        """Most events within a second, and most requests that any part of a second found in flight."""
        good = self._good
        if not good.any():
            return {}
        begin = int(self._sent[good].min())
        edges = np.zeros(int((self._last[good].max() - begin) // NS_PER_S) + 2, dtype=np.int64)
        np.add.at(edges, ((self._sent[good] - begin) // NS_PER_S).astype(np.int64), 1)
        np.add.at(edges, ((self._last[good] - begin) // NS_PER_S).astype(np.int64) + 1, -1)
        found: dict[str, Any] = {"max_concurrent_requests": int(np.cumsum(edges).max())}
        if self._records.context.streaming:
            times = self._records.event_ns[np.repeat(self._good_rows, np.diff(self._records.event_start))]
            found["max_output_tokens_per_s"] = float(np.bincount(((times - begin) // NS_PER_S).astype(np.int64)).max())
        return found


def _seconds(times_ns: NDArray[Any]) -> Seconds:
    return np.asarray(times_ns / NS_PER_S)


def _statistics(name: str, values: Seconds) -> dict[str, float]:
    """Mean, median, population's standard deviation and linear percentiles, in ms; nothing of nothing."""
    if not len(values):
        return {}
    found = summarize(values)
    summary = {"mean": found.mean, "median": found.median, "std": found.sd}
    percentiles = {f"p{level}": quantile(np.sort(values), level / 100) for level in PERCENTILES}
    return {
        f"{what}_{name}_ms": value * MS_PER_S for what, value in (summary | percentiles).items() if value is not None
    }
