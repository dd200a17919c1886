"""Programs that tests need and pip does not bring."""

import os
import shutil
from pathlib import Path

import pytest


def need_binary(name: str, debian_package: str) -> Path:
    """Where the program is. Without it the test is skipped, and fails under CI: there it has to be installed."""
    found = shutil.which(name)
    if found:
        return Path(found)
    message = f"needs the Debian package {debian_package}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
