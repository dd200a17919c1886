"""Rules for what refers to something else: selectors, ports, volumes, accounts, exit codes, the parts of a Job."""

from collections.abc import Iterator
from typing import Any

from tests.manifests.objects import Object, Pod, job_spec, labels, of_kind, place, pods, selects

SERVER = {"app.kubernetes.io/component": "model-server"}


def selectors(objects: list[Object]) -> Iterator[str]:
    """A Deployment selects its own pods; Services, policies and scrapes select pods that are there."""
    there = list(pods(objects))
    for each in of_kind(objects, "Deployment"):
        if not selects(each["spec"]["selector"], labels(each["spec"]["template"])):
            yield f"{place(each)}: its selector does not match its pods"
    wanted = [(each, each["spec"]["selector"]) for each in of_kind(objects, "Service")]
    wanted += [(each, each["spec"]["podSelector"]) for each in of_kind(objects, "NetworkPolicy")]
    wanted += [
        (each, each["spec"]["selector"]) for kind in ("PodMonitor", "PodMonitoring") for each in of_kind(objects, kind)
    ]
    for each, selector in wanted:
        if not any(selects(selector, pod.labels) for pod in there):
            yield f"{place(each)}: selects no pod"
    apart: dict[tuple[tuple[str, str], ...], str] = {}
    for pod in there:
        if of_kind([pod.owner], "Deployment"):
            selector = tuple(sorted(pod.owner["spec"]["selector"].get("matchLabels", {}).items()))
            if selector in apart:
                yield f"{pod.place}: has the selector of {apart[selector]}"
            apart[selector] = pod.place


def _ports(pod: Pod) -> dict[str, int]:
    return {port.get("name", ""): port["containerPort"] for each in pod.containers for port in each.get("ports", [])}


def _known_port(wanted: Any, known: dict[str, int]) -> bool:
    return wanted in (known if isinstance(wanted, str) else known.values())


