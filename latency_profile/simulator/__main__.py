"""The simulator's command line: `python -m latency_profile.simulator [flags]`."""

import argparse
import asyncio
import dataclasses
import gc
import math
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from latency_profile.errors import Exit, UsageError
from latency_profile.simulator import faults, protocols
from latency_profile.simulator.engine import Engine, EngineProfile
from latency_profile.simulator.fixed import FixedTiming, FixedTimingProfile, SlotTiming
from latency_profile.simulator.job import Timing
from latency_profile.simulator.log import LogWriter
from latency_profile.simulator.profiles import PROFILES
from latency_profile.simulator.protocols.base import Served, ServerProtocol
from latency_profile.simulator.server import Server
from latency_profile.simulator.slots import SlotProfile
from latency_profile.simulator.text import Vocabulary

_MILLISECOND = 1_000_000
_MS_PER_S = 1000
_BACKLOG = 4096
_UNLIMITED_MODEL_LEN = 131_072  # of the modes without a KV cache
_DEFAULT_TOKENIZER = Path(__file__).with_name("tokenizer.json")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _fixed_timing(text: str) -> FixedTimingProfile:
    wrong = argparse.ArgumentTypeError(
        f"{text!r} is not TTFT_MS,ITL_MS or TTFT_MS,ITL_MS,JITTER with a JITTER of 0 to 1"
    )
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise wrong from None
    if len(values) not in (2, 3):
        raise wrong
    ttft, itl, jitter = (*values, 0.0)[:3]
    if not (0 <= ttft < 1e9 and 0 <= itl < 1e9 and 0 <= jitter <= 1):
        raise wrong
    return FixedTimingProfile(round(ttft * _MILLISECOND), round(itl * _MILLISECOND), jitter)


def _faults(text: str) -> tuple[faults.Fault, ...]:
    try:
        return faults.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@dataclasses.dataclass(frozen=True)
class _Number:
    """A flag's type: a number within bounds."""

    kind: type[int] | type[float]
    least: float
    most: float

    def __call__(self, text: str) -> float:
        try:
            value = self.kind(text)
        except ValueError:
            value = math.nan
        if not self.least <= value <= self.most:
            kind = "a whole number" if self.kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {kind} between {self.least:g} and {self.most:g}")
        return value


def parser() -> argparse.ArgumentParser:
    """All flags of the simulator."""
    flags = _Parser(
        prog="latency-profile simulate",
        description="A model server of known timing that speaks the protocol of any server that can be profiled.",
        epilog="Faults: " + "; ".join(f"{kind}: {what}" for kind, what in faults.KINDS.items()) + ".",
        allow_abbrev=False,
    )
    add = flags.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=_Number(int, 0, 65535), default=0, help="0 takes a free one (default: %(default)s)")
    add(
        "--model",
        action="append",
        metavar="NAME",
        help="a model name to serve; may be given again (default: simulated; ensemble with tensorrt_llm_triton)",
    )
    add("--backend", choices=protocols.NAMES, default="vllm", help="whose protocol it speaks (default: %(default)s)")
    add(
        "--reasoning-tokens",
        type=_Number(int, 0, 1e8),
        default=0,
        metavar="N",
        help="the first N tokens of each chat answer are reasoning (default: 0)",
    )
    add(
        "--fault",
        type=_faults,
        default=(),
        metavar="KIND:SHARE[:LENGTH],…",
        help="which share of the requests goes wrong in which way, drawn from --seed and the prompt; see below",
    )
    add("--seed", type=_Number(int, 0, 2**63), default=0, help="of everything that is drawn (default: %(default)s)")
    add(
        "--tokenizer", type=Path, default=_DEFAULT_TOKENIZER, metavar="FILE", help="a tokenizer.json (default: bundled)"
    )
    add("--log", type=Path, metavar="FILE", help="write the truth log here at the end, and on SIGUSR1")
    add("--stream-interval", type=_Number(int, 1, 1e6), default=1, metavar="N", help="tokens an event (default: 1)")
    add(
        "--usage-off-by",
        type=_Number(int, -1e6, 1e6),
        default=0,
        metavar="N",
        help="how many output tokens too many every usage tells (default: 0)",
    )
    add(
        "--eos-probability",
        type=_Number(float, 0, 1),
        default=0.0,
        metavar="P",
        help="that a token ends its answer, unless the request says ignore_eos (default: 0)",
    )
    modes = flags.add_mutually_exclusive_group()
    modes.add_argument("--engine", choices=sorted(PROFILES), help="continuous batching (the default mode: h100-8b)")
    modes.add_argument(
        "--fixed-timing",
        type=_fixed_timing,
        metavar="TTFT_MS,ITL_MS[,JITTER]",
        help="every request on its own timeline; JITTER is a share from 0 to 1",
    )
    add(
        "--ttft-drift",
        type=_Number(float, 0, 1e6),
        metavar="MS_PER_S",
        help="how much longer the first token takes with each second since the first request (with --fixed-timing)",
    )
    modes.add_argument(
        "--slot",
        type=_Number(float, 0.001, 1e9),
        metavar="SERVICE_MS",
        help="a queue before slots of this service time",
    )
    add("--servers", type=_Number(int, 1, 1e5), metavar="N", help="how many slots (with --slot; default: 1)")
    add("--service", choices=("fixed", "exponential"), help="distribution of the service time (with --slot)")
    add(
        "--max-model-len",
        type=_Number(int, 2, 1e8),
        metavar="TOKENS",
        help="longest prompt and answer (default: profile's)",
    )
    add("--max-num-seqs", type=_Number(int, 1, 1e6), metavar="N", help="largest batch (with --engine)")
    add("--max-num-batched-tokens", type=_Number(int, 1, 1e8), metavar="N", help="tokens a step (with --engine)")
    add("--num-blocks", type=_Number(int, 1, 1e8), metavar="N", help="KV-cache blocks (with --engine)")
    add(
        "--enable-prefix-caching",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="reuse cached prompt blocks (with --engine; default: profile's)",
    )
    return flags


