"""Servers that this tool starts itself, one after the other, to compare engines on one machine.

    settings ─▶ command line ─▶ guard ─▶ server ◀═ profile ─▶ records ─▶ run's JSON, CSV, summary, comparison

One file a server says how it is started; everything that is measured is measured by the profile of a running server.
"""

from latency_profile.launch.llamacpp import LlamaCpp
from latency_profile.launch.server_settings import ServerSettings
from latency_profile.launch.sglang import SGLang
from latency_profile.launch.transformers import Transformers
from latency_profile.launch.vllm import Vllm

SERVERS: dict[str, type[ServerSettings]] = {
    "vllm": Vllm,
    "sglang": SGLang,
    "llamacpp": LlamaCpp,
    "transformers": Transformers,
}
