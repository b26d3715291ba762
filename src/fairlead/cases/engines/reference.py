"""The `reference` engine: analytic proton pencil beams in water-equivalent geometry.

Dose of a spot at a voxel = protons · depth dose(radiological depth) · Gaussian across the beam. The
radiological depth is traced along the ray through the voxel; the Gaussian's variance is that of the spot in
air plus that of multiple scattering in as much water; divergence follows the two virtual sources. Physics
and sources: fairlead.cases.water.

Limits: water-equivalent density only (heterogeneities shift ranges, they do not scatter differently), no
nuclear halo, no beam modifiers. For research and for checking deliveries against plans, not for clinical use.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from fairlead.cases import water
from fairlead.cases.engines.port import (
    FREE,
    Control,
    DoseRequest,
    DoseResult,
    EngineOptionsInvalid,
    accepted,
    delivers,
    require_plain,
)
from fairlead.cases.geometry import BeamsEye, to_gantry
from fairlead.cases.machine import Room
from fairlead.cases.model import Beam, Dose, Floats, Grid, PlanLayer
from fairlead.kernel.errors import FairleadError

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
MAX_VOXELS = 40_000_000
_CHUNK_VOXELS = 400_000
_ONE_THREAD = 250_000  # multiplications that OpenBLAS does not divide among threads
_SCATTER_LEVELS = 10  # fluence maps per layer, between no scattering and the most
_SURFACE_MM = 0.2  # of water: less has not reached the body yet
_SIGMAS = 4.0  # a Gaussian is cut off here


class GridTooLarge(FairleadError):
    """The dose grid has more voxels than this engine takes."""

    code, status, retryable = "cases.grid_too_large", 422, False


@dataclass(frozen=True, slots=True)
class Reference:
    """The engine as the port wants it; it holds nothing."""

    name: str = "reference"
    label: str = (
        "Analytic proton pencil beam in water-equivalent geometry (NIST PSTAR ranges). Not for clinical use."
    )
    deterministic: bool = True
    reads_dicom: bool = False

    def configured(self, options: Mapping[str, Any]) -> Self:
        """Itself. Raises EngineOptionsInvalid: it has no options."""
        if options:
            raise EngineOptionsInvalid(
                f"The reference engine has no option {min(options)!r}.", remedy="Leave it out."
            )
        return self

    def dose(self, request: DoseRequest, control: Control = FREE) -> DoseResult:
        """Physical dose of one fraction. Raises CaseUnsupported, GridTooLarge and what the port names."""
        if request.grid.voxels > MAX_VOXELS:
            raise GridTooLarge(
                f"The dose grid has {request.grid.voxels} voxels; {MAX_VOXELS} are allowed.",
                remedy="Ask for a coarser grid with --spacing-mm.",
            )
        for beam in request.plan.beams:
            require_plain(beam, request.plan.patient_position, self.name, water.ENERGY_LIMITS_MEV)
        control.check()
        rsp = request.scanner.rsp(request.ct.values).astype(np.float32)
        beams = request.plan.beams
        doses = {
            beam.number: _beam_dose(beam, rsp, request, control.part(index, len(beams)))
            for index, beam in enumerate(beams)
        }
        control.progress(1.0)
        return accepted(DoseResult(request.grid, doses), request)


REFERENCE = Reference()


@dataclass(frozen=True, slots=True)
class _Pencil:
    """One layer, ready to be looked up."""

    water: water.PencilBeam
    protons: Floats  # (spots,)
    positions: Floats  # (spots, 2)
    sigma: tuple[float, float]  # in air


@dataclass(frozen=True, slots=True)
class _Ahead:
    """The voxels that a beam can reach; arrays of equal length."""

    index: np.ndarray[tuple[int], np.dtype[np.intp]]  # into the flattened dose
    uv: Floats  # (2, n)
    depth: Floats  # radiological, mm
    magnification: Floats  # (2, n)


def _pencil(layer: PlanLayer, beam: Beam, room: Room) -> _Pencil:
    fwhm = layer.fwhm_mm or (room.beam.fwhm(layer.energy_mev),) * 2
    protons = layer.meterset if beam.unit == "NP" else layer.meterset * room.beam.protons(layer.energy_mev)
    return _Pencil(
        water.pencil_beam(layer.energy_mev, room.beam.energy_spread_percent),
        protons,
        layer.positions_mm,
        (fwhm[0] / FWHM_PER_SIGMA, fwhm[1] / FWHM_PER_SIGMA),
    )


def _field(pencils: list[_Pencil]) -> Floats:
    """((u low, u high), (v low, v high)) that holds every spot to its last sigma."""
    edges = []
    for axis in (0, 1):
        reach = [_SIGMAS * float(np.hypot(p.sigma[axis], p.water.scatter_mm.max())) for p in pencils]
        low = min(float(p.positions[:, axis].min()) - r for p, r in zip(pencils, reach, strict=True))
        high = max(float(p.positions[:, axis].max()) + r for p, r in zip(pencils, reach, strict=True))
        edges.append((low, high))
    return np.array(edges)


def _beam_dose(beam: Beam, rsp: Dose, request: DoseRequest, control: Control) -> Dose:
    if not delivers(beam):
        return np.zeros(request.grid.shape, dtype=np.float32)
    matrix = to_gantry(beam, request.plan.patient_position)
    pencils = [_pencil(layer, beam, request.room) for layer in beam.layers]
    eye = BeamsEye(rsp, request.ct.grid, beam, matrix, _field(pencils))
    deepest = max(pencil.water.end_mm for pencil in pencils)
    dose = np.zeros(request.grid.voxels, dtype=np.float64)
    slices = max(1, _CHUNK_VOXELS // (request.grid.shape[1] * request.grid.shape[2]))
    parts = [
        _voxels_ahead(eye, request.grid, first, min(first + slices, request.grid.shape[0]), deepest)
        for first in range(0, request.grid.shape[0], slices)
    ]
    parts = [part for part in parts if part.index.size]
    for done, pencil in enumerate(pencils):
        control.check()
        control.progress(done / len(pencils))
        _add_layer(dose, pencil, parts)
    return dose.reshape(request.grid.shape).astype(np.float32)


def _voxels_ahead(eye: BeamsEye, grid: Grid, first: int, last: int, deepest: float) -> _Ahead:
    """Voxels of the slices `first` … `last` - 1 that lie in the field and within reach."""
    x, y, z = grid.axis_mm(0), grid.axis_mm(1), grid.axis_mm(2)[first:last]
    mesh = np.meshgrid(z, y, x, indexing="ij")
    projected, scale = eye.project(np.stack([mesh[2].ravel(), mesh[1].ravel(), mesh[0].ravel()]))
    depth = eye.depth_at(projected)
    # In front of the body there is only air: its dose is of no use, and would count in comparisons.
    hit = (depth <= deepest) & (depth > _SURFACE_MM)
    index = np.flatnonzero(hit) + first * grid.shape[1] * grid.shape[2]
    return _Ahead(index, projected[:2, hit], depth[hit], scale[:, hit])


def _add_layer(dose: Floats, pencil: _Pencil, parts: list[_Ahead]) -> None:
    """Add one layer's dose to the flattened `dose`."""
    if not parts:
        return
    # Where the virtual source is near, scattering looks larger at the isocentre plane.
    most = float(pencil.water.scatter_mm.max()) / max(
        0.2, min(float(part.magnification.min()) for part in parts)
    )
    maps = _fluence_maps(pencil, most)
    step = float(pencil.water.depth_mm[1])
    for part in parts:
        near = part.depth <= pencil.water.end_mm
        place = part.depth[near] / step
        low = np.minimum(place.astype(np.intp), len(pencil.water.depth_mm) - 2)
        share = place - low
        profile = pencil.water.dose_gy_mm2[low] * (1 - share) + pencil.water.dose_gy_mm2[low + 1] * share
        scatter = pencil.water.scatter_mm[low] * (1 - share) + pencil.water.scatter_mm[low + 1] * share
        magnification = part.magnification[:, near]
        area = magnification[0] * magnification[1]
        dose[part.index[near]] += profile / area * maps.at(part.uv[:, near], scatter / np.sqrt(area))


