"""Rules for the pods that run this tool: Pod Security, settings, and what keeps a measurement whole."""

from collections.abc import Iterator

from latency_profile.errors import Exit
from latency_profile.settings.manifest import SECRETS, comments
from tests.manifests.objects import Object, Pod, job_spec, of_kind, pods, selects
from tests.manifests.values import amount

DOWNWARD = {  # what RUN_ID is made of
    "JOB_NAME": "metadata.labels['batch.kubernetes.io/job-name']",
    "JOB_UID": "metadata.labels['batch.kubernetes.io/controller-uid']",
}
NOT_RETRIED = [Exit.USAGE, Exit.UNUSABLE, Exit.REGRESSION]


def _demo(objects: list[Object]) -> bool:
    """Whether the server is the simulator: a demo, whose numbers nobody uses."""
    return any(pod.labels.get("app.kubernetes.io/name") == "simulator" for pod in pods(objects))


def _baseline(pod: Pod) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(name):
            yield f"{pod.place}: {name}"
    for volume in pod.spec.get("volumes", []):
        if "hostPath" in volume:
            yield f"{pod.place}: volume {volume['name']} is a hostPath"
    for container in pod.containers:
        context = container.get("securityContext", {})
        if context.get("privileged") or context.get("capabilities", {}).get("add"):
            yield f"{pod.place}: {container['name']} has privileges"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{pod.place}: {container['name']} takes a port of the host"


def _restricted(pod: Pod) -> Iterator[str]:
    whole = pod.spec.get("securityContext", {})
    for container in pod.containers:
        where, context = f"{pod.place}: {container['name']}", container.get("securityContext", {})
        if not context.get("runAsNonRoot", whole.get("runAsNonRoot")) or not context.get(
            "runAsUser", whole.get("runAsUser")
        ):
            yield f"{where} may run as root"
        if context.get("seccompProfile", whole.get("seccompProfile")) != {"type": "RuntimeDefault"}:
            yield f"{where} has no seccomp profile"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{where} may gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{where} keeps capabilities"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{where} may write to its image"


def pod_security(objects: list[Object]) -> Iterator[str]:
    """Pod Security "restricted" and a read-only root for what runs this tool, "baseline" for model servers."""
    for pod in pods(objects):
        yield from _baseline(pod)
        if pod.ours:
            yield from _restricted(pod)
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.place}: has a token for the Kubernetes API"


def resources(objects: list[Object]) -> Iterator[str]:
    """What measures has whole CPUs, and requests equal to limits: it is never throttled."""
    for pod in pods(objects):
        for container in pod.containers if pod.measures else []:
            given = container.get("resources", {})
            if _demo(objects) and amount(given.get("requests", {}).get("cpu")):
                # A demo asks for less CPU than it may use: on a node of two, Kubernetes' own pods leave no whole one.
                given = {**given, "requests": {**given["requests"], "cpu": given.get("limits", {}).get("cpu")}}
            if given.get("requests") != given.get("limits") or not {"cpu", "memory"} <= set(given.get("limits", {})):
                yield f"{pod.place}: requests and limits differ"
            cpu = amount(given.get("limits", {}).get("cpu"))
            if cpu is None or cpu < 1 or cpu % 1:
                yield f"{pod.place}: not a whole number of CPUs"


def settings(objects: list[Object]) -> Iterator[str]:
    """Every setting is a variable and every variable a setting; secrets come from Secrets that may be missing."""
    known = comments()
    for pod in (each for each in pods(objects) if each.measures):
        given = {entry["name"]: entry for entry in pod.containers[0].get("env", [])}
        for name in known.keys() - given.keys():
            yield f"{pod.place}: no variable {name}"
        for name in given.keys() - known.keys() - DOWNWARD.keys():
            yield f"{pod.place}: variable {name} is no setting"
        for name in SECRETS.keys() & given.keys():
            if not given[name].get("valueFrom", {}).get("secretKeyRef", {}).get("optional"):
                yield f"{pod.place}: {name} does not come from an optional Secret"


def _fields(pod: Pod) -> dict[str, str]:
    """The variables that Kubernetes fills in, and from what."""
    given = pod.containers[0].get("env", [])
    return {each["name"]: each.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "") for each in given}


