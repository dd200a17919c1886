"""One target under atheris: `python -m tests.fuzz.one TARGET [libFuzzer's arguments]`."""

import sys

import atheris

with atheris.instrument_imports(include=["backends", "latency_profile"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = sys.argv.pop(1)
    sys.argv[0] = f"{sys.executable} -m tests.fuzz.one {target}"  # what libFuzzer starts again to merge corpora
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()