@dataclass(frozen=True, slots=True)
class _FluenceMaps:
    """Protons per mm² at the isocentre plane, for rising amounts of scattering."""

    values: Floats  # (levels, u, v)
    low: tuple[float, float]
    step: float
    level_mm: float  # scattering sigma from one level to the next

    def at(self, uv: Floats, scatter: Floats) -> Floats:
        """Fluence (n,) at (u, v) (2, n), linear between the maps; 0 outside."""
        levels, rows, columns = self.values.shape
        level = np.clip(scatter / self.level_mm, 0, levels - 1)
        place = [(uv[axis] - self.low[axis]) / self.step for axis in (0, 1)]
        inside = (place[0] >= 0) & (place[1] >= 0) & (place[0] < rows - 1) & (place[1] < columns - 1)
        result = np.zeros(uv.shape[1])
        base = np.minimum(level[inside].astype(np.intp), levels - 2)
        row, column = place[0][inside].astype(np.intp), place[1][inside].astype(np.intp)
        a, b, c = level[inside] - base, place[0][inside] - row, place[1][inside] - column
        flat, start = self.values.reshape(-1), (base * rows + row) * columns + column
        planes = []
        for plane in (start, start + rows * columns):
            near = flat[plane] * (1 - c) + flat[plane + 1] * c
            far = flat[plane + columns] * (1 - c) + flat[plane + columns + 1] * c
            planes.append(near * (1 - b) + far * b)
        result[inside] = planes[0] * (1 - a) + planes[1] * a
        return result


