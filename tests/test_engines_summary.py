"""benchmark_summary.csv under several writers, crashes and editors."""

import csv
import io
import multiprocessing
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latency_profile.errors import StorageError
from latency_profile.launch.summary import COLUMNS, NAME, Row, append, check

WRITERS, ROWS = 3, 30


def row(file: str = "vllm_20260201_143000.json", reason: str | None = None) -> Row:
    values: dict[str, object] = dict.fromkeys(COLUMNS)
    values |= {"date": "20260201_143000", "backend": "vllm", "concurrency": 20, "verdict": "VALID"}
    return msgspec.convert(values | {"reason": reason, "file": file}, Row)


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(folder: str, writer: int) -> None:
    for n in range(ROWS):
        append(Path(folder), row(f"vllm_{writer}_{n}.json", 'a reason, with "quotes"\nand a line\'s end'))


def test_rows_of_several_processes_at_once_are_all_whole_below_one_header(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")  # each opens the file for itself
    writers = [fork.Process(target=write_rows, args=(str(tmp_path), n)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    rows = read(tmp_path)
    assert {each["file"] for each in rows} == {f"vllm_{w}_{n}.json" for w in range(WRITERS) for n in range(ROWS)}
    assert len(rows) == WRITERS * ROWS
    assert {each["reason"] for each in rows} == {'a reason, with "quotes" and a line\'s end'}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=0), reason=st.sampled_from([None, 'torn, in "quotes"', "plain"]))
def test_wherever_a_crash_tears_the_file_whole_rows_stay_and_the_next_is_whole(
    tmp_path: Path, cut: int, reason: str | None
) -> None:
    (tmp_path / NAME).unlink(missing_ok=True)
    for n in range(2):
        append(tmp_path, row(f"vllm_{n}.json", reason))
    content = (tmp_path / NAME).read_bytes()
    kept = content[: cut % (len(content) + 1)]
    (tmp_path / NAME).write_bytes(kept)
    # A row is whole with its last character; the line's end may be missing.
    whole = [name for name in ("vllm_0.json", "vllm_1.json") if name.encode() in kept]
    append(tmp_path, row("vllm_new.json"))
    assert [each["file"] for each in read(tmp_path)] == [*whole, "vllm_new.json"]
    header, *_ = csv.reader(io.StringIO((tmp_path / NAME).read_text()))
    assert tuple(header) == COLUMNS


def test_a_file_of_other_columns_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("backend,tps\nvllm,3\n")
    for refused in (lambda: append(tmp_path, row()), lambda: check(tmp_path)):
        with pytest.raises(
            StorageError, match="begins with another line of columns than this version writes: move it away"
        ):
            refused()
    assert (tmp_path / NAME).read_text() == "backend,tps\nvllm,3\n"


def test_a_place_that_cannot_be_written_is_known_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", Path("/proc")):  # there, but nobody may make a file in it
        with pytest.raises(StorageError, match="cannot write into"):
            check(place)
    check(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
