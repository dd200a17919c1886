"""What kustomize makes of deploy/."""

import copy
import functools
import shutil
from pathlib import Path

import pytest

from latency_profile.settings.manifest import KINDS, render
from tests.manifests.objects import Object, read

DEPLOY = Path(__file__).parents[2] / "deploy"
OVERLAYS = tuple(sorted(folder.name for folder in (DEPLOY / "overlays").iterdir()))
SETS = (*(f"kinds/{kind}" for kind in KINDS), *(f"overlays/{name}" for name in OVERLAYS))


def need_kustomize(folder: str) -> None:
    """Skips the test, which needs this folder rendered, where nothing can. No package of Debian 12 can either: the
    kustomize inside its kubernetes-client knows no components."""
    if not (shutil.which("kubectl") or shutil.which("kustomize")):
        pytest.skip(f"NOT CHECKED: deploy/{folder}: install kubectl 1.28 or kustomize 5, or newer, to render it")


@functools.cache
def _text(folder: str) -> str:
    kind = folder.removeprefix("kinds/")
    if kind in KINDS:  # held against what kustomize builds by a test of its own
        return (DEPLOY / f"{kind}.yaml").read_text()
    need_kustomize(folder)
    return render(DEPLOY / folder)


@functools.cache
def _objects(folder: str) -> list[Object]:
    return read(_text(folder))


def objects(folder: str) -> list[Object]:
    """Its objects, to be changed at will."""
    return copy.deepcopy(_objects(folder))
