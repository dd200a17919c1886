"""The lists of what may run beside another test name files that are there, each once."""

from pathlib import Path

from tests.beside import ALONE, BESIDE, COMPUTE, group_of

HERE = Path(__file__).parent
FILES = [path.relative_to(HERE.parent).as_posix() for path in HERE.rglob("test_*.py")]


def test_each_name_is_of_a_file_and_stands_in_one_list() -> None:
    for part in (*COMPUTE, *BESIDE):
        assert any(part in path for path in FILES), part
    for path in FILES:
        assert sum(part in path for part in COMPUTE + BESIDE) <= 1, path


def test_a_file_that_nobody_named_goes_alone() -> None:
    assert group_of("tests/test_sender.py") == ALONE
    assert group_of("tests/test_bucket.py") == "test_bucket"
    assert group_of("tests/test_plan.py") is None
