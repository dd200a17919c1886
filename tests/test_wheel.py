"""`pip install .`: the wheel has everything a run needs, and works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.tool import ROOT

PACKAGES = ("backends", "latency_profile")
PROGRAMS = ("benchmark_engines.py", "benchmark_offline.py", "benchmark_serving.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its folders in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "requirements.txt", *PROGRAMS):
        shutil.copy(ROOT / name, folder / "tree")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        folder,
        folder / "tree",
    ]
    subprocess.run(command, check=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`latency-profile` in an environment of its own, which borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", folder / "bin/python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", wheel], check=True, timeout=120)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin/latency-profile"


def call(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command: list[str | Path] = [program, *arguments]
    folder = program.parents[1]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_it_has_every_file_of_the_packages(wheel: Path) -> None:
    here = [path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()]
    expected = {path.relative_to(ROOT).as_posix() for path in here if "__pycache__" not in path.parts}
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert expected - inside == set()
    assert {name.split("/")[0] for name in inside if ".dist-info/" not in name} == {*PACKAGES, *PROGRAMS}


def test_the_command_works_without_the_checkout(program: Path) -> None:
    done = call(program, "demo", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "32" in done.stdout  # the last of the demo's rates


def test_the_schemas_and_the_tokenizer_came_with_it(program: Path) -> None:
    python = program.parent / "python"
    code = """
from pathlib import Path
import latency_profile
from latency_profile.workload.tokenizer import load
here = Path(latency_profile.__file__).parent
print(here.parts[-2], load("bundled").counts(["hello"], True) != [], sorted(path.name for path in here.glob("*.json")))
"""
    done = call(python, "-c", code)
    schemas = sorted(path.name for path in (ROOT / "latency_profile").glob("*.json"))
    assert done.stdout == f"site-packages True {schemas}\n", done.stderr
