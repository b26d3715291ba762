"""The `moqui` engine: writes the input files of a site's MOQUI binary, runs it per beam, reads its outputs.

MOQUI (Lee et al., MOQUI: an open-source GPU-based Monte Carlo code for proton dose calculation with
efficient data structure, Phys. Med. Biol. 67 (2022) 174001) needs a GPU and is built by each site; two
dialects of it are known. `upstream` reads the spots from the RT Ion Plan itself, so it can only calculate
what was planned; `site` reads one CSV per layer (time, x, y, count), so it can also calculate what was
delivered. No binary comes with Fairlead. Not for clinical use.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field

from fairlead.cases.engines import grids, process
from fairlead.cases.engines.options import EngineOptions, validated
from fairlead.cases.engines.port import (
    FREE,
    Control,
    DicomSources,
    DoseRejected,
    DoseRequest,
    DoseResult,
    EngineBusy,
    EngineFailed,
    EngineNotConfigured,
    EngineOptionsInvalid,
    accepted,
    as_planned,
    delivers,
    require_plain,
)
from fairlead.cases.machine import Room
from fairlead.cases.model import Beam, CaseUnsupported, Dose, Floats, Grid, Plan, PlanLayer

NAME = "moqui"
ENERGY_LIMITS_MEV = (1.0, 300.0)

# What the log of a run that went wrong may say even where the exit code is 0.
_FAILURES = ("FATAL ERROR", "ERROR:", "Segmentation fault", "terminate called", "CUDA error", "out of memory")
_NO_GPU = "No free GPU remains after BeamLayerMultiGpu filtering"
_DONE = {
    "site": r"Total execution time: *([0-9.]+) *seconds",
    "upstream": r"Time taken by MC engine: *([0-9.]+) *milli-seconds",
}
_UPSTREAM_CHUNK = 1000.0  # protons that one simulated history stands for, unless the options say otherwise
_MONITOR_RANGE = 2  # counts are written as of this range of the monitor
Value = str | int | float | bool


class MoquiOptions(EngineOptions):
    """What can be set."""

    executable: Path | None = None
    dialect: Literal["site", "upstream"] = "site"
    # Room of the machine file → GantryNum.
    gantries: dict[str, Annotated[int, Field(ge=1, le=2)]] = Field(default_factory=dict)
    gpu: Annotated[int, Field(ge=0, le=63)] = 0
    multi_gpu: tuple[Annotated[int, Field(ge=0, le=63)], ...] = ()  # site: one beam on several GPUs
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    histories: Annotated[int, Field(ge=1_000, le=10**12)] = 500_000_000  # site: per beam
    particles_per_history: Annotated[float, Field(gt=0)] = _UPSTREAM_CHUNK  # upstream
    histories_per_batch: Annotated[int, Field(ge=1, le=10**10)] = 10_000_000
    dose_scale: Annotated[float, Field(gt=0)] = 1.0  # turns the binary's numbers into gray
    # Further keys of the input file.
    extra: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")], Value] = Field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class Moqui:
    """The engine as the port wants it."""

    options: MoquiOptions = field(default_factory=MoquiOptions)
    name: str = NAME
    label: str = "MOQUI Monte Carlo, the site's own binary. Not for clinical use."
    deterministic: bool = False  # its GPU threads add up in any order
    reads_dicom: bool = True

    def configured(self, options: Mapping[str, Any]) -> Self:
        """The engine with these MoquiOptions. Raises EngineOptionsInvalid."""
        return replace(self, options=validated(MoquiOptions, options, NAME))

    def dose(self, request: DoseRequest, control: Control = FREE) -> DoseResult:
        """Physical dose of one fraction. Raises what the port names."""
        executable, gantry = self._executable(), self._gantry(request.room)
        for beam in request.plan.beams:
            require_plain(beam, request.plan.patient_position, NAME, ENERGY_LIMITS_MEV)
        sources = _sources(request)
        indices = _treatment_indices(request.plan, sources, self.options)
        doses: dict[int, Dose] = {}
        details: dict[str, Any] = {}
        beams = request.plan.beams
        for number, beam in enumerate(beams):
            if not delivers(beam):
                doses[beam.number] = np.zeros(request.grid.shape, dtype=np.float32)
                continue
            with process.work_folder(control, NAME) as folder:
                _write_dicom(folder / "dicom", sources)
                if self.options.dialect == "site":
                    _write_logs(folder / "Log_csv" / "log", beam, request.room)
                inputs = _write_input(folder, beam, gantry, indices[beam.number], self.options)
                log = _run(executable, inputs, folder, self.options, control.part(number, len(beams)))
                facts = _read_log(log, self.options)
                scored = _read_dose(folder / "Dose", request.ct.grid) * self.options.dose_scale
            doses[beam.number] = np.asarray(
                grids.averaged(scored, request.ct.grid, request.grid), dtype=np.float32
            )
            details[str(beam.number)] = facts
        control.progress(1.0)
        facts = {"dialect": self.options.dialect, "seed": self.options.seed, "beams": details}
        return accepted(DoseResult(request.grid, doses, facts), request)

    def _executable(self) -> Path:
        if self.options.executable is None:
            raise EngineNotConfigured(
                "The engine moqui does not know the site's binary.",
                remedy="Set its option executable to the path of tps_env.",
            )
        return self.options.executable.absolute()

    def _gantry(self, room: Room) -> int:
        if room.name not in self.options.gantries:
            # MOQUI takes any number that it does not know for gantry 2: wrong physics, without a word.
            raise EngineNotConfigured(
                f"The engine moqui does not know which of its gantries the room {room.name} is.",
                remedy=f'Set its option gantries, for example {{"{room.name}": 1}}.',
                room=room.name,
            )
        return self.options.gantries[room.name]


MOQUI = Moqui()


def _sources(request: DoseRequest) -> DicomSources:
    if request.sources is None:
        raise EngineNotConfigured(
            "The engine moqui reads DICOM files, and this request does not name any.",
            remedy="Give the plan file and the CT folder with the request.",
        )
    return request.sources


def _treatment_indices(plan: Plan, sources: DicomSources, options: MoquiOptions) -> dict[int, int]:
    """MOQUI's number of each beam: it counts the treatment beams of the plan file from 1."""
    from fairlead.cases import plans  # what reads DICOM takes long to load, and jobs of others need none

    written = plans.read(sources.plan_file)
    numbers = [beam.number for beam in written.beams]
    for beam in plan.beams:
        of_file = written.beam(sources.number(beam))
        if written.uid != plan.uid or of_file is None:
            raise CaseUnsupported(
                "the plan file is not the plan of the request",
                rule="plan.mismatch",
                file="plan",
                field="SOPInstanceUID",
            )
        if options.dialect == "upstream" and not as_planned(beam, of_file):
            raise CaseUnsupported(
                "MOQUI's upstream dialect calculates the plan file; these spots were delivered otherwise",
                rule="plan.spots_unsupported",
                file="plan",
                field=f"IonBeamSequence, BeamNumber {beam.number}",
            )
    return {beam.number: numbers.index(sources.number(beam)) + 1 for beam in plan.beams}


