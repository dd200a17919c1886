"""Prometheus' text format, version 0.0.4: what a server's /metrics says at one moment.

https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md. Names stay as the server
spells them; prometheus_client's parser renames counters (`llamacpp:n_tokens_max` becomes `…_max_total`), and names
are the keys by which results of different nights are compared.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Literal, cast

Kind = Literal["counter", "gauge", "histogram", "summary", "untyped"]
Labels = tuple[tuple[str, str], ...]  # sorted by name

KINDS = {"counter", "gauge", "histogram", "summary"}
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)\s*(?:\{((?:[^"}]|"(?:\\.|[^"\\])*")*)\})?\s*(\S+)')
LABEL = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:\\.|[^"\\])*)"\s*,?')
ESCAPED = re.compile(r"\\(.)")


@dataclass(slots=True)
class Family:
    """One metric with all its series, (sample name, labels) → value; a histogram has _bucket, _sum and _count."""

    kind: Kind
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scrape:
    """What was there at `at_s` (s, of any clock that two scrapes share): families by name."""

    at_s: float
    families: dict[str, Family]


def parse(text: str) -> dict[str, Family]:
    """The families of an exposition, without the `_created` times of OpenMetrics. Raises ValueError for other text."""
    kinds: dict[str, Kind] = {}
    families: dict[str, Family] = {}
    for number, raw in enumerate(text.split("\n"), 1):  # a label may hold what Python takes for other ends of lines
        line = raw.strip()
        if line.startswith("#"):
            words = line.split()
            if len(words) == 4 and words[1] == "TYPE":
                kinds[words[2]] = cast(Kind, words[3]) if words[3] in KINDS else "untyped"
            continue
        if not line:
            continue
        match = SAMPLE.match(line)
        if not match:
            raise ValueError(f"line {number} is no sample of Prometheus' text format")
        sample, labels, value = match.groups()
        name = family_of(sample, kinds)
        if name.endswith("_created"):
            continue
        family = families.setdefault(name, Family(kinds.get(name, "untyped")))
        try:
            found = parse_labels(labels or "")
            if family.kind == "histogram" and sample == f"{name}_bucket" and math.isnan(float(dict(found)["le"])):
                raise ValueError("a bucket's bound is no number")
            family.samples[sample, found] = float(value)
        except (ValueError, KeyError) as error:
            raise ValueError(f"line {number} has no number or no labels where they belong") from error
    return families


def family_of(sample: str, kinds: dict[str, Kind]) -> str:
    """The family that a sample belongs to, by the TYPE lines so far."""
    if sample in kinds:
        return sample
    for kind, suffixes in PARTS.items():
        for suffix in suffixes:
            name = sample.removesuffix(suffix)
            if name != sample and kinds.get(name) == kind:
                return name
    return sample


def parse_labels(text: str) -> Labels:
    """The labels between the braces, sorted. Raises ValueError where something else is there."""
    found = []
    position = 0
    while position < len(text.rstrip()):
        match = LABEL.match(text, position)
        if not match:
            raise ValueError(f"no label at {text[position : position + 20]!r}")
        found.append((match[1], ESCAPED.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], match[2])))
        position = match.end()
    return tuple(sorted(found))
