"""From the patient to the beam's eye: IEC 61217 systems, interpolation on grids, radiological depth.

A gantry point is (x, y, z) in mm with the isocentre at the origin and z towards the source. Patient points
are DICOM: x to the patient's left, y to the back, z to the head.
"""

import numpy as np
import numpy.typing as npt

from fairlead.cases.model import Beam, CaseUnsupported, Floats, Grid

_ROUNDING = 1e-9  # voxels

# Rows: the axes of the IEC fixed system (x to the right seen from the foot of the table, y to the gantry,
# z up) in patient coordinates, for a table at 0°.
_TO_FIXED: dict[str, tuple[tuple[int, int, int], ...]] = {
    "HFS": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "HFP": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "FFS": ((-1, 0, 0), (0, 0, -1), (0, -1, 0)),
    "FFP": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}


def to_gantry(beam: Beam, patient_position: str, *, file: str = "plan") -> Floats:
    """Matrix (3, 3) that turns (patient point - isocentre) into a gantry point. Raises CaseUnsupported."""
    if patient_position not in _TO_FIXED:
        raise CaseUnsupported(
            f"only the patient positions {', '.join(_TO_FIXED)} are supported",
            rule="plan.geometry_unsupported",
            file=file,
            field="PatientPosition",
        )
    fixed = np.array(_TO_FIXED[patient_position], dtype=np.float64)
    couch, gantry = np.deg2rad(beam.couch_deg), np.deg2rad(beam.gantry_deg)
    turn_couch = np.array([[np.cos(couch), -np.sin(couch), 0], [np.sin(couch), np.cos(couch), 0], [0, 0, 1]])
    turn_gantry = np.array(
        [[np.cos(gantry), 0, -np.sin(gantry)], [0, 1, 0], [np.sin(gantry), 0, np.cos(gantry)]]
    )
    return np.asarray(turn_gantry @ turn_couch @ fixed, dtype=np.float64)


def interpolate(values: npt.NDArray[np.floating], index: Floats, *, outside: float) -> Floats:
    """`values` (a, b, c) at fractional indices `index` (3, n), trilinearly; `outside` beyond the array."""
    shape = np.array(values.shape)[:, None]
    inside = ((index >= 0) & (index <= shape - 1)).all(axis=0)
    result = np.full(index.shape[1], outside, dtype=np.float64)
    where = index[:, inside]
    if where.shape[1] == 0:
        return result
    low = np.clip(np.floor(where).astype(np.intp), 0, np.maximum(shape - 2, 0))
    part = where - low
    flat = np.ascontiguousarray(values).reshape(-1)
    steps = (values.shape[1] * values.shape[2], values.shape[2], 1)
    start = low[0] * steps[0] + low[1] * steps[1] + low[2]
    up = [step if count > 1 else 0 for step, count in zip(steps, values.shape, strict=True)]
    total = np.zeros(where.shape[1])
    for corner in range(8):
        bits = (corner >> 2 & 1, corner >> 1 & 1, corner & 1)
        weight = np.prod([part[axis] if bit else 1.0 - part[axis] for axis, bit in enumerate(bits)], axis=0)
        total += weight * flat[start + sum(up[axis] for axis, bit in enumerate(bits) if bit)]
    result[inside] = total
    return result


def grid_index(grid: Grid, points_mm: Floats) -> Floats:
    """Fractional indices [z, y, x] (3, n) of patient points x, y, z (3, n)."""
    origin, spacing = np.array(grid.origin_mm)[:, None], np.array(grid.spacing_mm)[:, None]
    return np.asarray(((points_mm - origin) / spacing)[::-1], dtype=np.float64)


def _to_centres(index: Floats, shape: tuple[int, ...]) -> Floats:
    """`index` (3, n) with what lies in the outer half of the outermost voxels moved to their centres.

    A patient may reach to the edge of the scan: that half is as much in the way as the other one.
    """
    last = np.array(shape)[:, None] - 1.0
    centres = np.clip(index, 0.0, last)
    return np.where(np.abs(index - centres) <= 0.5 + _ROUNDING, centres, index)


