"""CT series: slices from a folder, checked to form one regular grid."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.cases import dicom
from fairlead.cases.dicom import Record
from fairlead.cases.folders import shown
from fairlead.cases.model import CaseFault, Dose, Grid, Volume

# Positions are written with a few decimals: slices may deviate from the regular grid by this much.
SPACING_TOLERANCE_MM = 0.02
MAX_SLICES = 2000
MAX_SIDE = 4096
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class _Frame(NamedTuple):
    """What all slices of a series have in common."""

    rows: int
    columns: int
    dx_mm: float
    dy_mm: float
    x0_mm: float
    y0_mm: float
    frame_uid: str
    study_uid: str
    patient_id: str


class _Slice(NamedTuple):
    file: str
    z_mm: float
    frame: _Frame
    hu: Dose


def read(folder: Path, *, root: Path | None = None) -> Volume:
    """The CT series in `folder`, in HU. Raises CaseFault, naming the slice."""
    root = root or folder
    name = shown(folder, root) if folder != root else "."
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".dcm")
    except OSError:
        raise CaseFault("the CT folder cannot be read", rule="ct.unreadable", file=name) from None
    if not files:
        raise CaseFault("the CT folder holds no DICOM file", rule="ct.missing", file=name)
    if len(files) > MAX_SLICES:
        raise CaseFault(f"more than {MAX_SLICES} slices", rule="ct.too_large", file=name)
    records = [dicom.read(path, file=shown(path, root), kind="ct") for path in files]
    slices = sorted((_slice(record) for record in records), key=lambda item: item.z_mm)
    for item in slices:
        if item.frame != slices[0].frame:
            raise CaseFault(
                "the slice differs from the others in size, pixel spacing, position or frame of reference",
                rule="ct.mixed_series",
                file=item.file,
            )
    frame = slices[0].frame
    grid = Grid(
        (len(slices), frame.rows, frame.columns),
        (frame.x0_mm, frame.y0_mm, slices[0].z_mm),
        (frame.dx_mm, frame.dy_mm, _slice_spacing(slices)),
    )
    hu = np.stack([item.hu for item in slices])
    return Volume(grid, hu, frame.frame_uid, frame.study_uid, patient_id=frame.patient_id)


def _slice(record: Record) -> _Slice:
    if record.text("Modality") != "CT":
        raise record.fault("Modality", "this is not a CT slice", rule="not_ct")
    if record.numbers("ImageOrientationPatient", 6) != AXIAL:
        raise record.unsupported(
            "ImageOrientationPatient", "only axial slices along the patient's axes are supported"
        )
    rows, columns = (
        record.integer("Rows", low=1, high=MAX_SIDE),
        record.integer("Columns", low=1, high=MAX_SIDE),
    )
    dy, dx = record.numbers("PixelSpacing", 2)
    if min(dx, dy) <= 0:
        raise record.fault("PixelSpacing", "a spacing must be above 0")
    x0, y0, z = record.numbers("ImagePositionPatient", 3)
    frame = _Frame(
        rows,
        columns,
        dx,
        dy,
        x0,
        y0,
        record.text("FrameOfReferenceUID"),
        record.text("StudyInstanceUID"),
        record.text("PatientID", ""),
    )
    slope, intercept = record.number("RescaleSlope"), record.number("RescaleIntercept")
    hu = (_stored(record, rows, columns) * np.float32(slope) + np.float32(intercept)).astype(np.float32)
    if not np.isfinite(hu).all():
        raise record.fault("RescaleSlope", "the rescaled values are not finite")
    return _Slice(record.file, z, frame, hu)


def _stored(record: Record, rows: int, columns: int) -> npt.NDArray[np.float32]:
    if record.integer("BitsAllocated") != 16 or record.integer("SamplesPerPixel", 1) != 1:
        raise record.unsupported("BitsAllocated", "only 16-bit greyscale slices are supported")
    kind = "<i2" if record.integer("PixelRepresentation") == 1 else "<u2"
    raw = np.frombuffer(dicom.pixels(record, count=2 * rows * columns), dtype=kind)
    return raw.reshape(rows, columns).astype(np.float32)


def _slice_spacing(slices: list[_Slice]) -> float:
    if len(slices) < 2:
        raise CaseFault("a series needs two slices or more", rule="ct.single_slice", file=slices[0].file)
    steps = np.diff([item.z_mm for item in slices])
    for step, item in zip(steps, slices[1:], strict=True):
        if step <= SPACING_TOLERANCE_MM:
            raise CaseFault("two slices lie at the same position", rule="ct.duplicate_slice", file=item.file)
    usual = float(np.median(steps))
    for step, item in zip(steps, slices[1:], strict=True):
        if abs(step - usual) > SPACING_TOLERANCE_MM:
            raise CaseFault(
                f"the step to this slice is {step:.3f} mm, elsewhere {usual:.3f} mm: missing or misplaced",
                rule="ct.missing_slice",
                file=item.file,
            )
    return float(steps.mean())
