"""A private copy of the operator's checkout: service-screener writes where it lies, and clears it first.

Copied and not linked: what it opens for writing would be written in the checkout too.
"""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fairlead.kernel.errors import FairleadError
from fairlead.support import held_folders

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
    await asyncio.to_thread(held_folders.sweep, root, PREFIX)
    held, given_up = held_folders.hold(root, PREFIX), threading.Event()
    copying = asyncio.create_task(asyncio.to_thread(_copy, folder, held.path, given_up))
    try:
        await asyncio.shield(copying)
        yield held.path
    finally:
        given_up.set()  # a copy that is still being made ends where it is
        await asyncio.wait((copying,))
        await asyncio.to_thread(held.remove)


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
