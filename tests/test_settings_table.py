"""The definition of the settings against the flags that users were promised, and against its own documents."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends import NAMES
from latency_profile.settings import help_text, markdown_table
from latency_profile.settings.definition import BY_NAME, ROWS
from latency_profile.settings.rows import Setting
from latency_profile.settings.shown import default_text

ROOT = Path(__file__).parents[1]


@dataclass
class Promised:
    """One flag as the list in tests/data/documented_flags.md describes it."""

    type: str
    default: Any
    choices: tuple[str, ...]
    required: bool
    description: str


def _promised() -> dict[str, Promised]:
    flags: dict[str, Promised] = {}
    text = (ROOT / "tests" / "data" / "documented_flags.md").read_text()
    for item in re.split(r"^\* ", text, flags=re.MULTILINE)[1:]:
        flag = re.match(r"`--([a-z-]+)`:", item)
        assert flag
        lines = dict(re.findall(r"^    \* (\w+): (.+)$", item, flags=re.MULTILINE))
        spelled = lines.get("Default", "None").split(" (")[0].strip("`")
        # The list spells defaults as Python, but for two names without quotes.
        names = {"float": float, "default": "default", "vllm-podmonitoring": "vllm-podmonitoring"}
        default = spelled if spelled in names else eval(spelled, {"__builtins__": {}}, names)
        switch = lines.get("Action", "").strip("`") == "store_true"
        choices = tuple(re.findall(r'"(\w+)"', lines.get("Choices", "")))
        flags[flag[1].replace("-", "_")] = Promised(
            "bool" if switch else lines["Type"].strip("`"),
            False if switch else default,
            choices,
            lines.get("Required") == "`True`",
            lines["Description"],
        )
    return flags


PROMISED = _promised()


def test_the_list_was_read_whole() -> None:
    text = (ROOT / "tests" / "data" / "documented_flags.md").read_text()
    assert len(PROMISED) == text.count("* `--") == 22
    assert (PROMISED["port"].default, PROMISED["request_timeout"].default) == (7080, 10800.0)
    assert PROMISED["request_rate"].default == float("inf")
    assert [name for name, flag in PROMISED.items() if flag.required] == ["tokenizer"]


@pytest.mark.parametrize("name", PROMISED)
def test_promised_flags_have_their_type_and_default(name: str) -> None:
    promised, row = PROMISED[name], BY_NAME[name]
    assert row.required is promised.required
    # Text that has an inner form: nothing given is an empty tuple or dictionary.
    inner: dict[str, tuple[str, Any]] = {
        "models": ("comma-separated str", ()),
        "additional_metadata_metrics_to_save": ("dict", {}),
    }
    inner["traffic_split"] = ("comma-separated float", None)
    if name in inner:
        assert (row.kind.type, row.default) == inner[name]
        assert promised.default is None
        return
    assert row.kind.type == promised.type
    if not promised.required:
        assert row.default == promised.default
        assert type(row.default) is type(promised.default)


@pytest.mark.parametrize("name", PROMISED)
def test_promised_flags_keep_their_meaning(name: str) -> None:
    """The first sentence is the promise's own, but for the letters' case."""
    first = PROMISED[name].description.split(". ")[0].rstrip(".").lower()
    if name not in ("backend", "dataset"):
        assert first in BY_NAME[name].help.lower()


def test_promised_backends_are_there() -> None:
    promised = PROMISED["backend"].choices
    assert len(promised) == 6
    assert set(promised) <= set(NAMES)
    assert BY_NAME["backend"].kind.choices == NAMES


def test_users_further_flags() -> None:
    users = "seed ignore-eos best-of use-beam-search top-k sax_model trust-remote-code machine-cost use-dummy-text"
    users += " save-aggregated-result tcp-conn-limit model dataset-path config dry-run"
    flags = {flag for row in ROWS for flag in (row.flag, *row.aliases)}
    assert {f"--{name}" for name in users.split()} <= flags


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_default_is_a_value_of_its_kind(row: Setting) -> None:
    """What the table calls the default can be given, where there is one; and each help is a sentence."""
    assert row.help.endswith(".")
    if default_text(row):
        assert row.kind.read(default_text(row)) == row.default


def test_names_do_not_collide() -> None:
    flags = [flag for row in ROWS for flag in (row.flag, *row.aliases)]
    assert len(flags) == len(set(flags))
    scripted = [row.script for row in ROWS]
    assert len(scripted) == len(set(scripted))


def test_the_document_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == markdown_table(), (
        "run: python -m latency_profile.settings > docs/settings.md"
    )


def test_the_document_has_a_whole_row_for_each_setting() -> None:
    rows = [line for line in markdown_table().splitlines() if line.startswith("| `--")]
    assert len(rows) == len(ROWS)
    for row, line in zip(ROWS, rows, strict=True):
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        assert len(cells) == 5
        assert row.flag in cells[0] and row.script in cells[4]
    assert "| `--port` | int | `7080` | The port number of the server. | `PORT` |" in rows


def test_the_help_tells_defaults_and_units() -> None:
    text = " ".join(help_text().split())
    assert "--request-timeout X Individual request timeout, of each attempt. (in s; default 10800.0)" in text
    assert "(one of poisson, gamma, constant; default poisson)" in text
    assert text.startswith("usage: benchmark_serving.py --tokenizer TOKENIZER")
