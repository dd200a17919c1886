"""The settings as a pod's environment variables: `python -m latency_profile.settings.manifest deploy` makes what is
generated in deploy/, with the kustomize of kubectl or alone."""

import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from latency_profile.errors import Exit, ProfileError, UsageError
from latency_profile.settings.definition import ROWS
from latency_profile.settings.rows import Setting
from latency_profile.settings.shown import default_text

KINDS = ("deployment", "job", "cronjob", "distributed")  # deploy/kinds/<kind> is rendered as deploy/<kind>.yaml

# What latency_throughput_curve.sh reads beside the settings.
OF_SCRIPT = {
    "PROMPT_DATASET": "Data set by name (sharegpt), where neither PROMPT_DATASET_FILE nor INPUT_LEN is given.",
    "POST_BENCHMARK_SLEEP_TIME": 'Seconds, or "infinity", for which the container stays after its profile.',
}
# What never stands in a manifest: the variable, the Secret that may have it under that key, and what it is.
SECRETS = {
    "HF_TOKEN": ("hf-token", "Hugging Face token, for a gated tokenizer."),
    "OPENAI_API_KEY": ("model-server-api-key", "API key of the model server."),
}
# What else holds for a setting where a pod's manifest gives it.
IN_A_POD = {
    "METRICS_PORT": "The same number stands as the containerPort that the probes ask and in the policy "
    "latency-profile-generator; 0 needs the probes removed.",
    "PROMPT_DATASET_FILE": "An image that was built with a data set has it in /datasets: name it here, and "
    "leave INPUT_LEN and OUTPUT_LEN empty.",
}

_WIDTH = 118
_VARIABLE = re.compile(r"^( *)- name: ([A-Z][A-Z0-9_]*)$")
_SENTENCE_END = re.compile(r"(?<=[.])\s+(?=[A-Z])")

_PATCH = """\
# Made by `make manifests` from the settings; a test holds it against them. Every setting as an environment variable; an
# empty one gives nothing, so that the default holds. What the manifests set is in values.yaml.
apiVersion: v1
kind: PodTemplate
metadata:
  name: latency-profile-pod
template:
  spec:
    containers:
      - name: latency-profile-generator
        env:
"""

_HEAD = """\
# Made by `make manifests` from deploy/kinds/{kind}; a test holds it against that. To be edited as it is, or made again
# with kustomize: deploy/README.md. The variables that are set come first; an empty one leaves its setting's default.
# The policy latency-profile-to-model-server says by label and port of its pods which server may be asked.
"""
# What one should know of a kind before it is applied or deleted; kustomize drops the comments of deploy/kinds.
_NOTES = {
    "job": """\
# Without OUTPUT_BUCKET, or a claim in place of the emptyDir `results`, nothing but the log remains of a run.
""",
    "cronjob": """\
# `kubectl delete -f` with this file takes the claim too, and all nights in it. `kubectl delete cronjob
# latency-profile-nightly` leaves them; or keep them in a bucket (OUTPUT_BUCKET).
""",
    "distributed": """\
# The pods share a claim that is ReadWriteOnce, and so one node. For several nodes: ReadWriteMany, or OUTPUT_BUCKET and
# an emptyDir in the claim's place; then delete the podAffinity.
""",
}


def _about(row: Setting) -> str:
    """One setting in a comment's length: what it is, its unit and its default."""
    meaning = _SENTENCE_END.split(row.help)[0]
    choices = f" One of {', '.join(row.kind.choices)}." if row.kind.choices else ""
    unit = f" In {row.unit}." if row.unit else ""
    default = " Required." if row.required else f" Default: {default_text(row)}." if default_text(row) else ""
    return f"{meaning}{choices}{unit}{default}"


def comments() -> dict[str, str]:
    """Every variable that a pod of ours takes, in the settings' order, and what it means."""
    return {
        **{row.script: " ".join(filter(None, (_about(row), IN_A_POD.get(row.script)))) for row in ROWS},
        **OF_SCRIPT,
        **{name: about for name, (_, about) in SECRETS.items()},
    }


def settings_patch() -> str:
    """The text of deploy/pod/settings.yaml."""
    lines = [f'          - name: {name}\n            value: ""\n' for name in comments() if name not in SECRETS]
    for name, (secret, _) in SECRETS.items():
        reference = f"name: {secret}", f"key: {name}", "optional: true"
        key = "".join(f"                {line}\n" for line in reference)
        lines.append(f"          - name: {name}\n            valueFrom:\n              secretKeyRef:\n{key}")
    return _PATCH + "".join(lines)


def commented(rendered: str) -> str:
    """A rendered manifest with each variable's meaning above it; kustomize drops comments."""
    known = comments()

    def lines() -> Iterator[str]:
        for line in rendered.splitlines():
            found = _VARIABLE.match(line)
            if found and found[2] in known:
                indent = found[1] + "# "
                yield from textwrap.wrap(known[found[2]], _WIDTH, initial_indent=indent, subsequent_indent=indent)
            yield line

    return "".join(line + "\n" for line in lines())


def render(folder: Path) -> str:
    """What `kustomize build` makes of a folder. Raises ProfileError where there is no kustomize, or where it fails."""
    if path := shutil.which("kubectl"):
        command = [path, "kustomize", str(folder)]
    elif path := shutil.which("kustomize"):
        command = [path, "build", str(folder)]
    else:
        raise ProfileError("neither kubectl nor kustomize is on the PATH")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProfileError(f"{' '.join(command)}: {' '.join(done.stderr.split())}")
    return done.stdout


def single_file(deploy: Path, kind: str) -> str:
    """The text of deploy/<kind>.yaml."""
    return _HEAD.format(kind=kind) + _NOTES.get(kind, "") + commented(render(deploy / "kinds" / kind))


def main(arguments: Sequence[str]) -> int:
    """Writes the generated files below the folder that is given; the exit code."""
    try:
        if len(arguments) != 1 or not Path(arguments[0], "kinds").is_dir():
            raise UsageError("takes one argument, the folder deploy")
        deploy = Path(arguments[0])
        (deploy / "pod" / "settings.yaml").write_text(settings_patch(), encoding="utf-8")
        for kind in KINDS:
            (deploy / f"{kind}.yaml").write_text(single_file(deploy, kind), encoding="utf-8")
    except ProfileError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
