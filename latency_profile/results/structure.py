"""The structure of the results' files. The JSON Schemas in the package are made from it (`results.schema`)."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from latency_profile.calibration.structure import Calibration
from latency_profile.capacity.structure import Capacity
from latency_profile.client_health import ClientHealth
from latency_profile.cost import Cost, Work
from latency_profile.fingerprint import Fingerprint
from latency_profile.goodput import Goodput
from latency_profile.hardware.summary import Telemetry
from latency_profile.prefix_cache import PrefixCache
from latency_profile.results.server import Server, ServerMetrics, Stats
from latency_profile.results.tokens import Tokens
from latency_profile.shards.structure import Shards
from latency_profile.slo.structure import Outcome as SloOutcome
from latency_profile.slo.structure import ProfileSlo, Slo
from latency_profile.statistics import Distribution, Summary
from latency_profile.steady_state import Drift
from latency_profile.until_ci.result import UntilCi
from latency_profile.verdict import Verdict

SCHEMA_VERSION = "1.8"

Count = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Offered = Annotated[
    float | Literal["inf"], Meta(description="requests/s offered; 'inf' for an unlimited rate and a closed loop")
]
# The seven statistics of a flat metric, by the prefix of its key and the summary's field.
STATISTICS = {"avg": "mean", "median": "median", "sd": "sd", "min": "min", "max": "max", "p90": "p90", "p99": "p99"}
STREAMED = {
    "TTFT_ms": "sent to the first event that carries a token, ms",
    "ITL_ms": "gap between successive token-carrying events, pooled over requests, ms",
    "TPOT_ms": "(last token - first token) / (output tokens - 1), of requests of 2 tokens or more, ms",
}
FLAT = {
    "per_token_latency_ms": "E2E / (input + output tokens), ms",
    **STREAMED,
    "latency_ms": "E2E: sent to the answer's last byte, ms",
    "normalized_time_per_output_token_ms": "E2E / output tokens, ms",
    "input_len": "input tokens, by the profile's tokenizer",
    "output_len": "output tokens",
}
STREAMED_KEYS = [f"{prefix}_{name}" for name in STREAMED for prefix in STATISTICS]


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class PlainMetrics(_Whole, frozen=True, kw_only=True):
    """All requests of the point, warm-up included. Statistics of succeeded requests only; null where there are none."""

    num_prompts_attempted: Count
    num_prompts_succeeded: Count
    request_rate: Offered
    queries_per_second: Annotated[
        Rate | None, Meta(description="requests attempted / (last sent - start of the point); null: none was sent")
    ]
    server_metrics: ServerMetrics
    benchmark_time: Annotated[float, Meta(ge=0, description="from the point's start to its last answer, s")]
    throughput_rps: Annotated[Rate | None, Meta(description="requests succeeded / benchmark_time")]
    throughput: Annotated[Rate | None, Meta(description="output tokens / benchmark_time")]
    total_output_token: Count
    total_input_tokens: Annotated[int, Meta(ge=0, description="of succeeded requests")]
    input_tokens_per_sec: Rate | None
    total_tokens: Count
    tokens_per_sec: Rate | None
    ClientConnectorError: Annotated[int, Meta(ge=0, description="no connection, or no TLS")]
    TimeoutError: Annotated[int, Meta(ge=0, description="no whole answer in time, begun or not")]
    ContentTypeError: Annotated[int, Meta(ge=0, description="the answer was not in the server's protocol")]
    ClientOSError: Annotated[int, Meta(ge=0, description="the connection broke")]
    ServerDisconnectedError: Annotated[int, Meta(ge=0, description="the server closed before the answer's end")]
    unknown_error: Annotated[int, Meta(ge=0, description="all others; errors_by_kind tells them apart")]


if TYPE_CHECKING:
    Metrics = PlainMetrics
else:
    Metrics = msgspec.defstruct(
        "Metrics",
        [
            (
                f"{prefix}_{name}",
                Annotated[
                    (float | UnsetType | None) if name in STREAMED else (float | None), Meta(description=meaning)
                ],
                *([UNSET] if name in STREAMED else []),
            )
            for name, meaning in FLAT.items()
            for prefix in STATISTICS
        ],
        bases=(PlainMetrics,),
        namespace={"__doc__": PlainMetrics.__doc__},
        module=__name__,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )


class StartTime(_Whole, frozen=True, kw_only=True):
    """Wall clock, Unix time."""

    seconds: int
    nanos: Annotated[int, Meta(ge=0, lt=1_000_000_000)]


class Config(_Whole, frozen=True, kw_only=True):
    model: Annotated[str, Meta(description="'weighted' where the file covers all models of the point")]
    num_models: Annotated[int, Meta(ge=1)]
    model_server: str
    start_time: StartTime


class Mean(_Whole, frozen=True, kw_only=True):
    mean: float | None


class SummaryStat(_Whole, frozen=True, kw_only=True):
    request_rate: Offered
    request_latency: Annotated[Summary, Meta(description="E2E, ms")]
    throughput: Annotated[Mean, Meta(description="output tokens/s")]
    input_length: Annotated[Summary, Meta(description="tokens")]
    output_length: Annotated[Summary, Meta(description="tokens")]
    tpot: Annotated[Summary, Meta(description="E2E / output tokens (NTPOT), ms")]
    model_server_metrics: list[Annotated[Stats, Meta(extra_json_schema={"required": ["Name"]})]]


class SummaryStats(_Whole, frozen=True, kw_only=True):
    stats: Annotated[list[SummaryStat], Meta(min_length=1, max_length=1)]


class Drifts(_Whole, frozen=True, kw_only=True):
    """Of response latencies, or in a closed loop service ones, over all models.

    Null where fewer than 300 requests of the window tell of it, where its p50 is 0, and where two successive eighths of
    them arrived at one moment.
    """

    ttft: Annotated[Drift | None, Meta(description="null unless streamed")]
    e2e: Drift | None


class WindowBounds(_Whole, frozen=True, kw_only=True):
    """The measured window, s since the point's start."""

    start_s: float
    end_s: float
    requests: Annotated[int, Meta(ge=0, description="that were due in it (closed loop: sent in it)")]
    rates_start_s: Annotated[
        float,
        Meta(
            description="throughput, cost and completed_requests_per_s are counted from here to end_s: when 95 % of "
            "the first 20 requests (closed loop: its clients' first ones) had ended, or start_s where that is later. "
            "Before, an empty server's answers are only on their way. Not before end_s: there are no rates"
        ),
    ]
    warmup_found_s: Annotated[
        float | None, Meta(description="end of the warm-up that was found, which the window leaves out; null: none was")
    ]
    steady: Annotated[
        bool | None,
        Meta(
            description="false: a warm-up that takes more than half of the point, or a drift; null for a burst, and "
            "where no such warm-up was found and `drift` has nothing but nulls"
        ),
    ]
    drift: Annotated[Drifts | None, Meta(description="null for a burst")]


