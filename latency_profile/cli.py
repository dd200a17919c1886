"""The command line: `latency-profile COMMAND`, and what benchmark_serving.py calls.

Imports here are light: `--help` must not wait for what it does not need.
"""

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from latency_profile import __version__
from latency_profile.errors import Exit, ProfileError, UsageError
from latency_profile.interrupt import Ended, ending
from latency_profile.live.termination import LOG

PROGRAM = "latency-profile"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # of files that results go to, commands say so themselves


def profile(arguments: Sequence[str]) -> int:
    """Profiles a running server."""
    return _guarded(_profile, arguments)


def offline(arguments: Sequence[str]) -> int:
    """Measures an engine without a server."""
    return _guarded(_offline, arguments)


def engines(arguments: Sequence[str]) -> int:
    """Starts engines' servers and profiles them, one after the other."""
    return _guarded(_engines, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """`latency-profile COMMAND …`; the exit code."""
    return _guarded(_dispatch, sys.argv[1:] if arguments is None else arguments)


def _guarded(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    LOG.from_environment(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a sign gets a ?, and not an error
            stream.reconfigure(errors="replace")
    try:
        with ending(_ended):
            code = int(command(arguments))
            sys.stdout.flush()
            return code
    except ProfileError as error:
        print(f"error: {error}", file=sys.stderr)
        LOG.write(f"error: {str(error).rstrip('.')}. Exit code {int(error.exit_code)}.")
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(Exit.SIGINT)
    except Ended:
        _ended()
        return int(Exit.SIGTERM)
    except BrokenPipeError:  # whoever read our output has gone: nothing is left to say
        return int(Exit.DONE)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        print(f"error: cannot write what is printed: {error.strerror}", file=sys.stderr)
        return int(Exit.NOT_STORED)
    finally:
        _let_go_of_a_broken_pipe()


def _ended() -> None:
    if not LOG.told:
        LOG.write(f"SIGTERM came before anything was measured. Exit code {int(Exit.SIGTERM)}.")


def _let_go_of_a_broken_pipe() -> None:
    """Python flushes its output once more as it ends, and would complain of a reader that has gone, or a full disk."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return Exit.DONE if arguments else Exit.USAGE
    if arguments[0] == "--version":
        print(f"{PROGRAM} {__version__}")
        return Exit.DONE
    name, *rest = arguments
    if name not in COMMANDS:
        raise UsageError(f"{PROGRAM} takes one of the commands {', '.join(COMMANDS)}, got {name!r}")
    if name in USAGES and {"-h", "--help"} & set(rest):
        print(f"usage: {PROGRAM} {USAGES[name]}\n\n{COMMANDS[name][1]}")
        return Exit.DONE
    return COMMANDS[name][0](rest)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return f"usage: {PROGRAM} COMMAND …\n\n{lines}\n\n{PROGRAM} COMMAND --help tells more."


def _profile(arguments: Sequence[str]) -> int:
    from latency_profile.settings import help_text, load

    if "-h" in arguments or "--help" in arguments:
        print(help_text(), end="")
        return Exit.DONE
    settings = load(arguments, os.environ)
    from latency_profile.profile import run

    return run(settings, os.environ)


def _offline(arguments: Sequence[str]) -> int:
    from latency_profile.offline.command import command

    return command(arguments, os.environ)


def _engines(arguments: Sequence[str]) -> int:
    from latency_profile.launch.command import command

    return command(arguments, os.environ)


def _reanalyze(arguments: Sequence[str]) -> int:
    if len(arguments) not in (1, 2) or any(argument.startswith("-") for argument in arguments):
        raise UsageError(f"usage: {PROGRAM} {USAGES['reanalyze']}")
    from latency_profile.reanalyze import reanalyze

    records = Path(arguments[0])
    return reanalyze(records, Path(arguments[1]) if len(arguments) > 1 else records.parent)


def _calibrate(arguments: Sequence[str]) -> int:
    from latency_profile.calibration.command import command

    return command(arguments, os.environ)


def _rerun(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        raise UsageError(f"usage: {PROGRAM} {USAGES['rerun']}")
    from latency_profile.rerun import rerun

    return rerun(Path(arguments[0]), arguments[1:], os.environ)


def _merge(arguments: Sequence[str]) -> int:
    from latency_profile.shards.command import command

    return command(arguments)


def _comparable(arguments: Sequence[str]) -> int:
    if len(arguments) != 2 or any(argument.startswith("-") for argument in arguments):
        raise UsageError(f"usage: {PROGRAM} {USAGES['comparable']}")
    from latency_profile.rerun import comparable
    from latency_profile.results.fetched import at_hand

    with at_hand(arguments) as here:
        one, other = map(Path, here.places)
        return comparable(one, other)


def _compare(arguments: Sequence[str]) -> int:
    from latency_profile.compare.command import command

    return command(arguments)


def _cost(arguments: Sequence[str]) -> int:
    from latency_profile.cost.command import command

    return command(arguments)


def _replicas(arguments: Sequence[str]) -> int:
    from latency_profile.replicas.command import command

    return command(arguments)


def _export(arguments: Sequence[str]) -> int:
    from latency_profile.export.command import command

    return command(arguments)


def _report(arguments: Sequence[str]) -> int:
    from latency_profile.page.command import command

    return command(arguments)


def _backends(arguments: Sequence[str]) -> int:
    if arguments:
        raise UsageError(f"usage: {PROGRAM} {USAGES['backends']}")
    from latency_profile.settings.doors import backends_table

    print(backends_table(), end="")
    return Exit.DONE


def _recover(arguments: Sequence[str]) -> int:
    if len(arguments) not in (1, 2) or any(argument.startswith("-") for argument in arguments):
        raise UsageError(f"usage: {PROGRAM} {USAGES['recover']}")
    from latency_profile.chunks.recover import recover

    return recover(arguments[0], Path(arguments[1] if len(arguments) > 1 else "."), os.environ)


def _simulate(arguments: Sequence[str]) -> int:
    from latency_profile.simulator.__main__ import main as simulate

    return simulate(arguments)


def _dataset(arguments: Sequence[str]) -> int:
    from latency_profile.datasets.command import command

    return command(arguments, os.environ)


def _demo(arguments: Sequence[str]) -> int:
    from latency_profile.demo import demo

    return demo(arguments)


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "profile": (_profile, "profile a running model server (the flags of benchmark_serving.py)"),
    "calibrate": (_calibrate, "measure this client, on this machine, against a server of known timing"),
    "offline": (_offline, "measure an engine without a server (the flags of benchmark_offline.py)"),
    "demo": (_demo, "profile the embedded model server at five request rates"),
    "backends": (_backends, "list the model servers, their endpoints, and what each can do"),
    "reanalyze": (_reanalyze, "make a point's results again from its records"),
    "merge": (_merge, "join the records of a run's shards by hand, and judge the whole"),
    "recover": (_recover, "make records of a point whose client was lost, from what it had stored while it ran"),
    "rerun": (_rerun, "run the profile again that a point's file is of, with prompts of its own"),
    "comparable": (_comparable, "say whether two profiles may be compared, and what differs"),
    "compare": (_compare, "say whether new profiles are worse than earlier ones, night after night"),
    "dataset": (_dataset, "estimate lengths from a data set, import one, or have a model write prompts"),
    "cost": (_cost, "say what tokens cost at points that were measured, input and output apart"),
    "replicas": (_replicas, "say how many replicas a target load takes to keep objectives, and what they cost"),
    "export": (_export, "write points as CSV, Parquet or Markdown, or in the form of vllm bench or llm-d"),
    "report": (_report, "make one HTML page of points, with curves, tables and where the numbers come from"),
    "simulate": (_simulate, "run the embedded model server"),
}
USAGES = {  # of commands without a help of their own
    "demo": "demo [FLAG …]  (flags of profile, which win over the demo's own)",
    "reanalyze": "reanalyze RECORDS.npz [FOLDER]",
    "merge": "merge FOLDER|gs://BUCKET/FOLDER|RECORDS.npz … [-o FOLDER]  (a run's folder, or a point's in it)",
    "recover": "recover FOLDER|gs://BUCKET/RUN/point-N/NONCE [FOLDER]  (records and results go into the second)",
    "rerun": "rerun POINT.json [FLAG …]  (flags of profile win over what the file has; data set and tokenizer stay)",
    "comparable": "comparable ONE.json OTHER.json  (files, or URLs such as gs://bucket/folder/ONE.json)",
    "backends": "backends",
}
