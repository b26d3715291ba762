"""What a dose engine takes and gives, how it is stopped, and what every result has to stand."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from fairlead.cases.geometry import to_gantry
from fairlead.cases.machine import CtScanner, Room
from fairlead.cases.model import Beam, CaseUnsupported, Dose, Grid, Plan, Volume
from fairlead.kernel.errors import FairleadError


class EngineNotConfigured(FairleadError):
    """This dose engine needs options that were not given."""

    code, status, retryable = "cases.engine_not_configured", 422, False


class EngineOptionsInvalid(FairleadError):
    """The options of a dose engine are not in order."""

    code, status, retryable = "cases.engine_options_invalid", 422, False


class EngineFailed(FairleadError):
    """The program of a dose engine failed."""

    code, status, retryable = "cases.engine_failed", 502, False


class EngineBusy(FairleadError):
    """The program of a dose engine found no free device; it may be run again."""

    code, status, retryable = "cases.engine_busy", 503, True


class EngineStorage(FairleadError):
    """The files of a dose calculation cannot be written or read."""

    code, status, retryable = "cases.engine_storage", 507, True


class EngineCancelled(FairleadError):
    """The dose calculation was cancelled."""

    code, status, retryable = "cases.engine_cancelled", 409, False


class EngineDeadline(FairleadError):
    """The dose calculation did not end before its deadline."""

    code, status, retryable = "cases.engine_deadline", 504, True


class DoseRejected(FairleadError):
    """A dose engine came to an end, but its result cannot be trusted."""

    code, status, retryable = "cases.dose_rejected", 502, False


@dataclass(frozen=True, slots=True)
class DicomSources:
    """The files that a request was read from, for engines that read DICOM themselves."""

    plan_file: Path
    ct_folder: Path
    # Number of a beam in the request → its number in the plan file, where they differ: a delivered beam is
    # asked for beside the planned one.
    beams: Mapping[int, int] = field(default_factory=dict)

    def number(self, beam: Beam) -> int:
        """The number of `beam` in the plan file."""
        return self.beams.get(beam.number, beam.number)


@dataclass(frozen=True, slots=True)
class DoseRequest:
    """Dose of one fraction of `plan` in `ct`, on `grid`."""

    plan: Plan
    ct: Volume
    room: Room
    scanner: CtScanner
    grid: Grid
    sources: DicomSources | None = None


@dataclass(frozen=True, slots=True)
class DoseResult:
    """Physical dose of one fraction in gray, beam by beam."""

    grid: Grid
    beams: Mapping[int, Dose]  # beam number → values of shape grid.shape
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON: seeds, statistics, versions

    @property
    def total(self) -> Dose:
        """Sum over the beams."""
        result = np.zeros(self.grid.shape, dtype=np.float64)
        for values in self.beams.values():
            result += values
        return np.asarray(result, dtype=np.float32)


def _never() -> bool:
    return False


def _ignored(_: float) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Control:
    """How long a calculation may take, whether it is still wanted, and who hears of its progress."""

    ends_at: float | None = None  # of time.monotonic()
    cancelled: Callable[[], bool] = _never  # asked often: it has to be quick
    progress: Callable[[float], None] = _ignored  # 0 … 1; called with rising values only
    scratch: Path | None = None  # where an engine leaves its files; None: nowhere, they are removed
    # A session of its own lets all processes of an engine be ended at once. Not where the caller is itself
    # the leader of a group that is ended as a whole: then they have to stay in it.
    new_session: bool = True

    @classmethod
    def within(
        cls,
        deadline_s: float | None,
        *,
        cancelled: Callable[[], bool] = _never,
        progress: Callable[[float], None] = _ignored,
        scratch: Path | None = None,
        new_session: bool = True,
    ) -> Self:
        """The control of a calculation that begins now and may take `deadline_s` seconds."""
        ends_at = None if deadline_s is None else time.monotonic() + deadline_s
        return cls(ends_at, cancelled, progress, scratch, new_session)

    def check(self) -> None:
        """Raises EngineCancelled or EngineDeadline where the calculation has to end."""
        if self.cancelled():
            raise EngineCancelled(remedy="Start it again if it is wanted after all.")
        if self.ends_at is not None and time.monotonic() >= self.ends_at:
            raise EngineDeadline(
                remedy="Allow more time, ask for a coarser grid or fewer particles, or use a faster host."
            )

    def part(self, index: int, of: int) -> "Control":
        """The control of step `index` of `of` equal ones: the same limits, its share of the progress."""

        def progress(done: float) -> None:
            self.progress((index + done) / of)

        return Control(self.ends_at, self.cancelled, progress, self.scratch, self.new_session)


FREE = Control()


class DoseEngine(Protocol):
    """A way to calculate dose."""

    @property
    def name(self) -> str:
        """What `--engine` calls it."""

    @property
    def label(self) -> str:
        """One honest sentence for reports."""

    @property
    def reads_dicom(self) -> bool:
        """Whether requests have to name the DICOM files that they were read from."""

    @property
    def deterministic(self) -> bool:
        """Whether the same request gives the same bytes, with the options that it has."""

    def configured(self, options: Mapping[str, Any]) -> "DoseEngine":
        """The engine with these options. Raises EngineOptionsInvalid, naming the option."""

    def dose(self, request: DoseRequest, control: Control = FREE) -> DoseResult:
        """The dose of one fraction.

        Raises CaseUnsupported for what the engine cannot model, EngineNotConfigured, EngineCancelled,
        EngineDeadline, EngineFailed, EngineBusy, and DoseRejected where `accepted` would.
        """


def storage_error(error: OSError) -> EngineStorage:
    """What an OSError on a calculation's own files means; without their names."""
    return EngineStorage(
        f"The files of the dose calculation: {(error.strerror or 'unknown error').lower()}.",
        remedy="See that the disk has room and the folder may be written to; then run it again.",
    )


