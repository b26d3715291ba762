"""What was read of the copies in work folders, kept for the steps that follow: reading a case is slow."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fairlead.cases import rules, transfer
from fairlead.cases.machine import Machine
from fairlead.cases.rules import Examined
from fairlead.kernel.errors import FairleadError

MOST_BYTES = 32 * 1024 * 1024  # of all cases together; what is larger is read again
_PLAN_BYTES = 256 * 1024  # about what plan and deliveries take

Seen = Mapping[str, tuple[int, int]]  # size and time of change of every file


@dataclass(frozen=True, slots=True)
class _Reading:
    seen: Seen
    examined: Examined
    size_bytes: int


class Readings:
    """The cases read last. One that has changed since, in whatever file, is read again."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Nothing is kept yet; `most_bytes` is a bound for all that will be."""
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Path, _Reading] = OrderedDict()
        self._lock = threading.Lock()

    def examined(self, copy: Path, machine: Machine) -> Examined:
        """The case in the folder `copy`, which is ours. Raises CaseNotFound."""
        seen = _seen(copy)
        with self._lock:
            kept = self._kept.get(copy)
            if kept is not None and kept.seen == seen:
                self._kept.move_to_end(copy)
                return kept.examined
        examined = rules.examine(copy, machine)
        if seen is not None:
            self._keep(copy, _Reading(seen, examined, _size_bytes(examined)))
        return examined

    def forget(self, copy: Path) -> None:
        """No further step needs it."""
        with self._lock:
            self._kept.pop(copy, None)

    def _keep(self, copy: Path, reading: _Reading) -> None:
        with self._lock:
            self._kept[copy] = reading
            self._kept.move_to_end(copy)
            while sum(kept.size_bytes for kept in self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)


def _seen(copy: Path) -> Seen | None:
    try:
        return transfer.survey(copy)
    except (FairleadError, OSError):
        return None


def _size_bytes(examined: Examined) -> int:
    return _PLAN_BYTES + (examined.ct.values.nbytes if examined.ct is not None else 0)
