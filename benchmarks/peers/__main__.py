"""Runs this tool and its peers, one after the other, each against a fresh server of known timing; prints Markdown.

Requests arrive at Poisson times, each a streamed /v1/completions of about 32 tokens in and exactly --tokens out. The
server answers after 50 ms and then every 10 ms, each drawn within ± 20 %. A tool's error is the percentile that it
reports minus the same percentile of the server's log, over the same requests: from the kernel's stamp of a request's
arrival until just before the write of its first token. From one rate to the next the order of the tools is reversed.
A tool that dies or takes more than three times its planned time, and two minutes to start, gets a row that says so.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.peers.aiperf import AiPerf
from benchmarks.peers.guidellm import GuideLlm
from benchmarks.peers.inference_perf import InferencePerf
from benchmarks.peers.latency_profile import LatencyProfile
from benchmarks.peers.process import run
from benchmarks.peers.rows import Row, accuracy_table, behind, cost_table, row
from benchmarks.peers.tool import MODEL, ROOT, Load, NoResult, Report, Tool
from benchmarks.peers.truth import ITL_MS, TTFT_MS, read_truth, server
from benchmarks.peers.vllm import VllmBench

TOOLS: dict[str, Tool] = {
    tool.name: tool for tool in (LatencyProfile(), VllmBench(), AiPerf(), InferencePerf(), GuideLlm())
}
START_ROOM_S = 120.0  # what the slowest takes to be imported, with room
_PATIENCE = 3.0
_END_OF_TEXT = "<|endoftext|>"


def measure(tool: Tool, rate: float, seconds: float, tokens: int, kept: Path | None = None) -> Row:
    """One tool at one rate against a server of its own. `kept`: where its files and output are left."""
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = kept or Path(name)
        results, log, output = folder / "results", folder / "truth.npz", folder / "output.txt"
        results.mkdir(parents=True)
        size = tool.installed_mb()
        limit_s = START_ROOM_S + _PATIENCE * (seconds + (TTFT_MS + ITL_MS * tokens) / 1000)
        with server(log) as url:
            load = Load(
                url, rate, max(3, round(rate * seconds)), tokens, results, write_tokenizer(folder / "tokenizer")
            )
            command, environment = tool.command(load), tool.process_environment()
            try:
                ran = run(command, environment, results, output, limit_s)
            except OSError as error:
                return row(tool.name, tool.title, load, size, happened=f"did not start: {error}")
        truth = read_truth(log) if log.exists() else None
        report: Report | None = None
        happened = "" if ran.exit_code is not None else f"stopped after {limit_s:.0f} s"
        try:
            report = tool.read(results, output.read_text(errors="replace"))
        except NoResult as error:
            happened = happened or str(error)
        return row(tool.name, tool.title, load, size, ran, truth, report, happened)


def write_tokenizer(folder: Path) -> Path:
    """The bundled tokenizer as a Hugging Face folder, which every tool can load without the hub."""
    folder.mkdir()
    shutil.copy(ROOT / "latency_profile" / "simulator" / "tokenizer.json", folder / "tokenizer.json")
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), _END_OF_TEXT)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096, **names}
    (folder / "tokenizer_config.json").write_bytes(msgspec.json.encode(config))
    (folder / "config.json").write_text('{"model_type": "llama"}')  # vLLM looks for a model beside it
    return folder


def machine() -> str:
    """The machine, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return (
        f"{os.cpu_count()} cores of {model}, {platform.system()} {platform.release()}, Python {sys.version.split()[0]}"
    )


def _flags() -> argparse.Namespace:
    flags = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--rates", type=float, nargs="+", default=[150.0, 300.0, 600.0], help="requests/s")
    flags.add_argument("--seconds", type=float, default=20, help="of each run")
    flags.add_argument("--tokens", type=int, default=100, help="of each answer")
    flags.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    flags.add_argument("--output", type=Path, default=ROOT / "results" / "peers.json", help="all figures, as JSON")
    flags.add_argument("--keep", type=Path, metavar="FOLDER", help="leave each run's files and the server's log there")
    return flags.parse_args()


def main() -> int:
    """0, also where a tool failed: that is a result. 2 where one that was asked for is not installed."""
    given = _flags()
    tools = [TOOLS[name] for name in given.tools]
    if missing := [tool.name for tool in tools if not tool.installed()]:
        print(f"not installed: {', '.join(missing)}; benchmarks/peers/install.sh does it", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for turn, rate in enumerate(given.rates):
        for tool in tools if turn % 2 == 0 else reversed(tools):
            kept = given.keep / f"{rate:g}-{tool.name}" if given.keep else None
            print(f"{rate:g} requests/s: {tool.title}", file=sys.stderr, flush=True)
            rows.append(measure(tool, rate, given.seconds, given.tokens, kept))
    order = {name: place for place, name in enumerate(TOOLS)}
    rows.sort(key=lambda one: (one.offered, order[one.tool]))
    print(f"{machine()}; server and tool on it together; model {MODEL!r}, {given.seconds:g} s a run\n")
    print(accuracy_table(rows), cost_table(rows), sep="\n\n")
    if any(one.tool == LatencyProfile.name for one in rows) and len(tools) > 1:
        print("\nA peer did better:" if (found := behind(rows)) else "\nNo peer did better at anything.")
        print(*(f"- {line}" for line in found), sep="\n")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine(), "rows": rows})) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
