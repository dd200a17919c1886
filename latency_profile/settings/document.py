"""The settings for people: the text of --help and the tables of docs/settings.md, made from the rows."""

from latency_profile.settings.definition import GROUPS, ROWS
from latency_profile.settings.flags import parser
from latency_profile.settings.rows import Setting
from latency_profile.settings.shown import default_text

_PREAMBLE = """\
# Settings

Made by `python -m latency_profile.settings > docs/settings.md`; a test holds it against the code.

Each setting is a flag of `benchmark_serving.py`, an environment variable `LATENCY_PROFILE_<NAME>`, and a key of the
YAML file that `--config` names (the flag's name, with `-` or `_`). A flag goes before the environment, the environment
before the file, the file before the default. A variable that is empty and a key without a value give nothing. Switches
(type `bool`) have a `--no-` form; in the environment they take true or false. `latency_throughput_curve.sh` reads the
variables of the last column; in it, a request rate of 0 means unlimited.

Secrets: the server's API key is read from the variable that `--api-key-env` names or from `--api-key-file`, a Hugging
Face token from `HF_TOKEN`. Headers may come from `LATENCY_PROFILE_HEADER`, one a line. None of them is logged or saved.
"""

_HEAD = "| Setting | Type | Default | Meaning | Variable of the script |\n|---|---|---|---|---|\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _line(row: Setting) -> str:
    flags = [row.flag, *row.aliases]
    if row.default is True:
        flags.append("--no-" + row.flag[2:])
    default = "required" if row.required else f"`{default_text(row)}`" if default_text(row) else "none"
    choices = f" Choices: {', '.join(f'`{name}`' for name in row.kind.choices)}." if row.kind.choices else ""
    unit = f" ({row.unit})" if row.unit else ""
    names = "<br>".join(f"`{flag}`" for flag in flags)
    return f"| {names} | {row.kind.type}{unit} | {default} | {_cell(row.help + choices)} | `{row.script}` |\n"


def markdown_table() -> str:
    """The whole of docs/settings.md: what goes before what, then one table a group."""
    parts = [_PREAMBLE]
    for title, _ in GROUPS:
        parts.append(f"\n## {title}\n\n{_HEAD}" + "".join(_line(row) for row in ROWS if row.group == title))
    return "".join(parts)


def help_text() -> str:
    """What `benchmark_serving.py --help` prints."""
    return parser().format_help()
