"""What the fuzzers found and what they begin with, as ordinary cases."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, seeds

_KEPT = sorted(Path(__file__).with_name("corpus").glob("*/*"))


@pytest.mark.parametrize("target", TARGETS)
def test_where_fuzzing_begins(target: str) -> None:
    for data in dict.fromkeys(seeds(target)):
        TARGETS[target](data)


@pytest.mark.parametrize("path", _KEPT, ids=lambda path: f"{path.parent.name}-{path.name[:8]}")
def test_what_was_found(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_a_corpus() -> None:
    assert {path.parent.name for path in _KEPT} == set(TARGETS)
