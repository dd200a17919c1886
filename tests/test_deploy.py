"""deploy/ is what settings and kustomize make of it, valid from Kubernetes 1.28 on, and asks what the tool takes."""

import functools
import json
import shutil
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from latency_profile import __version__
from latency_profile.errors import ProfileError
from latency_profile.settings import manifest
from latency_profile.settings.definition import ROWS
from tests.manifests import objects as parts
from tests.manifests import ours
from tests.manifests.all_rules import RULES
from tests.manifests.changes import SHARDS
from tests.manifests.rendering import DEPLOY, SETS, need_kustomize, objects
from tests.manifests.values import amount
from tests.tool import ROOT, environment

NEWEST = int(kubernetes_validate.latest_version().split(".")[1])
VERSIONS = [f"1.{minor}" for minor in range(28, NEWEST + 1)]


def test_the_list_of_variables_is_made_from_the_settings() -> None:
    assert (DEPLOY / "pod" / "settings.yaml").read_text() == manifest.settings_patch(), "make manifests"
    container = yaml.safe_load(manifest.settings_patch())["template"]["spec"]["containers"][0]
    assert {row.script for row in ROWS} <= {entry["name"] for entry in container["env"]}


@pytest.mark.parametrize("kind", manifest.KINDS)
def test_a_single_file_is_what_kustomize_builds(kind: str) -> None:
    need_kustomize(f"kinds/{kind}")
    assert (DEPLOY / f"{kind}.yaml").read_text() == manifest.single_file(DEPLOY, kind), "make manifests"
    assert parts.read(manifest.render(DEPLOY / "kinds" / kind)) == objects(f"kinds/{kind}")


def test_what_holds_in_a_pod_stands_with_its_variable() -> None:
    for kind in manifest.KINDS:
        text = " ".join((DEPLOY / f"{kind}.yaml").read_text().replace("# ", "").split())
        for name, about in manifest.IN_A_POD.items():
            assert f"{about} - name: {name} " in text, (kind, name)


@pytest.mark.parametrize(
    ("kind", "said"), [("cronjob", "`kubectl delete cronjob"), ("job", "log"), ("distributed", "ReadWriteMany")]
)
def test_a_file_begins_with_what_to_know_of_it(kind: str, said: str) -> None:
    head = (DEPLOY / f"{kind}.yaml").read_text().partition("\napiVersion")[0]
    assert all(line.startswith("# ") for line in head.splitlines())
    assert said in head


def test_the_deployment_has_every_setting_with_its_meaning() -> None:
    lines = [line.strip() for line in (DEPLOY / "deployment.yaml").read_text().splitlines()]
    for row in ROWS:
        place = lines.index(f"- name: {row.script}")
        assert lines[place - 1].startswith("# "), row.script
        assert lines[place + 1].startswith(("value: ", "valueFrom:")), row.script


def test_comments_only_explain() -> None:
    rendered = '- name: RETRIES\n  value: "0"\n- name: OTHER\n- name: results\n'
    commented = manifest.commented(rendered)
    assert commented.startswith("# Further attempts") and "Default: 0.\n- name: RETRIES\n" in commented
    assert [line for line in commented.splitlines() if not line.startswith("#")] == rendered.splitlines()


@pytest.mark.parametrize("arguments", [[], ["elsewhere"], ["deploy", "more"]])
def test_the_generator_wants_one_folder(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert manifest.main(arguments) == 2
    assert "takes one argument" in capsys.readouterr().err


def test_a_folder_that_kustomize_refuses_is_one_line(tmp_path: Path) -> None:
    need_kustomize("…, a folder of the test's own")
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    with pytest.raises(ProfileError, match=r"missing\.yaml") as refused:
        manifest.render(tmp_path)
    assert "\n" not in str(refused.value)


def test_without_kustomize_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProfileError, match="neither kubectl nor kustomize"):
        manifest.render(DEPLOY / "kinds" / "job")


@functools.cache
def _validate(text: str, version: str) -> None:
    kubernetes_validate.validate(json.loads(text), version, strict=True)


