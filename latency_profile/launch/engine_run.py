"""One engine: started, waited for, profiled, stopped; and what that left, whatever ended it."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import backends
from latency_profile.errors import Exit, ProfileError, ServerUnavailable
from latency_profile.hardware.watch import HardwareWatch, PointWatch
from latency_profile.interrupt import Ended
from latency_profile.launch.gpu_memory import GpuMemory
from latency_profile.launch.listening import stranger_at
from latency_profile.launch.process import HOST, ServerProcess, port_for
from latency_profile.launch.server_settings import ServerSettings
from latency_profile.parts import choose_door, metrics_source, servers_of
from latency_profile.profile import run as run_profile
from latency_profile.readiness import wait_for
from latency_profile.server import Server
from latency_profile.settings import Settings
from latency_profile.settings import load as load_settings

LAST_LINES = 20  # of a server that failed
HIDDEN = "***"
_SECRET_FLAG = re.compile(r"-+(.*[-_])?(api[-_]?key|token|secret|password)", re.IGNORECASE)


class LostPort(ServerUnavailable):
    """Somebody else listens where the server was to."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What is to be measured. `flags` are the profile's, but for the server's URL and the folder of the results."""

    name: str
    server: ServerSettings | None  # None: it runs already, at `url`
    url: str | None
    concurrency: int
    flags: Sequence[str]

    def settings(self, url: str, folder: Path, environ: Mapping[str, str]) -> Settings:
        """The profile's settings. Raises UsageError."""
        places = (f"--url={url}", f"--output-dir={folder}", "--save-json-results")
        return load_settings([*places, *self.flags], environ)


@dataclass(kw_only=True)
class Found:
    """What is known of a run so far: an interrupt may come at any time."""

    stem: str
    url: str | None = None
    command: list[str] | None = None
    start_s: float | None = None
    failure: str | None = None
    interrupted: str | None = None
    watch: PointWatch | None = None
    done: bool = False  # the profile has found nothing wrong
    abandoned: bool = False  # the server had ended, and the profile was cut short for that

    def take(self, interrupted: str | None) -> None:
        """Who cut it short, where it was not this program itself."""
        self.interrupted = None if self.abandoned and interrupted == "SIGINT" else interrupted

    def abandon(self) -> None:
        self.abandoned = True


def run_engine(
    engine: Engine,
    output: Path,
    environ: Mapping[str, str],
    start_timeout_s: float,
    memory: GpuMemory,
    say: Callable[[str], None],
) -> Found:
    """Measures one engine; its records and its server's output are in `output` then. Ctrl-C and SIGTERM end it, and
    what was measured is kept."""
    found = Found(stem=_reserve(output, engine.name), url=engine.url)
    folder = output / found.stem
    try:
        if engine.server is None:
            assert engine.url is not None
            _measure(engine.settings(engine.url, folder, environ), environ, folder, found, say)
        else:
            _serve(engine, engine.server, folder, environ, start_timeout_s, memory, found, say)
    except KeyboardInterrupt:
        found.take("SIGINT")
    except Ended:
        found.take("SIGTERM")
    except ProfileError as error:
        found.failure = found.failure or str(error).rstrip(".")
    except OSError as error:
        found.failure = found.failure or f"{error.filename or 'not started'}: {error.strerror or error}"
    return found


def _reserve(output: Path, name: str) -> str:
    """A stem that no other runner has, and the run's folder of that name."""
    while True:
        stem = f"{name}_{time.strftime('%Y%m%d_%H%M%S', time.gmtime())}"
        try:
            (output / stem).mkdir(parents=True)
        except FileExistsError:
            time.sleep(0.1)
        else:
            return stem


def _serve(
    engine: Engine,
    server: ServerSettings,
    folder: Path,
    environ: Mapping[str, str],
    start_timeout_s: float,
    memory: GpuMemory,
    found: Found,
    say: Callable[[str], None],
) -> None:
    if held := memory.still_held():
        raise ServerUnavailable(f"not started: {held}")
    port = port_for(server.port)
    if port != server.port:
        say(f"port {server.port} is taken, {engine.name} gets {port}")
    try:
        _serve_at(port, engine, server, folder, environ, start_timeout_s, found, say)
    except LostPort as lost:  # between our look and the server's start somebody else began to listen there
        port = port_for(0)
        say(f"{lost}; {engine.name} starts again at {port}")
        _serve_at(port, engine, server, folder, environ, start_timeout_s, found, say)


