"""What axial pictures in DICOM files share: where their rows and columns run, and the numbers they store.

Scans of a prone patient, or feet first, are written with rows or columns that run the other way. Here every
axis runs in the positive direction of the patient's coordinates, whatever the file does.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.cases import dicom
from fairlead.cases.dicom import Record

# Of a direction cosine: 0.03 mm at the edge of a scan.
_DIRECTION_TOLERANCE = 1e-4

Directions = tuple[int, int]  # of rows along x, of columns along y: 1 or -1
UPRIGHT: Directions = (1, 1)
Stored = npt.NDArray[np.signedinteger] | npt.NDArray[np.unsignedinteger]


def directions(record: Record) -> Directions:
    """Where rows and columns run. Raises CaseUnsupported unless it is along the patient's x and y."""
    found = np.array(record.numbers("ImageOrientationPatient", 6))
    for x in (1, -1):
        for y in (1, -1):
            if np.abs(found - (x, 0, 0, 0, y, 0)).max() <= _DIRECTION_TOLERANCE:
                return x, y
    raise record.unsupported(
        "ImageOrientationPatient", "only axial planes along the patient's axes are supported"
    )


def upright(values: npt.NDArray[Any], towards: Directions) -> npt.NDArray[Any]:
    """`values` (…, rows, columns) with both axes in the positive direction."""
    return values[..., :: towards[1], :: towards[0]]


def lowest_mm(first_mm: float, spacing_mm: float, count: int, towards: int) -> float:
    """The smallest coordinate of `count` voxels that begin at `first_mm`."""
    return first_mm if towards == 1 else first_mm - spacing_mm * (count - 1)


def stored(record: Record, count: int, *, bits: int, signed: bool) -> Stored:
    """The `count` numbers of `bits` bits in the pixel data. Raises CaseFault."""
    used = record.integer("BitsStored", bits, low=1, high=bits)
    if record.integer("HighBit", used - 1) != used - 1:
        raise record.unsupported("HighBit", "only values in the lowest bits are supported")
    data = dicom.pixels(record, count=count * bits // 8)
    values: npt.NDArray[Any] = np.frombuffer(data, dtype=f"<{'i' if signed else 'u'}{bits // 8}")
    if used == bits:
        return values
    # Writers extend the sign into the bits above, or leave them 0; anything else is no value of this size.
    above = values >> used
    extended = (values << (bits - used)) >> (bits - used)
    if ((above != 0) & (values != extended)).any():
        raise record.fault("BitsStored", f"there are values of more than {used} bits")
    return extended