def _write_dicom(folder: Path, sources: DicomSources) -> None:
    """Plan and CT in one folder, as links: MOQUI takes the first plan that it finds there."""
    from fairlead.cases import axial, dicom

    folder.mkdir()
    (folder / "RP.dcm").symlink_to(sources.plan_file.resolve())
    slices = sorted(path for path in sources.ct_folder.iterdir() if path.suffix.lower() == ".dcm")
    first = dicom.read(slices[0], file="CT", kind="ct")
    if axial.directions(first) != axial.UPRIGHT:
        # Its dose would come in the order of these pixels, and be taken for one along the patient's axes.
        raise first.unsupported(
            "ImageOrientationPatient", "moqui needs rows to the left, columns to the back"
        )
    for index, path in enumerate(slices):  # numbered: their own names may be the patient's
        (folder / f"CT.{index:04d}.dcm").symlink_to(path.resolve())


def _write_logs(folder: Path, beam: Beam, room: Room) -> None:
    """One CSV per layer: time_ms, x_mm, y_mm, count; keyed by beam and layer number."""
    target = folder / f"beam_{beam.number}"
    target.mkdir(parents=True)
    for layer in beam.layers:
        counts = np.rint(_monitor_counts(layer, beam, room)).astype(np.int64)
        rows = [
            f"{index * room.row_period_ms:.4f},{x:.4f},{y:.4f},{count}\n"
            for index, ((x, y), count) in enumerate(
                zip(layer.positions_mm.tolist(), counts.tolist(), strict=True)
            )
        ]
        file = target / f"{layer.number:02d}_{layer.energy_mev:.2f}MeV.csv"
        file.write_text("".join(rows), encoding="ascii")


def _monitor_counts(layer: PlanLayer, beam: Beam, room: Room) -> Floats:
    """Counts of the dose monitor that stand for the spots' metersets."""
    mu = layer.meterset if beam.unit == "MU" else layer.meterset / room.beam.protons(layer.energy_mev)
    factors = room.monitor.range_factors
    factor = factors.get(_MONITOR_RANGE, min(factors.values()))
    return np.asarray(
        mu * room.monitor.dividing_factor / (factor * room.monitor.mu_per_count), dtype=np.float64
    )


