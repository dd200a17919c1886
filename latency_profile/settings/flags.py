"""The command line: an argparse parser made from the rows. It only finds which flag got which text; kinds read it."""

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from latency_profile.errors import UsageError
from latency_profile.settings.definition import BY_NAME, GROUPS, ROWS
from latency_profile.settings.rows import Setting, Source
from latency_profile.settings.shown import default_text, shown

PROGRAM = "benchmark_serving.py"
Given = dict[str, tuple[object, Source]]  # by setting: the value as it was given, and where


def nearest(word: str, known: Iterable[str]) -> str:
    """ ", did you mean X?" with the known name that is nearest to a wrong one, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else "; --help lists them all"


class _Keep(argparse.Action):
    """Keeps the text and the flag as it was typed; of a flag given twice the last counts, unless it is repeatable."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        row, flag = BY_NAME[self.dest], option_string or ""
        if self.nargs == 0:
            values = not flag.startswith("--no-")
        elif row.kind.repeatable and self.dest in namespace:
            before = getattr(namespace, self.dest)[0]
            values = [*(before if isinstance(before, list) else [before]), values]
        setattr(namespace, self.dest, (values, Source("flag", flag)))


class _Parser(argparse.ArgumentParser):
    def format_help(self) -> str:
        from latency_profile.settings.doors import backends_table

        return f"{super().format_help()}\n{backends_table()}"

    def error(self, message: str) -> NoReturn:
        raise UsageError(" ".join(message.split()))


def _help(row: Setting) -> str:
    parts = [f"in {row.unit}"] if row.unit else []
    if row.kind.choices:
        parts.append(row.kind.takes)
    if row.required:
        parts.append("required")
    elif default_text(row):
        parts.append("default " + default_text(row))
    return (row.help + (f" ({'; '.join(parts)})" if parts else "")).replace("%", "%%")


def parser() -> argparse.ArgumentParser:
    """The parser of all flags. Raises UsageError where argparse would exit."""
    made = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} --tokenizer TOKENIZER [settings]",
        description="One latency profile of a running model server.",
        epilog="Each setting may also come from an environment variable, LATENCY_PROFILE_ and its name in capitals, or "
        "from the file of --config. A flag goes before the environment, the environment before the file.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    for title, _ in GROUPS:
        group = made.add_argument_group(title)
        for row in (row for row in ROWS if row.group == title):
            flags = [row.flag, *row.aliases]
            common: dict[str, Any] = {
                "dest": row.name,
                "action": _Keep,
                "default": argparse.SUPPRESS,
                "help": _help(row),
            }
            if row.kind.type == "bool":
                group.add_argument(*flags, "--no-" + row.flag[2:], nargs=0, **common)
            else:
                group.add_argument(*flags, metavar=row.kind.metavar, **common)
    return made


def _refused(error: argparse.ArgumentError, argv: Sequence[str]) -> UsageError:
    """argparse's two complaints of a known flag: a value that is missing, or one that a switch does not take."""
    flags = (error.argument_name or "").split("/")
    row = next(row for row in ROWS if row.flag in flags)
    if row.kind.type != "bool":
        return UsageError(f"{row.flag}: got no value, takes {row.kind.takes}")
    got = next((word.partition("=")[2] for word in argv if word.partition("=")[0] in flags and "=" in word), "")
    return UsageError(f"{row.flag}: got {shown(row, got)}, takes no value; --no-{row.flag[2:]} turns it off")


def _unknown(extra: Sequence[str], argv: Sequence[str]) -> UsageError:
    """A line for the first word that is no flag and no flag's value. It never repeats what may be a key."""
    word = extra[0]
    if word.startswith("-"):
        flag = word.partition("=")[0]
        known = [flag for row in ROWS for flag in (row.flag, *row.aliases)]
        return UsageError(f"{flag}: no such flag" + nearest(flag, known))
    before = [each.partition("=")[0] for each in argv[: argv.index(word)] if each.startswith("--")]
    after = f" after {before[-1]}" if before else ""
    hidden = any(row.secret and before and before[-1] in (row.flag, *row.aliases) for row in ROWS)
    got = "a word that is not shown" if hidden else repr(word)
    return UsageError(f"got {got}{after}, which belongs to no flag; a value with spaces needs quotes")


def _joined(argv: Sequence[str]) -> list[str]:
    """The words, with a value of one dash (-1,2 or -inf), which argparse would take for a flag, joined to its flag."""
    takers = {flag for row in ROWS if row.kind.type != "bool" for flag in (row.flag, *row.aliases)}
    words: list[str] = []
    for word in argv:
        if words and words[-1] in takers and len(word) > 1 and word[0] == "-" != word[1]:
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def from_flags(argv: Sequence[str]) -> Given:
    """What the command line gives. Prints the help and raises SystemExit at --help; raises UsageError where a flag is
    unknown or without its value."""
    argv = _joined(argv)
    try:
        namespace, extra = parser().parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise _refused(error, argv) from None
    if extra:
        raise _unknown(extra, argv)
    return dict(vars(namespace))
