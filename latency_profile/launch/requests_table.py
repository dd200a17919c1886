"""`{backend}_{stamp}_requests.csv`: a row a request."""

import csv
import io

from latency_profile.records import Records
from latency_profile.results.requests import RequestColumn, request_columns

COLUMNS = (
    *("request", "status", "http_status", "retries", "sent_s", "ttft_s", "tpot_s", "e2e_s"),
    *("input_tokens", "server_input_tokens", "output_tokens", "tokens_counted_by"),
)


def requests_table(records: Records) -> bytes:
    """CSV of COLUMNS, in the order of the plan, as `results.requests` has them; a cell is empty where there is no such
    number."""
    columns = {column.name: column for column in request_columns(records)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(*(_cells(columns[name]) for name in COLUMNS), strict=True))
    return text.getvalue().encode()


def _cells(column: RequestColumn) -> list[str]:
    pairs = zip(column.values.tolist(), column.there.tolist(), strict=True)
    form = "{:.9f}" if column.kind == "number" else "{}"
    return [form.format(value) if known else "" for value, known in pairs]
