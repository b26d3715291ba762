"""What a case is made of: plan, images, logs, dose, violations. No SDK, no I/O.

Lengths are millimetres, energies MeV, doses gray; volumes are indexed [z, y, x] and every axis of a grid
runs in the positive direction of the DICOM patient coordinate system.
"""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.kernel.errors import FairleadError

Floats = npt.NDArray[np.float64]
Dose = npt.NDArray[np.float32]


class CaseFault(FairleadError):
    """A file of the case cannot be used as it stands."""

    code, status, retryable = "cases.file_invalid", 422, False

    def __init__(
        self,
        message: str,
        *,
        rule: str,
        file: str,
        field: str = "",
        remedy: str | None = None,
        **details: Any,
    ) -> None:
        """`rule` is a stable name of docs/reference/case-rules.md; `file` is relative to the case folder.

        Neither `message` nor `field` may carry a patient's name or identifier.
        """
        self.rule, self.file, self.field = rule, file, field
        place = f"{file}: {field}: " if field else f"{file}: "
        super().__init__(
            place + message,
            remedy=remedy
            or "See docs/reference/case-rules.md for this rule; have the sender write the file again.",
            rule=rule,
            file=file,
            field=field,
            **details,
        )
        self.bare_message = message


class CaseUnsupported(CaseFault):
    """A file of the case is in order but uses something that is not supported."""

    code, status, retryable = "cases.unsupported", 422, False


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule, with its place."""

    rule: str
    file: str
    field: str
    message: str

    @classmethod
    def of(cls, fault: CaseFault) -> "Violation":
        """The violation that `fault` stands for."""
        return cls(fault.rule, fault.file, fault.field, fault.bare_message)


@dataclass(frozen=True, slots=True)
class Grid:
    """A regular, axis-aligned grid of voxel centres."""

    shape: tuple[int, int, int]  # voxels along z, y, x
    origin_mm: tuple[float, float, float]  # centre of voxel [0, 0, 0]: x, y, z
    spacing_mm: tuple[float, float, float]  # x, y, z; all positive

    def axis_mm(self, axis: int) -> Floats:
        """Coordinates of the voxel centres along patient axis 0 = x, 1 = y, 2 = z."""
        count = self.shape[2 - axis]
        return self.origin_mm[axis] + self.spacing_mm[axis] * np.arange(count, dtype=np.float64)

    def upper_mm(self, axis: int) -> float:
        """Coordinate of the last voxel centre along patient axis 0 = x, 1 = y, 2 = z."""
        return self.origin_mm[axis] + self.spacing_mm[axis] * (self.shape[2 - axis] - 1)

    @property
    def voxels(self) -> int:
        """How many voxels the grid has."""
        return self.shape[0] * self.shape[1] * self.shape[2]


@dataclass(frozen=True, slots=True)
class Volume:
    """Values on a grid: HU of a CT, or gray."""

    grid: Grid
    values: Dose  # shape grid.shape
    frame_uid: str
    study_uid: str = ""
    plan_uid: str = ""  # of a dose: the plan it belongs to
    # Replaced by the pseudonymising export; repr is off so that it reaches no log by accident.
    patient_id: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PlanLayer:
    """The spots of one energy."""

    number: int  # 1, 2, … in the order of delivery within the beam
    energy_mev: float
    positions_mm: Floats  # (spots, 2): x, y at the isocentre plane, IEC gantry system
    meterset: Floats  # (spots,): MU, or protons where the beam's unit is NP
    fwhm_mm: tuple[float, float] | None  # spot size in air at the isocentre; None: not in the plan


@dataclass(frozen=True, slots=True)
class Beam:
    """One treatment beam of an ion plan."""

    number: int
    name: str
    machine: str  # TreatmentMachineName
    unit: str  # MU or NP
    gantry_deg: float
    couch_deg: float
    isocentre_mm: tuple[float, float, float]
    sad_mm: tuple[float, float]  # virtual source to isocentre, for x and y
    modifiers: tuple[str, ...]  # beam modifiers in the path, by their DICOM names
    layers: tuple[PlanLayer, ...]

    @property
    def meterset(self) -> float:
        """Sum over all spots."""
        return float(sum(layer.meterset.sum() for layer in self.layers))


@dataclass(frozen=True, slots=True)
class Plan:
    """A DICOM RT Ion Plan, as far as it matters for dose."""

    uid: str
    study_uid: str
    frame_uid: str  # empty where the plan has none
    label: str
    patient_position: str
    fractions: int
    beams: tuple[Beam, ...]
    setup_beams: tuple[int, ...]  # numbers of beams that only position the patient
    patient_id: str = field(repr=False)

    def beam(self, number: int) -> Beam | None:
        """The treatment beam with this BeamNumber."""
        return next((beam for beam in self.beams if beam.number == number), None)


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One row of PlanRange: which log belongs to which layer."""

    layer: int
    energy_mev: float
    range_codes: tuple[int, int]  # monitor ranges of dose 1 and dose 2
    log_name: str = field(repr=False)  # holds the patient's identifier


