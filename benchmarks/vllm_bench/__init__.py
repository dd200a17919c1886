"""An independent client, `vllm bench serve`, to stand beside this one."""
