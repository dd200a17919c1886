"""`benchmark_engines.py`: engines one after the other on this machine, or one that runs already."""

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import backends
from latency_profile.command_flags import CommandFlags, read
from latency_profile.errors import Exit, StorageError, UsageError
from latency_profile.interrupt import EXITS, interrupts
from latency_profile.launch import SERVERS
from latency_profile.launch.configuration import server_settings
from latency_profile.launch.engine_run import Engine, run_engine, servers
from latency_profile.launch.gpu_memory import GpuMemory
from latency_profile.launch.run_files import write_run
from latency_profile.launch.server_settings import ServerSettings
from latency_profile.launch.structure import EngineRun
from latency_profile.launch.summary import append, check, row_of
from latency_profile.launch.text import block, closing, comparison
from latency_profile.live.termination import LOG
from latency_profile.local_path import local_path
from latency_profile.parts import choose_door, default_model, workload_spec
from latency_profile.server import models_to_ask
from latency_profile.settings import Settings, kinds
from latency_profile.settings import load as load_settings
from latency_profile.workload import prepare
from latency_profile.workload.cache import Cache
from latency_profile.workload.dataset import open_dataset

ALL = "all"
UNKNOWN = "unknown"  # a server that runs already and of which only the URL is said
PROTOCOLS = {"transformers": "naive_transformers", UNKNOWN: "openai"}  # of the names that no profile's backend has
CONCURRENCY_STARTED, CONCURRENCY_RUNNING = 20, 10
START_TIMEOUT_S = "600"
NOWHERE = "http://127.0.0.1:1"  # stands for a server that has not been started
OURS = {"run_id": None, "shards": 1, "stay": False, "dry_run": False}  # what a run of several engines cannot have

_USAGE = "benchmark_engines.py --backend NAME [FLAG …] [-- FLAG OF benchmark_serving.py …]"
_DESCRIPTION = f"""\
Starts the server of each engine, waits until it serves, profiles it in a closed loop with the GPUs watched, stops it
and all that it started, and goes on to the next; or profiles a server that runs already (--url).
Engines: {", ".join(SERVERS)}. Their settings come from --config, a YAML file with a section for each
(docs/engines.md). Exit code 0 where all were measured, 4 where one failed or its numbers must not be used."""


