"""vLLM's OpenAI server."""

from typing import ClassVar

from latency_profile.launch.server_settings import Gpus, Port, ServerSettings, Share, Text, flags, lacks, this_python


class Vllm(ServerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Its flags by their names; null leaves one to vLLM."""

    backend: ClassVar[str] = "vllm"

    port: Port = 8000
    python: Text = this_python()
    model: Text = "meta-llama/Meta-Llama-3-8B-Instruct"
    tensor_parallel_size: Gpus | None = 1
    gpu_memory_utilization: Share | None = 0.90
    dtype: Text | None = "float16"
    max_model_len: int | None = 4096

    @property
    def model_name(self) -> str:
        return self.model

    def program(self, host: str, port: int) -> list[str]:
        return [
            *(self.python, "-m", "vllm.entrypoints.openai.api_server"),
            *flags(
                model=self.model,
                host=host,
                port=port,
                tensor_parallel_size=self.tensor_parallel_size,
                gpu_memory_utilization=self.gpu_memory_utilization,
                dtype=self.dtype,
                max_model_len=self.max_model_len,
            ),
        ]

    def program_missing(self) -> str | None:
        return lacks(self.python, "vllm")
