"""PromQL as it is spelled here, and what it answers. Pure.

Every selector has one whole metric name: Google Managed Prometheus refuses patterns of names (HTTP status 400).
"""

import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from latency_profile.telemetry.exposition import Labels
from latency_profile.telemetry.vocabulary import models_in, spelled

PARTS = ("_bucket", "_sum", "_count")  # of a histogram
RESETS = "resets"
INSTANCE_LABELS = ("instance", "pod")
_PART = "part"  # a label that tells what results are in one `or`


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: Unix s and values; an instant vector has one of each."""

    name: str  # of the sample, or RESETS
    labels: Labels
    at_s: Sequence[float]
    values: Sequence[float]

    @property
    def instance(self) -> str:
        """The replica that it is of."""
        labels = dict(self.labels)
        return next((labels[name] for name in INSTANCE_LABELS if labels.get(name)), "")

    @property
    def models(self) -> set[str]:
        """What the server calls the model; empty where it does not tell models apart."""
        return models_in(self.labels)

    def finite(self) -> "Series":
        """Without what is no number."""
        kept = [(at, value) for at, value in zip(self.at_s, self.values, strict=True) if math.isfinite(value)]
        return Series(self.name, self.labels, [at for at, _ in kept], [value for _, value in kept])


def selector(**wanted: str | None) -> str:
    """Label matchers with their braces; None: any. JSON's strings are strings of PromQL too."""
    quoted = [f"{label}={json.dumps(value, ensure_ascii=False)}" for label, value in wanted.items() if value]
    return "{" + ",".join(quoted) + "}"


def samples(name: str, where: str, seconds: float) -> str:
    """All samples of the last so many seconds."""
    return f"{name}{where}[{math.ceil(seconds)}s]"


def histogram(name: str, where: str) -> str:
    """A histogram's three samples in one answer; `or` sees no difference between names, therefore a label has it."""
    return " or ".join(_marked(f"{name}{part}{where}", f"{name}{part}") for part in PARTS)


def histogram_and_resets(name: str, where: str, seconds: float) -> str:
    """The same, and how often each of its series was reset in the last so many seconds."""
    resets = f"resets({samples(f'{name}_count', where, seconds)})"
    return f"{histogram(name, where)} or {_marked(resets, RESETS)}"


def _marked(promql: str, text: str) -> str:
    return f'label_replace({promql}, "{_PART}", "{text}", "", "")'


def series_of(rows: Iterable[dict[str, object]]) -> list[Series]:
    """The result of a query: a vector or a matrix. Raises KeyError, TypeError or ValueError for anything else."""
    found = []
    for row in rows:
        labels = dict(row["metric"])  # type: ignore[call-overload]
        name = labels.pop("__name__", "")
        name = labels.pop(_PART, name)
        pairs: list[tuple[float, str]] = row["values"] if "values" in row else [row["value"]]  # type: ignore[assignment, list-item]
        at_s, values = [float(at) for at, _ in pairs], [float(text) for _, text in pairs]
        found.append(Series(name, tuple(sorted(labels.items())), at_s, values))
    return found


def of_models(series: Sequence[Series], models: Collection[str]) -> list[Series]:
    """The series of these models and those that name none; all of them, where no series would be left."""
    kept = [one for one in series if not one.models or not one.models.isdisjoint(spelled(models))]
    return kept if models and kept else list(series)
