"""The `mcsquare` engine: real Monte Carlo by MCsquare, one process per beam.

MCsquare (Souris, Lee, Sterpin: Fast multipurpose Monte Carlo simulation for proton therapy using multi- and
many-core CPU architectures, Med. Phys. 43 (2016) 1700) comes as a static program inside the PyPI wheel
opentps-core (Apache-2.0), which is fetched, by its hash, when this engine is first asked for. Of the wheel
only the program and its tables of materials are used.

MCsquare counts from the corner of the image, has y running to the front, and takes and gives images with x
and y reversed. It ends with exit code 0 for a truncated CT, an energy beyond its table or a beam that misses:
so nothing is believed that was not looked at: see `_calculate`. Not for clinical use.
"""

import hashlib
import math
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from fairlead.cases.engines import grids, process
from fairlead.cases.engines.options import EngineOptions, validated
from fairlead.cases.engines.port import (
    FREE,
    Control,
    DoseRejected,
    DoseRequest,
    DoseResult,
    EngineNotConfigured,
    accepted,
    delivers,
    require_plain,
)
from fairlead.cases.geometry import corners_mm, to_gantry
from fairlead.cases.machine import CtScanner, Room
from fairlead.cases.model import Beam, Dose, Floats, Grid, PlanLayer
from fairlead.kernel import toolenv

NAME = "mcsquare"
ENERGY_LIMITS_MEV = (5.0, 300.0)
FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
_EV_PER_G_IN_GY = 1.602176634e-16
_PREPARED = "mcsquare-prepared-1"  # counts up where `prepare` makes something else
_MAX_OUTSIDE_SHARE = 0.05
_BEYOND_CT_MM = 10.0  # protons start this far in front of the CT's box
_COLUMNS = (
    "NominalEnergy MeanEnergy EnergySpread ProtonsMU Weight1 SpotSize1x Divergence1x Correlation1x SpotSize1y"
    " Divergence1y Correlation1y Weight2 SpotSize2x Divergence2x Correlation2x SpotSize2y Divergence2y"
    " Correlation2y"
)
# Divergence (rad) and correlation of a beam whose size does not change on its way. A divergence of 0, and a
# correlation of 0 with some others, make MCsquare divide by nothing: every proton is lost, exit code 0.
_PARALLEL = "0.00001 0.1"
_BINARY = "MCsquare_linux"  # the generic one: the others refuse processors that are not Intel's
_BINARY_SHA256 = "25243b76"


class McsquareOptions(EngineOptions):
    """What can be set."""

    protons: Annotated[int, Field(ge=1_000, le=10**11)] = 1_000_000  # simulated per beam
    seed: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1
    threads: Annotated[int, Field(ge=1, le=256)] = 1  # more than one: the result varies with each run
    max_uncertainty_percent: Annotated[float, Field(gt=0, le=100)] = 15.0
    toolenvs: Path | None = None  # where the wheel is installed on first use
    program_dir: Path | None = None  # instead: a folder made by `prepare`, for hosts without a network


@dataclass(frozen=True, slots=True)
class Mcsquare:
    """The engine as the port wants it."""

    options: McsquareOptions = field(default_factory=McsquareOptions)
    name: str = NAME
    label: str = "MCsquare Monte Carlo (opentps-core 2.0.0), dose to water. Not for clinical use."
    reads_dicom: bool = False

    @property
    def deterministic(self) -> bool:
        """MCsquare repeats itself bit by bit with one thread only."""
        return self.options.threads == 1

    def configured(self, options: Mapping[str, Any]) -> Self:
        """The engine with these McsquareOptions. Raises EngineOptionsInvalid."""
        return replace(self, options=validated(McsquareOptions, options, NAME))

    def dose(self, request: DoseRequest, control: Control = FREE) -> DoseResult:
        """Physical dose to water of one fraction. Raises what the port names, and toolenv's errors."""
        for beam in request.plan.beams:
            require_plain(beam, request.plan.patient_position, NAME, ENERGY_LIMITS_MEV)
        program = self._program()
        doses, details = {}, {}
        beams = request.plan.beams
        for index, beam in enumerate(beams):
            if not delivers(beam):
                doses[beam.number] = np.zeros(request.grid.shape, dtype=np.float32)
                continue
            with process.work_folder(control, NAME) as folder:
                made = _calculate(
                    beam, request, program, self.options, folder, control.part(index, len(beams))
                )
            doses[beam.number], details[str(beam.number)] = made
        control.progress(1.0)
        facts = {"seed": self.options.seed, "threads": self.options.threads, "beams": details}
        return accepted(DoseResult(request.grid, doses, facts), request)

    def _program(self) -> Path:
        if self.options.program_dir:
            return _require_program(self.options.program_dir.absolute())
        if self.options.toolenvs is None:
            raise EngineNotConfigured(
                "The engine mcsquare does not know where its program may be installed.",
                remedy="Set its option toolenvs (a folder for the 340 MB of its wheel) or program_dir.",
            )
        python = toolenv.ensure(NAME, root=self.options.toolenvs)
        return prepare(python.parents[1])