class Lateness(_Whole, frozen=True, kw_only=True):
    """Sent - due, over the window."""

    p50_s: float | None
    p99_s: float | None
    max_s: float | None


class RequestCounts(_Whole, frozen=True, kw_only=True):
    """All requests of the point: planned = succeeded + failed + unfinished + not_sent."""

    planned: Annotated[
        int,
        Meta(
            ge=0,
            description="of the plan; of a point that was cut short only what had come due by then; without what a "
            "missing shard had to send",
        ),
    ]
    attempted: Annotated[int, Meta(ge=0, description="all but not_sent")]
    sent: Count
    succeeded: Count
    failed: Count
    resent: Annotated[int, Meta(ge=0, description="found a dead pooled connection and went out again on a fresh one")]
    retried: Annotated[
        int, Meta(ge=0, description="of more than one attempt; their latencies and lateness count from the first one")
    ]
    retries: Annotated[int, Meta(ge=0, description="attempts after the first ones, of all requests together")]
    unfinished: Annotated[int, Meta(ge=0, description="still waiting when the point was cut short")]
    not_sent: Annotated[int, Meta(ge=0, description="due, but not sent when the point was cut short")]


class Load(_Whole, frozen=True, kw_only=True):
    """What was asked of the server. Rates are over the window."""

    arrival_process: Annotated[str, Meta(description="poisson, gamma, constant, burst or closed_loop")]
    streaming: bool
    concurrency: Annotated[int | None, Meta(description="requests kept in flight; null in open loop")]
    request_rate: Annotated[float | None, Meta(description="requests/s asked for; null: unlimited, or a closed loop")]
    offered_requests_per_s: Annotated[Rate | None, Meta(description="of the plan; null for a burst and a closed loop")]
    sent_requests_per_s: Annotated[Rate | None, Meta(description="of the client")]
    completed_requests_per_s: Annotated[Rate | None, Meta(description="of the server, whole answers only")]
    lateness: Annotated[Lateness | None, Meta(description="null in a closed loop")]
    counts: RequestCounts
    shards: Annotated[Shards | None, Meta(description="null where one process or pod measured all of it")]


