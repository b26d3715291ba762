"""The gamma index of two doses: how far apart they are, in units of the criteria.

gamma²(point) = min over r of |r|² / distance² + (evaluated(point + r) - reference(point))² / dose².

Displacements lie on a lattice of a tenth of the distance criterion and are tried from the nearest outwards;
the evaluated dose between its voxels is interpolated trilinearly. A point is finished as soon as no farther
displacement can do better: the best found so far is not above the distance term plus the smallest dose
difference that occurs at all within the displacements still to come. Nor is anything looked for that could
only lie above the largest gamma that is told apart. Work is done for all unfinished points at once.

Following D. A. Low et al., Med. Phys. 25 (1998) 656; early ending by sorted distance after M. Wendling et
al., Med. Phys. 34 (2007) 1647.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fairlead.cases.model import Dose, Floats, Grid, Volume
from fairlead.kernel.errors import InvalidInput

Normalisation = Literal["global", "local"]
STEPS_PER_DISTANCE = 10
_CHUNK_POINTS = 200_000
_BLOCK = 4_000  # points times displacements at once
_NOWHERE = 1e15  # Gy
_SNAP = 1e-9  # voxels


class GammaInput(InvalidInput):
    """The two doses, or the criteria, do not allow a gamma comparison."""

    code, status, retryable = "cases.gamma_input", 422, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What counts as equal."""

    dose_percent: float = 3.0
    distance_mm: float = 3.0
    cutoff_percent: float = 10.0  # points below this share of the largest reference dose are left out
    normalisation: Normalisation = "global"  # percent of the largest reference dose, or of each point's own
    max_gamma: float = 2.0  # larger values are given as this

    def __post_init__(self) -> None:
        """Raises GammaInput for criteria that mean nothing."""
        bounds = (("dose_percent", 0, 100), ("distance_mm", 0, 50), ("max_gamma", 0, 10))
        for name, low, high in bounds:
            if not low < getattr(self, name) <= high:
                raise GammaInput(
                    f"{name} must be above {low} and up to {high}.", remedy="Correct the criteria."
                )
        if not 0 <= self.cutoff_percent < 100:
            raise GammaInput("cutoff_percent must be from 0 to below 100.", remedy="Correct the criteria.")
        if self.max_gamma < 1:
            raise GammaInput("max_gamma must be 1 or more.", remedy="Correct the criteria.")


def criteria(
    *,
    dose_percent: float,
    distance_mm: float,
    cutoff_percent: float,
    normalisation: str,
    max_gamma: float = 2.0,
) -> Criteria:
    """Criteria from text and numbers of a user. Raises GammaInput."""
    kinds: dict[str, Normalisation] = {"global": "global", "local": "local"}
    if normalisation not in kinds:
        raise GammaInput(f"There is no normalisation {normalisation!r}.", remedy="Use global or local.")
    return Criteria(
        dose_percent=dose_percent,
        distance_mm=distance_mm,
        cutoff_percent=cutoff_percent,
        normalisation=kinds[normalisation],
        max_gamma=max_gamma,
    )


@dataclass(frozen=True, slots=True)
class Gamma:
    """The outcome; `values` is NaN where a point was left out."""

    criteria: Criteria
    values: npt.NDArray[np.float32]  # shape of the reference
    points: int
    passed: int

    @property
    def pass_rate(self) -> float:
        """Share of the points with gamma up to 1, in percent."""
        return 100.0 * self.passed / self.points

    @property
    def largest(self) -> float:
        """The largest gamma found (capped at max_gamma)."""
        return float(np.nanmax(self.values))

    @property
    def mean(self) -> float:
        """The mean gamma of the points."""
        return float(np.nanmean(self.values))


def compare(reference: Volume, evaluated: Volume, criteria: Criteria | None = None) -> Gamma:
    """Gamma of every reference voxel above the cut-off. Raises GammaInput."""
    criteria = criteria or Criteria()
    if reference.frame_uid and evaluated.frame_uid and reference.frame_uid != evaluated.frame_uid:
        raise GammaInput(
            "The two doses have different frames of reference.", remedy="Compare doses of one patient and CT."
        )
    peak = float(reference.values.max())
    if not peak > 0:
        raise GammaInput("The reference dose is zero everywhere.", remedy="Check how it was calculated.")
    chosen = np.flatnonzero(
        reference.values.reshape(-1) >= max(criteria.cutoff_percent / 100.0 * peak, 1e-30)
    )
    wanted = reference.values.reshape(-1)[chosen].astype(np.float64)
    allowed = (
        criteria.dose_percent
        / 100.0
        * (np.full_like(wanted, peak) if criteria.normalisation == "global" else wanted)
    )
    search = _Search(reference.grid, evaluated, criteria)
    squared = np.empty(len(chosen))
    for first in range(0, len(chosen), _CHUNK_POINTS):
        part = slice(first, first + _CHUNK_POINTS)
        squared[part] = search.run(chosen[part], wanted[part], allowed[part])
    values = np.full(reference.values.size, np.nan, dtype=np.float32)
    values[chosen] = np.sqrt(np.minimum(squared, criteria.max_gamma**2))
    # Counted before the cap: with a search up to 1 a failing point is given as 1 as well. A hair above 1 by
    # rounding is still 1.
    passed = int((squared <= 1.0 + 1e-9).sum())
    return Gamma(criteria, values.reshape(reference.values.shape), len(chosen), passed)