MCSQUARE = Mcsquare()


def prepare(environment: Path, target: Path | None = None) -> Path:
    """The folder with program and tables, made from the tool environment where it is missing.

    The tables in the wheel have carriage returns, which make MCsquare lose all protons; the program lacks
    its execute bit. `target` (default: inside of the environment) may then be copied to another host.
    Raises EngineNotConfigured where the environment does not hold MCsquare.
    """
    target = target or environment / _PREPARED
    if (target / _BINARY).is_file():
        return target
    found = sorted(environment.glob(f"lib/python*/site-packages/opentps/**/MCsquare/{_BINARY}"))
    if len(found) != 1:
        raise EngineNotConfigured("The tool environment of mcsquare does not hold MCsquare.")
    if not hashlib.sha256(found[0].read_bytes()).hexdigest().startswith(_BINARY_SHA256):
        raise EngineNotConfigured("The program in the tool environment of mcsquare is not the one expected.")
    part = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    part.mkdir(parents=True)
    source = found[0].parent
    tables = {path: path.relative_to(source) for path in sorted((source / "Materials").rglob("*.dat"))}
    tables[source / "Scanners" / "UCL_Toshiba" / "HU_Material_Conversion.txt"] = Path("materials.txt")
    for table, name in tables.items():
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_bytes(table.read_bytes().replace(b"\r", b""))
    shutil.copyfile(found[0], part / _BINARY)
    (part / _BINARY).chmod(0o755)
    try:
        part.rename(target)
    except OSError:  # another process was faster: what it made is the same
        shutil.rmtree(part)
    return target


def _require_program(folder: Path) -> Path:
    if (folder / _BINARY).is_file() and (folder / "Materials" / "list.dat").is_file():
        return folder
    raise EngineNotConfigured(
        "The option program_dir of mcsquare names no folder with MCsquare and its materials.",
        remedy="Make it with fairlead.cases.engines.mcsquare.prepare, or set toolenvs instead.",
    )


def head_first_supine(beam: Beam, patient_position: str) -> tuple[float, float]:
    """Gantry and couch angle under which a patient lying head first and supine sees the same beam.

    Other positions are turns by half a circle: about the vertical (feet first), about the long axis (prone).
    """
    gantry, couch = {
        "HFS": (beam.gantry_deg, beam.couch_deg),
        "FFS": (beam.gantry_deg, beam.couch_deg + 180.0),
        "HFP": (beam.gantry_deg + 180.0, -beam.couch_deg),
        "FFP": (beam.gantry_deg + 180.0, 180.0 - beam.couch_deg),
    }[patient_position]
    return gantry % 360.0, couch % 360.0


def _calculate(
    beam: Beam, request: DoseRequest, program: Path, options: McsquareOptions, folder: Path, control: Control
) -> tuple[Dose, dict[str, Any]]:
    """Dose (Gy) of one beam, and what is worth knowing about it."""
    inputs = _write_inputs(beam, request, program, options, folder)
    run = process.Program(
        NAME,
        [str(program / _BINARY), "config.txt"],
        folder,
        folder / "mcsquare.log",
        {"MCsquare_Materials_Dir": str(program / "Materials")},
    )
    log = process.run(run, control, _progress_of)
    _require_unchanged(folder, inputs)
    facts = _read_log(log, options)
    protons = _protons(beam, request.room)
    scored = _read_dose(folder / "Outputs" / "Dose.mhd", request.ct.grid) * (protons * _EV_PER_G_IN_GY)
    dose = grids.averaged(scored, request.ct.grid, request.grid)
    return np.asarray(dose, dtype=np.float32), {**facts, "protons_delivered": protons}


