"""llama.cpp's llama-server."""

from typing import ClassVar

from latency_profile.launch.server_settings import Port, ServerSettings, Text, flags, no_program


class LlamaCpp(ServerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Its flags by their names; null leaves one to llama-server. The slots share ctx_size: 8192 tokens for 32 of them
    are 256 for each request, prompt and answer."""

    backend: ClassVar[str] = "llamacpp"

    port: Port = 8080
    binary_path: Text = "./llama-server"
    model_path: Text = "./model.gguf"
    ctx_size: int | None = 8192
    n_gpu_layers: int | None = 999
    n_parallel: int | None = 32

    @property
    def model_name(self) -> str:
        return self.model_path

    @property
    def own_tokenizer(self) -> str | None:
        return None

    def program(self, host: str, port: int) -> list[str]:
        return [
            self.binary_path,
            *flags(
                model=self.model_path,
                host=host,
                port=port,
                ctx_size=self.ctx_size,
                n_gpu_layers=self.n_gpu_layers,
                parallel=self.n_parallel,
            ),
            "--metrics",  # without it the profile has no view of its queue
        ]

    def program_missing(self) -> str | None:
        return no_program(self.binary_path)
