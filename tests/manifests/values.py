"""Rules for single values: names, images, quantities, variables, addresses, schedules."""

import ipaddress
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

from tests.manifests.objects import Object, Pod, of_kind, place, pods

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # DNS-1123
CRON_NAME = 52  # its Jobs append a dash and ten digits
PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")  # IANA service name
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
TAG = re.compile(r"[^\s:@]+(?::[0-9]+/[^\s:@]+)?:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})")
SCALE = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9)}
SCALE |= {"T": Decimal(10**12), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40)}


def _named_places(objects: list[Object]) -> Iterator[tuple[str, str, re.Pattern[str]]]:
    for each in objects:
        yield place(each), each["metadata"]["name"], LABEL
    for pod in pods(objects):
        for container in pod.containers:
            yield pod.place, container["name"], LABEL
            for port in container.get("ports", []):
                yield pod.place, port.get("name", "unnamed"), PORT_NAME
        for volume in pod.spec.get("volumes", []):
            yield pod.place, volume["name"], LABEL


def names(objects: list[Object]) -> Iterator[str]:
    """DNS-1123 names, port names, values of labels; no object twice."""
    for where, name, pattern in _named_places(objects):
        if not pattern.fullmatch(name):
            yield f"{where}: {name!r} is no name"
    for each in of_kind(objects, "CronJob"):
        if len(each["metadata"]["name"]) > CRON_NAME:
            yield f"{place(each)}: no room for what its Jobs' names have beside it"
    seen = set()
    for each in objects:
        if place(each) in seen:
            yield f"{place(each)}: twice"
        seen.add(place(each))
    for where, given in [(place(each), each["metadata"].get("labels")) for each in objects] + [
        (pod.place, pod.labels) for pod in pods(objects)
    ]:
        for name, value in (given or {}).items():
            if not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
                yield f"{where}: label {name}: {value!r} is no label's value"


def images(objects: list[Object]) -> Iterator[str]:
    """Every image is pinned by a tag that says which one."""
    for pod in pods(objects):
        for container in pod.containers:
            found = TAG.fullmatch(container["image"])
            if not found or found["tag"] == "latest":
                yield f"{pod.place}: image {container['image']!r} is not pinned"


def amount(quantity: Any) -> Decimal | None:
    """What a quantity comes to; None where it is none."""
    found = QUANTITY.fullmatch(str(quantity)) if not isinstance(quantity, bool) else None
    return Decimal(found[1]) * SCALE[found[2] or ""] if found else None


def _limits(where: str, resources: Object) -> Iterator[str]:
    for group in ("requests", "limits"):
        for name, quantity in resources.get(group, {}).items():
            if amount(quantity) is None:
                yield f"{where}: {group} {name}: {quantity!r} is no quantity"
    for name, limit in resources.get("limits", {}).items():
        request = resources.get("requests", {}).get(name)
        low, high = amount(request), amount(limit)
        if request is not None and low is not None and high is not None and low > high:
            yield f"{where}: {name}: requests {request}, more than its limit {limit}"


def quantities(objects: list[Object]) -> Iterator[str]:
    """Quantities are some, and no request is above its limit."""
    for pod in pods(objects):
        for container in pod.containers:
            yield from _limits(pod.place, container.get("resources", {}))
        for volume in pod.spec.get("volumes", []):
            limit = (volume.get("emptyDir") or {}).get("sizeLimit", 1)
            if amount(limit) is None:
                yield f"{pod.place}: sizeLimit: {limit!r} is no quantity"
    for claim in of_kind(objects, "PersistentVolumeClaim"):
        yield from _limits(place(claim), claim["spec"]["resources"])


def _variables(pod: Pod, container: Object) -> Iterator[str]:
    before: set[str] = set()
    for entry in container.get("env", []):
        name, value = entry["name"], entry.get("value")
        where = f"{pod.place}: variable {name}"
        if not isinstance(name, str) or not VARIABLE.fullmatch(name):
            yield f"{where}: no name of a variable"
        if value is not None and not isinstance(value, str):
            yield f"{where}: {value!r} is not quoted: no text to Kubernetes"
        if (value is None) == (entry.get("valueFrom") is None):
            yield f"{where}: takes one of value and valueFrom"
        if name in before:
            yield f"{where}: twice"
        for other in re.findall(r"\$\((\w+)\)", value if isinstance(value, str) else ""):
            if other not in before:
                yield f"{where}: $({other}) stands before it is set, and is left as it is"
        before.add(name)


def variables(objects: list[Object]) -> Iterator[str]:
    """Variables are text, once each, and refer to those above them only."""
    for pod in pods(objects):
        for container in pod.containers:
            yield from _variables(pod, container)


def _network(where: str, cidr: object) -> Iterator[str]:
    try:
        ipaddress.ip_network(str(cidr), strict=True)
    except ValueError as error:
        yield f"{where}: {error}"


def addresses(objects: list[Object]) -> Iterator[str]:
    """Address ranges are ranges, and exceptions lie inside theirs."""
    for policy in of_kind(objects, "NetworkPolicy"):
        rules = [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
        blocks = [
            peer["ipBlock"] for rule in rules for peer in rule.get("from", rule.get("to", [])) if "ipBlock" in peer
        ]
        for block in blocks:
            wrong = [*_network(place(policy), block["cidr"])]
            for inner in block.get("except", []):
                wrong += _network(place(policy), inner)
            yield from wrong
            if wrong:
                continue
            outer = ipaddress.ip_network(block["cidr"])
            for inner in map(ipaddress.ip_network, block.get("except", [])):
                if inner.version != outer.version or not inner.subnet_of(outer):  # type: ignore[arg-type]
                    yield f"{place(policy)}: {inner} is not inside {outer}"


CRON = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}
CRON_NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "weekday": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}


def _cron_value(field: str, text: str) -> bool:
    low, high = CRON[field]
    return text.lower() in CRON_NAMES.get(field, []) or (text.isdigit() and low <= int(text) <= high)


def _cron_part(field: str, part: str) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isdigit() and 0 < int(step) <= CRON[field][1]):
        return False
    first, dash, last = span.partition("-")
    if not dash:
        return span == "*" or _cron_value(field, span)
    if not (_cron_value(field, first) and _cron_value(field, last)):
        return False
    return not (first.isdigit() and last.isdigit()) or int(first) <= int(last)


def schedules(objects: list[Object]) -> Iterator[str]:
    """A cron schedule's fields are within their bounds, its time zone exists, and it may start late."""
    for each in of_kind(objects, "CronJob"):
        schedule, where = str(each["spec"]["schedule"]), place(each)
        parts = schedule.split()
        if len(parts) != len(CRON):
            yield f"{where}: schedule {schedule!r} has {len(parts)} fields"
        elif schedule.startswith(("TZ=", "CRON_TZ=")):
            yield f"{where}: a time zone inside the schedule; it belongs in timeZone"
        for field, text in zip(CRON, parts, strict=False):
            if not all(_cron_part(field, part) for part in text.split(",")):
                yield f"{where}: schedule {schedule!r}: {text!r} is no {field}"
        if each["spec"].get("timeZone") not in available_timezones():
            yield f"{where}: timeZone {each['spec'].get('timeZone')!r} is none"
        if each["spec"].get("startingDeadlineSeconds", 100) < 10:  # the controller looks every 10 s
            yield f"{where}: startingDeadlineSeconds below 10 s may never start it"