def delivers(beam: Beam) -> bool:
    """Whether the beam has a spot with a meterset; a beam that was never delivered has none."""
    return beam.meterset > 0


def require_plain(
    beam: Beam, patient_position: str, engine: str, energy_limits_mev: tuple[float, float]
) -> None:
    """Raises CaseUnsupported for beam modifiers, energies beyond the limits, and decubitus positions."""
    low, high = energy_limits_mev
    what = rule = ""
    if beam.modifiers:
        what = f"does not model beam modifiers; this beam has: {', '.join(beam.modifiers)}"
        rule = "plan.modifier_unsupported"
    elif not all(low <= layer.energy_mev <= high for layer in beam.layers):
        what, rule = f"knows protons of {low:g} to {high:g} MeV", "plan.energy"
    if what:
        raise CaseUnsupported(
            f"the {engine} engine {what}",
            rule=rule,
            file="plan",
            field=f"IonBeamSequence, BeamNumber {beam.number}",
        )
    to_gantry(beam, patient_position)


def as_planned(beam: Beam, planned: Beam) -> bool:
    """Whether `beam` has the spots of `planned`, but for rounding."""
    return len(beam.layers) == len(planned.layers) and all(
        a.energy_mev == b.energy_mev
        and a.meterset.shape == b.meterset.shape
        and np.allclose(a.meterset, b.meterset, rtol=1e-4)
        and np.allclose(a.positions_mm, b.positions_mm, atol=0.01)
        for a, b in zip(beam.layers, planned.layers, strict=True)
    )


def accepted(result: DoseResult, request: DoseRequest) -> DoseResult:
    """`result`, where every beam has a dose that is finite, not negative, and not zero. Raises DoseRejected.

    A beam without meterset has to have no dose.
    """
    wanted = {beam.number: beam for beam in request.plan.beams}
    if result.grid != request.grid or set(result.beams) != set(wanted):
        raise _rejected("does not have the grid or the beams that were asked for")
    for number, beam in wanted.items():
        values = result.beams[number]
        if values.shape != request.grid.shape:
            raise _rejected("has the wrong shape", beam=number)
        if not np.isfinite(values).all():
            raise _rejected("holds values that are not finite", beam=number)
        if float(values.min()) < 0:
            raise _rejected("holds values below 0", beam=number)
        if (float(values.max()) > 0) != delivers(beam):
            raise _rejected("is zero everywhere" if delivers(beam) else "should be zero", beam=number)
    return result


def _rejected(what: str, *, beam: int | None = None) -> DoseRejected:
    place = "The dose" if beam is None else f"The dose of beam {beam}"
    return DoseRejected(
        f"{place} {what}.",
        remedy="Do not use it. See that the field reaches the CT; else read the engine's log.",
        beam=beam,
    )
