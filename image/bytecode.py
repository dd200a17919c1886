"""Compiles what a run imports, of the program, its packages and the standard library, into PYTHONPYCACHEPREFIX.

    bytecode.py FOLDER_OF_THE_PROGRAM

The base image has no byte code, and on a read-only root none can be kept: without this each process compiles what it
imports, two seconds of CPU in front of every profile. The byte code of everything would be three times as large.
"""

import ast
import compileall
import importlib
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH  # nothing in an image changes, and copies may lose times
# Imported by Google's libraries once they know whose credentials they have.
CREDENTIALS = ("google.auth.compute_engine", "google.oauth2.service_account", "google.auth.transport.requests")


def imports(source: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name in it) of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def load(module: str, name: str | None) -> None:
    """Imports what a run would; an optional part that this image does without is left out."""
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError:
        return
    if name is not None:
        getattr(loaded, name, None)  # packages that import their parts when they are asked for them


def source_of(module: ModuleType) -> Path | None:
    path = getattr(module, "__file__", None) or ""
    return Path(path) if path.endswith(".py") else None


def main() -> None:
    program = Path(sys.argv[1])
    if not sys.pycache_prefix:
        sys.exit("bytecode.py: PYTHONPYCACHEPREFIX says where the byte code goes, and is not set")
    ours = {path.name for path in program.iterdir()}
    wanted = {found for source in program.rglob("*.py") for found in imports(source)}
    for module, name in sorted(wanted, key=str) + [(module, None) for module in CREDENTIALS]:
        if module.partition(".")[0] not in ours:
            load(module, name)
    for source in filter(None, map(source_of, list(sys.modules.values()))):
        py_compile.compile(str(source), doraise=True, invalidation_mode=UNCHECKED)
    if not compileall.compile_dir(program, quiet=1, invalidation_mode=UNCHECKED):
        sys.exit(1)


if __name__ == "__main__":
    main()
