"""`latency-profile replicas`: how many replicas a target load takes."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from latency_profile import results
from latency_profile.command_flags import CommandFlags, read
from latency_profile.errors import Exit, StorageError, UsageError
from latency_profile.replicas.plan import plan
from latency_profile.replicas.points import ReplicaPoint, objectives_of, points_at
from latency_profile.replicas.text import lines
from latency_profile.settings import kinds
from latency_profile.slo.grammar import STREAMED, Objective, parse

HEADROOM = 0.2
STDOUT = "-"

_RATE = kinds.number(above=0)
_SHARE = kinds.number(minimum=0)
_OBJECTIVES = kinds.load_objectives()
_USAGE = (
    "latency-profile replicas RESULTS … --target-rate REQ_PER_S [--slo OBJECTIVES] [--headroom SHARE] "
    "[--measured-replicas N] [--machine-cost USD_PER_HOUR] [--json PATH|-]"
)
_DESCRIPTION = """\
How many replicas of what was measured a target load takes, so that each keeps the objectives, and what they cost. One
replica is known to carry the highest rate at which a usable point keeps all of them by its interval, no lower rate
breaking them; nothing is extrapolated beyond it. RESULTS are points' JSON, profiles' JSON, records, and folders of
these, of one server and one workload, at request rates. Objectives other than those of the run are judged from the
records beside the results, or where there are none from the intervals in them. Exit code 4 where no measured rate is
known to keep the objectives."""


def command(arguments: Sequence[str]) -> Exit:
    """Prints the plan, and writes it as JSON with --json. Raises UsageError, and StorageError where it cannot write."""
    given = _parser().parse_intermixed_args(arguments)
    target = read("--target-rate", _RATE, given.target_rate)
    headroom = read("--headroom", _SHARE, given.headroom)
    replicas = read("--measured-replicas", kinds.COUNT, given.measured_replicas)
    price = None if given.machine_cost is None else read("--machine-cost", kinds.PRICE, given.machine_cost)
    asked = None if given.slo is None else [parse(name) for name in read("--slo", _OBJECTIVES, given.slo)]
    if given.json == "":
        raise UsageError("--json: got '', takes a file, or - for the output")
    points = points_at(given.places)
    objectives = _objectives(points) if asked is None else asked
    _check(points, objectives, price)
    found = plan(points, objectives, target, headroom, replicas, price)
    data = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
    with suppress(BrokenPipeError):  # whoever read our output has gone; the file is still owed
        if given.json == STDOUT:
            sys.stdout.write(data.decode())
            sys.stdout.flush()
        else:
            print("\n".join(lines(found)), flush=True)
    if given.json not in (None, STDOUT):
        _write(Path(given.json).expanduser(), data)
    return Exit.UNUSABLE if found.sizing is None else Exit.DONE


def _objectives(points: Sequence[ReplicaPoint]) -> Sequence[Objective]:
    try:
        return objectives_of(points)
    except ValueError as error:
        raise UsageError(f"--slo: got nothing, takes {_OBJECTIVES.takes}: {error}") from None


def _check(points: Sequence[ReplicaPoint], objectives: Sequence[Objective], price: float | None) -> None:
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
    flags.add_argument("places", nargs="+", metavar="RESULTS", help="points' or profiles' JSON, records, or folders")
    flags.add_argument(
        "--target-rate", required=True, metavar="REQ_PER_S", help="requests/s that all replicas together are to carry"
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