def _possible(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 65535


def ports(objects: list[Object]) -> Iterator[str]:
    """Ports are from 1 to 65535; those of probes, Services and scrapes are ports of the pods that they mean."""
    there = list(pods(objects))
    for pod in there:
        known = _ports(pod)
        yield from (f"{pod.place}: {number} is no port" for number in known.values() if not _possible(number))
        for container in pod.containers:
            own = {port.get("name", ""): port["containerPort"] for port in container.get("ports", [])}
            for name in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container.get(name, {})
                wanted = probe.get("httpGet", probe.get("tcpSocket", {})).get("port")
                if wanted is not None and not _known_port(wanted, own):
                    yield f"{pod.place}: {name}: {container['name']} has no port {wanted}"
    for service in of_kind(objects, "Service"):
        for port in service["spec"]["ports"]:
            if not _possible(port["port"]):
                yield f"{place(service)}: {port['port']} is no port"
            for pod in (each for each in there if selects(service["spec"]["selector"], each.labels)):
                if not _known_port(port.get("targetPort", port["port"]), _ports(pod)):
                    yield f"{place(service)}: {pod.place} has no port {port.get('targetPort', port['port'])}"
    for kind, ends in (("PodMonitor", "podMetricsEndpoints"), ("PodMonitoring", "endpoints")):
        for each in of_kind(objects, kind):
            for pod in (one for one in there if selects(each["spec"]["selector"], one.labels)):
                if not all(_known_port(end["port"], _ports(pod)) for end in each["spec"][ends]):
                    yield f"{place(each)}: {pod.place} has no such port"


def policies(objects: list[Object]) -> Iterator[str]:
    """Policies name real ports; what measures may reach the pods' port of the server that it is told to ask."""
    there = list(pods(objects))
    for policy in of_kind(objects, "NetworkPolicy"):
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            for port in rule.get("ports", []):
                if not _possible(port["port"]):
                    yield f"{place(policy)}: {port['port']} is no port"
    for client in (pod for pod in there if pod.measures):
        rules = [
            rule
            for policy in of_kind(objects, "NetworkPolicy")
            if selects(policy["spec"]["podSelector"], client.labels)
            for rule in policy["spec"].get("egress", [])
        ]
        for server in (pod for pod in there if selects(SERVER, pod.labels)):
            open_ports = {
                port["port"]
                for rule in rules
                if any("podSelector" in peer and selects(peer["podSelector"], server.labels) for peer in rule["to"])
                for port in rule["ports"]
            }
            if _ports(server).get("http") not in open_ports:
                yield f"{client.place}: may not reach port {_ports(server).get('http')} of {server.place}"


def asked(objects: list[Object]) -> Iterator[str]:
    """Where a model server is among the objects, the variables IP and PORT name a Service of it."""
    services = {each["metadata"]["name"]: each for each in of_kind(objects, "Service")}
    for pod in (each for each in pods(objects) if each.measures and services):
        given = {entry["name"]: entry.get("value") for entry in pod.containers[0]["env"]}
        service = services.get(str(given.get("IP")))
        if service is None:
            yield f"{pod.place}: IP={given.get('IP')} is no Service here"
        elif given.get("PORT") not in [str(port["port"]) for port in service["spec"]["ports"]]:
            yield f"{pod.place}: PORT={given.get('PORT')} is no port of {place(service)}"


def volumes(objects: list[Object]) -> Iterator[str]:
    """What is mounted exists, where it is used once; claims and accounts are among the objects."""
    claims = {each["metadata"]["name"] for each in of_kind(objects, "PersistentVolumeClaim")}
    accounts = {each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")}
    for pod in pods(objects):
        known = {each["name"] for each in pod.spec.get("volumes", [])}
        mounted = [mount for container in pod.containers for mount in container.get("volumeMounts", [])]
        for name in {mount["name"] for mount in mounted} - known:
            yield f"{pod.place}: {name} is mounted and no volume"
        for name in known - {mount["name"] for mount in mounted}:
            yield f"{pod.place}: volume {name} is mounted nowhere"
        for container in pod.containers:
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            if len(set(paths)) < len(paths):
                yield f"{pod.place}: two volumes at one path"
        for volume in pod.spec.get("volumes", []):
            if len(volume) != 2:
                yield f"{pod.place}: volume {volume['name']} takes one source, has {sorted(set(volume) - {'name'})}"
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim is not None and claim not in claims:
                yield f"{pod.place}: no claim {claim}"
        account = pod.spec.get("serviceAccountName")
        if account is not None and account not in accounts:
            yield f"{pod.place}: no ServiceAccount {account}"


def _one_node(pod: Pod) -> bool:
    """Whether the pods of one template must all be on one node."""
    near = pod.spec.get("affinity", {}).get("podAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", [])
    return any(
        term["topologyKey"] == "kubernetes.io/hostname" and selects(term["labelSelector"], pod.labels) for term in near
    )


def shared_claims(objects: list[Object]) -> Iterator[str]:
    """Pods that share a claim may all have it: ReadWriteOnce is for the pods of one node."""
    modes = {
        each["metadata"]["name"]: each["spec"]["accessModes"] for each in of_kind(objects, "PersistentVolumeClaim")
    }
    for pod in pods(objects):
        several = (job_spec(pod.owner) or {}).get("parallelism", pod.owner["spec"].get("replicas", 1)) > 1
        for volume in pod.spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if several and modes.get(claim) == ["ReadWriteOnce"] and not _one_node(pod):
                yield f"{pod.place}: claim {claim} is ReadWriteOnce, and its pods may be on several nodes"


def restarts(objects: list[Object]) -> Iterator[str]:
    """restartPolicy as the kind wants it; a podFailurePolicy with Never only, of a container that is there."""
    for pod in pods(objects):
        policy, spec = pod.spec.get("restartPolicy", "Always"), job_spec(pod.owner)
        if (policy == "Always") != (spec is None):
            yield f"{pod.place}: restartPolicy {policy}"
        for rule in (spec or {}).get("podFailurePolicy", {}).get("rules", []):
            if policy != "Never":
                yield f"{pod.place}: podFailurePolicy goes with restartPolicy Never only"
            codes = rule.get("onExitCodes")
            if (codes is None) == (not rule.get("onPodConditions")):
                yield f"{pod.place}: a rule takes one of onExitCodes and onPodConditions"
            if codes and codes.get("containerName") not in [each["name"] for each in pod.spec["containers"]]:
                yield f"{pod.place}: podFailurePolicy of no container: {codes.get('containerName')}"
            if codes and (
                codes["values"] != sorted(set(codes["values"]))
                or not 0 < min(codes["values"]) <= max(codes["values"]) <= 255
            ):
                yield f"{pod.place}: exit codes {codes['values']} are not ascending from 1 to 255"
