"""`latency-profile replicas`: how many replicas a target load takes."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from latency_profile import results
from latency_profile.capacity.structure import Of
from latency_profile.command_flags import CommandFlags, read
from latency_profile.errors import Exit, StorageError, UsageError
from latency_profile.local_path import local_path
from latency_profile.replicas.evidence import judged_by_run
from latency_profile.replicas.plan import Target, plan
from latency_profile.replicas.points import ReplicaPoint, kind_of, objectives_of, points_at, searches_beside
from latency_profile.replicas.text import lines
from latency_profile.results.fetched import at_hand
from latency_profile.settings import kinds
from latency_profile.slo.grammar import STREAMED, Objective, parse

HEADROOM = 0.2
STDOUT = "-"

_RATE = kinds.number(minimum=1e-6, maximum=1e12)
_SHARE = kinds.number(minimum=0, maximum=1000)
_OBJECTIVES = kinds.load_objectives()
_USAGE = (
    "latency-profile replicas RESULTS … --target-rate REQ_PER_S|--target-concurrency N [--slo OBJECTIVES] "
    "[--headroom SHARE] [--measured-replicas N] [--machine-cost USD_PER_HOUR] [--json PATH|-]"
)
_DESCRIPTION = """\
How many replicas of what was measured a target load takes, so that each keeps the objectives, and what they cost. Where
a profile searched for the capacity (--find-capacity) by the same objectives, one replica is known to carry the lower
end of its interval. Else it is the highest load at which a usable point keeps all of them by its interval, no lower one
breaking them; nothing is extrapolated beyond it. RESULTS are points' JSON, profiles' JSON, records, and folders of
these, here or in a bucket (gs://bucket/folder), of one server and one workload: at request rates, or of a closed loop
(--concurrencies), which takes --target-concurrency. Where there are both, those at rates count. Objectives other than
those of the run are judged from the records beside the results, or where there are none from the intervals in them.
Exit code 4 where no measured load is known to keep the objectives."""


def command(arguments: Sequence[str]) -> Exit:
    """Prints the plan, and writes it as JSON with --json. Raises UsageError, ServerUnavailable for a bucket that cannot
    be read, and StorageError where it cannot write."""
    given = _parser().parse_intermixed_args(arguments)
    target = _target(given)
    headroom = read("--headroom", _SHARE, given.headroom)
    replicas = read("--measured-replicas", kinds.COUNT, given.measured_replicas)
    price = None if given.machine_cost is None else read("--machine-cost", kinds.PRICE, given.machine_cost)
    asked = None if given.slo is None else [parse(name) for name in read("--slo", _OBJECTIVES, given.slo)]
    if given.json == "":
        raise UsageError("--json: got '', takes a file, or - for the output")
    with at_hand(given.places) as here:
        here.with_profiles()
        points = points_at(here.places, here.named)
        objectives = _objectives(points) if asked is None else asked
        _check(points, objectives, target, price)
        if any(judged_by_run(point.result, objectives) is None for point in points):
            here.with_records()
        found = plan(points, objectives, target, headroom, replicas, price, searches_beside(points, here.named))
    data = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
    with suppress(BrokenPipeError):  # whoever read our output has gone; the file is still owed
        if given.json == STDOUT:
            sys.stdout.write(data.decode())
            sys.stdout.flush()
        else:
            print("\n".join(lines(found)), flush=True)
    if given.json not in (None, STDOUT):
        _write(local_path(given.json, "--json: "), data)
    return Exit.UNUSABLE if found.sizing is None else Exit.DONE


def _target(given: argparse.Namespace) -> Target:
    if (given.target_rate is None) == (given.target_concurrency is None):
        got = "nothing" if given.target_rate is None else "it with --target-concurrency"
        raise UsageError(f"--target-rate: got {got}, takes one of --target-rate and --target-concurrency")
    if given.target_rate is not None:
        return Target(rate=read("--target-rate", _RATE, given.target_rate))
    return Target(in_flight=read("--target-concurrency", _RATE, given.target_concurrency))


def _objectives(points: Sequence[ReplicaPoint]) -> Sequence[Objective]:
    try:
        return objectives_of(points)
    except ValueError as error:
        raise UsageError(f"--slo: got nothing, takes {_OBJECTIVES.takes}: {error}") from None


def _check(
    points: Sequence[ReplicaPoint], objectives: Sequence[Objective], target: Target, price: float | None
) -> None:
    if target.rate is not None and kind_of(points) is Of.CONCURRENCY:
        got = ", ".join(dict.fromkeys(point.result.load_name for point in points))
        raise UsageError(
            f"--target-rate: got {target.rate:g}, takes points of request rates (--request-rates); these ({got}) are "
            "of a closed loop, which sends only as fast as it is answered, and arrivals at a rate queue longer: they "
            "take --target-concurrency"
        )
    streamed = [objective.name for objective in objectives if objective.metric in STREAMED]
    if streamed and not all(point.result.load.streaming for point in points):
        got = ", ".join(streamed)
        raise UsageError(f"--slo: got {got}, which takes points of streamed answers (--stream-request); these are not")
    prices = sorted({point.result.cost.machine_cost_per_hour_usd for point in points if point.result.cost})
    if price is None and len(prices) > 1:
        said = ", ".join(f"${each:g}" for each in prices)
        raise UsageError(
            f"--machine-cost: got nothing, takes {kinds.PRICE.takes}: the points' own prices differ ({said} an hour)"
        )


def _write(path: Path, data: bytes) -> None:
    try:
        print(results.write(path.parent, path.name, data))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def _parser() -> argparse.ArgumentParser:
    flags = CommandFlags(_USAGE, _DESCRIPTION, said_first="replicas: ")
    flags.add_argument(
        "places", nargs="+", metavar="RESULTS", help="points' or profiles' JSON, records, folders, or URLs"
    )
    flags.add_argument("--target-rate", metavar="REQ_PER_S", help="requests/s that all replicas together are to carry")
    flags.add_argument(
        "--target-concurrency",
        metavar="N",
        help="in place of a rate: requests in flight at all replicas together, as of N users who each wait for an "
        "answer and ask again; as they are by points of a closed loop (--concurrencies), by those at rates by Little's "
        "law, from their mean E2E",
    )
    flags.add_argument(
        "--slo", metavar='"METRIC:STAT<LIMIT, ..."', help="objectives, as of a profile (default: the points' own)"
    )
    flags.add_argument(
        "--headroom",
        default=str(HEADROOM),
        metavar="SHARE",
        help=f"share of the target that is added to it, 0 for none (default: {HEADROOM:g})",
    )
    flags.add_argument(
        "--measured-replicas",
        default="1",
        metavar="N",
        help="how many replicas served together when the points were measured, behind one URL or several (default: 1)",
    )
    flags.add_argument(
        "--machine-cost",
        metavar="USD_PER_HOUR",
        help="of all machines that served together when the points were measured (default: the points' own)",
    )
    flags.add_argument(
        "--json",
        metavar="PATH|-",
        help="the same as JSON: into a file (an existing one is left alone), or with - printed instead of the text",
    )
    return flags