def _timing(flags: argparse.Namespace) -> tuple[Timing, EngineProfile | None, int]:
    """The timing model, its engine profile where it has one, and the greatest length. Raises UsageError."""
    engine_flags = ("max_num_seqs", "max_num_batched_tokens", "num_blocks", "enable_prefix_caching")
    slot_flags = ("servers", "service")
    fixed_flags = ("ttft_drift",)
    without_engine = flags.fixed_timing is not None or flags.slot is not None
    for names, refused, mode in (
        (engine_flags, without_engine, "--engine"),
        (slot_flags, flags.slot is None, "--slot"),
        (fixed_flags, flags.fixed_timing is None, "--fixed-timing"),
    ):
        for name in names:
            if refused and getattr(flags, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} goes with {mode} only")
    length = flags.max_model_len or _UNLIMITED_MODEL_LEN
    if flags.fixed_timing is not None:
        fixed = dataclasses.replace(flags.fixed_timing, ttft_drift=(flags.ttft_drift or 0) / _MS_PER_S)
        return FixedTiming(fixed, flags.seed), None, length
    if flags.slot is not None:
        slots = SlotProfile(round(flags.slot * _MILLISECOND), flags.servers or 1, flags.service or "fixed")
        return SlotTiming(slots, flags.seed), None, length
    changes = {
        name: getattr(flags, name)
        for name in ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "num_blocks")
        if getattr(flags, name) is not None
    }
    if flags.enable_prefix_caching is not None:
        changes["prefix_caching"] = flags.enable_prefix_caching
    profile = dataclasses.replace(PROFILES[flags.engine or "h100-8b"], **changes)
    try:
        return Engine(profile, flags.seed), profile, profile.max_model_len
    except ValueError as error:
        raise UsageError(f"--num-blocks, --max-model-len: {error}") from error


def _protocol(flags: argparse.Namespace) -> type[ServerProtocol]:
    """Whose protocol it is. Raises UsageError where it has no place for what was asked."""
    protocol = protocols.load(flags.backend)
    if flags.reasoning_tokens and not protocol.reasoning:
        names = ", ".join(name for name in protocols.NAMES if protocols.load(name).reasoning)
        raise UsageError(f"--reasoning-tokens goes with --backend {names} only")
    silent = [fault.kind for fault in flags.fault if fault.kind in protocol.silent]
    if silent:
        raise UsageError(f"--fault: answers of --backend {flags.backend} have no place for {', '.join(silent)}")
    if flags.usage_off_by and "usage_off" in protocol.silent:
        raise UsageError(f"--usage-off-by: answers of --backend {flags.backend} tell no usage")
    return protocol


async def _serve(flags: argparse.Namespace) -> None:
    timing, engine, length = _timing(flags)
    kind = _protocol(flags)
    try:
        vocabulary = Vocabulary(flags.tokenizer, flags.seed)
    except ValueError as error:
        raise UsageError(f"--tokenizer: {error}") from error
    models = flags.model or [kind.default_model]
    served = Served(models, length, vocabulary, flags.eos_probability, flags.seed, flags.reasoning_tokens)
    log = LogWriter() if flags.log is not None else None
    if log is not None:
        _save(log, flags.log)  # a path that cannot be written is known before anything is served
    plan = faults.FaultPlan(flags.fault, flags.seed)
    server = Server(kind(served, engine), timing, log, engine, plan, flags.stream_interval, flags.usage_off_by)

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if log is not None:
        loop.add_signal_handler(signal.SIGUSR1, log.save, flags.log)
    try:
        family = socket.AF_INET6 if ":" in flags.host else socket.AF_INET
        listener = socket.create_server((flags.host, flags.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UsageError(
            f"--host, --port: cannot listen on {flags.host}:{flags.port}: {error.strerror or error}"
        ) from error
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (hard, hard)
    )  # a connection is an open file; the soft limit is often 1024
    gc.collect()
    gc.freeze()  # what is there by now is never garbage: later collections are short
    host = f"[{flags.host}]" if ":" in flags.host else flags.host
    print(f"listening on http://{host}:{listener.getsockname()[1]}", flush=True)
    server.listen(listener)
    await stop.wait()
    server.stop()
    if log is not None:
        _save(log, flags.log)


def _save(log: LogWriter, path: Path) -> None:
    try:
        log.save(path)
    except OSError as error:
        raise UsageError(f"--log: cannot write {path}: {error.strerror or error}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit code; a wrong flag is one line on stderr and code 2."""
    try:
        flags = parser().parse_args(argv)
        if sys.platform != "linux":
            raise UsageError("the simulator needs Linux: it paces its tokens with timerfd")
        asyncio.run(_serve(flags))
    except UsageError as error:
        print(f"latency-profile simulate: {error}", file=sys.stderr)
        return error.exit_code
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
