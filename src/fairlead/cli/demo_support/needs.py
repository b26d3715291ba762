"""What the demo needs on this machine, and brings where it may: programs' environments, a browser, a font."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from fairlead.cli.demo_support import chromium
from fairlead.kernel import toolenv
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.settings import child_environment

TOOLS = ("ministack", "cloudtrail-mcp-server", "cloudwatch-mcp-server", "aws-api-mcp-server")
INSTALL_DEADLINE_S = 600.0
_QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


class BrowserMissing(FairleadError):
    """Chromium, or a font with Korean letters, is not installed and cannot be installed from here."""

    code, status, retryable = "demo.browser_missing", 400, False


def install(toolenvs: Path, tell: Callable[[str], None]) -> str:
    """The browser's path, once everything is here; `tell` hears what is being waited for.

    Debian's packages are installed where we are root, else BrowserMissing says how. Raises toolenv's errors.
    """
    missing = [] if chromium.program() else ["chromium"]
    missing += [] if _has_korean() else ["fonts-nanum"]
    if missing:
        tell(" and ".join(missing))
        _apt_install(missing)
    found = chromium.program()
    if found is None:
        raise _missing(["chromium"], "it was installed, and is not on the PATH")
    for name in TOOLS:
        tell(f"environment of {name}")
        toolenv.ensure(name, root=toolenvs)
    return found


def _has_korean() -> bool:
    """Whether some font has Hangul; a machine without fontconfig has no fonts."""
    lister = shutil.which("fc-list")
    if lister is None:
        return False
    found = subprocess.run([lister, ":lang=ko", "family"], capture_output=True, check=False, timeout=30)  # noqa: S603
    return bool(found.stdout.strip())


def _apt_install(packages: list[str]) -> None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise _missing(packages, "only root may install it, with apt-get")
    command = [apt, "install", "-qy", "--no-install-recommends", *packages]
    if not _done(command):
        _done([apt, "update", "-q"])
        if not _done(command):
            raise _missing(packages, "apt-get could not install it")


def _done(command: list[str]) -> bool:
    try:
        ended = subprocess.run(  # noqa: S603 - apt-get and names of ours
            command,
            capture_output=True,
            check=False,
            timeout=INSTALL_DEADLINE_S,
            env=child_environment(_QUIET),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def _missing(packages: list[str], why: str) -> BrowserMissing:
    names = " ".join(packages)
    return BrowserMissing(
        f"The demo needs {names}: {why}.",
        remedy=f"As root: apt-get install {names}. Then the same command again.",
    )
