"""What the rules of ours.py are there to see."""

from tests.manifests import ours
from tests.manifests.changes import (
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
    server,
    spec,
    variable,
)

WRONG: dict[str, Wrong] = {
    "root": Wrong(ours.pod_security, JOB, lambda of: pod(of)["securityContext"].pop("runAsNonRoot"), "may run as root"),
    "an image's user": Wrong(
        ours.pod_security,
        DEMO,
        lambda of: server(of)["securityContext"].pop("runAsUser"),
        "may run as root",
    ),
    "no seccomp": Wrong(
        ours.pod_security, JOB, lambda of: pod(of)["securityContext"].pop("seccompProfile"), "no seccomp"
    ),
    "escalation": Wrong(
        ours.pod_security,
        JOB,
        lambda of: container(of)["securityContext"].pop("allowPrivilegeEscalation"),
        "gain privileges",
    ),
    "capabilities": Wrong(
        ours.pod_security,
        JOB,
        lambda of: container(of)["securityContext"]["capabilities"].update(drop=["NET_RAW"]),
        "keeps capabilities",
    ),
    "a writable root": Wrong(
        ours.pod_security,
        JOB,
        lambda of: container(of)["securityContext"].pop("readOnlyRootFilesystem"),
        "may write to its image",
    ),
    "a privileged server": Wrong(
        ours.pod_security,
        VLLM,
        lambda of: server(of)["containers"][0].update(securityContext={"privileged": True}),
        "has privileges",
    ),
    "a host's path": Wrong(
        ours.pod_security,
        VLLM,
        lambda of: server(of)["volumes"][0].update(hostPath={"path": "/"}),
        "hostPath",
    ),
    "the host's network": Wrong(ours.pod_security, VLLM, lambda of: server(of).update(hostNetwork=True), "hostNetwork"),
    "a token": Wrong(ours.pod_security, JOB, lambda of: pod(of).pop("automountServiceAccountToken"), "token"),
    "half a CPU": Wrong(
        ours.resources,
        JOB,
        lambda of: [container(of)["resources"][each].update(cpu="500m") for each in ("requests", "limits")],
        "whole number",
    ),
    "a burst": Wrong(ours.resources, JOB, lambda of: container(of)["resources"]["limits"].update(cpu="2"), "differ"),
    "a demo that may not use a CPU": Wrong(
        ours.resources,
        DEMO,
        lambda of: container(of)["resources"]["limits"].update(cpu="500m"),
        "whole number",
    ),
    "a demo that asks for no CPU": Wrong(
        ours.resources,
        DEMO,
        lambda of: container(of)["resources"]["requests"].pop("cpu"),
        "differ",
    ),
    "no limit": Wrong(ours.resources, JOB, lambda of: container(of)["resources"].pop("limits"), "differ"),
    "a missing setting": Wrong(
        ours.settings,
        JOB,
        lambda of: container(of)["env"].remove(variable(of, "RETRIES")),
        "no variable RETRIES",
    ),
    "a made-up setting": Wrong(
        ours.settings,
        JOB,
        lambda of: container(of)["env"].append({"name": "RETRYS", "value": ""}),
        "RETRYS is no setting",
    ),
    "a token in the file": Wrong(
        ours.settings,
        JOB,
        lambda of: (variable(of, "HF_TOKEN").pop("valueFrom"), variable(of, "HF_TOKEN").update(value="hf")),
        "HF_TOKEN does not come",
    ),
    "a Secret that must be": Wrong(
        ours.settings,
        JOB,
        lambda of: variable(of, "HF_TOKEN")["valueFrom"]["secretKeyRef"].pop("optional"),
        "HF_TOKEN does not come",
    ),
    "the pod's name": Wrong(
        ours.runs,
        DEPLOYMENT,
        lambda of: variable(of, "RUN_ID")["valueFrom"]["fieldRef"].update(fieldPath="metadata.name"),
        "not the pod's uid",
    ),
    "a pod's name in a Job": Wrong(
        ours.runs,
        JOB,
        lambda of: variable(of, "JOB_UID")["valueFrom"]["fieldRef"].update(fieldPath="metadata.name"),
        "not the Job's name and uid",
    ),
    "two at a time": Wrong(
        ours.runs,
        DEPLOYMENT,
        lambda of: spec(of, "Deployment")["strategy"].update(type="RollingUpdate"),
        "more than one pod",
    ),
    "four shards of three": Wrong(
        ours.runs, SHARDS, lambda of: variable(of, "SHARDS").update(value="4"), "SHARDS differ"
    ),
    "two at once of three": Wrong(ours.runs, SHARDS, lambda of: spec(of, "Job").update(parallelism=2), "SHARDS differ"),
    "shards without index": Wrong(
        ours.runs, JOB, lambda of: variable(of, "SHARDS").update(value="2"), "differ: 1, 1, 2"
    ),
    "no index": Wrong(ours.runs, SHARDS, lambda of: spec(of, "Job").pop("completionMode"), "do not go together"),
    "no deadline": Wrong(
        ours.endings,
        JOB,
        lambda of: spec(of, "Job").pop("activeDeadlineSeconds"),
        "no activeDeadlineSeconds",
    ),
    "for ever": Wrong(ours.endings, JOB, lambda of: spec(of, "Job").pop("ttlSecondsAfterFinished"), "stays for ever"),
    "a preemption counts": Wrong(ours.endings, JOB, lambda of: rules_of(of).pop(0), "a disruption counts"),
    "3 is final": Wrong(
        ours.endings,
        JOB,
        lambda of: rules_of(of)[1]["onExitCodes"].update(values=[2, 3, 4, 5]),
        "fails at once on",
    ),
    "4 again": Wrong(
        ours.endings,
        JOB,
        lambda of: rules_of(of)[1]["onExitCodes"].update(values=[2, 5]),
        "fails at once on",
    ),
    "4 again, from a store": Wrong(
        ours.endings,
        DEMO,
        lambda of: pod(of)["volumes"][0].update(emptyDir=None, persistentVolumeClaim={"claimName": "x"}),
        "fails at once on",
    ),
    "a demo's 4 is final": Wrong(
        ours.endings,
        DEMO,
        lambda of: rules_of(of)[1]["onExitCodes"].update(values=[2, 4, 5]),
        "fails at once on",
    ),
    "metrics elsewhere": Wrong(
        ours.metrics,
        JOB,
        lambda of: variable(of, "METRICS_PORT").update(value="9100"),
        "the port metrics is 9090",
    ),
    "no metrics": Wrong(
        ours.metrics, JOB, lambda of: variable(of, "METRICS_PORT").update(value="0"), "the port metrics is 9090"
    ),
    "another port of metrics": Wrong(
        ours.metrics,
        JOB,
        lambda of: (
            variable(of, "METRICS_PORT").update(value="9100"),
            container(of)["ports"][0].update(containerPort=9100),
        ),
        "lets scrapes in to port 9100",
    ),
    "no scrapes": Wrong(
        ours.metrics,
        JOB,
        lambda of: policy(of, "latency-profile-generator")["ingress"][0]["ports"][0].update(port=9091),
        "lets scrapes in to port 9090",
    ),
    "no grace": Wrong(ours.care, JOB, lambda of: pod(of).pop("terminationGracePeriodSeconds"), "too little time"),
    "evicted": Wrong(
        ours.care, JOB, lambda of: spec(of, "Job")["template"]["metadata"].pop("annotations"), "may evict it"
    ),
    "beside the server": Wrong(ours.care, JOB, lambda of: pod(of).pop("affinity"), "keep away"),
    "elsewhere": Wrong(
        ours.care,
        JOB,
        lambda of: container(of)["volumeMounts"][0].update(mountPath="/data"),
        "writes elsewhere",
    ),
    "not probed": Wrong(ours.care, JOB, lambda of: container(of).pop("readinessProbe"), "probes"),
    "service links": Wrong(ours.care, JOB, lambda of: pod(of).pop("enableServiceLinks"), "from Services"),
}
