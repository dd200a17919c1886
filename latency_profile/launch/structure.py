"""What one engine's run left: the structure of `{backend}_{stamp}.json`. Its JSON Schema in the package is made from it
(`results.schema`)."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from latency_profile.hardware.structure import HardwareReadings
from latency_profile.results import PointResult
from latency_profile.verdict import Kind

SCHEMA_VERSION = "1.0"


class EngineRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One engine, measured or not. Times are in s."""

    schema_version: Annotated[str, Meta(pattern=r"^1\.\d+$")] = SCHEMA_VERSION
    backend: Annotated[str, Meta(description="as it was named on the command line")]
    stem: Annotated[str, Meta(description="{backend}_{YYYYmmdd_HHMMSS}, UTC: what all of its files are called")]
    model: str | None
    url: Annotated[str | None, Meta(description="null: it was never started")]
    concurrency: Annotated[int, Meta(ge=1)]
    command: Annotated[list[str] | None, Meta(description="null: the server ran already. Secrets are not shown")]
    variables: Annotated[list[str], Meta(description="names of the environment variables that it was given besides")]
    start_s: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="from its start until it said that it is healthy")
    ]
    failure: Annotated[str | None, Meta(description="why there are no numbers to use, whatever the point's verdict is")]
    interrupted: Annotated[str | None, Meta(description="SIGINT or SIGTERM, where that cut it short")]
    files: Annotated[dict[str, str], Meta(description="by what they are; beside this file, or in its folder")]
    result: Annotated[PointResult | None, Meta(description="of the point; null: nothing was measured")]
    hardware: Annotated[HardwareReadings | None, Meta(description="GPUs and host, sample by sample")]

    @property
    def verdict(self) -> str:
        """The point's, or FAILED where the server did."""
        if self.failure is not None or self.result is None:
            return Kind.FAILED.value
        return self.result.verdict.verdict.value

    @property
    def usable(self) -> bool:
        return self.failure is None and self.result is not None and self.result.verdict.usable

    @property
    def metrics(self) -> dict[str, Any]:
        """The point's flat metrics by their keys; empty where nothing was measured."""
        found: dict[str, Any] = {} if self.result is None else msgspec.to_builtins(self.result.metrics)
        return found

    @property
    def reasons(self) -> list[str]:
        """Why the verdict is not VALID."""
        own = [] if self.failure is None else [f"{self.failure}."]
        return [*own, *([] if self.result is None else self.result.verdict.reasons)]