def command(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Measures what is asked for. Raises UsageError before anything is started, and ServerUnavailable."""
    own, beside = _split(arguments)
    given = _parser().parse_args(own)
    url = given.url
    if url and given.config:
        raise UsageError("--config: got a file of servers' settings beside --url, takes one of the two")
    concurrency = _whole("--concurrency", given.concurrency, CONCURRENCY_RUNNING if url else CONCURRENCY_STARTED)
    timeout_s = read("--start-timeout", kinds.number(above=0), given.start_timeout)
    output = local_path(given.output, "--output: ")
    flags = _common_flags(given, beside, concurrency, timeout_s)
    if url:
        engines = [_running(given.backend or UNKNOWN, url, concurrency, flags, given.tokenizer, environ)]
    else:
        found = _chosen(given.backend, given.config)
        engines = [
            _startable(name, server, concurrency, flags, given.tokenizer, environ) for name, server in found.items()
        ]
    for engine in engines:
        _check(engine, environ)
    check(output)
    return _run(engines, output, environ, timeout_s)


def _run(engines: Sequence[Engine], output: Path, environ: Mapping[str, str], timeout_s: float) -> Exit:
    memory = GpuMemory()
    runs: list[EngineRun] = []
    interrupted: str | None = None
    failure: StorageError | None = None
    for engine in engines:
        try:
            found = run_engine(engine, output, environ, timeout_s, memory, _say)
            with interrupts() as interrupt:  # what is written now is written whole
                run = write_run(engine, output, found)
                runs.append(run)
                append(output, row_of(run))
                with contextlib.suppress(BrokenPipeError):  # whoever read our output has gone; the others are measured
                    print(block(run), end="\n\n", flush=True)
        except StorageError as error:
            failure = error
            _say(f"error: {error}")
            break
        interrupted = run.interrupted or interrupt.reason
        if interrupted:
            break
    if interrupted:
        code = EXITS[interrupted]
    elif failure:
        code = failure.exit_code
    else:
        code = Exit.DONE if all(run.usable for run in runs) else Exit.UNUSABLE
    last = closing(runs, [engine.name for engine in engines[len(runs) :]], int(code))
    LOG.write(last)
    with contextlib.suppress(BrokenPipeError):
        comparison(runs, sys.stdout)
        print(f"\n{last}", flush=True)
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    flags = CommandFlags(_USAGE, _DESCRIPTION)
    flags.add_argument(
        "--backend",
        metavar="NAME",
        help=f"{', '.join(SERVERS)}, or {ALL}: those that are installed; with --url any of the profile's backends too "
        f"(default: {UNKNOWN}, an OpenAI-compatible server)",
    )
    flags.add_argument(
        "--concurrency",
        metavar="N",
        help=f"requests in flight (default: {CONCURRENCY_STARTED}; with --url {CONCURRENCY_RUNNING})",
    )
    flags.add_argument(
        "--dataset", default="benchmark_dataset.json", metavar="PATH", help="prompts (default: %(default)s)"
    )
    flags.add_argument("--num-prompts", metavar="N", help="requests to each engine (default: the data set's prompts)")
    flags.add_argument("--config", type=Path, metavar="FILE", help="YAML of the servers' settings, a section for each")
    flags.add_argument("--url", metavar="URL", help="a server that runs already: nothing is started")
    flags.add_argument("--output", default="results", metavar="FOLDER", help="for results (default: %(default)s)")
    flags.add_argument("--tokenizer", metavar="NAME", help="of the model (default: the model's own, by its name)")
    flags.add_argument(
        "--start-timeout", default=START_TIMEOUT_S, metavar="S", help="until a server serves (default: %(default)s s)"
    )
    return flags


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our flags, and the profile's behind `--`."""
    words = list(arguments)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _whole(flag: str, value: str | None, default: int) -> int:
    return default if value is None else read(flag, kinds.COUNT, value)


def _common_flags(given: argparse.Namespace, beside: Sequence[str], concurrency: int, timeout_s: float) -> list[str]:
    """What all engines' profiles have in common; the user's own come last, and win."""
    dataset = local_path(given.dataset, "--dataset: ")
    prompts = _whole("--num-prompts", given.num_prompts, len(open_dataset(dataset, Cache(None, []))))
    return [
        "--stream-request",
        "--scrape-server-metrics",
        f"--concurrencies={concurrency}",
        f"--num-prompts={prompts}",
        f"--dataset={dataset}",
        f"--wait-for-server={timeout_s:g}",
        *beside,
    ]


def _chosen(name: str | None, config: Path | None) -> dict[str, ServerSettings]:
    """The servers to start, by name. Raises UsageError where one cannot be started here; of `all` those are left out,
    and it is said why."""
    if name != ALL and name not in SERVERS:
        got = "nothing" if name is None else repr(name)
        raise UsageError(f"--backend: got {got}, takes {', '.join(SERVERS)} or {ALL}; more of them with --url")
    settings = server_settings(config)
    wanted = settings if name == ALL else {name: settings[name]}
    missing = {each: why for each, server in wanted.items() if (why := server.missing())}
    if len(missing) == len(wanted):
        whys = "; ".join(f"{each}: {why}" for each, why in missing.items())
        raise UsageError(
            f"--backend: got {name}, takes an engine that is installed ({whys}); --config says where it is"
        )
    for each, why in missing.items():
        _say(f"left out: {each} ({why})")
    return {each: server for each, server in wanted.items() if each not in missing}


def _startable(
    name: str,
    server: ServerSettings,
    concurrency: int,
    flags: Sequence[str],
    tokenizer: str | None,
    environ: Mapping[str, str],
) -> Engine:
    wanted = tokenizer or server.tokenizer or server.own_tokenizer
    own = [f"--backend={server.backend}", f"--endpoint={server.endpoint}"]
    if wanted is not None:
        own.append(f"--tokenizer={wanted}")
    elif "LATENCY_PROFILE_TOKENIZER" not in environ:
        raise UsageError(
            f"--tokenizer: got nothing for {name}, takes the name or folder of the model's tokenizer; also as "
            f"{name}.tokenizer in --config"
        )
    if server.served_name is not None:
        own.append(f"--models={server.served_name}")
    return Engine(name=name, server=server, url=None, concurrency=concurrency, flags=[*own, *flags])


def _running(
    name: str,
    url: str,
    concurrency: int,
    flags: Sequence[str],
    tokenizer: str | None,
    environ: Mapping[str, str],
) -> Engine:
    """A server that runs already. Where no tokenizer is given, its model's name is taken for one. Raises UsageError,
    and ServerUnavailable where it has to be asked for that name and does not answer."""
    backend = PROTOCOLS.get(name, name)
    if backend not in backends.NAMES:
        raise UsageError(f"--backend: got {name!r}, takes {', '.join([*backends.NAMES, *PROTOCOLS])} with --url")
    own = [f"--backend={backend}"]
    if "chat" in backends.load(backend).doors:
        own.append("--endpoint=chat")
    own += flags
    if tokenizer is None and "LATENCY_PROFILE_TOKENIZER" not in environ:
        tokenizer = _served(load_settings([f"--url={url}", "--tokenizer=bundled", *own], environ), environ)
    if tokenizer is not None:
        own.insert(0, f"--tokenizer={tokenizer}")
    return Engine(name=name, server=None, url=url, concurrency=concurrency, flags=own)


def _served(settings: Settings, environ: Mapping[str, str]) -> str:
    """The first model that the server serves."""
    backend = backends.load(settings.backend)
    chosen = choose_door(settings, backend)
    return models_to_ask(
        servers(settings, environ), backend, settings.models, default_model(settings, backend, chosen)
    )[0]


def _check(engine: Engine, environ: Mapping[str, str]) -> None:
    """Raises UsageError for what the profile would refuse once the server is up, and for what no run here can have."""
    settings = engine.settings(engine.url or NOWHERE, Path(), environ)
    for name, value in OURS.items():
        if getattr(settings, name) != value:
            raise UsageError(f"{settings.spelled(name)}: not with several engines; benchmark_serving.py takes it")
    if settings.concurrencies != (engine.concurrency,) or len(settings.url) != 1:
        raise UsageError(
            f"{settings.spelled('concurrencies')}: got another load, takes one concurrency (--concurrency)"
        )
    if not settings.save_json_results:
        raise UsageError(
            f"{settings.spelled('save_json_results')}: got false, takes true: the results are made of them"
        )
    choose_door(settings, backends.load(settings.backend))
    prepare(workload_spec(settings, settings.models or ("",), "00"), settings.num_prompts)
