"""A private copy of the operator's checkout: service-screener writes where it lies, and clears it first.

Copied and not linked: what it opens for writing would be written in the checkout too.
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fairlead.kernel.errors import FairleadError

PREFIX = "fairlead-service-screener-"
NEEDED = ("main.py", "services", "utils", "constants.py")
# Of no use to a screening, or results and settings of another one.
LEFT_OUT = shutil.ignore_patterns(
    ".git*", "__pycache__", "__fork", "logs", "output.zip", ".cache", "crossAccounts.json",
    "suppressions.json", "cloudscape-ui", "docs", "poc", "q-dev", "usecases", "tests",
)  # fmt: skip


class ServiceScreenerMissing(FairleadError):
    """There is no usable checkout of service-screener-v2."""

    code, status, retryable = "support.service_screener_missing", 409, False


def checkout(folder: Path | None) -> Path:
    """`folder`, if it is a checkout. Raises ServiceScreenerMissing."""
    remedy = (
        "Clone https://github.com/aws-samples/service-screener-v2 and name the folder in "
        "FAIRLEAD_SUPPORT__SERVICE_SCREENER."
    )
    if folder is None:
        raise ServiceScreenerMissing("The folder of service-screener-v2 is not set.", remedy=remedy)
    if lacking := [name for name in NEEDED if not (folder / name).exists()]:
        raise ServiceScreenerMissing(
            f"{folder} is no checkout of service-screener-v2: it has no {', '.join(lacking)}.", remedy=remedy
        )
    return folder


@asynccontextmanager
async def private_copy(folder: Path, work_dir: Path | None) -> AsyncIterator[Path]:
    """A folder with `tree`, a copy of `folder`, and an empty `home`; both are gone after the block.

    Copies that a killed process left behind are removed first.
    """
    root = Path(work_dir or tempfile.gettempdir())
    await asyncio.to_thread(_sweep, root)
    (place, held), given_up = _made(root), threading.Event()
    copying = asyncio.create_task(asyncio.to_thread(_copy, folder, place, given_up))
    try:
        await asyncio.shield(copying)
        yield place
    finally:
        given_up.set()  # a copy that is still being made ends where it is
        await asyncio.wait((copying,))
        await asyncio.to_thread(_remove, place, held)


def _made(root: Path) -> tuple[Path, int]:
    """A new folder and the lock that keeps it from being swept."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        held = os.open(place / ".held", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_SH)
        if (place / ".held").exists():  # else somebody swept it before it was locked
            return place, held
        os.close(held)


def _copy(folder: Path, place: Path, given_up: threading.Event) -> None:
    def copied(source: str, target: str) -> Any:
        if given_up.is_set():
            raise InterruptedError("nobody waits for this copy any more")
        return shutil.copyfile(source, target)

    (place / "home").mkdir(mode=0o700)
    shutil.copytree(folder, place / "tree", ignore=_ignored, copy_function=copied, symlinks=True)
    (place / "tree" / "adminlte" / "aws").mkdir(parents=True, exist_ok=True)  # it lists this folder
    (place / "tree" / "__fork").mkdir()


def _ignored(folder: str, names: list[str]) -> set[str]:
    results = {name for name in names if name.isnumeric()} if Path(folder).name == "aws" else set()
    return set(LEFT_OUT(folder, names)) | results


def _remove(place: Path, held: int) -> None:
    shutil.rmtree(place, ignore_errors=True)
    os.close(held)


def _sweep(root: Path) -> None:
    for place in root.glob(f"{PREFIX}*"):
        try:
            held = os.open(place / ".held", os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # being made, or of somebody else
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(place, ignore_errors=True)
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(held)
