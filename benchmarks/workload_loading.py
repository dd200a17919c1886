"""How long a workload takes from process start to its first request, and how much memory.

    python benchmarks/workload_loading.py [--conversations 94000] [--prompts 1000] [--tokenizer bundled] [--folder DIR]

Writes a file of ShareGPT's form and size (94,000 conversations are about 650 MB) into a temporary folder, then starts
one process for each row of the table: cold (nothing cached, though the file may be in the page cache), warm (all
cached), another seed (the index and the hashes are cached, the lengths are not), and 100,000 synthetic prompts. Memory
is VmHWM of the process; pages of the mapped file count in it while it is indexed. The text is Python's own
documentation, which every Python carries.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"cold": (20.0, 2048), "warm": (3.0, 2048)}  # seconds to the first request, MiB


def generate(path: Path, conversations: int) -> None:
    """Conversations of 1 to 10 turns; prompts of 65 words and answers of 350 on average, exponentially distributed."""
    rng = random.Random(1)
    words = " ".join(topics[name] for name in sorted(topics)).split()
    with path.open("w") as file:
        for number in range(conversations):
            turns = []
            for turn in range(rng.choice([1, 2, 2, 4, 4, 6, 8, 10])):
                length = min(1 + int(rng.expovariate(1 / (65 if turn % 2 == 0 else 350))), len(words) // 2)
                start = rng.randrange(len(words) - length)
                text = " ".join(words[start : start + length]) + '\nü "x" {}[] 🙂'
                turns.append({"from": "human" if turn % 2 == 0 else "gpt", "value": text})
            opening = "[" if number == 0 else ","
            file.write(f"{opening}\n  {json.dumps({'id': str(number), 'conversations': turns}, indent=2)}")
        file.write("\n]\n")


def child(arguments: argparse.Namespace) -> None:
    """Prepares one workload and makes all its requests; prints what the parent cannot see."""
    sys.path.insert(0, str(ROOT))
    from latency_profile.workload import Lengths, WorkloadSpec, prepare

    source: dict[str, Any] = {"dataset": arguments.dataset}
    if arguments.dataset is None:
        source = {"input_lengths": Lengths.fixed(32), "output_lengths": Lengths.fixed(32)}
    spec = WorkloadSpec(
        tokenizer=arguments.tokenizer,
        models=("m",),
        nonce="benchmark",
        seed=arguments.seed,
        cache_dir=arguments.folder,
        **source,
    )
    requests = prepare(spec, arguments.prompts).requests(0, arguments.prompts)
    next(requests)
    print("first", flush=True)
    made = 1 + sum(1 for _ in requests)
    status = Path("/proc/self/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    cpu = time.process_time()
    print(json.dumps({"made": made, "peak_mib": peak_kib / 1024, "cpu_s": cpu}), flush=True)


def measure(name: str, arguments: list[str]) -> bool:
    """Runs one process and prints its row. Returns whether it kept its limits."""
    started = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--child", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first = time.perf_counter() - started
        told = json.loads(process.stdout.readline())
        total = time.perf_counter() - started
    seconds, mebibytes = LIMITS.get(name, (float("inf"), float("inf")))
    kept = first <= seconds and told["peak_mib"] <= mebibytes
    print(
        f"{name:<24}{told['made']:>9,}{first:>12.2f}{total:>10.2f}{told['cpu_s']:>9.2f}{told['peak_mib']:>11.0f}"
        f"{'' if kept else '   over its limit'}",
        flush=True,
    )
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=94_000)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--tokenizer", default="bundled")
    parser.add_argument("--folder", type=Path, help="where to work; the file stays there and is used again")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dataset", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return 0
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="workload-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        dataset = folder / f"sharegpt-{arguments.conversations}.json"
        if not dataset.exists():
            generate(dataset, arguments.conversations)
        print(f"{arguments.conversations:,} conversations, {dataset.stat().st_size / 1e6:.0f} MB")
        print(f"{'':<24}{'requests':>9}{'first (s)':>12}{'all (s)':>10}{'CPU (s)':>9}{'peak (MiB)':>11}")
        cache = folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        common = ["--tokenizer", arguments.tokenizer, "--folder", str(cache)]
        data = ["--dataset", str(dataset), "--prompts", str(arguments.prompts)]
        kept = [
            measure("cold", [*common, *data]),
            measure("warm", [*common, *data]),
            measure("another seed", [*common, *data, "--seed", "1"]),
            measure("synthetic, 32 tokens", [*common, "--prompts", "100000"]),
        ]
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
