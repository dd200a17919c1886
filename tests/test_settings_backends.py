"""What people are told of backends is what their doors say of themselves, in each place where they are told it."""

import re
from pathlib import Path

import pytest

from backends import NAMES, load
from backends.base import Door, Options, Unsupported
from latency_profile.settings import help_text
from latency_profile.settings.doors import backends_document, backends_markdown, backends_table, main, with_table

ROOT = Path(__file__).parents[1]
DOORS = [(name, door) for name in NAMES for door in load(name).doors]
RUN = "run: python -m latency_profile.settings.doors"


def door_of(backend: str, door: str) -> type[Door]:
    return load(backend).doors[door]


def rows() -> dict[tuple[str, str], list[str]]:
    """Cells of the Markdown table by (backend, door), without the first two."""
    lines = backends_markdown().splitlines()[2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {(row[0].strip("`"), row[1].strip("`")): row[2:] for row in cells}


def paragraph(backend: str, door: str) -> str:
    """What `backends_table` says of a door, on one line."""
    of_backend = re.split(r"\n\n  (?=\w+: )", backends_table())
    (own,) = [part for part in of_backend if part.startswith(f"{backend}: ")]
    (told,) = [part for part in re.split(r"\n    (?=\S)", own)[1:] if part.split()[0] == door]
    return " ".join(told.split())


def test_each_door_has_one_row_in_the_order_of_the_code() -> None:
    assert list(rows()) == DOORS
    assert all(len(cells) == 8 for cells in rows().values())


@pytest.mark.parametrize(("backend", "door"), DOORS)
def test_what_a_row_says_is_what_the_door_does(backend: str, door: str) -> None:
    """Asked of the door, not of its traits: what the table calls possible is taken, the rest refused."""
    make, cells = door_of(backend, door), rows()[backend, door]
    path, streaming, ignore_eos, _, sampling, _, chat, _ = cells

    def takes(options: Options) -> bool:
        try:
            make(options)
        except Unsupported:
            return False
        return True

    whole, streamed = takes(Options()), takes(Options(stream=True))
    assert streaming == {(True, True): "yes", (True, False): "no", (False, True): "only"}[whole, streamed]
    stream = not whole
    assert ignore_eos == ("yes" if takes(Options(stream=stream, ignore_eos=True)) else "no")
    assert ("top-k" in sampling) is takes(Options(stream=stream, top_k=1))
    assert ("temperature" in sampling) is takes(Options(stream=stream, temperature=0.5))
    beam = Options(stream=stream, use_beam_search=True, best_of=2)
    assert ("use-beam-search" in sampling) is takes(beam)
    assert ("best-of" in sampling) is (takes(beam) or takes(Options(stream=stream, best_of=2)))
    assert f"`{make.path}`" in path and (make.stream_path is None or f"`{make.stream_path}`" in path)
    assert path.endswith("(gRPC)") is (make.stream_framing == "grpc")
    assert chat == "yes" or "chat" not in make.path


@pytest.mark.parametrize(("backend", "door"), DOORS)
def test_the_terminal_is_told_the_same(backend: str, door: str) -> None:
    path, streaming, ignore_eos, exact, sampling, counts, chat, verified = rows()[backend, door]
    paths = path.replace("`", "").replace("<br>", ", ")
    assert paragraph(backend, door) == (
        f"{door} {paths} streaming {streaming}; ignore-eos {ignore_eos}; exact output length {exact}; chat {chat}; "
        f"sampling: {sampling} tokens counted from: {counts} verified against: {verified}"
    )


def test_some_of_it() -> None:
    """By hand, as the servers' documents have it."""
    table = rows()
    assert table["vllm", "completions"][:5] == [
        "`/v1/completions`",
        "yes",
        "yes",
        "yes",
        "best-of, use-beam-search, top-k, temperature",
    ]
    assert table["jetstream", "v1"][1] == "only"
    assert table["sax", "generate"][1] == "no"
    assert table["tgi", "generate"][0] == "`/generate`<br>`/generate_stream`"
    assert [table["openai", door][6] for door in ("completions", "chat")] == ["no", "yes"]


def test_the_help_has_it() -> None:
    assert help_text().endswith("\n" + backends_table())
    assert max(map(len, backends_table().splitlines())) <= 100


def test_the_document_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "backends.md").read_text() == backends_document(), RUN
    assert backends_document().endswith("\n\n" + backends_markdown())


def test_the_readme_has_the_generated_table() -> None:
    readme = (ROOT / "README.md").read_text()
    assert with_table(readme) == readme, RUN


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = "before\n<!-- backends -->\nold\n<!-- /backends -->\nafter\n"
    assert with_table(text) == f"before\n<!-- backends -->\n{backends_markdown()}<!-- /backends -->\nafter\n"
    for wrong in ("", "<!-- backends -->", "<!-- /backends --><!-- backends -->"):
        with pytest.raises(ValueError, match="no <!-- backends -->"):
            with_table(wrong)


def test_both_are_written_anew(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("before <!-- backends -->old<!-- /backends --> after")
    main(tmp_path)
    assert (tmp_path / "docs" / "backends.md").read_text() == backends_document()
    assert (
        tmp_path / "README.md"
    ).read_text() == f"before <!-- backends -->\n{backends_markdown()}<!-- /backends --> after"