def _write_inputs(
    beam: Beam, request: DoseRequest, program: Path, options: McsquareOptions, folder: Path
) -> dict[str, str]:
    """All input files; their SHA-256 by name."""
    grid = request.ct.grid
    densities, materials = _calibration(request.scanner, program)
    low, high = float(densities[0, 0]), float(densities[-1, 0])
    hu = np.clip(_mirrored(request.ct.values), low, high).astype("<f4")
    files: dict[str, bytes] = {
        "CT.mhd": _mhd_header(grid, "CT.raw").encode(),
        "CT.raw": hu.tobytes(),
        "HU_Density_Conversion.txt": _table(densities).encode(),
        "HU_Material_Conversion.txt": _table(materials).encode(),
        "BDL.txt": _beam_model(beam, request).encode(),
        "Plan.txt": _plan_text(beam, request).encode(),
        "config.txt": _config(options).encode(),
    }
    (folder / "Outputs").mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _require_unchanged(folder: Path, inputs: Mapping[str, str]) -> None:
    """A CT that was cut short by a full disk would give a dose all the same."""
    for name, digest in inputs.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise DoseRejected(f"MCsquare did not read the {name} that was meant.", remedy="Run it again.")


def _mirrored(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[z, y, x] of the patient's grid from MCsquare's, and the other way round."""
    return values[:, ::-1, ::-1]


def _corner_mm(grid: Grid) -> tuple[float, float, float]:
    """Lower corner of the first voxel in MCsquare's axes: x, -y, z."""
    return (
        grid.origin_mm[0] - grid.spacing_mm[0] / 2,
        -grid.upper_mm(1) - grid.spacing_mm[1] / 2,
        grid.origin_mm[2] - grid.spacing_mm[2] / 2,
    )


def _mhd_header(grid: Grid, raw: str) -> str:
    size = (grid.shape[2], grid.shape[1], grid.shape[0])
    rows = {
        "ObjectType": "Image",
        "NDims": "3",
        "DimSize": " ".join(str(count) for count in size),
        "ElementSpacing": " ".join(repr(float(step)) for step in grid.spacing_mm),
        "Offset": " ".join(repr(float(place)) for place in _corner_mm(grid)),
        "BinaryData": "True",
        "CompressedData": "False",
        "ElementByteOrderMSB": "False",
        "ElementType": "MET_FLOAT",
        "ElementDataFile": raw,
    }
    return "".join(f"{key} = {value}\n" for key, value in rows.items())


def _table(rows: Floats) -> str:
    return "".join(f"{first:.4f}\t{second:.8g}\n" for first, second in rows)


def _calibration(scanner: CtScanner, program: Path) -> tuple[Floats, Floats]:
    """HU to density (g/cm³), and HU to MCsquare's number of a material; both (n, 2), rising in HU.

    What a voxel is made of comes from MCsquare's own table, its density is such that protons of 100 MeV
    are slowed down as the machine file says.
    """
    thresholds, power = _materials(program)
    curve = np.array(scanner.hu_to_rsp)
    hu = [float(curve[0, 0]) - 1.0, *(float(at) for at in curve[:, 0]), float(curve[-1, 0]) + 1.0]
    # At a border of two materials the density jumps: one point on either side.
    hu += [at + shift for at in thresholds[:, 0] for shift in (-0.01, 0.0)]
    rows = []
    for value in sorted(set(hu)):
        row = max(0, int(np.searchsorted(thresholds[:, 0], value, side="right")) - 1)
        relative = float(scanner.rsp(np.array([value]))[0]) / power[row]
        rows.append((value, max(relative, 1e-4)))
    return np.array(rows), thresholds


@lru_cache(maxsize=4)
def _materials(program: Path) -> tuple[Floats, tuple[float, ...]]:
    """(HU from which on, number of the material), and its mass stopping power relative to water's."""
    names = {}
    for line in (program / "Materials" / "list.dat").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].isdigit():
            names[int(words[0])] = words[1]
    rows = []
    for line in (program / "materials.txt").read_text(encoding="utf-8").splitlines():
        words = line.split("#")[0].split()
        if len(words) == 2:
            rows.append((float(words[0]), int(words[1])))
    water = _stopping_power(program, "Water")
    powers = tuple(_stopping_power(program, names[number]) / water for _, number in rows)
    return np.array(rows, dtype=np.float64), powers


def _stopping_power(program: Path, material: str) -> float:
    """MeV·cm²/g of 100 MeV protons."""
    table = np.loadtxt(program / "Materials" / material / "G4_Stop_Pow.dat")
    return float(np.interp(100.0, table[:, 0], table[:, 1]))


def _sigma_mm(layer: PlanLayer, room: Room) -> tuple[float, float]:
    fwhm = layer.fwhm_mm or (room.beam.fwhm(layer.energy_mev),) * 2
    return fwhm[0] / FWHM_PER_SIGMA, fwhm[1] / FWHM_PER_SIGMA


