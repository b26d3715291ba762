"""DICOM RT Dose: written so that reading it gives the same dose back within one quantum.

Doses are stored as unsigned 32-bit multiples of DoseGridScaling, a decimal string of at most 16 characters.
The multiples are formed in float64: in float32 the largest of them would be off by up to 256.
"""

import hashlib
import io
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from fairlead.cases import axial, dicom
from fairlead.cases.dicom import Record
from fairlead.cases.folders import MAX_DOSE_BYTES
from fairlead.cases.model import Floats, Grid, Plan, Volume
from fairlead.kernel.errors import FairleadError

MAX_MULTIPLE = 2**32 - 1
SMALLEST_SCALING = 1e-12  # Gy: far below any dose; keeps an all-zero dose from a scaling of 0
_GEOMETRY_TOLERANCE_MM = 0.01


class DoseUnusable(FairleadError):
    """A dose cannot be written: it is not finite, is negative, or does not fit its plan and CT."""

    code, status, retryable = "cases.dose_unusable", 422, False


def scaling_of(peak_gy: float) -> str:
    """DoseGridScaling for a largest dose of `peak_gy`: the smallest 16-character decimal that holds it."""
    wanted = max(peak_gy / MAX_MULTIPLE, SMALLEST_SCALING)
    text = f"{wanted:.10e}"
    # Rounded to ten places it may fall below what is needed: then the next one up.
    return text if float(text) >= wanted else f"{wanted * (1 + 1e-10):.10e}"


def quantise(values: npt.NDArray[np.floating], scaling: str) -> npt.NDArray[np.uint32]:
    """Multiples of `scaling` nearest to `values`. Raises DoseUnusable for negative or non-finite ones."""
    if not np.isfinite(values).all() or (values.size and float(values.min()) < 0):
        raise DoseUnusable(
            "The dose holds values that are negative or not finite.",
            remedy="The engine's result is broken: do not use it; run it again.",
        )
    multiples = np.rint(values.astype(np.float64) / float(scaling))
    return np.minimum(multiples, MAX_MULTIPLE).astype(np.uint32)


def uid_of(*parts: str | bytes) -> str:
    """A UID (2.25.…) that is the same whenever `parts` are."""
    digest = hashlib.sha256(b"\0".join(part.encode() if isinstance(part, str) else part for part in parts))
    return f"2.25.{int.from_bytes(digest.digest()[:15], 'big')}"


def check_fits(plan: Plan, ct: Volume, grid: Grid) -> None:
    """Raises DoseUnusable unless plan, CT and dose grid belong together."""
    if plan.frame_uid and plan.frame_uid != ct.frame_uid:
        raise DoseUnusable(
            "The plan and the CT have different frames of reference.",
            remedy="Give the CT that the plan was made on.",
        )
    for beam in plan.beams:
        for axis, name in enumerate("xyz"):
            low, high = ct.grid.origin_mm[axis], ct.grid.upper_mm(axis)
            if not low <= beam.isocentre_mm[axis] <= high:
                raise DoseUnusable(
                    f"The isocentre of beam {beam.number} lies outside of the CT along {name}.",
                    remedy="Give the CT that the plan was made on.",
                    beam=beam.number,
                )
    for axis, name in enumerate("xyz"):
        half = (ct.grid.spacing_mm[axis] + grid.spacing_mm[axis]) / 2 + _GEOMETRY_TOLERANCE_MM
        if (
            grid.origin_mm[axis] < ct.grid.origin_mm[axis] - half
            or grid.upper_mm(axis) > ct.grid.upper_mm(axis) + half
        ):
            raise DoseUnusable(
                f"The dose grid reaches beyond the CT along {name}.", remedy="Make it from the CT's grid."
            )