def corners_mm(grid: Grid) -> Floats:
    """The eight outer corners (3, 8) of the box that the voxels of `grid` fill."""
    ends = [
        (grid.origin_mm[axis] - grid.spacing_mm[axis] / 2, grid.upper_mm(axis) + grid.spacing_mm[axis] / 2)
        for axis in range(3)
    ]
    return np.array([[ends[0][i & 1], ends[1][i >> 1 & 1], ends[2][i >> 2 & 1]] for i in range(8)]).T


class BeamsEye:
    """Radiological depth on rays through a rectangle at the isocentre plane.

    Rays are named by (u, v): where they cross the isocentre plane. They diverge from the two virtual sources.
    """

    def __init__(
        self, rsp: npt.NDArray[np.floating], grid: Grid, beam: Beam, matrix: Floats, field: Floats
    ) -> None:
        """`rsp` (z, y, x) on `grid`; `field` ((u low, u high), (v low, v high)) in mm."""
        self.matrix, self.isocentre = matrix, np.array(beam.isocentre_mm)[:, None]
        self.sad = np.array(beam.sad_mm)
        reach = matrix @ (corners_mm(grid) - self.isocentre)
        step = min(grid.spacing_mm)
        top = min(float(reach[2].max()), 0.95 * float(self.sad.min()))
        self._low = np.array([field[0][0], field[1][0], -top])  # third axis: depth below the source side
        self._step = np.array([step, step, step / 2])
        size = [*(field[:, 1] - field[:, 0]), top - float(reach[2].min())]
        counts = [int(np.ceil(length / s)) + 2 for length, s in zip(size, self._step, strict=True)]
        self.depth = self._trace(rsp, grid, counts)

    def _trace(self, rsp: npt.NDArray[np.floating], grid: Grid, counts: list[int]) -> npt.NDArray[np.float32]:
        u, v = (self._low[axis] + self._step[axis] * np.arange(counts[axis]) for axis in (0, 1))
        slant = np.sqrt(1.0 + (u[:, None] / self.sad[0]) ** 2 + (v[None, :] / self.sad[1]) ** 2)
        depth = np.zeros((counts[2], counts[0], counts[1]), dtype=np.float32)
        total = np.zeros((counts[0], counts[1]))
        former = np.zeros_like(total)
        for level in range(counts[2]):
            z = -(self._low[2] + self._step[2] * level)
            x = np.broadcast_to((u * (1 - z / self.sad[0]))[:, None], slant.shape)
            y = np.broadcast_to((v * (1 - z / self.sad[1]))[None, :], slant.shape)
            gantry = np.stack([x.ravel(), y.ravel(), np.full(x.size, z)])
            index = grid_index(grid, self.matrix.T @ gantry + self.isocentre)
            here = interpolate(rsp, _to_centres(index, rsp.shape), outside=0.0).reshape(slant.shape)
            if level:
                total += 0.5 * (here + former) * slant * self._step[2]
            depth[level] = total
            former = here
        return depth

    def project(self, points_mm: Floats) -> tuple[Floats, Floats]:
        """Patient points (3, n) as (u, v, z) (3, n), and the magnification (2, n) at their depth."""
        gantry = self.matrix @ (points_mm - self.isocentre)
        scale = 1.0 - gantry[2] / self.sad[:, None]
        scale = np.where(np.abs(scale) < 1e-6, 1e-6, scale)
        return np.stack([gantry[0] / scale[0], gantry[1] / scale[1], gantry[2]]), scale

    def depth_at(self, projected: Floats) -> Floats:
        """Radiological depth (n,) in mm of water at (u, v, z); infinite outside of the field."""
        along = np.stack([projected[0], projected[1], -projected[2]])
        index = (along - self._low[:, None]) / self._step[:, None]
        return interpolate(self.depth, index[[2, 0, 1]], outside=np.inf)