def _rows_by_energy(beam: Beam, room: Room) -> dict[float, tuple[float, float]]:
    """Spot sigma by the energy that the plan text names.

    A row of the beam model has one spot size: a second layer of the same energy with another size is given
    an energy a thousandth of a MeV higher, which moves its range by a hundredth of a millimetre at most.
    """
    rows: dict[float, tuple[float, float]] = {}
    for layer in beam.layers:
        energy = _named_energy(layer, room, rows)
        rows[energy] = _sigma_mm(layer, room)
    return rows


def _named_energy(layer: PlanLayer, room: Room, rows: Mapping[float, tuple[float, float]]) -> float:
    energy = round(layer.energy_mev, 4)
    while energy in rows and rows[energy] != _sigma_mm(layer, room):
        energy = round(energy + 0.001, 4)
    return energy


def _nozzle_mm(beam: Beam, request: DoseRequest) -> float:
    """Where protons start: in front of all corners of the CT, seen from the isocentre."""
    matrix = to_gantry(beam, request.plan.patient_position)
    corners = matrix @ (corners_mm(request.ct.grid) - np.array(beam.isocentre_mm)[:, None])
    return max(float(corners[2].max()) + _BEYOND_CT_MM, 100.0)


def _beam_model(beam: Beam, request: DoseRequest) -> str:
    rows = _rows_by_energy(beam, request.room)
    low, high = min(rows), max(rows)
    # One row below and one above, so that no energy of the plan lies at the end of the table.
    padded = {low - 1.0: rows[low], **rows, high + 1.0: rows[high]}
    spread = request.room.beam.energy_spread_percent
    lines = [
        "--UPenn beam model (double gaussian)--", "",
        "Nozzle exit to Isocenter distance", f"{_nozzle_mm(beam, request):.3f}", "",
        "SMX to Isocenter distance", f"{beam.sad_mm[0]:.3f}", "",
        "SMY to Isocenter distance", f"{beam.sad_mm[1]:.3f}", "",
        "Beam parameters", f"{len(padded)} energies", "",
        _COLUMNS,
    ]  # fmt: skip
    for energy, (x, y) in sorted(padded.items()):
        one, two = (f"{weight} {x:.6f} {_PARALLEL} {y:.6f} {_PARALLEL}" for weight in ("1.0", "0.0"))
        # One proton per MU: the plan text counts protons.
        lines.append(f"{energy:.4f} {energy:.4f} {spread:.6f} 1.0 {one} {two}")
    return "\n".join(lines) + "\n"


def _protons(beam: Beam, room: Room) -> float:
    return float(sum(_layer_protons(layer, beam, room).sum() for layer in beam.layers))


def _layer_protons(layer: PlanLayer, beam: Beam, room: Room) -> Floats:
    if beam.unit == "NP":
        return layer.meterset
    return np.asarray(layer.meterset * room.beam.protons(layer.energy_mev), dtype=np.float64)


def _plan_text(beam: Beam, request: DoseRequest) -> str:
    corner = _corner_mm(request.ct.grid)
    x, y, z = beam.isocentre_mm
    isocentre = (x - corner[0], -y - corner[1], z - corner[2])
    total = _protons(beam, request.room)
    gantry, couch = head_first_supine(beam, request.plan.patient_position)
    lines = [
        "#TREATMENT-PLAN-DESCRIPTION", "#PlanName", "Plan", "#NumberOfFractions", "1",
        "##FractionID", "1", "##NumberOfFields", "1", "###FieldsID", "1",
        "#TotalMetersetWeightOfAllFields", f"{total:.3f}", "",
        "#FIELD-DESCRIPTION", "###FieldID", "1", "###FinalCumulativeMeterSetWeight", f"{total:.3f}",
        "###GantryAngle", f"{gantry:.6f}", "###PatientSupportAngle", f"{couch:.6f}",
        "###IsocenterPosition", "\t".join(f"{value:.6f}" for value in isocentre),
        "###NumberOfControlPoints", str(len(beam.layers)), "", "#SPOTS-DESCRIPTION",
    ]  # fmt: skip
    done = 0.0
    rows: dict[float, tuple[float, float]] = {}
    for index, layer in enumerate(beam.layers, start=1):
        energy = _named_energy(layer, request.room, rows)
        rows[energy] = _sigma_mm(layer, request.room)
        protons = _layer_protons(layer, beam, request.room)
        done += float(protons.sum())
        lines += [
            "####ControlPointIndex", str(index), "####SpotTunnedID", "1",
            "####CumulativeMetersetWeight", f"{done:.3f}", "####Energy (MeV)", f"{energy:.4f}",
            "####NbOfScannedSpots", str(len(protons)), "####X Y Weight",
        ]  # fmt: skip
        lines += [
            f"{u:.5f} {v:.5f} {n:.3f}"
            for (u, v), n in zip(layer.positions_mm.tolist(), protons.tolist(), strict=True)
        ]
    return "\n".join(lines) + "\n"


