"""deploy/ is what settings and kustomize make of it, valid from Kubernetes 1.28 on, and asks what the tool takes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from latency_profile import __version__
from latency_profile.errors import ProfileError
from latency_profile.settings import manifest
from latency_profile.settings.definition import ROWS
from tests.manifests import objects as parts
from tests.manifests.all_rules import RULES
from tests.manifests.rendering import DEPLOY, SETS, need_kustomize, objects
from tests.tool import ROOT, environment

NEWEST = int(kubernetes_validate.latest_version().split(".")[1])
VERSIONS = [f"1.{minor}" for minor in range(28, NEWEST + 1)]


def test_the_list_of_variables_is_made_from_the_settings() -> None:
    assert (DEPLOY / "pod" / "settings.yaml").read_text() == manifest.settings_patch(), "make manifests"
    container = yaml.safe_load(manifest.settings_patch())["template"]["spec"]["containers"][0]
    assert {row.script for row in ROWS} <= {entry["name"] for entry in container["env"]}


@pytest.mark.parametrize("kind", manifest.KINDS)
def test_a_single_file_is_what_kustomize_builds(kind: str) -> None:
    need_kustomize()
    assert (DEPLOY / f"{kind}.yaml").read_text() == manifest.single_file(DEPLOY, kind), "make manifests"
    assert parts.read(manifest.render(DEPLOY / "kinds" / kind)) == objects(f"kinds/{kind}")


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
    need_kustomize()
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    with pytest.raises(ProfileError, match=r"missing\.yaml") as refused:
        manifest.render(tmp_path)
    assert "\n" not in str(refused.value)


def test_without_kustomize_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProfileError, match="neither kubectl nor kustomize"):
        manifest.render(DEPLOY / "kinds" / "job")


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object(version: str) -> None:
    every = [each for folder in SETS for each in objects(folder)]
    different = {json.dumps(each, sort_keys=True): each for each in every}  # the sets share most of theirs
    for each in different.values():
        kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_refuse_what_they_know() -> None:
    job = objects("kinds/job")[-1]
    job["spec"]["backofLimit"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


def test_the_image_is_this_version() -> None:
    for folder in SETS:
        for pod in (each for each in parts.pods(objects(folder)) if each.ours):
            assert pod.spec["containers"][0]["image"] == f"inference-benchmark:{__version__}"


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """A copy of deploy/ with room for an overlay of the test's own, as a user would write one."""
    need_kustomize()
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


def test_the_readme_names_what_is_there() -> None:
    readme = (DEPLOY / "README.md").read_text()
    folders = [*(DEPLOY / "overlays").iterdir(), *(DEPLOY / "components").iterdir()]
    policies = [each["metadata"]["name"] for each in objects("kinds/job") if each["kind"] == "NetworkPolicy"]
    for name in [*(folder.name for folder in folders), *policies, *(f"{kind}.yaml" for kind in manifest.KINDS)]:
        assert f"| `{name}` |" in readme, name
