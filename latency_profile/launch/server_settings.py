"""What a server is started with: pure functions from its settings to a command line and an environment."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(min_length=1, pattern=r"^[^\x00]*$")]
Word = Annotated[str, Meta(pattern=r"^[^\x00]*$")] | int | float
Variable = Annotated[str, Meta(pattern=r"^[^=\x00]+$")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Share = Annotated[float, Meta(gt=0, le=1)]
Gpus = Annotated[int, Meta(ge=1)]
LOOK_S = 60.0  # a cold interpreter on a network volume takes its time
_LOOK = "import importlib.util, sys; print(*[n for n in sys.argv[1:] if importlib.util.find_spec(n) is None])"


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every server's section of the configuration file may have; each server adds its own keys."""

    backend: ClassVar[str]  # the profile's name of its protocol

    port: Port  # another one where it is taken
    command: tuple[Word, ...] = ()  # in place of the whole program and its flags; {host}, {port}, {model} are filled in
    extra_args: tuple[Word, ...] = ()  # behind all others
    environment: dict[Variable, Word] = {}  # beside this process's own
    tokenizer: Text | None = None  # of the profile; the model's own where it has one
    endpoint: Text = "chat"  # of the profile

    @property
    def model_name(self) -> str:
        """The model as the server is told of it."""
        raise NotImplementedError

    @property
    def own_tokenizer(self) -> str | None:
        """Where the model's tokenizer is found; None where the model's file is no place for one."""
        return self.model_name

    @property
    def served_name(self) -> str | None:
        """What requests call the model; None: the server is asked."""
        return None

    def program(self, host: str, port: int) -> list[str]:
        """The server's own command line."""
        raise NotImplementedError

    def program_missing(self) -> str | None:
        """Why the program cannot be started here, in a few words, or None."""
        raise NotImplementedError

    def command_line(self, host: str, port: int) -> list[str]:
        """What is started."""
        if not self.command:
            return [*self.program(host, port), *map(str, self.extra_args)]
        filled = {"{host}": host, "{port}": str(port), "{model}": self.model_name}
        return [*(_filled(str(word), filled) for word in self.command), *map(str, self.extra_args)]

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment that it is started in."""
        return {**environ, **{name: str(value) for name, value in self.environment.items()}}

    def missing(self) -> str | None:
        """Why it cannot be started here, in a few words, or None. Looks at the machine."""
        if self.command:
            return no_program(str(self.command[0]))
        return self.program_missing()


def flags(**values: Word | None) -> list[str]:
    """`--name value` for each that has one; what is None is left to the server."""
    return [
        word
        for name, value in values.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def no_program(program: str) -> str | None:
    """Why there is no such program, or None."""
    return None if shutil.which(program) else f"there is no program {program}"


def lacks(python: str, *modules: str) -> str | None:
    """Which of the modules an interpreter lacks, as words, or None. They are looked for and not imported."""
    if problem := no_program(python):
        return problem
    try:
        found = subprocess.run(
            [python, "-c", _LOOK, *modules], capture_output=True, text=True, timeout=LOOK_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{python} cannot be asked ({type(error).__name__})"
    absent = found.stdout.split()
    return f"{python} has no {', '.join(absent)}" if absent else None


def this_python() -> str:
    """The interpreter that runs this."""
    return sys.executable


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word
