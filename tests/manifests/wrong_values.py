"""What the rules of values.py are there to see."""

from tests.manifests import values
from tests.manifests.changes import CRON, JOB, VLLM, Wrong, container, pod, policy, server, spec, variable

WRONG: dict[str, Wrong] = {
    "an underscore": Wrong(
        values.names, JOB, lambda of: of[0]["metadata"].update(name="my_job"), "'my_job' is no name"
    ),
    "capitals": Wrong(values.names, JOB, lambda of: container(of).update(name="Main"), "'Main' is no name"),
    "a long port name": Wrong(
        values.names,
        JOB,
        lambda of: container(of)["ports"][0].update(name="a-very-long-name"),
        "no name",
    ),
    "a label of spaces": Wrong(
        values.names, JOB, lambda of: of[-1]["metadata"]["labels"].update(team="a b"), "label team"
    ),
    "a label that is true": Wrong(
        values.names, JOB, lambda of: of[-1]["metadata"]["labels"].update(on=True), "label on"
    ),
    "a long CronJob": Wrong(values.names, CRON, lambda of: of[-1]["metadata"].update(name="n" * 53), "no room"),
    "an object twice": Wrong(values.names, JOB, lambda of: of.append(of[0]), "twice"),
    "no tag": Wrong(values.images, JOB, lambda of: container(of).update(image="inference-benchmark"), "not pinned"),
    "latest": Wrong(
        values.images,
        VLLM,
        lambda of: server(of)["containers"][0].update(image="vllm/vllm-openai:latest"),
        "not pinned",
    ),
    "a port is no tag": Wrong(
        values.images, JOB, lambda of: container(of).update(image="host:5000/image"), "not pinned"
    ),
    "1zz": Wrong(
        values.quantities,
        JOB,
        lambda of: container(of)["resources"]["limits"].update(memory="1zz"),
        "no quantity",
    ),
    "a claim of 1 Gb": Wrong(
        values.quantities,
        CRON,
        lambda of: spec(of, "PersistentVolumeClaim")["resources"]["requests"].update(storage="1 Gb"),
        "no quantity",
    ),
    "a size limit": Wrong(
        values.quantities,
        JOB,
        lambda of: pod(of)["volumes"][0].update(emptyDir={"sizeLimit": "lots"}),
        "sizeLimit",
    ),
    "more than the limit": Wrong(
        values.quantities,
        JOB,
        lambda of: container(of)["resources"]["requests"].update(memory="3Gi"),
        "more than its limit",
    ),
    "an unquoted number": Wrong(
        values.variables, JOB, lambda of: variable(of, "PORT").update(value=8000), "not quoted"
    ),
    "an unquoted boolean": Wrong(
        values.variables,
        JOB,
        lambda of: variable(of, "STREAM_REQUEST").update(value=True),
        "not quoted",
    ),
    "a variable twice": Wrong(
        values.variables,
        JOB,
        lambda of: container(of)["env"].append({"name": "PORT", "value": "1"}),
        "twice",
    ),
    "value and source": Wrong(
        values.variables, JOB, lambda of: variable(of, "HF_TOKEN").update(value="x"), "takes one"
    ),
    "neither": Wrong(values.variables, JOB, lambda of: variable(of, "PORT").pop("value"), "takes one"),
    "a later variable": Wrong(
        values.variables, JOB, lambda of: container(of)["env"].reverse(), "$(JOB_NAME) stands before"
    ),
    "a name with a dash": Wrong(
        values.variables,
        JOB,
        lambda of: variable(of, "PORT").update(name="MY-PORT"),
        "no name of a variable",
    ),
    "a bad range": Wrong(
        values.addresses,
        JOB,
        lambda of: policy(of, "latency-profile-generator")["egress"][0]["to"][2]["ipBlock"].update(
            cidr="169.254.20.10/33"
        ),
        "169.254.20.10/33",
    ),
    "host bits": Wrong(
        values.addresses,
        JOB,
        lambda of: policy(of, "latency-profile-to-google")["egress"][2]["to"][0]["ipBlock"].update(
            cidr="199.36.153.9/30"
        ),
        "host bits",
    ),
    "an exception outside": Wrong(
        values.addresses,
        JOB,
        lambda of: policy(of, "latency-profile-to-public-https")["egress"][0]["to"][0]["ipBlock"]["except"].append(
            "fc00::/7"
        ),
        "not inside",
    ),
    "minute 61": Wrong(
        values.schedules, CRON, lambda of: spec(of, "CronJob").update(schedule="61 2 * * *"), "no minute"
    ),
    "month 13": Wrong(values.schedules, CRON, lambda of: spec(of, "CronJob").update(schedule="0 2 * 13 *"), "no month"),
    "a range that goes back": Wrong(
        values.schedules,
        CRON,
        lambda of: spec(of, "CronJob").update(schedule="0 5-2 * * *"),
        "no hour",
    ),
    "every 0 minutes": Wrong(
        values.schedules,
        CRON,
        lambda of: spec(of, "CronJob").update(schedule="*/0 * * * *"),
        "no minute",
    ),
    "a day called foo": Wrong(
        values.schedules,
        CRON,
        lambda of: spec(of, "CronJob").update(schedule="0 2 * * foo"),
        "no weekday",
    ),
    "four fields": Wrong(values.schedules, CRON, lambda of: spec(of, "CronJob").update(schedule="0 2 * *"), "4 fields"),
    "no time zone": Wrong(values.schedules, CRON, lambda of: spec(of, "CronJob").pop("timeZone"), "timeZone"),
    "a zone of nowhere": Wrong(
        values.schedules,
        CRON,
        lambda of: spec(of, "CronJob").update(timeZone="Europe/Nowhere"),
        "timeZone",
    ),
    "a deadline too short": Wrong(
        values.schedules,
        CRON,
        lambda of: spec(of, "CronJob").update(startingDeadlineSeconds=5),
        "below 10 s",
    ),
}
