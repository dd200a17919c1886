"""Each request of a point as a row: what its record has, in s and in words. Pure."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.measures import Rows
from latency_profile.records import NONE, EventSource, Flag, Records, Status, TokenSource
from latency_profile.statistics import NS_PER_S

Kind = Literal["text", "integer", "number", "flag"]

_PLAIN_TIMES = ("due", "sent", "send", "first_token", "first_early", "first_visible", "last_token", "end")
_SERVER_TIMES = ("server_queue", "server_prefill", "server_decode", "server_total")
_COUNTS = (
    *("input_tokens", "wanted_tokens", "server_input_tokens", "cached_tokens", "output_tokens"),
    *("event_output_tokens", "text_tokens"),
)


@dataclass(frozen=True, slots=True)
class RequestColumn:
    """A figure of each request, shape (requests,)."""

    name: str
    kind: Kind
    values: NDArray[Any]
    there: Rows  # the others have no such figure


def request_columns(records: Records) -> list[RequestColumn]:
    """Times in s: `due` to `end` since the point's start. Latencies as the point has them, of succeeded requests: TTFT,
    TPOT, E2E and NTPOT are service ones, from sent; TTFT and TPOT of streamed answers. `in_window`: whether the point's
    latencies are of it."""
    context = records.context
    everywhere = measures.all_rows(records)
    good = records["status"] == Status.OK
    due, sent, first, end = (records[f"{name}_ns"] for name in ("due", "sent", "first_token", "end"))
    output = records["output_tokens"]
    streamed = good & (first >= 0) & context.streaming
    on_time = good & (due >= 0)

    def text(name: str, values: list[str]) -> RequestColumn:
        return RequestColumn(name, "text", np.array(values, dtype=object), everywhere)

    def integer(name: str, values: NDArray[Any], there: Rows = everywhere) -> RequestColumn:
        return RequestColumn(name, "integer", values.astype(np.int64), there)

    def seconds(name: str, values_ns: NDArray[Any], there: Rows) -> RequestColumn:
        return RequestColumn(f"{name}_s", "number", values_ns / NS_PER_S, there)

    def time(name: str) -> RequestColumn:
        return seconds(name, records[f"{name}_ns"], records[f"{name}_ns"] != NONE)

    def flag(name: str, values: Rows) -> RequestColumn:
        return RequestColumn(name, "flag", values, everywhere)

    def happened(of: Flag) -> RequestColumn:
        assert of.name is not None
        return flag(of.name.lower(), (records["flags"] & of) != 0)

    return [
        integer("request", records["index"]),
        text("model", [context.models[model] for model in records["model"].tolist()]),
        text("url", [context.urls[url] for url in records["url"].tolist()]),
        integer("worker", records["worker"]),
        text("status", [Status(status).name for status in records["status"].tolist()]),
        integer("http_status", records["http_status"], records["http_status"] > 0),
        integer("retries", records["retries"]),
        flag("in_window", measures.window(records).rows),
        *map(time, _PLAIN_TIMES),
        seconds("lateness", sent - due, (sent >= 0) & (due >= 0)),
        seconds("ttft", first - sent, streamed),
        seconds("tpot", (records["last_token_ns"] - first) / np.maximum(output - 1, 1), streamed & (output >= 2)),
        seconds("e2e", end - sent, good),
        seconds("ntpot", (end - sent) / np.maximum(output, 1), good & (output > 0)),
        seconds("response_ttft", first - due, streamed & on_time),
        seconds("response_e2e", end - due, on_time),
        *(integer(name, records[name], records[name] != NONE) for name in _COUNTS),
        text("tokens_counted_by", [TokenSource(source).name.lower() for source in records["token_source"].tolist()]),
        text("events_counted_by", [EventSource(source).name.lower() for source in records["event_source"].tolist()]),
        *map(happened, Flag),
        time("read_delay"),
        integer("merged_events", records["merged_events"]),
        integer("answer_bytes", records["answer_bytes"]),
        *map(time, _SERVER_TIMES),
    ]
