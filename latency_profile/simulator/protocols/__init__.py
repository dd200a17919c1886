"""One file a model server: how it reads requests and writes answers. `load` gives one by its name."""

from importlib import import_module

from latency_profile.simulator.protocols.base import ServerProtocol

NAMES = (
    "vllm",
    "sglang",
    "llamacpp",
    "tgi",
    "tensorrt_llm_triton",
    "jetstream",
    "sax",
    "naive_transformers",
    "openai",
)


def load(name: str) -> type[ServerProtocol]:
    """The protocol of a name in `NAMES`; its module calls it `Protocol`."""
    protocol: type[ServerProtocol] = import_module(f"{__name__}.{name}").Protocol
    return protocol
