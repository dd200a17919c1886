"""What each server calls each quantity, for people: `python -m latency_profile.telemetry.table` prints
docs/server-metrics.md."""

import sys
from collections.abc import Iterator, Sequence

from latency_profile.telemetry.vocabulary import METRICS, PORTS, Metric, Quantity, Sample

PREAMBLE = """\
# Server metrics

Made by `python -m latency_profile.telemetry.table`; a test holds it against the code.

With `--scrape-server-metrics` each point has the server's view beside the client's: `metrics.server_metrics` and
`summary_stats.stats[0].model_server_metrics` under the server's own names, and `server.readings` in the vocabulary
below, where times are seconds and shares 0 to 1.

- **Directly**: `/metrics` of every `--url`, or `--metrics-urls`, of which every address that the host name has is a
  replica (a headless Service names all pods). Read just before the point's first request, once a second, and after
  its last answer until the server says that nothing runs. Increases of counters and histograms are exact, per
  replica and summed. A restart, a replica that comes or leaves, and several processes behind one balancing address
  are named; what they make uncertain is a lower bound (`at_least`) or left out (`unlike`), never 0.
- **By a Prometheus** (`--prometheus-url`) or Google Managed Prometheus (where its credentials are found;
  `--pm-project`, `--pm-cluster`, `--pm-namespace`, `--pm-job`): the last sample before the point against the first
  one after it.

Not seen: what Triton does for other models, whose series are left out, since its labels do not tell them from parts of
this one.

`server.reconciliation` holds both views against each other. Requests and tokens must agree exactly; quantiles must
lie in the histogram's bucket, give or take `tolerance_s`. What differs has its likeliest cause:

| cause | meaning |
|---|---|
| `OTHER_TRAFFIC` | the server did more than this client asked for; beyond 1 % the point is CONTAMINATED |
| `RETRIES` | it saw more requests, but no more tokens: something in between sends again |
| `ROUTER` | it did less: other processes answered, whose metrics were not read |
| `SEVERAL_TOKENS_AN_EVENT` | tokens came together: the client's ITL is of events |
| `OUTSIDE` | the time is spent outside of what the server measures: network, gateway, HTTP |
| `WRONG_WINDOW` | what the server measured is not these requests, or not only |
| `OTHER_MODEL` | the metrics are of another model than the requests; vLLM counts adapters, and a model's second \
names, under its first |
| `OTHER_COUNT` | the server counts tokens otherwise than its answers say |

"""


def markdown() -> str:
    """The whole page."""
    lines = ["| quantity | kind | " + " | ".join(f"`{backend}`" for backend in METRICS) + " |"]
    lines.append("|---" * (2 + len(METRICS)) + "|")
    lines += [_row(quantity) for quantity in Quantity]
    ports = ", ".join(f"{port} for `{backend}`" for backend, port in PORTS.items())
    after = (
        "\nOf several names the newest comes first; the first that a server has is taken. Metrics are at port "
        f"{ports}.\n`--backend=openai` finds out by the names whose metrics it has met. `sax` and "
        "`naive_transformers` have none.\n"
    )
    return PREAMBLE + "\n".join(lines) + "\n" + after


def _row(quantity: Quantity) -> str:
    found = {backend: [metric for metric in known if metric.quantity is quantity] for backend, known in METRICS.items()}
    kinds = sorted({metric.kind for metrics in found.values() for metric in metrics})
    cells = ["<br>".join(_names(metrics)) for metrics in found.values()]
    return f"| {quantity.value} | {', '.join(kinds)} | {' | '.join(cells)} |"


def _names(metrics: Sequence[Metric]) -> Iterator[str]:
    for metric in metrics:
        for way in metric.ways:
            yield " + ".join(f"`{_name(sample)}`" for sample in way)


def _name(sample: Sample) -> str:
    labels = ",".join(f'{key}="{text}"' for key, text in sample.labels.items())
    name = f"{sample.name}{{{labels}}}" if labels else sample.name
    return f"1 - {name}" if sample.complement else name


if __name__ == "__main__":
    sys.stdout.write(markdown())
