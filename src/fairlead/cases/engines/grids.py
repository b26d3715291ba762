"""From the grid on which a program scores to the grid that was asked for."""

import numpy as np
import numpy.typing as npt

from fairlead.cases.model import Floats, Grid


def averaged(values: npt.NDArray[np.floating], source: Grid, target: Grid) -> Floats:
    """Mean of `values` (source.shape) over each voxel of `target`, weighted by the shared volume.

    What of a target voxel lies outside of the source counts as 0.
    """
    if source == target:
        return np.asarray(values, dtype=np.float64)
    result = np.asarray(values, dtype=np.float64)
    for dimension in range(3):
        shares = _shares(source, target, 2 - dimension)
        result = np.moveaxis(np.tensordot(shares, result, axes=(1, dimension)), 0, dimension)
    return np.ascontiguousarray(result)


def _shares(source: Grid, target: Grid, axis: int) -> Floats:
    """Share of each target voxel's length (rows) in each source voxel (columns), along x, y or z."""
    ends = []
    for grid in (target, source):
        low = grid.axis_mm(axis) - grid.spacing_mm[axis] / 2
        ends.append((low, low + grid.spacing_mm[axis]))
    (wanted_low, wanted_high), (low, high) = ends
    shared = np.minimum(wanted_high[:, None], high) - np.maximum(wanted_low[:, None], low)
    return np.asarray(np.clip(shared, 0.0, None) / target.spacing_mm[axis], dtype=np.float64)
