"""vLLM's OpenAI server: /v1/completions (default) and /v1/chat/completions, with the fields that only vLLM has.

Source: vLLM 0.24 and 0.32 (entrypoints/openai protocol). `continuous_usage_stats` puts the count of tokens so far on
every event, which tells how many tokens an event carried; `return_token_ids` would too, but sends the prompt's ids back
in the first event, and so inside the TTFT.
"""

import dataclasses
from typing import Any, ClassVar

from backends import openai
from backends.base import Backend, CacheReset, Options, Traits, Unsupported, json_field


def _vllm_settings(common: dict[str, Any], options: Options) -> dict[str, Any]:
    if options.stream:
        common["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    common.pop("best_of", None)
    if options.use_beam_search:
        if options.stream:
            raise Unsupported("use_beam_search", "a stream of vLLM")
        common["use_beam_search"] = True
        common["n"] = options.best_of  # vLLM takes the width of the beam from n
    elif options.best_of != 1:
        raise Unsupported("best_of", "vLLM, except with --use-beam-search, where it is the beam's width")
    return common


_TRAITS = Traits(
    settings=frozenset({"ignore_eos", "best_of", "use_beam_search", "top_k", "temperature"}),
    exact_length=True,
    counts="usage on every event, token ids, tokenizer",
    verified="vLLM 0.32.0 (CPU) and 0.24.0 (H100)",
)


class CompletionsDoor(openai.CompletionsDoor):
    """POST /v1/completions of vLLM."""

    traits: ClassVar[Traits] = _TRAITS

    def settings(self, options: Options) -> dict[str, Any]:
        return _vllm_settings(super().settings(options), options)


class ChatDoor(openai.ChatDoor):
    """POST /v1/chat/completions of vLLM."""

    traits: ClassVar[Traits] = dataclasses.replace(_TRAITS, chat=True)

    def settings(self, options: Options) -> dict[str, Any]:
        return _vllm_settings(super().settings(options), options)


BACKEND = Backend(
    name="vllm",
    title="vLLM",
    doors={"completions": CompletionsDoor, "chat": ChatDoor},
    models_path="/v1/models",
    read_models=openai.served_models,
    health_path="/health",
    version_path="/version",
    read_version=json_field("version"),
    # 0.24 and 0.32 answer 200 also where blocks in use kept them from it, with {"success": false}; before, no body
    cache_reset=CacheReset(
        "/reset_prefix_cache",
        "vLLM has this door where it is started with VLLM_SERVER_DEV_MODE=1",
        lambda body: json_field("success")(body) != "False",
    ),
)
