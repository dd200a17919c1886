# ruff: noqa: RUF009 -- setting() makes a dataclass field
"""How it is sent, and for how long."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from latency_profile.settings import kinds
from latency_profile.settings.kinds import BOOLEAN, COUNT, RATE, SECONDS
from latency_profile.settings.rows import setting

Arrival = Literal["poisson", "gamma", "constant"]

_ARRIVALS: tuple[Arrival, ...] = get_args(Arrival)


@dataclass(frozen=True, kw_only=True)
class Load:
    request_rate: float = setting(
        RATE,
        math.inf,
        "Number of requests per second. If this is inf, then all the requests are sent at time 0. Otherwise, we use "
        "Poisson process to synthesize the request arrival times.",
        unit="requests/s",
    )
    request_rates: tuple[float, ...] = setting(
        kinds.listed(RATE, 'numbers above 0 (or "inf"), separated by commas'),
        (),
        "Comma-separated list of request rates: one point for each.",
        unit="requests/s",
    )
    adaptive_rates: int | None = setting(
        kinds.whole(3),
        None,
        "So many points from LOW to HIGH of --request-rates LOW,HIGH in place of a list, placed where the curve bends: "
        "first where throughput goes flat, then where TTFT (E2E unless streamed) and throughput are likely to be "
        "farthest from straight lines.",
    )
    find_capacity: bool = setting(
        BOOLEAN,
        False,
        "Search for the highest rate that keeps all objectives of --slo, with an interval, from --request-rate up to "
        "--max-rate; or for the highest concurrency, from LOW to HIGH of --concurrencies LOW,HIGH. Doubled until one "
        "breaks, then where a point teaches most. Each point is as long as it takes to tell, and stays in the profile. "
        "Exit code 4 where the search does not come to an interval.",
    )
    capacity_precision: float = setting(
        kinds.share("a share above 0 and below 1, such as 6% or 0.06"),
        0.06,
        "How wide the interval of --find-capacity may be, as a share of the capacity. Half of it takes four times as "
        "many requests. Two neighbouring concurrencies are always narrow enough.",
    )
    max_rate: float | None = setting(
        kinds.number(above=0),
        None,
        "The highest rate that --find-capacity may send at.",
        unit="requests/s",
    )
    max_duration: float = setting(
        kinds.number(above=0),
        3600.0,
        "How long --find-capacity may send, all its points together.",
        unit="s",
    )
    concurrencies: tuple[int, ...] = setting(
        kinds.listed(COUNT, "whole numbers of 1 or more, separated by commas"),
        (),
        "Comma-separated list of concurrencies: a closed loop, one point for each, in place of rates.",
    )
    benchmark_time_seconds: float | None = setting(
        kinds.number(above=0),
        None,
        "Length of each point; the number of requests follows from its rate. Without it, and at an unlimited rate, "
        "--num-prompts bounds a point; concurrencies end with whichever comes first.",
        unit="s",
    )
    until_ci: float | None = setting(
        kinds.share("a share above 0 and below 1, such as 5% or 0.05"),
        None,
        "Stop sending at each point as soon as p50, p95 and p99 of response TTFT (streaming) and E2E (service in a "
        "closed loop) are known to that: with 95 % confidence for all together, whole intervals within that share of "
        "the value. Needs --benchmark-time-seconds, which each point takes at most.",
    )
    warmup_seconds: float = setting(SECONDS, 0.0, "Start of each point that is not measured.", unit="s")
    find_warmup: bool = setting(
        BOOLEAN,
        True,
        "Leave out also what is found to be a warm-up after --warmup-seconds; --no-find-warmup measures it.",
    )
    cooldown_seconds: float = setting(SECONDS, 0.0, "End of each point that is not measured.", unit="s")
    sleep_seconds: float = setting(SECONDS, 0.0, "Pause between points.", unit="s", script="SLEEP_TIME")
    arrival: Arrival = setting(
        kinds.choice(_ARRIVALS),
        "poisson",
        "Law of the times between arrivals. gamma takes its shape from --burstiness.",
    )
    burstiness: float = setting(
        kinds.number(above=0),
        1.0,
        "Shape of gamma arrivals: below 1 burstier than Poisson, above 1 steadier. Selects --arrival gamma.",
    )
    workers: int = setting(kinds.whole(0), 0, "Sending processes; 0 lets the rate and the number of cores decide.")
    shards: int = setting(
        COUNT,
        1,
        "Pods (or processes of this command) that measure together: each sends its slice of the one plan, they meet "
        "through the results' store, and shard 0 merges their records and judges the whole. Needs --run-id.",
    )
    shard_index: int | None = setting(
        kinds.whole(0),
        None,
        "Which of --shards this one is, from 0 on. JOB_COMPLETION_INDEX where it is not given, as an Indexed Job sets.",
    )
    shard_timeout: float = setting(
        kinds.number(above=0),
        300.0,
        "How long shard 0 waits for the others before the first point, and for their records after each; then it goes "
        "on without those that are missing, and says so. The others wait three times as long for shard 0.",
        unit="s",
    )
    reset_cache: bool = setting(
        BOOLEAN, False, "Have every server drop its prefix cache before each point, by a door that it has for that."
    )
    calibrate: bool = setting(
        BOOLEAN,
        False,
        "Before the first point, measure this client: each point's plan for 10 s or less (and answers of its lengths) "
        "against a server of known timing inside this machine or pod. Results and verdicts have what was found. "
        "Nothing of it goes to the server under test.",
    )
    calibration_search: bool = setting(
        BOOLEAN,
        True,
        "With --calibrate, search the highest event rate that this client can stamp too: once for all points, in half "
        "a minute.",
    )
    calibration_cadence: tuple[float, ...] = setting(
        kinds.listed(kinds.number(minimum=0), "three numbers separated by commas: TTFT in ms, gap in ms, jitter"),
        (50.0, 10.0, 0.2),
        "Assumed cadence of the answers for --calibrate: time to the first token (ms), gap to each further one (ms), "
        "and the share by which each of these times varies, up or down.",
    )
    dry_run: bool = setting(BOOLEAN, False, "Print the plan and the first request, and send nothing.")
