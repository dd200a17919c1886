"""`latency-profile calibrate`: the client of this machine against a server of known timing."""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from latency_profile import records, results
from latency_profile.calibration.load import of_records
from latency_profile.calibration.run import POINT_S, calibrate, calibrate_points, highest_events
from latency_profile.calibration.structure import Calibration
from latency_profile.calibration.text import SHARED, highest_lines, lines, short_text
from latency_profile.command_flags import CommandFlags
from latency_profile.errors import Exit, UsageError
from latency_profile.interrupt import Interrupt, interrupts
from latency_profile.parts import sender_processes, workload_spec
from latency_profile.points import plan_points
from latency_profile.records import Records
from latency_profile.report.progress import make_progress
from latency_profile.sender.fleet import Fleet
from latency_profile.settings import Settings, load
from latency_profile.verdict.calibrated import beyond_limits, server_was_late
from latency_profile.workload import prepare

RECORDS_S = 60.0
_NO_SEARCH = "--no-calibration-search"  # a flag of the profile, which a records file takes too

_USAGE = """\
latency-profile calibrate [--seconds S] [--json FILE] [--no-calibration-search] RECORDS.npz
       latency-profile calibrate [--seconds S] [--json FILE] FLAGS-OF-PROFILE …"""
_DESCRIPTION = f"""\
Measures this client on this machine (or in this pod): sends a load to a loopback server that logs when each request
came and each token went, and compares the client's figures with that log. With the records of a point it sends that
point's own plan and has it answered in the cadence that was measured; with the flags of a profile each point's plan,
answered in the cadence of --calibration-cadence. Then it searches the highest event rate at which the errors stay
within the limits. Nothing is sent to the server under test.

Note: {SHARED}.
The wire is plain HTTP/1.1, whatever the profile speaks. Exit code 4 where a load's errors are beyond the limits."""


def command(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Runs it and prints what was found. Raises ProfileError."""
    own, rest = _parser().parse_known_args(arguments)
    if own.seconds is not None and not 0 < own.seconds < math.inf:
        raise UsageError(f"--seconds: got {own.seconds:g}, takes a number above 0")
    if own.json is not None and not own.json.absolute().parent.is_dir():
        raise UsageError(f"--json: got {str(own.json)!r}, takes a file in a folder that is there")
    if not rest:
        raise UsageError("calibrate: got nothing, takes a records file or the flags of a profile")
    of_one_point = [each for each in rest if each != _NO_SEARCH]
    if len(of_one_point) == 1 and not of_one_point[0].startswith("-"):
        try:
            point = records.load(Path(of_one_point[0]))
        except ValueError as error:
            raise UsageError(str(error)) from None
        return _finish(*_of_records(point, own.seconds or RECORDS_S, search=_NO_SEARCH not in rest), own.json)
    settings = load([*rest, "--calibrate"], environ)
    if settings.dry_run:
        raise UsageError(f"{settings.spelled('dry_run')}: got true, takes no calibration, which always sends")
    return _finish(*_of_settings(settings, own.seconds or POINT_S), own.json)


def _parser() -> argparse.ArgumentParser:
    flags = CommandFlags(_USAGE, _DESCRIPTION)
    flags.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help=f"most of each plan that is run (default: {RECORDS_S:g} of records, {POINT_S:g} of planned points)",
    )
    flags.add_argument("--json", type=Path, metavar="FILE", help="write what was found here, by the points' labels")
    return flags


_Found = tuple[dict[str, Calibration], Interrupt]


def _of_records(point: Records, seconds: float, search: bool) -> _Found:
    """The load of a records file, with the settings of the client that made it."""
    context = point.context
    try:
        to_run = of_records(point, seconds)
    except ValueError as error:
        raise UsageError(f"the records have no cadence: {error}") from None
    processes = int(context.client.get("processes", 1))
    settings = Settings(
        tokenizer=context.tokenizer,
        backend=context.backend,
        stream_request=context.streaming,
        tcp_conn_limit=int(context.settings.get("tcp_conn_limit", 0)),
        workers=processes,
    )
    label = to_run.point.label
    with make_progress(sys.stderr) as progress, interrupts() as interrupt, Fleet(processes) as fleet:
        progress.point_started(f"calibration, {label}", 1, 1)
        found = calibrate(to_run, settings, fleet, interrupt, progress.update)
        if found is not None:
            progress.point_finished(short_text(found))
        if found is not None and search:
            mean = float(to_run.schedule.tokens.mean())
            highest = highest_events(settings, to_run.events_per_s, mean, fleet, interrupt, progress)
            found = msgspec.structs.replace(found, highest=highest)
    return ({label: found} if found is not None else {}), interrupt


def _of_settings(settings: Settings, seconds: float) -> _Found:
    """The loads that a profile of these settings would have."""
    points = plan_points(settings)
    spec = workload_spec(settings, settings.models or ("calibration",), settings.nonce or "0")
    workload = prepare(spec, sum(point.prompts for point in points))
    processes = sender_processes(settings, points, workload)
    with make_progress(sys.stderr) as progress, interrupts() as interrupt, Fleet(processes) as fleet:
        found = calibrate_points(
            settings,
            points,
            workload,
            fleet,
            interrupt,
            progress,
            seconds=seconds,
        )
    return {point.label: found[point.number] for point in points if point.number in found}, interrupt


def _finish(found: dict[str, Calibration], interrupt: Interrupt, json: Path | None) -> Exit:
    for label, calibration in found.items():
        print("\n".join(lines(label, calibration)), end="\n\n")
    highest = next((each.highest for each in found.values() if each.highest is not None), None)
    if highest is not None:
        print("\n".join(highest_lines(highest)), end="\n\n")
    if found:
        print(SHARED[0].upper() + SHARED[1:] + ".")
    if json is not None:
        results.write(
            json.parent, json.name, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n", replace=True
        )
    if interrupt:
        return interrupt.exit_code
    bent = (beyond_limits(each) and not server_was_late(each) for each in found.values())
    return Exit.UNUSABLE if any(bent) else Exit.DONE
