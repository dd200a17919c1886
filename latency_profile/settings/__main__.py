"""`python -m latency_profile.settings` prints docs/settings.md."""

import sys

from latency_profile.settings import markdown_table

sys.stdout.write(markdown_table())
