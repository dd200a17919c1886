"""Flags of commands that are no settings of a profile."""

import argparse
from typing import NoReturn

from latency_profile.errors import UsageError
from latency_profile.settings import kinds
from latency_profile.settings.shown import shown_value

_UNKNOWN = "unrecognized arguments: "  # argparse's own words


class CommandFlags(argparse.ArgumentParser):
    """Says what is wrong as all of the program does. said_first: what an error begins with."""

    def __init__(self, usage: str, description: str, said_first: str = "") -> None:
        super().__init__(
            usage=usage,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._said_first = said_first

    def error(self, message: str) -> NoReturn:
        before, unknown, words = message.partition(_UNKNOWN)
        raise UsageError(f"{self._said_first}{before}{unknown}{_without_values(words)}")


def read(flag: str, kind: kinds.Kind[kinds.T], value: str) -> kinds.T:
    """A flag's value, of the kinds that settings have. Raises UsageError."""
    try:
        return kind.read(value)
    except ValueError as error:
        detail = f" ({error})" if str(error) else ""
        raise UsageError(f"{flag}: got {shown_value(value)}{detail}, takes {kind.takes}") from None


def _without_values(words: str) -> str:
    """Words up to the first flag among them, with its name alone: what follows may be a key."""
    told: list[str] = []
    for word in words.split(" "):
        if word.startswith("-"):
            return " ".join([*told, word.partition("=")[0]])
        told.append(word)
    return " ".join(told)
