"""The browser of the tests: the demo's driver, where the program is installed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fairlead.cli.demo_support import chromium
from fairlead.cli.demo_support.chromium import Browser, Page

__all__ = ["Browser", "Page", "running_chromium"]


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Chromium with an empty profile. Without the program: skips, and fails where CI=true."""
    found = chromium.program()
    if found is None:
        message = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with chromium.running_chromium(found) as browser:
        yield browser