def encode(
    values: npt.NDArray[np.floating], grid: Grid, plan: Plan, ct: Volume, *, beam: int | None = None
) -> bytes:
    """An RT Dose file of `values` (Gy, grid.shape): one fraction of `plan`, or one `beam` of it.

    The same input gives the same bytes. Raises DoseUnusable where dose, plan and CT do not fit.
    """
    check_fits(plan, ct, grid)
    if values.shape != grid.shape:
        raise DoseUnusable(f"The dose has the shape {values.shape}, its grid {grid.shape}.")
    scaling = scaling_of(float(values.max()))
    stored = quantise(values, scaling).astype("<u4").tobytes()
    kind: Literal["BEAM", "FRACTION"] = "FRACTION" if beam is None else "BEAM"
    dataset = _header(plan, ct, uid_of(plan.uid, kind, str(beam), scaling, repr(grid), stored))
    _geometry(dataset, grid)
    dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType = "GY", "PHYSICAL", kind
    dataset.DoseGridScaling = scaling
    dataset.ReferencedRTPlanSequence = [_reference(plan, beam)]
    dataset.PixelData = stored
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _header(plan: Plan, ct: Volume, uid: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(dicom.SOP_DOSE)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID(uid)
    dataset.Modality, dataset.Manufacturer = "RTDOSE", "Fairlead (not for clinical use)"
    dataset.PatientID, dataset.PatientName = plan.patient_id, ""
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyInstanceUID = plan.study_uid
    dataset.SeriesInstanceUID = uid_of(plan.uid, "dose series")
    dataset.StudyDate = dataset.StudyTime = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = dataset.OperatorsName = ""
    dataset.SeriesNumber = dataset.InstanceNumber = None
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = ct.frame_uid, ""
    return dataset


def _decimal(value: float) -> str:
    """`value` as a decimal string of at most 16 characters."""
    for places in range(12, -1, -1):
        text = f"{value:.{places}f}"
        if len(text) <= 16:
            return text
    return f"{value:.9e}"


def _geometry(dataset: Dataset, grid: Grid) -> None:
    frames, rows, columns = grid.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, frames
    dataset.FrameIncrementPointer = 0x3004000C
    dataset.BitsAllocated = dataset.BitsStored = 32
    dataset.HighBit, dataset.PixelRepresentation = 31, 0
    dataset.ImagePositionPatient = [_decimal(value) for value in grid.origin_mm]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.PixelSpacing = [_decimal(grid.spacing_mm[1]), _decimal(grid.spacing_mm[0])]
    dataset.SliceThickness = _decimal(grid.spacing_mm[2])
    dataset.GridFrameOffsetVector = [_decimal(index * grid.spacing_mm[2]) for index in range(frames)]


def _reference(plan: Plan, beam: int | None) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = dicom.SOP_ION_PLAN, plan.uid
    group = Dataset()
    group.ReferencedFractionGroupNumber = 1
    if beam is not None:
        one = Dataset()
        one.ReferencedBeamNumber = beam
        group.ReferencedBeamSequence = [one]
    reference.ReferencedFractionGroupSequence = [group]
    return reference


def read(path: Path, *, file: str | None = None) -> Volume:
    """The dose in `path`, in Gy. Raises CaseFault."""
    record = dicom.read(path, file=file or path.name, kind="dose", limit=MAX_DOSE_BYTES)
    if record.text("Modality") != "RTDOSE":
        raise record.fault("Modality", "this is not an RT Dose", rule="not_a_dose")
    if record.text("DoseUnits") != "GY":
        raise record.unsupported("DoseUnits", "only doses in GY are supported")
    scaling = record.number("DoseGridScaling")
    if not scaling > 0:
        raise record.fault("DoseGridScaling", "it must be above 0")
    towards = axial.directions(record)
    grid, order = _read_grid(record, towards)
    with np.errstate(over="ignore"):
        values = (_stored(record, grid).astype(np.float64) * scaling).astype(np.float32)
    if not np.isfinite(values).all():
        raise record.fault("DoseGridScaling", "the dose is not finite")
    plans = record.items("ReferencedRTPlanSequence", required=False)
    return Volume(
        grid,
        np.ascontiguousarray(axial.upright(values[::order], towards)),
        record.text("FrameOfReferenceUID", ""),
        record.text("StudyInstanceUID", ""),
        plans[0].text("ReferencedSOPInstanceUID", "") if len(plans) == 1 else "",
        record.text("PatientID", ""),
    )


def _stored(record: Record, grid: Grid) -> axial.Stored:
    bits = record.integer("BitsAllocated")
    if (
        bits not in {16, 32}
        or record.integer("PixelRepresentation", 0) != 0
        or record.integer("SamplesPerPixel", 1) != 1
    ):
        raise record.unsupported("BitsAllocated", "only unsigned values of 16 or 32 bits are supported")
    return axial.stored(record, grid.voxels, bits=bits, signed=False).reshape(grid.shape)


def _read_grid(record: Record, towards: axial.Directions) -> tuple[Grid, Literal[1, -1]]:
    """The grid, and -1 where the frames run towards the feet."""
    rows, columns = record.integer("Rows", low=1, high=8192), record.integer("Columns", low=1, high=8192)
    frames = record.integer("NumberOfFrames", 1, low=1, high=8192)
    dy, dx = record.numbers("PixelSpacing", 2)
    if min(dx, dy) <= 0:
        raise record.fault("PixelSpacing", "a spacing must be above 0")
    x, y, z = record.numbers("ImagePositionPatient", 3)
    offsets = np.array(record.numbers("GridFrameOffsetVector", frames)) if frames > 1 else np.zeros(1)
    step = _frame_step(record, offsets)
    if offsets[0] == 0:
        # The offsets count from the first frame, along the normal of rows and columns.
        step *= towards[0] * towards[1]
    elif abs(float(offsets[0]) - z) > _GEOMETRY_TOLERANCE_MM:
        raise record.fault(
            "GridFrameOffsetVector", "it begins neither with 0 nor with the z of ImagePositionPatient"
        )
    order: Literal[1, -1] = 1 if step > 0 else -1
    origin = (
        axial.lowest_mm(x, dx, columns, towards[0]),
        axial.lowest_mm(y, dy, rows, towards[1]),
        axial.lowest_mm(z, abs(step), frames, order),
    )
    return Grid((frames, rows, columns), origin, (dx, dy, abs(step))), order


def _frame_step(record: Record, offsets: Floats) -> float:
    if len(offsets) == 1:
        thickness = record.number("SliceThickness", 1.0)
        return thickness if thickness > 0 else 1.0
    steps = np.diff(offsets)
    step = float(steps.mean())
    if step == 0 or np.abs(steps - step).max() > _GEOMETRY_TOLERANCE_MM:
        raise record.unsupported("GridFrameOffsetVector", "only frames at equal distances are supported")
    return step


def as_plan_volume(values: npt.NDArray[np.floating], grid: Grid, plan: Plan, ct: Volume) -> Volume:
    """`values` as the dose volume of `plan`, without the way through a file."""
    return Volume(grid, values.astype(np.float32), ct.frame_uid, plan.study_uid, plan.uid, plan.patient_id)
