"""CT series: slices from a folder, checked to form one regular grid."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fairlead.cases import axial, dicom
from fairlead.cases.dicom import Record
from fairlead.cases.folders import shown
from fairlead.cases.model import CaseFault, Dose, Grid, Volume

# Positions are written with a few decimals: slices may deviate from the regular grid by this much.
SPACING_TOLERANCE_MM = 0.02
_POSITION_DIGITS = 3  # of the first pixel's x and y, which are the same in all slices but for rounding
MAX_SLICES = 2000
MAX_SIDE = 4096
MAX_VOXELS = 250_000_000  # of four bytes: more would take the memory of a whole worker
_HOUNSFIELD = {"HU", "US", ""}  # US: not said, as old scanners write


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
    series_uid: str
    patient_id: str


class _Slice(NamedTuple):
    """Numbers as they are stored, in two bytes each: the float of every voxel is made last."""

    file: str
    z_mm: float
    frame: _Frame
    stored: axial.Stored
    slope: float
    intercept: float


def read(folder: Path, *, root: Path | None = None) -> Volume:
    """The CT series in `folder`, in HU. Raises CaseFault, naming the slice."""
    root = root or folder
    name = shown(folder, root) if folder != root else "."
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".dcm")
    except OSError:
        raise CaseFault("the CT folder cannot be read", rule="ct.unreadable", file=name) from None
    if not files:
        raise CaseFault("the CT folder holds no file called *.dcm", rule="ct.missing", file=name)
    if len(files) > MAX_SLICES:
        raise CaseFault(f"more than {MAX_SLICES} slices", rule="ct.too_large", file=name)
    slices = sorted(_slices(files, root), key=lambda item: item.z_mm)
    for item in slices:
        if item.frame != slices[0].frame:
            raise CaseFault(
                "the slice differs from the others in series, size, spacing, position or frame of reference",
                rule="ct.mixed_series",
                file=item.file,
            )
    frame = slices[0].frame
    grid = Grid(
        (len(slices), frame.rows, frame.columns),
        (frame.x0_mm, frame.y0_mm, slices[0].z_mm),
        (frame.dx_mm, frame.dy_mm, _slice_spacing(slices)),
    )
    hu = np.empty(grid.shape, dtype=np.float32)
    for values, item in zip(hu, slices, strict=True):
        _rescale(item, values)
    return Volume(grid, hu, frame.frame_uid, frame.study_uid, patient_id=frame.patient_id)


def _slices(files: list[Path], root: Path) -> Iterator[_Slice]:
    voxels = 0
    for path in files:
        file = shown(path, root)
        item = _slice(dicom.read(path, file=file, kind="ct"))
        voxels += item.stored.size
        if voxels > MAX_VOXELS:
            raise CaseFault(f"more than {MAX_VOXELS} voxels up to here", rule="ct.too_large", file=file)
        yield item


def _slice(record: Record) -> _Slice:
    if record.text("Modality") != "CT":
        raise record.fault("Modality", "this is not a CT slice", rule="not_ct")
    towards = axial.directions(record)
    rows, columns = (
        record.integer("Rows", low=1, high=MAX_SIDE),
        record.integer("Columns", low=1, high=MAX_SIDE),
    )
    dy, dx = record.numbers("PixelSpacing", 2)
    if min(dx, dy) <= 0:
        raise record.fault("PixelSpacing", "a spacing must be above 0")
    x, y, z = record.numbers("ImagePositionPatient", 3)
    frame = _Frame(
        rows,
        columns,
        dx,
        dy,
        round(axial.lowest_mm(x, dx, columns, towards[0]), _POSITION_DIGITS),
        round(axial.lowest_mm(y, dy, rows, towards[1]), _POSITION_DIGITS),
        record.text("FrameOfReferenceUID"),
        record.text("StudyInstanceUID"),
        record.text("SeriesInstanceUID", ""),
        record.text("PatientID", ""),
    )
    stored, slope, intercept = _pixels(record, rows, columns)
    return _Slice(record.file, z, frame, axial.upright(stored, towards), slope, intercept)


def _pixels(record: Record, rows: int, columns: int) -> tuple[axial.Stored, float, float]:
    """What is stored, and slope and intercept that make Hounsfield units of it."""
    if record.text("RescaleType", "") not in _HOUNSFIELD:
        raise record.unsupported("RescaleType", "only pixels in Hounsfield units are supported")
    slope, intercept = record.number("RescaleSlope"), record.number("RescaleIntercept")
    if slope == 0:
        raise record.fault("RescaleSlope", "a slope of 0 would make every voxel the same")
    if record.integer("BitsAllocated") != 16 or record.integer("SamplesPerPixel", 1) != 1:
        raise record.unsupported("BitsAllocated", "only 16-bit greyscale slices are supported")
    signed = record.integer("PixelRepresentation", high=1) == 1
    stored = axial.stored(record, rows * columns, bits=16, signed=signed)
    return stored.reshape(rows, columns), slope, intercept


def _rescale(item: _Slice, hu: Dose) -> None:
    """Fill `hu` with the slice's Hounsfield units."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(item.stored, np.float32(item.slope), out=hu, dtype=np.float32)
        hu += np.float32(item.intercept)
    if not np.isfinite(hu).all():
        raise CaseFault(
            "the rescaled values are not finite",
            rule="ct.field_invalid",
            file=item.file,
            field="RescaleSlope",
        )


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
