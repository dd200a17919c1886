"""`latency-profile dataset estimate|import|generate`."""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from latency_profile.command_flags import CommandFlags, read
from latency_profile.datasets.hub import KNOWN, SCHEME, local
from latency_profile.datasets.pairs import Columns, Source, sample
from latency_profile.errors import Exit, UsageError
from latency_profile.local_path import local_path
from latency_profile.settings import kinds
from latency_profile.storage.folder import Folder

USAGE = "dataset estimate|import|generate [FLAG …]"
_SOURCE = f"""\
SOURCE: a file (a JSON array, JSON Lines, CSV with a heading, or Parquet, which takes the package pyarrow), or one of
the Hugging Face hub, which is asked only where its name is given: {SCHEME}OWNER/NAME, {SCHEME}OWNER/NAME/FILE, or one
of {", ".join(KNOWN)}."""
_ESTIMATE = f"""\
Token lengths of a data set: mean, deviation, percentiles, the whole histogram, and how far the normal distribution is
from it that is often put in its place; and the flags that bring the same lengths into a profile.

{_SOURCE}"""
_IMPORT = f"""\
Writes a data set as JSON Lines that --dataset reads, and says what was left out.

{_SOURCE}"""


def command(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Runs one of the three. Raises ProfileError."""
    if arguments and arguments[0] in _COMMANDS:
        return _COMMANDS[arguments[0]](arguments[1:], environ)
    if {"-h", "--help"} & set(arguments):
        print(f"usage: latency-profile {USAGE}\n\nlatency-profile dataset estimate --help tells more, and so on.")
        return Exit.DONE
    got = repr(arguments[0]) if arguments else "nothing"
    raise UsageError(f"dataset: got {got}, takes one of {', '.join(_COMMANDS)}")


class _Target(NamedTuple):
    """Where -o names a file, checked before anything is done."""

    folder: Folder
    name: str


def _estimate(arguments: Sequence[str], _environ: Mapping[str, str]) -> Exit:
    flags = _source_flags("latency-profile dataset estimate SOURCE --tokenizer NAME [FLAG …]", _ESTIMATE)
    flags.add_argument("--tokenizer", required=True, metavar="NAME", help="as the profile takes it")
    flags.add_argument("--trust-remote-code", action="store_true", help="let a tokenizer of the hub run its own code")
    flags.add_argument("-o", "--output", metavar="FILE", help="write what was found here, as JSON")
    given = flags.parse_intermixed_args(arguments)
    target = _target(given.output)
    source, count, seed = _source(given)

    import msgspec

    from latency_profile.datasets.estimate import estimate
    from latency_profile.datasets.text import show
    from latency_profile.workload import tokenizer as tokenizers
    from latency_profile.workload.heads import Heads
    from latency_profile.workload.words import find

    tokenizer = tokenizers.load(given.tokenizer, given.trust_remote_code)
    head = Heads(tokenizer, find(tokenizer), "0").overhead
    with source.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    found = estimate(source, tokenizer, sha256=sha256, count=count, seed=seed, head=head)
    show(found, given.source, sys.stdout)
    if target is not None:
        content = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
        print(target.folder.put(target.name, content))
    return Exit.DONE


def _import(arguments: Sequence[str], _environ: Mapping[str, str]) -> Exit:
    flags = _source_flags("latency-profile dataset import SOURCE -o FILE [FLAG …]", _IMPORT)
    flags.add_argument("-o", "--output", required=True, metavar="FILE", help="JSON Lines for --dataset")
    given = flags.parse_intermixed_args(arguments)
    target = _target(given.output)
    source, count, seed = _source(given)

    from latency_profile.datasets.imported import lines

    with tempfile.TemporaryDirectory() as folder:  # a set may be larger than the memory
        written, path = 0, Path(folder) / "lines"
        with path.open("wb") as file:
            for line in lines(source.form, sample(source.pairs(), count, seed)):
                file.write(line)
                written += 1
        assert target is not None  # the flag is required
        place = target.folder.put_file(target.name, path)
    tally = source.tally
    left_out = f"; left out: {', '.join(tally.left_out())}" if tally.left_out() else ""
    repeated = f"; {tally.duplicate_prompts} prompts came before" if tally.duplicate_prompts else ""
    print(f"{written} of {tally.rows} rows ({source.form.name}){left_out}{repeated}")
    print(place)
    return Exit.DONE


def _generate(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    from latency_profile.datasets.generate_command import command as generate

    return generate(arguments, environ)


_COMMANDS: dict[str, Callable[[Sequence[str], Mapping[str, str]], Exit]] = {
    "estimate": _estimate,
    "import": _import,
    "generate": _generate,
}


def _source_flags(usage: str, description: str) -> CommandFlags:
    flags = CommandFlags(usage, description, said_first="dataset: ")
    flags.add_argument("source", metavar="SOURCE", help="where the rows are")
    flags.add_argument(
        "--prompt-column",
        action="append",
        default=[],
        metavar="NAME",
        help="the column of the prompt; several are joined by an empty line (default: by the form of the rows)",
    )
    flags.add_argument("--answer-column", metavar="NAME", help="the column of the answer")
    flags.add_argument("--output-len-column", metavar="NAME", help="the column of the output length, in tokens")
    flags.add_argument("--sample", metavar="N", help="take so many rows at random (default: all)")
    flags.add_argument("--seed", default="0", metavar="N", help="of the sample (default: 0)")
    return flags


def _source(given: argparse.Namespace) -> tuple[Source, int | None, int]:
    """Opens what is named, and how many rows of it, by which seed."""
    count = None if given.sample is None else read("--sample", kinds.COUNT, given.sample)
    seed = read("--seed", kinds.whole(0), given.seed)
    columns = Columns(
        prompt=tuple(given.prompt_column), answer=given.answer_column, output_length=given.output_len_column
    )
    return Source(local(given.source), columns), count, seed


def _target(output: str | None) -> _Target | None:
    """Raises UsageError where nothing can be written."""
    if output is None:
        return None
    path = local_path(output, "--output: ")
    if path.is_dir() or not path.name:
        raise UsageError(f"--output: got {output!r}, takes a file's name")
    folder = Folder(path.parent, "--output")
    folder.check()
    return _Target(folder, path.name)
