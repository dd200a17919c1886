"""Flags of commands that are no settings of a profile."""

import argparse
from typing import NoReturn

from latency_profile.errors import UsageError
from latency_profile.settings import kinds


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
        raise UsageError(f"{self._said_first}{message}")


def read(flag: str, kind: kinds.Kind[kinds.T], value: str) -> kinds.T:
    """A flag's value, of the kinds that settings have. Raises UsageError."""
    try:
        return kind.read(value)
    except ValueError:
        raise UsageError(f"{flag}: got {value!r}, takes {kind.takes}") from None
