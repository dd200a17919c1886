"""A real llama.cpp server in this process: `python tests/servers/llamacpp.py MODEL.gguf PORT NAME`, until SIGTERM.

Needs the package `xllamacpp` and nothing of this repository. NAME is what it calls the model.
"""

import signal
import sys

import xllamacpp

SLOTS = 4
CONTEXT_TOKENS = 2048  # of each slot


def run(model: str, port: int, name: str) -> None:
    """Serve `model` on 127.0.0.1 until SIGTERM or SIGINT."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_TOKENS
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = 1  # two would wait for each other, spinning, wherever another test takes a core
    params.endpoint_metrics = params.endpoint_slots = params.endpoint_props = True
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before the server's threads start, so that they inherit it
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    signal.sigwait(ends)


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), sys.argv[3])
