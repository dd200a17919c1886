"""Manifests as Kubernetes reads them, and their parts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

Object = dict[str, Any]

OURS = "latency-profile-generator"  # app.kubernetes.io/name of the pods that measure


class KubernetesLoader(yaml.SafeLoader):
    """Plain scalars as the YAML library of Kubernetes resolves them: it follows YAML 1.1 further than PyYAML does."""


KubernetesLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))
KubernetesLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+0123456789.")
)
KubernetesLoader.add_constructor(
    "tag:yaml.org,2002:bool",
    lambda _, node: str(node.value).lower() in ("y", "yes", "true", "on"),
)


def read(text: str) -> list[Object]:
    """The objects of a manifest."""
    return [each for each in yaml.load_all(text, KubernetesLoader) if each is not None]


@dataclass(frozen=True)
class Pod:
    """A pod's template and the object that it is of."""

    owner: Object
    template: Object

    @property
    def place(self) -> str:
        return place(self.owner)

    @property
    def spec(self) -> Object:
        spec: Object = self.template["spec"]
        return spec

    @property
    def labels(self) -> dict[str, str]:
        return labels(self.template)

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ours(self) -> bool:
        """Whether it runs this tool."""
        return self.labels.get("app.kubernetes.io/name") in (OURS, "simulator")

    @property
    def measures(self) -> bool:
        return self.labels.get("app.kubernetes.io/name") == OURS


def place(of: Object) -> str:
    return f"{of['kind']}/{of['metadata']['name']}"


def labels(of: Object) -> dict[str, str]:
    found: dict[str, str] = of.get("metadata", {}).get("labels") or {}
    return found


def job_spec(of: Object) -> Object | None:
    """The specification of a Job, or of those that a CronJob makes."""
    if of["kind"] == "Job":
        return dict(of["spec"])
    return dict(of["spec"]["jobTemplate"]["spec"]) if of["kind"] == "CronJob" else None


def pods(objects: list[Object]) -> Iterator[Pod]:
    for each in objects:
        spec = job_spec(each) or (each["spec"] if each["kind"] in ("Deployment", "StatefulSet", "DaemonSet") else None)
        if spec is not None:
            yield Pod(each, spec["template"])


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def selects(selector: Object, given: dict[str, str]) -> bool:
    """Whether a selector of labels matches these; an empty one matches all."""
    wanted = selector.get("matchLabels", {}) if "matchLabels" in selector or not selector else selector
    return all(given.get(name) == value for name, value in wanted.items())