class _Search:
    """The evaluated dose, padded, and the displacements to try."""

    def __init__(self, grid: Grid, evaluated: Volume, criteria: Criteria) -> None:
        # What is larger is given as max_gamma, whatever it is; a hair more, so that rounding decides nothing.
        self._most = criteria.max_gamma**2 + 1e-6
        self._reach_mm = criteria.max_gamma * criteria.distance_mm
        spacing = np.array(evaluated.grid.spacing_mm)[::-1]
        # Twice the reach: a point that lies one reach outside may be displaced by another one.
        self._pad = 2 * (np.ceil(self._reach_mm / spacing).astype(int) + 2)
        padding = [(n, n) for n in self._pad]
        known = np.pad(evaluated.values.astype(np.float32), padding, constant_values=np.nan)
        self._shape = np.array(known.shape)
        # Outside there is no dose. A huge one instead of NaN: a neighbour of weight 0 then counts as nothing.
        self._flat = np.where(np.isnan(known), np.float32(_NOWHERE), known).reshape(-1)
        self._grid, self._base, self._scale = grid, *_index_map(grid, evaluated.grid)
        self._offsets, self._terms_of = _displacements(criteria, spacing)
        self._stages = [share * self._reach_mm for share in (0.25, 0.5, 0.75, 1.0)]
        self._terms = [(stage / criteria.distance_mm) ** 2 for stage in self._stages]
        # A displaced point lies between nodes: one more on either side.
        self._extremes = [
            _extremes(known, np.ceil(stage / spacing).astype(int) + 1) for stage in self._stages
        ]

    def run(self, points: npt.NDArray[np.intp], wanted: Floats, allowed: Floats) -> Floats:
        """Squared gamma of the reference voxels `points` (flat indices)."""
        nodes, parts = self._locate(points)
        nearest = nodes[0] * self._shape[1] * self._shape[2] + nodes[1] * self._shape[2] + nodes[2]
        half = (self._pad // 2)[:, None]
        inside = ((nodes >= half) & (nodes < self._shape[:, None] - half)).all(axis=0)
        result = np.full(len(points), np.inf)
        index = np.flatnonzero(inside)
        parts = _only(parts, index)
        near, want, allow = nearest[index], wanted[index], allowed[index]
        best = np.full(len(index), np.inf)
        bounds = self._bounds(near, want, allow)
        first, stage = 0, 0
        while first < len(self._terms_of) and near.size:
            # Few points: many displacements at once, so that the interpreter is not what takes the time.
            last = min(first + max(1, min(first // 2, _BLOCK // near.size)), len(self._terms_of))
            dose = self._sample(near, parts, self._offsets[first:last])
            squared = ((dose - want[:, None]) / allow[:, None]) ** 2 + self._terms_of[first:last]
            best = np.minimum(best, squared.min(axis=1))
            first = last
            if first == len(self._terms_of):
                break
            while stage < len(self._terms) - 1 and self._terms_of[first] > self._terms[stage]:
                stage += 1
            floor, later = bounds[stage]
            still = np.minimum(self._terms_of[first] + floor, later)
            open_ = (best > still) & (still <= self._most)
            if not open_.all():
                result[index] = best
                index, parts = index[open_], _only(parts, open_)
                near, want, allow, best = near[open_], want[open_], allow[open_], best[open_]
                bounds = [(floor[open_], later[open_]) for floor, later in bounds]
        result[index] = best
        return result

    def _bounds(
        self, nearest: npt.NDArray[np.intp], wanted: Floats, allowed: Floats
    ) -> list[tuple[Floats, Floats]]:
        """Per stage: the least dose term within it, and the least squared gamma in all later ones."""
        floors = []
        for low, high in self._extremes:
            most = high[nearest].astype(np.float64)
            beyond = np.fmax(np.fmax(wanted - most, low[nearest] - wanted), 0.0)
            # Where there is no dose at all, no displacement of this stage helps.
            floors.append(np.where(np.isnan(most), np.inf, (beyond / allowed) ** 2))
        later = np.full(len(nearest), np.inf)
        result = []
        for stage in range(len(floors) - 1, -1, -1):
            result.append((floors[stage], later))
            if stage:
                later = np.minimum(later, self._terms[stage - 1] + floors[stage])
        return result[::-1]

    def _locate(self, points: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], list[Floats]]:
        """Node below each point (3, n) in the padded dose, and what is left, per axis.

        Where both grids have the same spacing the rest is one number per axis: its weights are shared.
        """
        indices = np.unravel_index(points, self._grid.shape)
        nodes, parts = np.empty((3, len(points)), dtype=np.intp), []
        for axis in range(3):
            steps = self._scale[axis]
            if abs(steps - 1.0) < 1e-9:
                whole = int(np.floor(self._base[axis] + _SNAP))
                parts.append(np.array(max(0.0, float(self._base[axis] - whole))))
                nodes[axis] = indices[axis] + (whole + self._pad[axis])
            else:
                place = self._base[axis] + indices[axis] * steps
                floor = np.floor(place + _SNAP)
                parts.append(np.maximum(place - floor, 0.0))
                nodes[axis] = floor.astype(np.intp) + self._pad[axis]
        return nodes, parts

    def _sample(self, near: npt.NDArray[np.intp], parts: list[Floats], offsets: Floats) -> Floats:
        """The evaluated dose (points, displacements) at the points displaced by `offsets` (n, 3) voxels."""
        strides = (int(self._shape[1] * self._shape[2]), int(self._shape[2]), 1)
        start = near[:, None]
        weights: list[tuple[Floats, Floats]] = []
        for axis in range(3):
            place = parts[axis][..., None] + offsets[:, axis]
            whole = np.floor(place + _SNAP)
            share = place - whole
            share[np.abs(share) < 2 * _SNAP] = 0.0
            start = start + (whole * strides[axis]).astype(np.intp)
            weights.append((1.0 - share, share))
        total = np.zeros((len(near), len(offsets)))
        for corner in range(8):
            bits = (corner >> 2 & 1, corner >> 1 & 1, corner & 1)
            weight = weights[0][bits[0]] * weights[1][bits[1]] * weights[2][bits[2]]
            if weight.any():
                step = sum(stride for stride, bit in zip(strides, bits, strict=True) if bit)
                total += weight * self._flat.take(start + step)
        return total


def _only(parts: list[Floats], which: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> list[Floats]:
    """The parts of some points; what all points share stays as it is."""
    return [part if part.ndim == 0 else part[which] for part in parts]


def _index_map(reference: Grid, evaluated: Grid) -> tuple[Floats, Floats]:
    """Evaluated index = base + scale · reference index, along z, y, x."""
    spacing = np.array(evaluated.spacing_mm)
    base = (np.array(reference.origin_mm) - np.array(evaluated.origin_mm)) / spacing
    scale = np.array(reference.spacing_mm) / spacing
    return base[::-1].copy(), scale[::-1].copy()


def _displacements(criteria: Criteria, spacing: Floats) -> tuple[Floats, Floats]:
    """Displacements in voxels (n, 3), nearest first, and their squared distance terms (n,)."""
    count = int(np.ceil(criteria.max_gamma * STEPS_PER_DISTANCE))
    line = np.arange(-count, count + 1)
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    lattice = np.stack([z.ravel(), y.ravel(), x.ravel()], axis=1)
    squares = (lattice**2).sum(axis=1)
    order = np.argsort(squares, kind="stable")
    order = order[squares[order] <= (criteria.max_gamma * STEPS_PER_DISTANCE) ** 2]
    offsets = lattice[order] * (criteria.distance_mm / STEPS_PER_DISTANCE) / spacing
    return offsets, squares[order] / STEPS_PER_DISTANCE**2


def _extremes(dose: npt.NDArray[np.float32], reach: npt.NDArray[np.int_]) -> tuple[Dose, Dose]:
    """Smallest and largest dose within `reach` voxels of every node, flattened; NaN where there is none."""
    low, high = dose, dose
    for axis in range(3):
        low = _along(low, int(reach[axis]), axis, np.fmin)
        high = _along(high, int(reach[axis]), axis, np.fmax)
    return low.reshape(-1), high.reshape(-1)


def _along(values: npt.NDArray[np.float32], reach: int, axis: int, pick: np.ufunc) -> npt.NDArray[np.float32]:
    """`pick` over a window of ±`reach` along one axis, by doubling."""
    size = values.shape[axis]
    result, width = values, 1  # result[i] covers values[i : i + width]
    target = 2 * reach + 1
    while width < target:
        shift = min(width, target - width)
        moved = np.full_like(result, np.nan)
        moved[_cut(axis, 0, size - shift)] = result[_cut(axis, shift, size)]
        result, width = pick(result, moved), width + shift
    centred = np.full_like(result, np.nan)
    centred[_cut(axis, reach, size)] = result[_cut(axis, 0, size - reach)]
    # The first nodes have no full window in front of them: take what lies behind as well.
    for index in range(min(reach, size)):
        centred[_cut(axis, index, index + 1)] = pick.reduce(
            values[_cut(axis, 0, index + reach + 1)], axis=axis, keepdims=True
        )
    return centred


def _cut(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return tuple(slice(start, stop) if number == axis else slice(None) for number in range(3))
