#!/usr/bin/env python3
"""One profile of a running model server: flags in, point files out. `benchmark_serving.py --help` lists the flags."""

import sys

from latency_profile.cli import profile

if __name__ == "__main__":
    sys.exit(profile(sys.argv[1:]))
