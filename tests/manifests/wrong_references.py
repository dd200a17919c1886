"""What the rules of references.py are there to see."""

from tests.manifests import references
from tests.manifests.changes import (
    CRON,
    DEMO,
    DEPLOYMENT,
    JOB,
    SHARDS,
    VLLM,
    Wrong,
    container,
    pod,
    policy,
    rules_of,
    spec,
    variable,
)
from tests.manifests.objects import of_kind

WRONG: dict[str, Wrong] = {
    "other pods": Wrong(
        references.selectors,
        DEPLOYMENT,
        lambda of: spec(of, "Deployment")["selector"]["matchLabels"].update(name="x"),
        "does not match its pods",
    ),
    "a Service of nobody": Wrong(
        references.selectors,
        DEMO,
        lambda of: spec(of, "Service")["selector"].update(x="y"),
        "selects no pod",
    ),
    "a policy of nobody": Wrong(
        references.selectors,
        DEMO,
        lambda of: policy(of, "simulator")["podSelector"]["matchLabels"].update(x="y"),
        "selects no pod",
    ),
    "a selector twice": Wrong(
        references.selectors,
        DEMO,
        lambda of: of.append({**of_kind(of, "Deployment")[0], "metadata": {"name": "b"}}),
        "has the selector of",
    ),
    "port 70000": Wrong(
        references.ports,
        JOB,
        lambda of: container(of)["ports"][0].update(containerPort=70000),
        "70000 is no port",
    ),
    "a Service's port 0": Wrong(
        references.ports,
        DEMO,
        lambda of: spec(of, "Service")["ports"][0].update(port=0),
        "0 is no port",
    ),
    "a probe elsewhere": Wrong(
        references.ports,
        JOB,
        lambda of: container(of)["livenessProbe"]["httpGet"].update(port="http"),
        "has no port http",
    ),
    "a Service elsewhere": Wrong(
        references.ports,
        DEMO,
        lambda of: spec(of, "Service")["ports"][0].update(targetPort="web"),
        "has no port web",
    ),
    "a closed port": Wrong(
        references.policies,
        VLLM,
        lambda of: policy(of, "latency-profile-to-model-server")["egress"][0]["ports"][0].update(port=80),
        "may not reach port 8000",
    ),
    "a policy's port 70000": Wrong(
        references.policies,
        VLLM,
        lambda of: policy(of, "latency-profile-to-prometheus")["egress"][0]["ports"][0].update(port=70000),
        "70000 is no port",
    ),
    "another server": Wrong(
        references.asked, VLLM, lambda of: variable(of, "IP").update(value="tgi"), "no Service here"
    ),
    "another port": Wrong(
        references.asked,
        VLLM,
        lambda of: variable(of, "PORT").update(value="80"),
        "no port of Service/vllm",
    ),
    "no volume": Wrong(references.volumes, JOB, lambda of: pod(of)["volumes"].pop(), "is mounted and no volume"),
    "no mount": Wrong(references.volumes, JOB, lambda of: container(of)["volumeMounts"].pop(), "is mounted nowhere"),
    "one path twice": Wrong(
        references.volumes,
        JOB,
        lambda of: container(of)["volumeMounts"][1].update(mountPath="/results"),
        "at one path",
    ),
    "two sources": Wrong(
        references.volumes, CRON, lambda of: pod(of)["volumes"][0].update(emptyDir={}), "takes one source"
    ),
    "no claim": Wrong(
        references.volumes, CRON, lambda of: of.remove(of_kind(of, "PersistentVolumeClaim")[0]), "no claim"
    ),
    "a claim of one node on several": Wrong(
        references.shared_claims, SHARDS, lambda of: pod(of)["affinity"].pop("podAffinity"), "on several nodes"
    ),
    "near other pods": Wrong(
        references.shared_claims,
        SHARDS,
        lambda of: spec(of, "Job")["template"]["metadata"]["labels"].pop("app.kubernetes.io/component"),
        "on several nodes",
    ),
    "no account": Wrong(
        references.volumes,
        JOB,
        lambda of: of.remove(of_kind(of, "ServiceAccount")[0]),
        "no ServiceAccount",
    ),
    "a Job for ever": Wrong(
        references.restarts,
        JOB,
        lambda of: pod(of).update(restartPolicy="Always"),
        "restartPolicy Always",
    ),
    "a CronJob's default": Wrong(
        references.restarts, CRON, lambda of: pod(of).pop("restartPolicy"), "restartPolicy Always"
    ),
    "a Deployment once": Wrong(
        references.restarts,
        DEPLOYMENT,
        lambda of: pod(of).update(restartPolicy="Never"),
        "restartPolicy Never",
    ),
    "a policy with OnFailure": Wrong(
        references.restarts,
        JOB,
        lambda of: pod(of).update(restartPolicy="OnFailure"),
        "with restartPolicy Never only",
    ),
    "codes of no container": Wrong(
        references.restarts,
        JOB,
        lambda of: rules_of(of)[1]["onExitCodes"].update(containerName="x"),
        "of no container",
    ),
    "exit code 0": Wrong(
        references.restarts,
        JOB,
        lambda of: rules_of(of)[1]["onExitCodes"].update(values=[0, 2]),
        "not ascending from 1",
    ),
    "codes and conditions": Wrong(
        references.restarts,
        JOB,
        lambda of: rules_of(of)[1].update(onPodConditions=[{}]),
        "takes one of",
    ),
}
