"""The plotting library as one script: Vega, Vega-Lite and Vega-Embed, as the pinned vl-convert-python bundles them.

`python -m latency_profile.page.bundle` (make page-script) writes it anew. The package has the script itself, so that a
page takes neither vl-convert-python nor a network.
"""

import sys
from functools import cache
from pathlib import Path

SCRIPT = Path(__file__).with_name("vega.js")
LICENCES = Path(__file__).with_name("vega-licences.txt")  # of what is in it; a page has them too


def bundled() -> str:
    """What the installed vl-convert-python makes, in about 2 s."""
    import vl_convert

    return f"{vl_convert.javascript_bundle()}\n"  # type: ignore[call-arg]  # its stubs forget the default


@cache
def script() -> str:
    """The script of the package."""
    return SCRIPT.read_text(encoding="utf-8")


if __name__ == "__main__":
    SCRIPT.write_text(bundled(), encoding="utf-8")
    print(f"{SCRIPT}: {SCRIPT.stat().st_size} bytes", file=sys.stderr)