@pytest.mark.parametrize("folder", SETS)
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object(version: str, folder: str) -> None:
    for each in objects(folder):
        _validate(json.dumps(each, sort_keys=True), version)  # once each: the folders share most of theirs


def test_the_schemas_refuse_what_they_know() -> None:
    job = objects("kinds/job")[-1]
    job["spec"]["backofLimit"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("folder", SETS)
def test_the_image_is_this_version(folder: str) -> None:
    for pod in (each for each in parts.pods(objects(folder)) if each.ours):
        assert pod.spec["containers"][0]["image"] == f"inference-benchmark:{__version__}"


# What kube-system asks for on one node, in CPUs: API server 0.25, controller manager 0.2, scheduler 0.1, etcd 0.1, two
# of CoreDNS 0.2, and for the network 0.1 (kind's own) or 0.25 (Calico).
SYSTEM = Decimal("1.1")


@pytest.mark.parametrize(("name", "cpus"), [("demo", 2), ("demo-distributed", 3)])
def test_a_demo_fits_the_node_that_the_readme_names(name: str, cpus: int) -> None:
    asked = {"cpu": Decimal(0), "memory": Decimal(0)}
    for pod in parts.pods(objects(f"overlays/{name}")):
        count = (parts.job_spec(pod.owner) or {}).get("parallelism", 1)
        for resource, quantity in pod.spec["containers"][0]["resources"]["requests"].items():
            asked[resource] += count * (amount(quantity) or 0)
    assert SYSTEM + asked["cpu"] <= cpus
    [row] = [line for line in (DEPLOY / "README.md").read_text().splitlines() if line.startswith(f"| `{name}` |")]
    assert f"one node of {cpus} CPUs (asks for {asked['cpu'].normalize()} CPU and {asked['memory'] / 2**30} GiB)" in row


@pytest.mark.parametrize("name", ["demo", "demo-distributed"])
def test_a_demo_has_enough_requests_for_one_hiccup(name: str) -> None:
    """A verdict of a hundred requests and more stands a late one or two."""
    [pod] = [each for each in parts.pods(objects(f"overlays/{name}")) if each.measures]
    given = {entry["name"]: entry.get("value") for entry in pod.spec["containers"][0]["env"]}
    for rate in given["REQUEST_RATES"].split(","):
        assert float(rate) * float(given["BENCHMARK_TIME_SECONDS"]) > 100
    [server] = [each for each in parts.pods(objects(f"overlays/{name}")) if not each.measures]
    probe = server.spec["containers"][0]["readinessProbe"]
    assert (probe["timeoutSeconds"], probe["failureThreshold"]) == (5, 6)


def test_the_shards_claim_is_one_that_default_classes_grant() -> None:
    [claim] = parts.of_kind(objects(SHARDS), "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


@pytest.mark.parametrize("folder", [each for each in SETS if each != "kinds/deployment"])
def test_the_deployment_selects_no_pod_of_another_kind(folder: str) -> None:
    """`kubectl logs deployment/…` takes any pod that the Deployment selects."""
    [deployment] = parts.of_kind(objects("kinds/deployment"), "Deployment")
    for pod in parts.pods(objects(folder)):
        assert not parts.selects(deployment["spec"]["selector"], pod.labels)


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """A copy of deploy/ with room for an overlay of the test's own, as a user would write one."""
    need_kustomize("components")
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    folder = tmp_path / "deploy" / "overlays" / "own"
    folder.mkdir()
    return folder


def test_components_fit_the_overlays(overlay: Path) -> None:
    (overlay / "kustomization.yaml").write_text(
        "namespace: tests\n"
        "resources: [../vllm-gpu]\n"
        "components: [../../components/results-claim, ../../components/pod-monitor, ../../components/pod-monitoring]\n"
        "images: [{name: inference-benchmark, newName: registry.example/team/inference-benchmark, newTag: v7}]\n"
    )
    built = parts.read(manifest.render(overlay))
    kinds = [each["kind"] for each in built]
    assert (kinds.count("PodMonitor"), kinds.count("PodMonitoring")) == (2, 2)
    [pod] = [each for each in parts.pods(built) if each.measures]
    assert pod.spec["containers"][0]["image"] == "registry.example/team/inference-benchmark:v7"
    assert {"name": "results", "persistentVolumeClaim": {"claimName": "latency-profile-results"}} in pod.spec["volumes"]
    [server] = [each for each in parts.pods(built) if not each.ours]
    assert not any("persistentVolumeClaim" in volume for volume in server.spec["volumes"])
    for rule in RULES:
        assert list(rule(built)) == []


@pytest.mark.parametrize("folder", SETS)
def test_the_tool_takes_what_a_manifest_asks(folder: str, tmp_path: Path) -> None:
    """The container's own command with the container's own variables; only what a test has not got is replaced."""
    [pod] = [each for each in parts.pods(objects(folder)) if each.measures]
    [container] = pod.spec["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    given |= {"RUN_ID": "test-1", "TOKENIZER": "bundled", "OUTPUT_DIR": str(tmp_path), "DRY_RUN": "true"}
    given |= {"MODELS": given["MODELS"] or "m", "SHARD_INDEX": "0" if given["SHARDS"] else "", "METRICS_PORT": ""}
    done = subprocess.run(
        [ROOT / container["command"][0]],
        env={**environment(), "PYTHON": sys.executable, **given},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_does_not_annotate_what_the_next_apply_takes_back() -> None:
    assert "kubectl annotate --overwrite" not in (DEPLOY / "README.md").read_text()


def test_the_readme_has_objects_that_kubernetes_takes() -> None:
    blocks = (DEPLOY / "README.md").read_text().split("```yaml\n")[1:]
    given = [yaml.safe_load(textwrap.dedent(block.partition("```")[0])) for block in blocks]
    whole = [each for each in given if "kind" in each]
    assert {each["kind"] for each in whole} == {"Pod", "PersistentVolume"}
    for version in VERSIONS:
        for each in whole:
            _validate(json.dumps(each, sort_keys=True), version)
    [pod] = parts.of_kind(whole, "Pod")
    as_ours = {"metadata": {"labels": {"app.kubernetes.io/name": parts.OURS}}, "spec": pod["spec"]}
    assert not list(ours.pod_security([{**pod, "kind": "Deployment", "spec": {"template": as_ours}}]))
    [volume] = parts.of_kind(whole, "PersistentVolume")
    room = amount(volume["spec"]["capacity"]["storage"])
    for folder in ("kinds/distributed", "kinds/cronjob"):
        [claim] = [each["spec"] for each in parts.of_kind(objects(folder), "PersistentVolumeClaim")]
        wanted = amount(claim["resources"]["requests"]["storage"])
        assert wanted is not None and room is not None and wanted <= room
        assert claim["accessModes"] == volume["spec"]["accessModes"]


def test_the_readme_names_what_is_there() -> None:
    readme = (DEPLOY / "README.md").read_text()
    folders = [*(DEPLOY / "overlays").iterdir(), *(DEPLOY / "components").iterdir()]
    policies = [each["metadata"]["name"] for each in objects("kinds/job") if each["kind"] == "NetworkPolicy"]
    for name in [*(folder.name for folder in folders), *policies, *(f"{kind}.yaml" for kind in manifest.KINDS)]:
        assert f"| `{name}` |" in readme, name


def test_the_job_of_the_servers_pod_monitor_is_the_one_that_its_comment_names() -> None:
    """The operator calls the job NAMESPACE/NAME, unless the monitor names a label of the pods."""
    text = (DEPLOY / "components/pod-monitor/pod-monitor.yaml").read_text()
    assert "PM_JOB=model-server" in text
    [server] = [each for each in yaml.safe_load_all(text) if each["metadata"]["name"] == "model-server"]
    assert server["spec"]["selector"]["matchLabels"][server["spec"]["jobLabel"]] == "model-server"
