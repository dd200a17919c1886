"""SGLang's server."""

from typing import ClassVar

from latency_profile.launch.server_settings import Gpus, Port, ServerSettings, Share, Text, flags, lacks, this_python


class SGLang(ServerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Its flags by their names; null leaves one to SGLang."""

    backend: ClassVar[str] = "sglang"

    port: Port = 30000
    python: Text = this_python()
    model_path: Text = "meta-llama/Meta-Llama-3-8B-Instruct"
    tp_size: Gpus | None = 1
    mem_fraction_static: Share | None = 0.85

    @property
    def model_name(self) -> str:
        return self.model_path

    def program(self, host: str, port: int) -> list[str]:
        return [
            *(self.python, "-m", "sglang.launch_server"),
            *flags(
                model_path=self.model_path,
                host=host,
                port=port,
                tp_size=self.tp_size,
                mem_fraction_static=self.mem_fraction_static,
            ),
            "--enable-metrics",  # without it the profile has no view of its queue and cache
        ]

    def program_missing(self) -> str | None:
        return lacks(self.python, "sglang")
