"""GuideLLM, of the vLLM project."""

from pathlib import Path

from benchmarks.peers.tool import ENVIRONMENTS, INPUT_TOKENS, MODEL, Load, Report, Tool, read_json

_RESULT = "benchmarks.json"


class GuideLlm(Tool):
    """With as many worker processes as it takes by itself."""

    name = "guidellm"
    title = "GuideLLM 0.8"
    environment = ENVIRONMENTS / "peers" / "guidellm"

    def command(self, load: Load) -> list[str]:
        backend = f"kind=openai_http,target={load.url},model={MODEL},request_format=/v1/completions"
        command = [str(self.environment / "bin" / "guidellm"), "run", "--backend", backend]
        command += ["--profile", f"kind=poisson,rate={load.rate:g}"]
        command += ["--constraint", f"kind=max_requests,count={load.requests}"]
        command += ["--tokenizer", f"kind=hf_auto,model={load.tokenizer}"]
        command += ["--data", f"kind=synthetic_text,prompt_tokens={INPUT_TOKENS},output_tokens={load.tokens}"]
        return [*command, "--output", f"kind=json,path={load.folder / _RESULT}", "--disable-console"]

    def report(self, folder: Path) -> Report:
        [result] = read_json(folder / _RESULT)["benchmarks"]
        metrics = result["metrics"]
        ttft = metrics["time_to_first_token_ms"]["successful"]
        totals = metrics["request_totals"]
        lost = totals["errored"] + totals["incomplete"]
        return Report(
            ttft_p50_ms=ttft["median"],
            ttft_p99_ms=ttft["percentiles"]["p99"],
            requests_per_s=metrics["requests_per_second"]["successful"]["mean"],
            succeeded=totals["successful"],
            said=((f"{lost} requests failed or were not finished",) if lost else ())
            + tuple(warning["message"] for warning in result["warnings"]),
        )
