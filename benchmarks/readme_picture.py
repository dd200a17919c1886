"""The README's picture: what `make profile` leaves in a terminal of 112 columns, as an SVG.

`python -m benchmarks.readme_picture docs/profile.svg` runs the demo in a pseudo-terminal and draws its output by Rich;
the progress, which writes over itself, is left out.
"""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 112
COMMAND = "make profile"


def shown() -> str:
    """The demo's output with its colours. Raises CalledProcessError where it fails."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "latency_profile", "demo"], stdout=theirs, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        os.close(theirs)
        said = io.BytesIO()
        while part := _read(ours):
            said.write(part)
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return said.getvalue().decode().replace("\r\n", "\n")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the other side has closed: EIO on Linux
        return b""


def main() -> int:
    (path,) = sys.argv[1:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"$ {COMMAND}\n{shown()}"), highlight=False)
    Path(path).write_text(console.export_svg(title=COMMAND))
    return 0


if __name__ == "__main__":
    sys.exit(main())
