"""`{backend}_{stamp}_requests.csv`: a row a request."""

import csv
import io

import numpy as np
from numpy.typing import NDArray

from latency_profile.outcome import Status, TokenSource
from latency_profile.records import Records
from latency_profile.statistics import NS_PER_S

COLUMNS = (
    *("request", "status", "http_status", "retries", "sent_s", "ttft_s", "tpot_s", "e2e_s"),
    *("input_tokens", "server_input_tokens", "output_tokens", "tokens_counted_by"),
)


def requests_table(records: Records) -> bytes:
    """CSV of COLUMNS, in the order of the plan. Times in s: `sent_s` since the point's start, TTFT, TPOT and E2E as the
    point has them (service, of succeeded requests; TTFT and TPOT of streamed answers); a cell is empty where there is
    no such number."""
    good = records["status"] == Status.OK
    sent, first, output = records["sent_ns"], records["first_token_ns"], records["output_tokens"]
    streamed = good & (first >= 0) & records.context.streaming
    columns = [
        [str(index) for index in records["index"].tolist()],
        [Status(status).name for status in records["status"].tolist()],
        _cells(records["http_status"], records["http_status"] > 0),
        _cells(records["retries"], records["retries"] >= 0),
        _seconds(sent, sent >= 0),
        _seconds(first - sent, streamed),
        _seconds((records["last_token_ns"] - first) / np.maximum(output - 1, 1), streamed & (output >= 2)),
        _seconds(records["end_ns"] - sent, good),
        _cells(records["input_tokens"], records["input_tokens"] >= 0),
        _cells(records["server_input_tokens"], records["server_input_tokens"] >= 0),
        _cells(output, output >= 0),
        [TokenSource(source).name.lower() for source in records["token_source"].tolist()],
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


def _cells(values: NDArray[np.generic], there: NDArray[np.bool_]) -> list[str]:
    return [str(value) if known else "" for value, known in zip(values.tolist(), there.tolist(), strict=True)]


def _seconds(values_ns: NDArray[np.generic], there: NDArray[np.bool_]) -> list[str]:
    pairs = zip(values_ns.tolist(), there.tolist(), strict=True)
    return [f"{value / NS_PER_S:.9f}" if known else "" for value, known in pairs]
