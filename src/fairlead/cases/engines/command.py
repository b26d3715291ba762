"""The `command` engine: any program, by a template of its argument list; no shell is involved.

The program is run once per beam. It finds what it needs in files (fairlead.cases.engines.run describes the
request) and leaves one file of dose. docs/how-to/dose-engines.md lists the placeholders.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from fairlead.cases.engines import files, grids, process
from fairlead.cases.engines.options import EngineOptions, validated
from fairlead.cases.engines.port import (
    FREE,
    Control,
    DoseRejected,
    DoseRequest,
    DoseResult,
    EngineNotConfigured,
    accepted,
    as_planned,
    delivers,
    require_plain,
)
from fairlead.cases.model import Beam, CaseUnsupported, Dose, Floats, Grid

NAME = "command"
PLACEHOLDERS = ("request", "beam", "out", "work", "seed", "plan", "plan_beam", "ct")
_FIELD = re.compile(r"\{([^{}]*)\}")


class CommandOptions(EngineOptions):
    """What can be set."""

    argv: tuple[Annotated[str, Field(min_length=1)], ...] = ()  # with {placeholders}; the first is a path
    format: Literal["npy", "float32", "float64"] = "npy"  # of {out}; the latter two little-endian, [z, y, x]
    out_grid: Literal["dose", "ct"] = "dose"
    dose_scale: Annotated[float, Field(gt=0)] = 1.0  # what its numbers are multiplied with to be gray
    success: str = ""  # has to be in the log, where it is given
    failures: tuple[Annotated[str, Field(min_length=1)], ...] = ()  # must not be in the log
    seed: Annotated[int, Field(ge=0)] = 1
    deterministic: bool = False  # what the site claims
    modifiers: bool = False  # whether it models beam modifiers
    energy_mev: tuple[float, float] = (1.0, 300.0)
    variables: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = Field(
        default_factory=dict
    )

    @field_validator("argv")
    @classmethod
    def _known(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        used = [name for word in argv for name in _FIELD.findall(word)]
        unknown = sorted(set(used) - set(PLACEHOLDERS))
        if unknown:
            raise ValueError(f"{{{unknown[0]}}} is no placeholder; there are: {', '.join(PLACEHOLDERS)}")
        if argv and "out" not in used:
            raise ValueError("{out} is missing: where the program writes the dose")
        if argv and not argv[0].startswith("/"):
            raise ValueError("the program has to be an absolute path")
        return argv


@dataclass(frozen=True, slots=True)
class Command:
    """The engine as the port wants it."""

    options: CommandOptions = field(default_factory=CommandOptions)
    name: str = NAME
    label: str = "A program of the site's own choice. Not for clinical use."

    @property
    def deterministic(self) -> bool:
        """What the options claim."""
        return self.options.deterministic

    @property
    def reads_dicom(self) -> bool:
        """Whether its argument list names DICOM files."""
        return bool(self._placeholders & {"plan", "ct"})

    @property
    def _placeholders(self) -> set[str]:
        return {name for word in self.options.argv for name in _FIELD.findall(word)}

    def configured(self, options: Mapping[str, Any]) -> Self:
        """The engine with these CommandOptions. Raises EngineOptionsInvalid."""
        return replace(self, options=validated(CommandOptions, options, NAME))

    def dose(self, request: DoseRequest, control: Control = FREE) -> DoseResult:
        """Physical dose of one fraction. Raises what the port names."""
        if not self.options.argv:
            raise EngineNotConfigured(
                "The engine command does not know what to run.", remedy="Set its option argv."
            )
        for beam in request.plan.beams:
            plain = replace(beam, modifiers=()) if self.options.modifiers else beam
            require_plain(plain, request.plan.patient_position, NAME, self.options.energy_mev)
        if "plan" in self._placeholders and "request" not in self._placeholders:
            _require_planned_spots(request)
        beams = request.plan.beams
        doses: dict[int, Dose] = {}
        programs = {}
        for index, beam in enumerate(beams):
            if not delivers(beam):
                doses[beam.number] = np.zeros(request.grid.shape, dtype=np.float32)
                continue
            with process.work_folder(control, NAME) as folder:
                argv = self._argv(beam, request, folder)
                self._run(argv, folder, control.part(index, len(beams)))
                doses[beam.number] = self._read_dose(folder / "dose", request)
            programs[str(beam.number)] = Path(argv[0]).name
        control.progress(1.0)
        return accepted(
            DoseResult(request.grid, doses, {"seed": self.options.seed, "beams": programs}), request
        )

    def _argv(self, beam: Beam, request: DoseRequest, folder: Path) -> list[str]:
        file = files.write_request(folder, request, engine=NAME, beams=[beam.number])
        values = {
            "request": str(file),
            "beam": str(beam.number),
            "out": str(folder / "dose"),
            "work": str(folder),
            "seed": str(self.options.seed),
        }
        if request.sources:
            values["plan"] = str(request.sources.plan_file.absolute())
            values["plan_beam"] = str(request.sources.number(beam))
            values["ct"] = str(request.sources.ct_folder.absolute())
        missing = self._placeholders - set(values)
        if missing:
            raise EngineNotConfigured(
                f"The engine command needs {{{min(missing)}}}, and this request names no DICOM files.",
                remedy="Give the plan file and the CT folder with the request, or use {request}.",
            )
        # One pass: what a value holds is never looked at for placeholders again.
        return [_FIELD.sub(lambda found: values[found.group(1)], word) for word in self.options.argv]

    def _run(self, argv: list[str], folder: Path, control: Control) -> None:
        program = process.Program(NAME, argv, folder, folder / "command.log", self.options.variables)
        log = process.run(program, control, _progress_of)
        wrong = [words for words in self.options.failures if words in log]
        if wrong:
            raise _rejected(f"its log says {wrong[0]!r}", log)
        if self.options.success not in log:
            raise _rejected(f"its log does not say {self.options.success!r}", log)

    def _read_dose(self, file: Path, request: DoseRequest) -> Dose:
        grid = request.grid if self.options.out_grid == "dose" else request.ct.grid
        values = _read(file, grid, self.options.format) * self.options.dose_scale
        return np.asarray(grids.averaged(values, grid, request.grid), dtype=np.float32)


COMMAND = Command()


def _progress_of(tail: str) -> float | None:
    found = re.findall(r"^progress ([01](?:\.\d+)?)\s*$", tail, re.MULTILINE)
    return float(found[-1]) if found else None


def _rejected(what: str, log: str) -> DoseRejected:
    return DoseRejected(
        f"The program's result is not used: {what}.",
        remedy="See the last lines of its log; the whole log lies in the engine's work folder.",
        last_lines=process.last_lines(log),
    )


def _require_planned_spots(request: DoseRequest) -> None:
    """Raises CaseUnsupported where spots are not those of the plan file, which is all that it reads."""
    if request.sources is None:
        return
    from fairlead.cases import plans  # what reads DICOM takes long to load, and few jobs need it

    written = plans.read(request.sources.plan_file)
    for beam in request.plan.beams:
        planned = written.beam(request.sources.number(beam))
        if planned is None or not as_planned(beam, planned):
            raise CaseUnsupported(
                "the program reads the plan file, and these spots were delivered otherwise; "
                "{request} would hold them",
                rule="plan.spots_unsupported",
                file="plan",
                field=f"IonBeamSequence, BeamNumber {beam.number}",
            )


def _read(file: Path, grid: Grid, form: str) -> Floats:
    try:
        if form == "npy":
            with file.open("rb") as stream:
                values = np.lib.format.read_array(stream, allow_pickle=False)
                rest = stream.read(1)
        else:
            values = np.frombuffer(file.read_bytes(), dtype=f"<f{int(form[5:]) // 8}")
            rest = b""
    except OSError:
        raise DoseRejected("The program wrote no dose file.", remedy="See that it writes to {out}.") from None
    except ValueError as error:
        raise DoseRejected(f"The program's dose file cannot be read: {error}.") from None
    whole = values.shape == grid.shape if form == "npy" else values.size == grid.voxels
    if rest or not whole or values.dtype.kind != "f":
        raise DoseRejected(
            f"The program's dose file does not hold {grid.shape} numbers; it holds {values.shape}.",
            remedy="See that the disk has room, and compare the options format and out_grid.",
        )
    return np.asarray(values, dtype=np.float64).reshape(grid.shape)
