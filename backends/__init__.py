"""One file a model server. `NAMES` are the values of `--backend`, the default first; `load` imports one of them."""

from importlib import import_module

from backends.base import Backend

NAMES: tuple[str, ...] = (
    "vllm",
    "tgi",
    "naive_transformers",
    "tensorrt_llm_triton",
    "sax",
    "jetstream",
    "sglang",
    "llamacpp",
    "openai",
)


def load(name: str) -> Backend:
    """The backend of that name. Raises KeyError for a name that is not in NAMES."""
    if name not in NAMES:
        raise KeyError(name)
    backend = import_module(f"backends.{name}").BACKEND
    assert isinstance(backend, Backend)
    return backend
