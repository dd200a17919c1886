"""The pictures of docs/results, out of the results that are kept there, by `latency-profile report --plots`.

`python -m benchmarks.results_pictures docs/results` draws each folder's profiles over each other. It takes the package
vl-convert-python.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

FIGURES = ("throughput-ttft",)  # what the README shows
SERVED = ("llama3-8b-h100/served", "smollm2-cpu")


def draw(folder: Path) -> list[Path]:
    """The pictures of one folder's points, beside them. Raises CalledProcessError where the report cannot be made, and
    FileNotFoundError where it lacks one of the figures."""
    with TemporaryDirectory() as made:
        where = ["-o", f"{made}/page.html", "--plots", made]
        command = [sys.executable, "-m", "latency_profile", "report", str(folder), *where]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        paths = [folder / f"{figure}.svg" for figure in FIGURES]
        for path in paths:
            path.write_bytes((Path(made) / path.name).read_bytes())
    return paths


def main() -> int:
    (root,) = sys.argv[1:]
    for folder in SERVED:
        for path in draw(Path(root) / folder):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
