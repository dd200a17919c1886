"""What a run is told: one definition of each setting, read from flags, the environment, a file, or its default."""

from latency_profile.settings.definition import Arrival, Settings
from latency_profile.settings.document import help_text, markdown_table
from latency_profile.settings.load import load
from latency_profile.settings.rows import Source

__all__ = ["Arrival", "Settings", "Source", "help_text", "load", "markdown_table"]