class Throughput(_Whole, frozen=True, kw_only=True):
    """Of succeeded answers, received between window.rates_start_s and window.end_s, per second of that.

    _low and _high: the ends of the 95 % interval of the rate that would be found in the long run at this load, from how
    hundredths of that time differ. Null for a burst, and where nothing was received.
    """

    requests_per_s: Rate
    requests_per_s_low: Rate | None
    requests_per_s_high: Rate | None
    input_tokens_per_s: Rate
    input_tokens_per_s_low: Rate | None
    input_tokens_per_s_high: Rate | None
    output_tokens_per_s: Rate
    output_tokens_per_s_low: Rate | None
    output_tokens_per_s_high: Rate | None
    total_tokens_per_s: Rate
    total_tokens_per_s_low: Rate | None
    total_tokens_per_s_high: Rate | None


_VISIBLE = (
    "to the first token of the visible answer, behind reasoning and tool calls; answers of hidden tokens only have "
    "none (tokens.hidden_only). Null unless streamed, and where no answer began with hidden tokens: it would be ttft"
)


class Service(_Whole, frozen=True, kw_only=True):
    """From sent: what the server did."""

    ttft: Annotated[
        Distribution | None, Meta(description="to the first token, hidden or visible; null unless streamed")
    ]
    ttft_visible: Annotated[Distribution | None, Meta(description=_VISIBLE)]
    tpot: Annotated[Distribution | None, Meta(description="null unless streamed")]
    itl: Annotated[Distribution | None, Meta(description="null unless streamed; n counts gaps")]
    ntpot: Distribution
    e2e: Distribution


class Response(_Whole, frozen=True, kw_only=True):
    """From due: what a user waited, the client's lateness included."""

    ttft: Annotated[
        Distribution | None, Meta(description="to the first token, hidden or visible; null unless streamed")
    ]
    ttft_visible: Annotated[Distribution | None, Meta(description=_VISIBLE)]
    e2e: Distribution


class Latency(_Whole, frozen=True, kw_only=True):
    """Of requests that were due in the window, whenever they ended."""

    service: Service
    response: Annotated[Response | None, Meta(description="null in a closed loop, which has no due times")]


class Stalls(_Whole, frozen=True, kw_only=True):
    """The largest gap inside each streamed answer of the window that has one."""

    n: Count
    p50_s: float | None
    p99_s: float | None
    max_s: float | None
    limit_s: float
    share_above_limit: Annotated[Share | None, Meta(description="share of these answers with a gap over limit_s")]


class UrlResult(_Whole, frozen=True, kw_only=True):
    """The requests of the window that went to one URL."""

    url: str
    planned: Count
    succeeded: Count
    failed: Count
    errors_by_kind: Annotated[dict[str, Count], Meta(description="requests that did not succeed, by how they ended")]
    ttft: Annotated[Distribution | None, Meta(description="service; null unless streamed")]
    e2e: Annotated[Distribution, Meta(description="service")]
    output_tokens_per_s: Annotated[
        Rate | None, Meta(description="received inside the window; null where that has no length")
    ]