def _serve_at(
    port: int,
    engine: Engine,
    server: ServerSettings,
    folder: Path,
    environ: Mapping[str, str],
    start_timeout_s: float,
    found: Found,
    say: Callable[[str], None],
) -> None:
    """Raises LostPort before anything was measured."""
    found.url = f"http://{HOST}:{port}"
    command = server.command_line(HOST, port)
    found.command = without_secrets(command)
    log = folder.with_name(f"{found.stem}_server.log")
    say(f"{engine.name} starts: {' '.join(found.command)}")
    started = time.monotonic()
    with ServerProcess(command, server.variables(environ), log) as process:
        try:
            settings = engine.settings(found.url, folder, environ)
            _wait(settings, environ, port, start_timeout_s, process, say)
            found.start_s = time.monotonic() - started
            say(f"{engine.name} serves after {found.start_s:.1f} s")
            with process.cuts_short(found.abandon):
                _measure(settings, environ, folder, found, say)
            if stranger_at(port, process.pids()):
                found.failure = f"somebody else listens at port {port} too, and may have answered"
        finally:
            ended = process.ended_by_itself(soon=not found.done) if found.start_s is not None else None
            if ended:
                found.failure = f"the server {ended} while it was measured"
                _show_end(process, say)


def _wait(
    settings: Settings,
    environ: Mapping[str, str],
    port: int,
    timeout_s: float,
    process: ServerProcess,
    say: Callable[[str], None],
) -> None:
    """Until the server says that it is healthy, and it is the one that was started. Raises ServerUnavailable, and says
    what the server said last."""
    backend = backends.load(settings.backend)
    health = choose_door(settings, backend).door.health_path or backend.health_path
    try:
        wait_for(servers(settings, environ), health, timeout_s, lambda: bool(process.ended_by_itself()), say)
        ended = process.ended_by_itself()
        if stranger_at(port, process.pids()):
            raise LostPort(f"somebody else listens at port {port}")
        if ended:
            raise ServerUnavailable(f"the server {ended} before it served")
    except ServerUnavailable:
        _show_end(process, say)
        raise


def _show_end(process: ServerProcess, say: Callable[[str], None]) -> None:
    lines = process.last_lines(LAST_LINES)
    say(f"the last lines of {process.log}:" if lines else f"the server said nothing ({process.log} is empty)")
    for line in lines:
        say(f"  | {line}")


def servers(settings: Settings, environ: Mapping[str, str]) -> list[Server]:
    """The servers that the settings name."""
    chosen = choose_door(settings, backends.load(settings.backend))
    return servers_of(settings, environ, chosen.door.framing == "grpc")


def _measure(
    settings: Settings, environ: Mapping[str, str], folder: Path, found: Found, say: Callable[[str], None]
) -> None:
    """The profile as it is; its own table goes into the run's folder. Where the server has no metrics, the machine is
    watched from here: the profile watches it only beside them."""
    asked = servers(settings, environ)
    try:
        metrics_source(settings, asked, ())
        watches = settings.scrape_server_metrics
    except ServerUnavailable as error:
        say(f"{error}; only the machine is watched")
        settings, watches = replace(settings, scrape_server_metrics=False), False
    with (folder / "profile.txt").open("w", encoding="utf-8") as table, redirect_stdout(table):
        if watches:
            code = run_profile(settings, environ)
        else:
            with HardwareWatch([server.target() for server in asked]).point() as found.watch:
                code = run_profile(settings, environ)
    found.done = code is Exit.DONE
    found.take({Exit.SIGINT: "SIGINT", Exit.SIGTERM: "SIGTERM"}.get(code))
    if code is Exit.NOT_STORED:
        found.failure = "the profile's results could not be stored"


def without_secrets(command: Sequence[str]) -> list[str]:
    """The command line with `***` in place of what follows a flag whose name says that it is secret."""
    shown: list[str] = []
    hides = False
    for word in command:
        flag, equals, _ = word.partition("=")
        secret = bool(_SECRET_FLAG.fullmatch(flag))
        shown.append(HIDDEN if hides else f"{flag}={HIDDEN}" if secret and equals else word)
        hides = secret and not equals
    return shown
