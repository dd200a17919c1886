"""What each backend's doors can do, for people: made from `Backend.doors` and their traits, and from nothing else.

`python -m latency_profile.settings.doors` writes docs/backends.md and the table in README.md anew.
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import backends
from backends.base import SAMPLING, Backend, Door

BEGIN, END = "<!-- backends -->", "<!-- /backends -->"
WIDTH = 100  # characters of a line of `backends_table`

_HEAD = (
    "`--backend`",
    "`--endpoint`, the default first",
    "path",
    "streaming",
    "`--ignore-eos`",
    "exact output length",
    "sampling settings",
    "tokens counted from",
    "chat",
    "verified against",
)

_PREAMBLE = """\
# Backends

Made by `python -m latency_profile.settings.doors`; a test holds it against the code.

A backend's first door is the one that `--endpoint` takes by default. Streaming is *only* where a door has no other way
to answer. A setting that a door has no word for is refused. Tokens are counted from the first of the sources that an
answer has. `latency-profile backends` prints the same.

"""


def _doors() -> Iterator[tuple[Backend, str, type[Door]]]:
    for name in backends.NAMES:
        backend = backends.load(name)
        for door_name, door in backend.doors.items():
            yield backend, door_name, door


def _yes(can: bool) -> str:
    return "yes" if can else "no"


def _streaming(door: type[Door]) -> str:
    if not door.traits.streams:
        return "no"
    return "yes" if door.traits.answers_whole else "only"


def _paths(door: type[Door]) -> list[str]:
    return list(dict.fromkeys(filter(None, (door.path, door.stream_path))))


def _sampling(door: type[Door]) -> list[str]:
    """Sampling settings that the door has words for, as flags are spelled."""
    known = [name for name in SAMPLING if name in door.traits.settings and name != "ignore_eos"]
    return [name.replace("_", "-") for name in known]


def _row(backend: Backend, name: str, door: type[Door]) -> tuple[str, ...]:
    traits = door.traits
    return (
        f"`{backend.name}`",
        f"`{name}`",
        "<br>".join(f"`{path}`" for path in _paths(door)) + (" (gRPC)" if door.stream_framing == "grpc" else ""),
        _streaming(door),
        _yes("ignore_eos" in traits.settings),
        _yes(traits.exact_length),
        ", ".join(_sampling(door)) or "none",
        traits.counts,
        _yes(traits.chat),
        traits.verified,
    )


def backends_markdown() -> str:
    """The table as Markdown, a row a door."""
    rows = [_HEAD, ("---",) * len(_HEAD), *(_row(*door) for door in _doors())]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def backends_document() -> str:
    """The whole of docs/backends.md."""
    return _PREAMBLE + backends_markdown()


def with_table(readme: str) -> str:
    """The text with the table between its markers, in place of what is there. Raises ValueError without markers."""
    begin, end = readme.find(BEGIN), readme.find(END)
    if not 0 <= begin < end:
        raise ValueError(f"no {BEGIN} … {END}")
    return f"{readme[:begin]}{BEGIN}\n{backends_markdown()}{readme[end:]}"


def backends_table() -> str:
    """The same for a terminal, as `--help` and `latency-profile backends` print it: a paragraph a door."""
    lines = ["Backends and their endpoints, each one's default first:"]
    before = ""
    for backend, name, door in _doors():
        if backend.name != before:
            lines.append(f"\n  {backend.name}: {backend.title}")
            before = backend.name
        traits = door.traits
        grpc = " (gRPC)" if door.stream_framing == "grpc" else ""
        lines.append(f"    {name:<12} {', '.join(_paths(door))}{grpc}")
        facts = (
            f"streaming {_streaming(door)}; ignore-eos {_yes('ignore_eos' in traits.settings)}; "
            f"exact output length {_yes(traits.exact_length)}; chat {_yes(traits.chat)}; "
            f"sampling: {', '.join(_sampling(door)) or 'none'}",
            f"tokens counted from: {traits.counts}",
            f"verified against: {traits.verified}",
        )
        for fact in facts:
            lines += textwrap.wrap(
                fact, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 10, break_on_hyphens=False
            )
    return "\n".join(lines) + "\n"


def main(root: Path = Path(__file__).parents[2]) -> None:
    """Writes docs/backends.md and the table in README.md."""
    (root / "docs" / "backends.md").write_text(backends_document(), encoding="utf-8")
    readme = root / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
