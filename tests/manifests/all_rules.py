"""Every rule, by its name."""

from collections.abc import Callable, Iterator

from tests.manifests import ours, references, values
from tests.manifests.objects import Object

Rule = Callable[[list[Object]], Iterator[str]]

RULES: tuple[Rule, ...] = (
    values.names,
    values.images,
    values.quantities,
    values.variables,
    values.addresses,
    values.schedules,
    references.selectors,
    references.ports,
    references.policies,
    references.asked,
    references.volumes,
    references.shared_claims,
    references.restarts,
    ours.pod_security,
    ours.resources,
    ours.settings,
    ours.runs,
    ours.endings,
    ours.metrics,
    ours.care,
)
