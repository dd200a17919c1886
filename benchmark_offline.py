#!/usr/bin/env python3
"""An engine without a server: batch sizes, lengths, counts. `--help` lists the flags."""

import sys

from latency_profile.cli import offline

if __name__ == "__main__":
    sys.exit(offline(sys.argv[1:]))
