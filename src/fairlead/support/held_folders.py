"""Folders that end with the process that made them: what a killed one leaves, the next one removes."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_HELD = ".held"


@dataclass(frozen=True, slots=True)
class HeldFolder:
    """A folder that nobody sweeps while this process lives."""

    path: Path
    _lock: int

    def remove(self) -> None:
        """Remove it, whatever is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def hold(root: Path, prefix: str) -> HeldFolder:
    """A new folder in `root`, whose name begins with `prefix`."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        lock = os.open(place / _HELD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        if (place / _HELD).exists():  # else somebody swept it before it was locked
            return HeldFolder(place, lock)
        os.close(lock)


def sweep(root: Path, prefix: str) -> None:
    """Remove the folders in `root` whose process has ended."""
    for place in root.glob(f"{prefix}*"):
        try:
            lock = os.open(place / _HELD, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # being made, or of somebody else
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(place, ignore_errors=True)
        except OSError:
            pass  # in use
        finally:
            os.close(lock)


@contextmanager
def held_folder(root: Path, prefix: str) -> Iterator[Path]:
    """A folder in `root`, which is made where it is missing, for the length of the block."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    sweep(root, prefix)
    held = hold(root, prefix)
    try:
        yield held.path
    finally:
        held.remove()