class PointResult(_Whole, frozen=True, kw_only=True):
    """One point, of one model or all. metrics and summary_stats cover all its requests, in ms; the rest is in s."""

    metrics: Metrics
    dimensions: Annotated[
        dict[str, str],
        Meta(
            description="the user's metadata among them",
            extra_json_schema={"required": ["date", "backend", "model_id", "tokenizer_id"]},
        ),
    ]
    config: Config
    summary_stats: SummaryStats
    schema_version: Annotated[str, Meta(pattern=r"^1\.\d+$")]
    verdict: Verdict
    window: WindowBounds
    load: Load
    throughput: Annotated[Throughput | None, Meta(description="null where the window has no length")]
    goodput: Annotated[Goodput | None, Meta(description="null without objectives (--goodput)")]
    slo: Annotated[Slo | None, Meta(description="null without objectives (--slo)")]
    latency: Latency
    stalls: Annotated[Stalls | None, Meta(description="null unless streamed")]
    tokens: Tokens
    errors_by_kind: Annotated[dict[str, Count], Meta(description="requests that did not succeed, by how they ended")]
    by_url: Annotated[
        list[UrlResult] | None, Meta(description="where requests went to several URLs in turn; null with one URL")
    ]
    work: Annotated[
        Work | None,
        Meta(
            description="what the cost's splits are computed from; null for one of several models, whose machine time "
            "is not told apart, where an answer's length is not known, and where a request is several sequences"
        ),
    ]
    cost: Annotated[Cost | None, Meta(description="null without a price")]
    server: Server
    cache: Annotated[
        PrefixCache | None,
        Meta(description="null where the server says nothing of its prefix cache and no prefix was to be shared"),
    ]
    client: ClientHealth
    telemetry: Annotated[Telemetry | None, Meta(description="null without --scrape-server-metrics")]
    calibration: Annotated[
        Calibration | None,
        Meta(description="the client under this point's load against a server of known timing; null unless asked for"),
    ]
    provenance: Annotated[dict[str, Any], Meta(description="what ran, where, and with which settings")]
    fingerprint: Fingerprint
    cut_short: Annotated[
        str | None,
        Meta(description="what ended the point before its time: SIGINT, SIGTERM, the loss of its client; else null"),
    ]
    until_ci: Annotated[UntilCi | None, Meta(description="null without --until-ci")]


class ProfilePoint(_Whole, frozen=True, kw_only=True):
    """A point's key figures, over its measured window."""

    request_rate: Annotated[float | None, Meta(description="requests/s asked for; null: unlimited, or a closed loop")]
    concurrency: int | None
    verdict: Verdict
    offered_requests_per_s: Rate | None
    completed_requests_per_s: Rate | None
    output_tokens_per_s: Rate | None
    ttft: Annotated[
        Distribution | None, Meta(description="response, or in a closed loop service; null unless streamed")
    ]
    tpot: Annotated[Distribution | None, Meta(description="null unless streamed")]
    e2e: Annotated[Distribution, Meta(description="response, or in a closed loop service")]
    cost: Cost | None
    slo: Annotated[
        SloOutcome | None,
        Meta(description="kept, broken or unresolved, all objectives together; null without any, and where not judged"),
    ]
    cut_short: str | None
    files: Annotated[list[str], Meta(description="names of the point's files")]


class Profile(_Whole, frozen=True, kw_only=True):
    """One profile: its points in the order in which they ran."""

    schema_version: Annotated[str, Meta(pattern=r"^1\.\d+$")]
    date: Annotated[str, Meta(description="of the first point, YYYYmmdd-HHMMSS, UTC")]
    backend: str
    endpoint: str
    urls: Annotated[list[str], Meta(description="where requests went, in turn")]
    models: list[str]
    tokenizer: str
    fingerprint: Fingerprint
    exit_code: Annotated[int, Meta(ge=0, description="what the points' verdicts and objectives make of it")]
    slo: Annotated[ProfileSlo | None, Meta(description="null without objectives (--slo)")]
    capacity: Annotated[Capacity | None, Meta(description="null without --find-capacity")]
    points: list[ProfilePoint]
