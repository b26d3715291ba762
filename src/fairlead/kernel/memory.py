"""Cyclic garbage collection, put off while large trees without cycles are made."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_pauses = 0
_resume = False


@contextmanager
def gc_paused() -> Iterator[None]:
    """No cyclic collection inside, in the whole process: over a large state it costs more than the work.

    Reference counting goes on, so trees without cycles are freed as ever. For fractions of a second only.
    """
    global _pauses, _resume  # noqa: PLW0603 - the collector is one per process
    with _lock:
        if not _pauses:
            _resume = gc.isenabled()
        _pauses += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses and _resume:
                gc.enable()