_TIME = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])([01]\d|2[0-3])[0-5]\d[0-5]\d\d\d")


def delivery_label(folder: str) -> str:
    """The name of a delivery's folder where it is a time; else a digest, for it may identify the patient."""
    if _TIME.fullmatch(folder):
        return folder
    return f"delivery-{hashlib.sha256(folder.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivered field, as its PlanInfo and PlanRange describe it."""

    folder: str
    table: str  # name of the PlanRange file
    beam_number: int
    field_number: int
    stop_layer: int
    delivered_at: datetime  # naive: the treatment room's own clock
    layers: tuple[LayerRecord, ...]
    patient_id: str = field(repr=False)
    study_uid: str = ""
    aliases: tuple[str, ...] = field(
        default=(), repr=False
    )  # other identifiers of the patient in these files
    start_layer: int = 1  # where an interrupted field was taken up again

    @property
    def label(self) -> str:
        """What it is called where no patient may be named."""
        return delivery_label(self.folder)


class FractionState(StrEnum):
    """How complete the deliveries of one fraction are."""

    COMPLETE = "complete"  # every beam exactly once
    PENDING = "pending"  # beams missing, the window is still open
    PARTIAL = "partial"  # beams missing, the window has closed
    ANOMALY = "anomaly"  # a beam more than once, or more deliveries than beams


@dataclass(frozen=True, slots=True)
class Fraction:
    """Deliveries that belong together."""

    state: FractionState
    reference: tuple[Delivery, ...]  # the earliest delivery of each beam
    duplicates: tuple[Delivery, ...]
    missing_beams: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LayerLog:
    """What the machine recorded while one layer was delivered: beam-on samples only."""

    beam_number: int
    layer: int
    energy_mev: float
    time_ms: Floats  # (samples,) since the log's first row
    positions_mm: Floats  # (samples, 2) at the isocentre plane
    fwhm_mm: Floats  # (samples, 2)
    meterset: Floats  # (samples,) MU
    counts: npt.NDArray[np.int64]  # (samples,) of the dose channel


@dataclass(frozen=True, slots=True)
class SpotDeviation:
    """Delivered minus planned, one planned spot."""

    spot: int  # 0, 1, … within the layer
    planned_mu: float
    delivered_mu: float
    dx_mm: float | None  # None: nothing was delivered to this spot
    dy_mm: float | None
    dsize_percent: float | None  # mean FWHM, relative to the planned one


@dataclass(frozen=True, slots=True)
class LayerDeviation:
    """Delivered minus planned, one layer."""

    beam_number: int
    layer: int
    energy_mev: float
    planned_mu: float
    delivered_mu: float
    spots: tuple[SpotDeviation, ...]

    @property
    def max_position_mm(self) -> float:
        """Largest distance of a delivered spot from its planned place; 0 where none was delivered."""
        return max(
            (
                float(np.hypot(s.dx_mm, s.dy_mm))
                for s in self.spots
                if s.dx_mm is not None and s.dy_mm is not None
            ),
            default=0.0,
        )

    @property
    def mu_percent(self) -> float:
        """Deviation of the layer's MU in percent of the planned ones."""
        return 100.0 * (self.delivered_mu - self.planned_mu) / self.planned_mu if self.planned_mu else 0.0

    @property
    def max_size_percent(self) -> float:
        """Largest deviation of a spot's size, in percent and without its sign."""
        return max((abs(s.dsize_percent) for s in self.spots if s.dsize_percent is not None), default=0.0)

    @property
    def undelivered_spots(self) -> int:
        """How many planned spots received nothing."""
        return sum(1 for spot in self.spots if spot.delivered_mu == 0.0)
