"""Places in the rendered objects, for tests that make something wrong."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.manifests import objects as parts
from tests.manifests.all_rules import Rule
from tests.manifests.objects import Object, of_kind

JOB, CRON, DEPLOYMENT, SHARDS = "kinds/job", "kinds/cronjob", "kinds/deployment", "kinds/distributed"
DEMO, VLLM = "overlays/demo", "overlays/vllm-gpu"


class Wrong(NamedTuple):
    """One way to be wrong."""

    rule: Rule
    folder: str
    change: Callable[[list[Object]], Any]
    line: str  # part of what the rule then says


def pod(given: list[Object]) -> Object:
    """The specification of the pod that measures."""
    return next(each.spec for each in parts.pods(given) if each.measures)


def server(given: list[Object]) -> Object:
    return next(each.spec for each in parts.pods(given) if not each.measures)


def container(given: list[Object]) -> Object:
    found: Object = pod(given)["containers"][0]
    return found


def variable(given: list[Object], name: str) -> Object:
    return next(entry for entry in container(given)["env"] if entry["name"] == name)


def spec(given: list[Object], kind: str) -> Object:
    found: Object = of_kind(given, kind)[0]["spec"]
    return found


def rules_of(given: list[Object]) -> list[Any]:
    found: list[Any] = spec(given, "Job")["podFailurePolicy"]["rules"]
    return found


def policy(given: list[Object], name: str) -> Object:
    return next(each["spec"] for each in of_kind(given, "NetworkPolicy") if each["metadata"]["name"] == name)
