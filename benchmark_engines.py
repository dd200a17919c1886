#!/usr/bin/env python3
"""Engines side by side: starts each server, profiles it, stops it. `benchmark_engines.py --help` lists the flags."""

import sys

from latency_profile.cli import engines

if __name__ == "__main__":
    sys.exit(engines(sys.argv[1:]))
