"""What a dose engine takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fairlead.cases.machine import CtScanner, Room
from fairlead.cases.model import Dose, Grid, Plan, Volume


@dataclass(frozen=True, slots=True)
class DoseRequest:
    """Dose of one fraction of `plan` in `ct`, on `grid`."""

    plan: Plan
    ct: Volume
    room: Room
    scanner: CtScanner
    grid: Grid


@dataclass(frozen=True, slots=True)
class DoseResult:
    """Physical dose of one fraction in gray, beam by beam."""

    grid: Grid
    beams: Mapping[int, Dose]  # beam number → values of shape grid.shape

    @property
    def total(self) -> Dose:
        """Sum over the beams."""
        result = np.zeros(self.grid.shape, dtype=np.float64)
        for values in self.beams.values():
            result += values
        return np.asarray(result, dtype=np.float32)


class DoseEngine(Protocol):
    """A way to calculate dose."""

    @property
    def name(self) -> str:
        """What `--engine` calls it."""

    @property
    def label(self) -> str:
        """One honest sentence for reports."""

    def dose(self, request: DoseRequest) -> DoseResult:
        """The dose of one fraction. Raises CaseUnsupported for what the engine cannot model."""