def _config(options: McsquareOptions) -> str:
    values: dict[str, object] = {
        "Num_Threads": options.threads,
        "RNG_Seed": options.seed,
        "Num_Primaries": options.protons,
        "E_Cut_Pro": 0.5,
        "D_Max": 0.2,
        "Epsilon_Max": 0.25,
        "Te_Min": 0.05,
        "CT_File": "CT.mhd",
        "HU_Density_Conversion_File": "HU_Density_Conversion.txt",
        "HU_Material_Conversion_File": "HU_Material_Conversion.txt",
        "BDL_Machine_Parameter_File": "BDL.txt",
        "BDL_Plan_File": "Plan.txt",
        "Compute_stat_uncertainty": True,
        "Ignore_low_density_voxels": True,
        "Output_Directory": "Outputs",
        "Dose_MHD_Output": True,
        "Dose_to_Water_conversion": "OnlineSPR",
        # Air scores hardly any energy in hardly any mass: noise that looks like dose.
        "Dose_Segmentation": True,
        "Density_Threshold_for_Segmentation": 0.01,
    }
    return "".join(f"{key} {value}\n" for key, value in values.items())


def _progress_of(tail: str) -> float | None:
    found = re.findall(r"([0-9.]+) % \(stat uncertainty", tail)
    return float(found[-1]) / 100.0 if found else None


def _read_log(log: str, options: McsquareOptions) -> dict[str, Any]:
    """Facts about the run. Raises DoseRejected where the log does not tell of a whole simulation."""
    # How many started outside is only said where some did.
    counted = re.findall(r"Nbr primaries simulated: (\d+)(?: \((\d+) generated outside)?", log)
    uncertainty = re.findall(r"\(stat uncertainty: *([^ %]+) *%\)", log)
    if len(counted) != 1 or not uncertainty:
        raise _rejected("its log does not tell of a whole simulation", log)
    simulated, outside = int(counted[0][0]), int(counted[0][1] or 0)
    if simulated < options.protons:
        raise _rejected(f"only {simulated} of {options.protons} protons were simulated", log)
    if outside > _MAX_OUTSIDE_SHARE * simulated:
        raise _rejected(f"{outside} of {simulated} protons started outside of the CT", log)
    if re.search(r"\b(?:error|unknown tag|not sorted)\b", log, re.IGNORECASE):
        raise _rejected("its log reports an error", log)
    percent = float(uncertainty[-1])
    if not math.isfinite(percent) or percent > options.max_uncertainty_percent:
        raise _rejected(
            f"the statistical uncertainty is {percent:g} %, above {options.max_uncertainty_percent:g} %", log
        )
    return {"protons_simulated": simulated, "outside": outside, "uncertainty_percent": percent}


def _rejected(what: str, log: str) -> DoseRejected:
    return DoseRejected(
        f"MCsquare's result is not used: {what}.",
        remedy="See the last lines of its log; more protons lower the uncertainty.",
        last_lines=process.last_lines(log),
    )


def _read_dose(header_file: Path, grid: Grid) -> Floats:
    """MCsquare's dose (eV/g/proton) on `grid`. Raises DoseRejected unless the file is whole and fits."""
    raw = header_file.with_suffix(".raw")
    try:
        header = dict(
            re.findall(r"^(\w+) *= *(.*?) *$", header_file.read_text(encoding="utf-8"), re.MULTILINE)
        )
        content = raw.read_bytes()
    except (OSError, ValueError):
        raise DoseRejected("MCsquare ended without a dose file.", remedy="Read its log.") from None
    size = [grid.shape[2], grid.shape[1], grid.shape[0]]
    spacing = [float(word) for word in header.get("ElementSpacing", "").split()]
    if (
        [int(word) for word in header.get("DimSize", "").split()] != size
        or not np.allclose(spacing, grid.spacing_mm, atol=1e-3)
        or header.get("ElementType") != "MET_FLOAT"
    ):
        raise DoseRejected("MCsquare's dose has another grid than was asked for.", remedy="Report it.")
    if len(content) != 4 * grid.voxels:
        raise DoseRejected(
            f"MCsquare's dose file has {len(content)} bytes instead of {4 * grid.voxels}.",
            remedy="See that the disk has room, and run it again.",
        )
    values = np.frombuffer(content, dtype="<f4").reshape(grid.shape)
    return np.asarray(_mirrored(values), dtype=np.float64)
