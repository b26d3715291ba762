"""The machine file: what is known about the treatment rooms, and nothing guessed.

A room is chosen by the plan's TreatmentMachineName alone. docs/reference/machine-file.md explains every key.
"""

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fairlead.cases.model import Floats
from fairlead.kernel.errors import FairleadError

DEMO_MACHINES = Path(__file__).parent / "machines" / "demo.toml"
MAX_BYTES = 1024 * 1024

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Pair = tuple[Positive, Positive]


class MachineFileInvalid(FairleadError):
    """The machine file cannot be used as it stands."""

    code, status, retryable = "cases.machine_file_invalid", 422, False


class MachineUnknown(FairleadError):
    """The plan names a treatment machine that the machine file does not describe."""

    code, status, retryable = "cases.machine_unknown", 422, False


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _rising(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    if len(points) < 2 or any(b[0] <= a[0] for a, b in pairwise(points)):
        raise ValueError(
            "needs two points or more, the first number of each larger than that of the one before"
        )
    return points


Curve = tuple[tuple[Finite, Finite], ...]


class Position(_Section):
    """mm = (raw - offset) · gain, at the isocentre plane; a gain may be negative."""

    x_offset_raw: Finite
    y_offset_raw: Finite
    x_gain_mm: Finite
    y_gain_mm: Finite
    x_size_gain_mm: Positive
    y_size_gain_mm: Positive
    size_is: Literal["fwhm", "sigma"]

    @model_validator(mode="after")
    def _gains(self) -> "Position":
        if self.x_gain_mm == 0 or self.y_gain_mm == 0:
            raise ValueError("a gain of 0 would put every spot in one place")
        return self


class Monitor(_Section):
    """MU = counts · range_factors[code] · mu_per_count / dividing_factor."""

    channel: Literal["dose1", "dose2"]
    range_factors: dict[Annotated[int, Field(ge=0, le=255)], Positive]
    dividing_factor: Positive
    mu_per_count: Positive


class Filters(_Section):
    """Rows of a log that are no treatment even though the beam is on."""

    x_raw_max: Annotated[int, Field(ge=0, le=65535)]  # above: the register's default, not a position
    alignment_y_mm: Finite | None = None  # where the magnet is aligned before a layer
    alignment_tolerance_mm: Positive = 5.0


class Limits(_Section):
    """What the room can deliver; outside of it a record is corrupt."""

    half_field_mm: Pair
    energy_mev: Pair
    layer_energy_tolerance_mev: Positive = 0.2  # PlanRange against the plan


class BeamModel(_Section):
    """What the reference engine has to know about the beam."""

    protons_per_mu: Curve  # (MeV, protons)
    spot_fwhm_mm: Curve  # (MeV, mm) in air at the isocentre: used where the plan gives no spot size
    energy_spread_percent: Annotated[float, Field(ge=0, le=5)]  # one sigma, of the nominal energy

    _sorted = field_validator("protons_per_mu", "spot_fwhm_mm")(_rising)

    @model_validator(mode="after")
    def _above_zero(self) -> "BeamModel":
        if any(value <= 0 for _, value in (*self.protons_per_mu, *self.spot_fwhm_mm)):
            raise ValueError("protons_per_mu and spot_fwhm_mm must be above 0")
        return self

    def protons(self, energy_mev: float) -> float:
        """Protons per MU at this energy. Constant beyond the ends of the table."""
        return float(np.interp(energy_mev, *np.array(self.protons_per_mu).T))

    def fwhm(self, energy_mev: float) -> float:
        """Spot size in air at the isocentre, mm."""
        return float(np.interp(energy_mev, *np.array(self.spot_fwhm_mm).T))


class Room(_Section):
    """One treatment room."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,16}$")]
    treatment_machine_pattern: str  # regular expression that the whole TreatmentMachineName has to match
    row_period_ms: Positive
    position: Position
    monitor: Monitor
    filters: Filters
    limits: Limits
    beam: BeamModel

    @field_validator("treatment_machine_pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value

    def serves(self, treatment_machine: str) -> bool:
        """Whether a plan for `treatment_machine` is delivered in this room."""
        return re.fullmatch(self.treatment_machine_pattern, treatment_machine) is not None


class CtScanner(_Section):
    """From Hounsfield units to stopping power relative to water."""

    hu_to_rsp: Curve

    _sorted = field_validator("hu_to_rsp")(_rising)

    def rsp(self, hu: npt.NDArray[np.floating]) -> Floats:
        """Relative stopping power, linear between the table's points and constant beyond them."""
        return np.asarray(np.interp(hu, *np.array(self.hu_to_rsp).T), dtype=np.float64)


class Machine(_Section):
    """The whole file."""

    schema_version: Literal[1]
    description: str = ""
    rooms: Annotated[tuple[Room, ...], Field(min_length=1)]
    ct: CtScanner

    @model_validator(mode="after")
    def _distinct(self) -> "Machine":
        names = [room.name for room in self.rooms]
        if len(set(names)) != len(names):
            raise ValueError("two rooms have the same name")
        return self

    def room_for(self, treatment_machine: str) -> Room:
        """The one room that serves `treatment_machine`. Raises MachineUnknown: never a default."""
        fitting = [room for room in self.rooms if room.serves(treatment_machine)]
        if len(fitting) == 1:
            return fitting[0]
        found = "no room" if not fitting else f"{len(fitting)} rooms"
        raise MachineUnknown(
            f"The plan's TreatmentMachineName fits {found} of the machine file.",
            remedy=(
                "Name the right machine file with --machine, or correct its treatment_machine_pattern; "
                "the command dose also takes --room."
            ),
            rooms=[room.name for room in self.rooms],
        )

    def room(self, name: str) -> Room:
        """The room called `name`. Raises MachineUnknown."""
        for room in self.rooms:
            if room.name == name:
                return room
        raise MachineUnknown(
            f"The machine file has no room {name!r}.",
            remedy=f"Its rooms are: {', '.join(room.name for room in self.rooms)}.",
            rooms=[room.name for room in self.rooms],
        )


def load(path: Path | None = None) -> Machine:
    """The machine file at `path`; the synthetic demo rooms where it is None. Raises MachineFileInvalid."""
    path = path or DEMO_MACHINES
    try:
        if path.stat().st_size > MAX_BYTES:
            raise MachineFileInvalid(f"The machine file is larger than {MAX_BYTES} bytes.", path=str(path))
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MachineFileInvalid(
            f"The machine file {path} cannot be read: {error.strerror}.",
            remedy="Correct --machine.",
            path=str(path),
        ) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise MachineFileInvalid(
            f"The machine file {path} is not valid TOML: {error}",
            remedy="Correct the line it names.",
            path=str(path),
        ) from None
    try:
        return Machine.model_validate(values)
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False)
        ]
        raise MachineFileInvalid(
            f"The machine file {path} is not in order: {'; '.join(faults)}.",
            remedy="docs/reference/machine-file.md explains every key.",
            path=str(path),
            faults=faults,
        ) from None
