"""`latency-profile cost`: what tokens cost over points that were measured."""

import argparse
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from latency_profile import results
from latency_profile.command_flags import CommandFlags, read
from latency_profile.cost.points import points_at
from latency_profile.cost.report import report
from latency_profile.cost.text import lines
from latency_profile.errors import Exit, StorageError, UsageError
from latency_profile.local_path import local_path
from latency_profile.results.fetched import at_hand
from latency_profile.settings import kinds

_USAGE = (
    "latency-profile cost POINT.json|RECORDS.npz|FOLDER|gs://BUCKET/FOLDER … [--machine-cost USD_PER_HOUR] "
    "[--utilization SHARE] [-o FILE]"
)
_DESCRIPTION = """\
What tokens cost at each point, at the one with most tokens/s of its workload, and with idle time: the machines' price
over each kind of token, and divided between input and output by each method that the points allow (measured, gaps,
regression and convention-1:4), side by side. Give points of one server, of different input and output lengths: the
regression needs six or more. Exit code 4 where no point may be used."""


def command(arguments: Sequence[str]) -> Exit:
    """Prints the costs, and writes them as JSON with -o. Raises UsageError, ServerUnavailable for a bucket that cannot
    be read, and StorageError where it cannot write."""
    given = _parser().parse_intermixed_args(arguments)
    price = None if given.machine_cost is None else read("--machine-cost", kinds.PRICE, given.machine_cost)
    share = given.utilization
    utilization = None if share is None else read("--utilization", kinds.UTILIZATION, share)
    with at_hand(given.places) as here:
        points = points_at(here.places, here.named)
    servers = sorted({point.server for point in points})
    if len(servers) > 1:
        raise UsageError(f"cost: takes points of one server, got {'; '.join(servers)}")
    prices = sorted({point.result.cost.machine_cost_per_hour_usd for point in points if point.result.cost})
    if price is None and len(prices) > 1:
        said = ", ".join(f"${each:g}" for each in prices)
        raise UsageError(
            f"--machine-cost: got nothing, takes {kinds.PRICE.takes}: the points' own prices differ ({said} an hour)"
        )
    try:
        found = report(points, price, utilization)
    except ValueError as error:
        raise UsageError(f"--machine-cost: got nothing, takes {kinds.PRICE.takes}: {error}") from None
    with suppress(BrokenPipeError):  # whoever read our output has gone; the file is still owed
        print("\n".join(lines(found)), flush=True)
    if given.output:
        path = local_path(given.output, "-o: ")
        data = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
        try:
            place = results.write(path.parent, path.name, data)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
        print(place)
    return Exit.DONE if any(row.barred is None for row in found.points) else Exit.UNUSABLE


def _parser() -> argparse.ArgumentParser:
    flags = CommandFlags(_USAGE, _DESCRIPTION, said_first="cost: ")
    flags.add_argument("places", nargs="+", metavar="POINT.json|RECORDS.npz|FOLDER|URL", help="points of one server")
    flags.add_argument(
        "--machine-cost", metavar="USD_PER_HOUR", help="of all machines that served together (default: the points' own)"
    )
    flags.add_argument(
        "--utilization", metavar="SHARE", help="of the paid time in which they serve (default: each point's own)"
    )
    flags.add_argument("-o", "--output", metavar="FILE", help="the same as JSON; an existing file is left alone")
    return flags
