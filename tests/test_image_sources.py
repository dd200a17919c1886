"""What the image is made of: the Dockerfile, its scripts, and the lock, which has what requirements.txt asks for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.containers import engine

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
SCRIPTS = ("image/trim.sh", ".ci/run", *(f"tests/containers/{name}.sh" for name in ("base", "build", "install")))
LOCK = (ROOT / "requirements.lock").read_text()
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


def locked() -> dict[str, str]:
    return {canonicalize_name(name): version for name, version, _ in PINNED.findall(LOCK)}


def test_every_line_is_a_pinned_and_hashed_requirement() -> None:
    left = [line for line in PINNED.sub("", LOCK).splitlines() if line.strip() and not line.strip().startswith("#")]
    assert left == []
    assert "://" not in LOCK  # no index of anybody's machine


def test_it_satisfies_what_a_run_needs() -> None:
    """Fails when requirements.txt was changed and `make lock` was not run."""
    versions = locked()
    lines = (line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#"))
    for requirement in map(Requirement, lines):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_nothing_large_that_a_run_does_not_import_came_with_it() -> None:
    assert not locked().keys() & {
        "torch",
        "scipy",
        "pandas",
        "matplotlib",
        "vl-convert-python",
        "pyarrow",
        "grpcio",
        "pytest",
    }


def test_all_stages_are_of_the_one_base() -> None:
    """tests/containers/base.sh stands in for it under this name."""
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for _, name in stages}
    assert {base for base, _ in stages} - names == {engine.BASE}
    assert f"tag={engine.BASE}\n" in (ROOT / "tests/containers/base.sh").read_text()


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    """A pattern such as !*.json would let in a key that lies about."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    seen = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    named = re.sub(r"\$\{DATASET:\+(.*?)\}\$\{DATASET:-(.*?)\}", r"\1 \2", " ".join(copies)).split()
    assert lines[1] == "*"
    assert seen == {name.split("/")[0] for name in named}


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run([TOOLS / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_clean(script: str) -> None:
    done = subprocess.run([TOOLS / "shellcheck", ROOT / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
