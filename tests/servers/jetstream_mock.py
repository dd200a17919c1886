"""A real JetStream gRPC orchestrator with its mock engine: `python jetstream_mock.py PORT METRICS_PORT`, until killed.

Runs in the environment that `install_jetstream.sh` makes, and needs nothing of this repository. It prints READY when it
can be asked. Everything listens on 127.0.0.1.

The mock engine's n-th token is a number that grows by half from one to the next, and its text that Unicode character.
Past the sixth token of a long prompt that is no character any more, and JetStream kills itself: ask for five at most.
"""

import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp

if not hasattr(jax, "tree_map"):  # JetStream 0.2.2 uses the alias, which JAX has removed
    jax.tree_map = jax.tree_util.tree_map

import grpc
import prometheus_client
from jetstream.core import config_lib, orchestrator, server_lib
from jetstream.core.implementations.mock import config
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc
from jetstream.engine import mock_engine

PRETENDED_WORK = 512  # side of the matrices that the mock multiplies in place of a model; its own 4096 are for a TPU


class SmallOnes:
    """jax.numpy whose `ones` are no larger than PRETENDED_WORK: what the mock engine makes its pretended work of."""

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)

    def ones(self, shape: tuple[int, ...]) -> Any:
        return jnp.ones(tuple(min(side, PRETENDED_WORK) for side in shape))


def count_tokens() -> None:
    """The metric `mock_generated_tokens`: token ids that the driver hands to the answers of requests."""
    counter = prometheus_client.Counter("mock_generated_tokens", "Token ids handed to answers")
    enqueue = orchestrator.ActiveRequest.enqueue_samples

    def counting(request: Any, samples: list[Any]) -> None:
        counter.inc(sum(len(sample.token_ids) for sample in samples))
        enqueue(request, samples)

    orchestrator.ActiveRequest.enqueue_samples = counting


def warm_up(port: int) -> None:
    """One request of each padded length, so that nothing is compiled later."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        decode = jetstream_pb2_grpc.OrchestratorStub(channel).Decode
        for text in ("short", "much longer than the thirty-two tokens of the cache"):
            content = jetstream_pb2.DecodeRequest.TextContent(text=text)
            list(decode(jetstream_pb2.DecodeRequest(text_content=content, max_tokens=2), timeout=60))


def run(port: int, metrics_port: int) -> None:
    """Serve on 127.0.0.1 until killed."""
    mock_engine.jnp = SmallOnes()
    count_tokens()
    server_lib._HOST = "127.0.0.1"
    server_lib.start_http_server = functools.partial(prometheus_client.start_http_server, addr="127.0.0.1")
    server = server_lib.run(
        port=port,
        config=config.get_server_config("InterleavedCPUTestServer"),
        devices=server_lib.get_devices(),
        metrics_server_config=config_lib.MetricsServerConfig(port=metrics_port),
    )
    warm_up(port)
    print("READY", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]))
