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


def need_kustomize() -> None:
    """Skips the test where nothing can render a folder."""
    if not (shutil.which("kubectl") or shutil.which("kustomize")):
        pytest.skip("neither kubectl nor kustomize is here: nothing renders deploy/")


@functools.cache
def _text(folder: str) -> str:
    kind = folder.removeprefix("kinds/")
    if kind in KINDS:  # held against what kustomize builds by a test of its own
        return (DEPLOY / f"{kind}.yaml").read_text()
    need_kustomize()
    return render(DEPLOY / folder)


@functools.cache
def _objects(folder: str) -> list[Object]:
    return read(_text(folder))


def objects(folder: str) -> list[Object]:
    """Its objects, to be changed at will."""
    return copy.deepcopy(_objects(folder))