def _write_input(folder: Path, beam: Beam, gantry: int, index: int, options: MoquiOptions) -> Path:
    """`moqui_tps_<beam number>.in`: "Key value" lines."""
    (folder / "Dose").mkdir()
    values: dict[str, Value] = {
        "GPUID": options.gpu,
        "RandomSeed": options.seed,
        "UseAbsolutePath": True,
        "TotalThreads": -1,
        "MaxHistoriesPerBatch": options.histories_per_batch,
        "Verbosity": 0,
        "ParentDir": str(folder),
        "DicomDir": str(folder / "dicom"),
        "OutputDir": str(folder / "Dose"),
        "OutputFormat": "raw",
        "OverwriteResults": True,
        "GantryNum": gantry,
        "BeamNumbers": index,
        "SourceType": "FluenceMap",
        "SimulationType": "perBeam",
        # The port wants physical dose of one fraction: left to itself MOQUI multiplies with both.
        "RBE": 1.0,
        "NumberOfFraction": 1,
        "Scorer": "Dose",
        "SupressStd": True,
        "ReadStructure": False,
        "ScoreToCTGrid": True,
    }
    if options.dialect == "site":
        values |= {
            "DicomPath": str(folder / "dicom"),
            "logFilePath": str(folder / "Log_csv" / "log" / f"beam_{beam.number}"),
            "NormalizeTotalHistories": options.histories,
        }
        if options.multi_gpu:
            values |= {
                "EnableBeamLayerMultiGpu": True,
                "BeamLayerMultiGpuAllowedGpuIds": ",".join(str(gpu) for gpu in options.multi_gpu),
            }
    else:
        values["ParticlesPerHistory"] = options.particles_per_history
    if taken := sorted(set(values) & set(options.extra)):
        raise EngineOptionsInvalid(
            f"The option extra of moqui sets {taken[0]}, which this engine sets itself.",
            remedy="Leave it out.",
        )
    lines = []
    for key, value in {**values, **options.extra}.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if re.search(r"[\r\n#]", text):
            raise EngineNotConfigured(f"The value of {key} cannot be written into MOQUI's input file.")
        lines.append(f"{key} {text}\n")
    file = folder / f"moqui_tps_{beam.number}.in"
    file.write_text("".join(lines), encoding="utf-8")
    return file


def _run(executable: Path, inputs: Path, folder: Path, options: MoquiOptions, control: Control) -> str:
    program = process.Program(NAME, [str(executable), str(inputs)], folder, folder / "sim.log")
    try:
        log = process.run(program, control, lambda tail: _progress_of(tail, options))
    except EngineFailed:
        _require_gpu(process.read_log(program.log))
        raise
    _require_gpu(log)
    return log


def _require_gpu(log: str) -> None:
    if _NO_GPU in log:
        raise EngineBusy("MOQUI found no free GPU.", remedy="Run it again when a GPU is free.", engine=NAME)


def _batches(log: str) -> tuple[int, int]:
    """How many batches were begun, and how many there are; (0, 0) before the log tells."""
    generated = re.findall(r"Generating particles for \((\d+) of (\d+) batches\)", log)
    if generated:
        return int(generated[-1][0]), int(generated[-1][1])
    announced = re.findall(r"(?:with (\d+) batches|, (\d+) batches expected)", log)
    total = int(next(filter(None, announced[-1]))) if announced else 0
    return log.count("Generating particles..."), total


def _progress_of(tail: str, options: MoquiOptions) -> float | None:
    if re.search(_DONE[options.dialect], tail):
        return 1.0
    begun, total = _batches(tail)
    return (begun - 1) / total if 0 < begun <= total else None


def _read_log(log: str, options: MoquiOptions) -> dict[str, Any]:
    """Facts about the run. Raises DoseRejected where the log does not tell of a whole one."""
    for words in _FAILURES:
        if words in log:
            raise _rejected(f"its log says {words!r}", log)
    done = re.findall(_DONE[options.dialect], log)
    if len(done) != 1:
        raise _rejected("its log does not tell that it came to its end", log)
    begun, total = _batches(log)
    if begun != total:
        raise _rejected(f"{begun} of {total} batches were simulated", log)
    seconds = float(done[0]) if options.dialect == "site" else float(done[0]) / 1000.0
    return {"batches": total, "seconds": seconds}


def _rejected(what: str, log: str) -> DoseRejected:
    return DoseRejected(
        f"MOQUI's result is not used: {what}.",
        remedy="See the last lines of its log; the whole log lies in the engine's work folder.",
        last_lines=process.last_lines(log),
    )


def _read_dose(folder: Path, grid: Grid) -> Floats:
    """The one dose file of the run, on the CT's grid. Raises DoseRejected."""
    found = sorted(folder.glob("*Dose.raw"))
    if len(found) != 1:
        raise DoseRejected(f"MOQUI wrote {len(found)} dose files; one was expected.", remedy="Read its log.")
    content = found[0].read_bytes()
    kinds = {8 * grid.voxels: "<f8", 4 * grid.voxels: "<f4"}
    if len(content) not in kinds:
        raise DoseRejected(
            f"MOQUI's dose file has {len(content)} bytes; the CT has {grid.voxels} voxels of 4 or 8 bytes.",
            remedy="See that the disk has room, and that MOQUI reads the same CT.",
        )
    values = np.frombuffer(content, dtype=kinds[len(content)]).reshape(grid.shape)
    return np.asarray(values, dtype=np.float64)