def runs(objects: list[Object]) -> Iterator[str]:
    """A run is named by what lasts as long as it, never by a pod's name; no two pods measure by themselves at once."""
    for pod in (each for each in pods(objects) if each.measures):
        given = {entry["name"]: entry.get("value") for entry in pod.containers[0].get("env", [])}
        fields, spec = _fields(pod), job_spec(pod.owner)
        if spec is None:
            if fields.get("RUN_ID") != "metadata.uid":
                yield f"{pod.place}: RUN_ID is not the pod's uid"
            if (pod.owner["spec"].get("replicas"), pod.owner["spec"].get("strategy")) != (1, {"type": "Recreate"}):
                yield f"{pod.place}: more than one pod at a time"
            continue
        if given.get("RUN_ID") != "$(JOB_NAME)-$(JOB_UID)" or {name: fields.get(name) for name in DOWNWARD} != DOWNWARD:
            yield f"{pod.place}: RUN_ID is not the Job's name and uid"
        count = [str(spec.get("completions", 1)), str(spec.get("parallelism", 1)), given.get("SHARDS") or "1"]
        if len(set(count)) > 1:
            yield f"{pod.place}: completions, parallelism and SHARDS differ: {', '.join(count)}"
        if (spec.get("completionMode") == "Indexed") != (count[2] != "1"):
            yield f"{pod.place}: SHARDS and completionMode do not go together"


def endings(objects: list[Object]) -> Iterator[str]:
    """A Job ends and is cleared away, disruptions are nobody's fault, and what a second attempt would not mend fails
    at once."""
    for pod in pods(objects):
        spec = job_spec(pod.owner)
        if spec is None:
            continue
        for name in ("backoffLimit", "activeDeadlineSeconds"):
            if name not in spec:
                yield f"{pod.place}: no {name}"
        if pod.owner["kind"] == "Job" and "ttlSecondsAfterFinished" not in spec:  # a CronJob has its history limits
            yield f"{pod.place}: stays for ever"
        rules = spec.get("podFailurePolicy", {}).get("rules", [])
        ignored = [rule["onPodConditions"] for rule in rules if rule["action"] == "Ignore"]
        if ignored != [[{"type": "DisruptionTarget", "status": "True"}]]:
            yield f"{pod.place}: a disruption counts as a failure"
        failed = [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"]
        # A demo's small node has bad moments: what they bent is worth another attempt, where that measures anew, as it
        # does after an emptyDir. A store keeps the bent points, and the attempts that follow would find them there.
        again = (
            {Exit.UNUSABLE} if _demo(objects) and {"name": "results", "emptyDir": {}} in pod.spec["volumes"] else set()
        )
        if failed != [[int(code) for code in NOT_RETRIED if code not in again]]:
            yield f"{pod.place}: fails at once on exit codes {failed}"


def metrics(objects: list[Object]) -> Iterator[str]:
    """METRICS_PORT is the port `metrics` that the probes ask, and a policy lets scrapes in to it."""
    for pod in (each for each in pods(objects) if each.measures):
        given = {entry["name"]: entry.get("value") for entry in pod.containers[0]["env"]}.get("METRICS_PORT")
        port = {each.get("name"): each["containerPort"] for each in pod.containers[0].get("ports", [])}.get("metrics")
        if given != str(port):
            yield f"{pod.place}: METRICS_PORT={given} and the port metrics is {port}: its probes would end it"
        opened = {
            each["port"]
            for policy in of_kind(objects, "NetworkPolicy")
            if selects(policy["spec"]["podSelector"], pod.labels)
            for rule in policy["spec"].get("ingress", [])
            for each in rule["ports"]
        }
        if port not in opened:
            yield f"{pod.place}: no policy lets scrapes in to port {port}"


def care(objects: list[Object]) -> Iterator[str]:
    """Time to end, no autoscaler's eviction, away from the server, probed, and writing where it may."""
    for pod in (each for each in pods(objects) if each.measures):
        if pod.spec.get("terminationGracePeriodSeconds", 30) < 60:
            yield f"{pod.place}: too little time to upload"
        annotations = pod.template["metadata"].get("annotations", {})
        if annotations.get("cluster-autoscaler.kubernetes.io/safe-to-evict") != "false":
            yield f"{pod.place}: an autoscaler may evict it"
        apart = pod.spec.get("affinity", {}).get("podAntiAffinity", {})
        preferred = apart.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        if not any("model-server" in str(term) for term in preferred):
            yield f"{pod.place}: does not keep away from the model server"
        container = pod.containers[0]
        if {"/results", "/tmp"} != {mount["mountPath"] for mount in container["volumeMounts"]}:
            yield f"{pod.place}: writes elsewhere than in /results and /tmp"
        paths = [container.get(f"{name}Probe", {}).get("httpGet", {}).get("path") for name in ("liveness", "readiness")]
        if paths != ["/healthz", "/ready"]:
            yield f"{pod.place}: probes {paths}"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.place}: takes variables from Services"
