"""Hugging Face's `transformers serve`."""

from typing import ClassVar

from latency_profile.launch.server_settings import Port, ServerSettings, Text, flags, lacks, this_python


class Transformers(ServerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Its flags by their names; null leaves one to it. It serves a folder under the path that it was given."""

    backend: ClassVar[str] = "naive_transformers"

    port: Port = 8001
    python: Text = this_python()
    model: Text = "meta-llama/Meta-Llama-3-8B-Instruct"
    device: Text | None = None
    dtype: Text | None = "float16"

    @property
    def model_name(self) -> str:
        return self.model

    @property
    def served_name(self) -> str | None:
        return self.model  # it lists what lies in the cache, and not what it serves

    def program(self, host: str, port: int) -> list[str]:
        return [
            *(self.python, "-m", "transformers.cli.transformers", "serve", self.model),
            *flags(host=host, port=port, device=self.device, dtype=self.dtype),
        ]

    def program_missing(self) -> str | None:
        return lacks(self.python, "transformers", "torch", "fastapi", "uvicorn")