def _fluence_maps(pencil: _Pencil, most_scatter: float) -> _FluenceMaps:
    # Bilinear interpolation of a Gaussian sampled at sigma / 6 is off by 0.4 % at most.
    step = float(np.clip(min(pencil.sigma) / 6.0, 0.3, 2.0))
    axes, low = [], []
    for axis in (0, 1):
        reach = _SIGMAS * float(np.hypot(pencil.sigma[axis], most_scatter))
        first, last = pencil.positions[:, axis].min() - reach, pencil.positions[:, axis].max() + reach
        axes.append(np.arange(int(np.ceil((last - first) / step)) + 2) * step + first)
        low.append(float(first))
    levels = np.linspace(0.0, most_scatter, _SCATTER_LEVELS)
    values = np.empty((len(levels), len(axes[0]), len(axes[1])))
    for number, scatter in enumerate(levels):
        rows, columns = (
            _gaussians(axes[axis], pencil.positions[:, axis], float(np.hypot(pencil.sigma[axis], scatter)))
            for axis in (0, 1)
        )
        # All spots at once: sum over spots of protons · row profile · column profile.
        values[number] = _product(rows * pencil.protons, columns.T)
    return _FluenceMaps(values, (low[0], low[1]), step, float(levels[1]))


def _product(left: Floats, right: Floats) -> Floats:
    """left @ right, in pieces so small that the matrix library takes one thread for each.

    Products of this size are over sooner than its threads have met: on busy cores that waiting took several
    times as long as the work.
    """
    inner = _ONE_THREAD // max(left.shape[0] * right.shape[1], 1)
    if inner < 8:
        return np.asarray(left @ right, dtype=np.float64)
    total = np.zeros((left.shape[0], right.shape[1]))
    for first in range(0, left.shape[1], inner):
        total += left[:, first : first + inner] @ right[first : first + inner]
    return total


def _gaussians(at: Floats, centres: Floats, sigma: float) -> Floats:
    """Normalised Gaussians (points, centres) per mm."""
    offset = (at[:, None] - centres[None, :]) / sigma
    return np.asarray(np.exp(-0.5 * offset**2) / (sigma * np.sqrt(2.0 * np.pi)), dtype=np.float64)


def coarser(grid: Grid, spacing_mm: float) -> Grid:
    """A grid over the same voxels' extent with about `spacing_mm` in every direction."""
    counts, origin, spacing = [], [], []
    for axis in range(3):
        extent = grid.spacing_mm[axis] * grid.shape[2 - axis]
        count = max(1, round(extent / spacing_mm))
        counts.append(count)
        spacing.append(extent / count)
        origin.append(grid.origin_mm[axis] - grid.spacing_mm[axis] / 2 + extent / count / 2)
    return replace(
        grid,
        shape=(counts[2], counts[1], counts[0]),
        origin_mm=(origin[0], origin[1], origin[2]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
    )
