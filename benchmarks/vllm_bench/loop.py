"""`vllm bench serve`, imported once and run for each line on standard input. Runs in vLLM's own environment.

Importing it takes 20 s; to alternate with another client it must be there already. A line is a JSON list of its flags;
the answer is one line of JSON on the standard output that this process was started with: the detailed result.
"""

import argparse
import asyncio
import json
import os
import sys

results = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what vLLM prints must not get between the results

from vllm.benchmarks.serve import add_cli_args, main_async  # noqa: E402

parser = argparse.ArgumentParser()
add_cli_args(parser)
print("ready", file=results, flush=True)
for line in sys.stdin:
    result = asyncio.run(main_async(parser.parse_args(json.loads(line))))
    print(json.dumps(result), file=results, flush=True)
