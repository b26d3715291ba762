"""Dose requests and results as files; fairlead.cases.engines.run says what lies where."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairlead.cases.engines.port import (
    DicomSources,
    DoseEngine,
    DoseRequest,
    DoseResult,
    EngineCancelled,
    EngineFailed,
    accepted,
)
from fairlead.cases.machine import CtScanner, Room
from fairlead.cases.model import Beam, Dose, Grid, Plan, PlanLayer, Volume
from fairlead.kernel.errors import FairleadError

_SAFE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

Triple = tuple[float, float, float]


class RequestInvalid(FairleadError):
    """A dose request on disk cannot be used."""

    code, status, retryable = "cases.request_invalid", 422, False


class ResultIncomplete(FairleadError):
    """The files of a dose result are missing, damaged, or answer another request."""

    code, status, retryable = "cases.result_incomplete", 502, False


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _File(_Part):
    name: Annotated[str, Field(pattern=_SAFE_NAME)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Grid(_Part):
    shape: tuple[int, int, int]
    origin_mm: Triple
    spacing_mm: Triple


class _Layer(_Part):
    number: int
    energy_mev: float
    fwhm_mm: tuple[float, float] | None


class _Beam(_Part):
    number: int
    name: str
    machine: str
    unit: Literal["MU", "NP"]
    gantry_deg: float
    couch_deg: float
    isocentre_mm: Triple
    sad_mm: tuple[float, float]
    modifiers: tuple[str, ...]
    layers: tuple[_Layer, ...]


class _Plan(_Part):
    uid: str
    patient_position: str
    fractions: int
    beams: tuple[_Beam, ...]
    setup_beams: tuple[int, ...] = ()


class _Dicom(_Part):
    plan: str  # relative to the request's folder
    ct: str
    beams: dict[int, int] = {}  # number in the request → number in the plan file, where they differ


class Order(_Part):
    """The content of a request file."""

    schema_version: Literal[1] = 1
    engine: str
    options: dict[str, Any] = {}
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    plan: _Plan
    room: Room
    scanner: CtScanner
    ct_grid: _Grid
    dose_grid: _Grid
    ct: _File
    spots: _File
    dicom: _Dicom | None = None


class _BeamFile(_File):
    number: int
    max_gy: float


class Marker(_Part):
    """The content of result.json."""

    schema_version: Literal[1] = 1
    request_sha256: str
    engine: str
    label: str
    seconds: float
    grid: _Grid
    beams: tuple[_BeamFile, ...]
    details: dict[str, Any] = {}


def result_folder(request_file: Path) -> Path:
    """Where the command puts the result of this request."""
    return request_file.with_suffix(".result")


def write_request(
    folder: Path, request: DoseRequest, *, engine: str, name: str = "request",
    options: Mapping[str, Any] | None = None, deadline_s: float | None = None,
    beams: Sequence[int] | None = None, dicom: tuple[str, str] | None = None,
    plan_numbers: Mapping[int, int] | None = None,
) -> Path:  # fmt: skip
    """Write the request `name` into `folder` (made where it is missing); its file.

    `beams` picks beams of the plan (default: all). `dicom` is the plan file and the CT folder for engines
    that read DICOM, relative to `folder`; the caller puts them there. `plan_numbers` are the plan file's
    numbers of beams that have others in the request. The same input gives the same files.
    """
    plan = request.plan
    if beams is not None:
        plan = replace(plan, beams=tuple(beam for beam in plan.beams if beam.number in set(beams)))
    folder.mkdir(parents=True, exist_ok=True)
    order = Order(
        engine=engine,
        options=dict(options or {}),
        deadline_s=deadline_s,
        plan=_plan_out(plan),
        room=request.room,
        scanner=request.scanner,
        ct_grid=_grid_out(request.ct.grid),
        dose_grid=_grid_out(request.grid),
        ct=_write_array_file(folder, "ct", ".npy", _npy(_compact(request.ct.values))),
        spots=_write_array_file(folder, "spots", ".npz", _npz(plan)),
        dicom=_Dicom(plan=dicom[0], ct=dicom[1], beams=dict(plan_numbers or {})) if dicom else None,
    )
    target = folder / f"{name}.json"
    _write(target, order.model_dump_json(indent=1).encode())
    return target


def read_request(file: Path) -> tuple[Order, DoseRequest]:
    """What the request file asks for. Raises RequestInvalid."""
    try:
        order = Order.model_validate_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise RequestInvalid(
            f"{file.name} cannot be read as a dose request: {_reason(error)}.",
            remedy="Write it with fairlead.cases.engines.run.write_request.",
        ) from None
    ct = _load(file.parent, order.ct)
    spots = _load(file.parent, order.spots)
    try:
        plan = _plan_in(order.plan, spots)
        if ct.shape != order.ct_grid.shape:
            raise ValueError(f"the CT has the shape {ct.shape}")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RequestInvalid(f"The arrays do not fit {file.name}: {_reason(error)}.") from None
    sources = None
    if order.dicom:
        sources = DicomSources(
            file.parent / order.dicom.plan, file.parent / order.dicom.ct, order.dicom.beams
        )
    volume = Volume(_grid_in(order.ct_grid), np.asarray(ct, dtype=np.float32), "")
    return order, DoseRequest(plan, volume, order.room, order.scanner, _grid_in(order.dose_grid), sources)


def write_result(file: Path, chosen: DoseEngine, result: DoseResult, seconds: float) -> Marker:
    """Write the result of the request `file`, its marker last; the marker."""
    folder = result_folder(file)
    beams = []
    for number, values in sorted(result.beams.items()):
        content = _npy(values.astype("<f4"))
        name = f"beam-{number}.npy"
        _write(folder / name, content)
        beams.append(_BeamFile(name=name, sha256=_sha256(content), number=number, max_gy=float(values.max())))
    marker = Marker(
        request_sha256=_sha256(file.read_bytes()),
        engine=chosen.name,
        label=chosen.label,
        seconds=round(seconds, 3),
        grid=_grid_out(result.grid),
        beams=tuple(beams),
        details=dict(result.details),
    )
    _write(folder / "result.json", marker.model_dump_json(indent=1).encode())
    return marker


def write_error(file: Path, error: FairleadError) -> None:
    """Record the failure of the request `file`."""
    _write(result_folder(file) / "error.json", json.dumps(error.problem()).encode())


def read_result(file: Path) -> tuple[Marker, DoseResult]:
    """The result of the request `file`, checked in every way that `accepted` knows.

    Raises EngineFailed with the remote error's own code in its details (EngineCancelled for a cancelled
    one), ResultIncomplete, DoseRejected, and RequestInvalid where the request itself is gone.
    """
    folder = result_folder(file)
    marker_file = folder / "result.json"
    if not marker_file.is_file():
        raise _recorded_error(folder)
    try:
        marker = Marker.model_validate_json(marker_file.read_bytes())
    except (OSError, ValueError) as error:
        raise _incomplete(f"result.json cannot be read: {_reason(error)}") from None
    if marker.request_sha256 != _sha256(file.read_bytes()):
        raise _incomplete("result.json answers another request")
    _, request = read_request(file)
    beams: dict[int, Dose] = {}
    for entry in marker.beams:
        try:
            beams[entry.number] = np.asarray(_load(folder, entry), dtype=np.float32)
        except RequestInvalid as error:
            raise _incomplete(error.message) from None
    return marker, accepted(DoseResult(_grid_in(marker.grid), beams, marker.details), request)


def _recorded_error(folder: Path) -> FairleadError:
    try:
        problem = json.loads((folder / "error.json").read_bytes())
        code, detail = str(problem["code"]), str(problem["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return _incomplete("there is neither result.json nor error.json")
    remedy = str(problem.get("remedy") or "Read the log of the calculation.")
    if code == EngineCancelled.code:
        return EngineCancelled(detail, remedy=remedy)
    return EngineFailed(
        detail, remedy=remedy, engine_code=code, engine_retryable=bool(problem.get("retryable"))
    )


def _incomplete(what: str) -> ResultIncomplete:
    return ResultIncomplete(f"The dose result is incomplete: {what}.", remedy="Run the calculation again.")


def _grid_out(grid: Grid) -> _Grid:
    return _Grid(shape=grid.shape, origin_mm=grid.origin_mm, spacing_mm=grid.spacing_mm)


def _grid_in(grid: _Grid) -> Grid:
    return Grid(grid.shape, grid.origin_mm, grid.spacing_mm)


def _plan_out(plan: Plan) -> _Plan:
    beams = []
    for beam in plan.beams:
        layers = tuple(
            _Layer(number=layer.number, energy_mev=layer.energy_mev, fwhm_mm=layer.fwhm_mm)
            for layer in beam.layers
        )
        if beam.unit not in ("MU", "NP"):
            raise RequestInvalid(f"Beam {beam.number} has the unit {beam.unit!r}; MU and NP are known.")
        unit: Literal["MU", "NP"] = "MU" if beam.unit == "MU" else "NP"
        beams.append(
            _Beam(
                number=beam.number,
                name=f"beam {beam.number}",  # a real name may be the patient's: it stays here
                machine=beam.machine,
                unit=unit,
                gantry_deg=beam.gantry_deg,
                couch_deg=beam.couch_deg,
                isocentre_mm=beam.isocentre_mm,
                sad_mm=beam.sad_mm,
                modifiers=beam.modifiers,
                layers=layers,
            )
        )
    return _Plan(
        uid=plan.uid,
        patient_position=plan.patient_position,
        fractions=plan.fractions,
        beams=tuple(beams),
        setup_beams=plan.setup_beams,
    )


def _plan_in(plan: _Plan, spots: Mapping[str, npt.NDArray[Any]]) -> Plan:
    beams = []
    for beam in plan.beams:
        layers = []
        for index, layer in enumerate(beam.layers):
            table = np.asarray(spots[f"{beam.number}/{index}"], dtype=np.float64)
            if table.ndim != 2 or table.shape[1] != 3 or not np.isfinite(table).all():
                raise ValueError(f"the spots of beam {beam.number}, layer {layer.number} are no table")
            layers.append(
                PlanLayer(
                    layer.number, layer.energy_mev, table[:, :2].copy(), table[:, 2].copy(), layer.fwhm_mm
                )
            )
        fields = beam.model_dump(exclude={"layers"})
        beams.append(Beam(**fields, layers=tuple(layers)))
    return Plan(
        plan.uid, "", "", "", plan.patient_position, plan.fractions, tuple(beams), plan.setup_beams,
        patient_id="",
    )  # fmt: skip


def _compact(hu: Dose) -> npt.NDArray[Any]:
    """HU as 16-bit integers where that loses nothing: half the bytes to send."""
    whole = np.rint(hu)
    fits = bool(np.abs(whole).max(initial=0) < 2**15 and (whole == hu).all())
    return whole.astype("<i2") if fits else hu.astype("<f4")


def _npy(values: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def _npz(plan: Plan) -> bytes:
    """A zip of .npy arrays (spots, 3): x, y in mm, meterset; without times, so that bytes repeat."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for beam in plan.beams:
            for index, layer in enumerate(beam.layers):
                entry = zipfile.ZipInfo(f"{beam.number}/{index}.npy")
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, _npy(np.column_stack([layer.positions_mm, layer.meterset])))
    return buffer.getvalue()


def _write_array_file(folder: Path, kind: str, suffix: str, content: bytes) -> _File:
    digest = _sha256(content)
    name = f"{kind}-{digest[:16]}{suffix}"
    if not (folder / name).exists():  # written whole or not at all, and named by what it holds
        _write(folder / name, content)
    return _File(name=name, sha256=digest)


def _load(folder: Path, file: _File) -> Any:
    """The array (or archive of arrays) in `file`. Raises RequestInvalid unless its bytes are those named."""
    try:
        content = (folder / file.name).read_bytes()
    except OSError as error:
        raise RequestInvalid(f"{file.name} cannot be read: {error.strerror}.") from None
    if _sha256(content) != file.sha256:
        raise RequestInvalid(
            f"{file.name} is damaged: its SHA-256 is not the one that was written.", remedy="Copy it again."
        )
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise RequestInvalid(f"{file.name} is no array file: {_reason(error)}.") from None


def _write(path: Path, content: bytes) -> None:
    """Write `path` whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    if isinstance(error, OSError):
        return error.strerror or "it is unreadable"
    return str(error)
