"""`python -m latency_profile`."""

import sys

from latency_profile.cli import main

sys.exit(main())
