"""Protons in liquid water: range, depth dose and scattering of one energy.

Sources. CSDA ranges: NIST PSTAR (Standard Reference Database 124, after ICRU Report 49), liquid water.
Range straggling, fluence loss by nuclear interactions and the locally absorbed share of their energy:
T. Bortfeld, An analytical approximation of the Bragg curve for therapeutic proton beams, Med. Phys. 24
(1997) 2024. Scattering: V. L. Highland's formula, integrated over depth as by B. Gottschalk et al., Nucl.
Instr. Meth. B 74 (1993) 467. The depth dose is not Bortfeld's closed form: energy loss comes from the PSTAR
ranges bin by bin, so that energy is conserved exactly, and is then convolved with the straggling.

Left out: the halo of secondary particles, and the build-up of the first centimetres. Not for clinical use.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fairlead.cases.model import Floats

# Energy in MeV, CSDA range in g/cm².
_PSTAR = np.array(
    [
        (1.0, 2.458e-3), (1.5, 4.698e-3), (2.0, 7.555e-3), (3.0, 1.499e-2), (4.0, 2.458e-2),
        (5.0, 3.623e-2), (6.0, 4.984e-2), (7.0, 6.537e-2), (8.0, 8.277e-2), (9.0, 0.1020),
        (10.0, 0.1230), (12.5, 0.1832), (15.0, 0.2539), (17.5, 0.3350), (20.0, 0.4260), (25.0, 0.6370),
        (30.0, 0.8853), (35.0, 1.170), (40.0, 1.489), (45.0, 1.841), (50.0, 2.227), (55.0, 2.644),
        (60.0, 3.093), (65.0, 3.572), (70.0, 4.080), (75.0, 4.618), (80.0, 5.184), (85.0, 5.777),
        (90.0, 6.398), (95.0, 7.045), (100.0, 7.718), (125.0, 11.46), (150.0, 15.77), (175.0, 20.62),
        (200.0, 25.96), (225.0, 31.74), (250.0, 37.94), (275.0, 44.52), (300.0, 51.45),
    ]
)  # fmt: skip
ENERGY_LIMITS_MEV = (1.0, 300.0)

MEV_TO_J = 1.602176634e-13
WATER_KG_PER_MM3 = 1e-6
_PROTON_MEV = 938.27209
_RADIATION_LENGTH_MM = 360.8
_NUCLEAR_LOSS_PER_MM = 0.0012  # Bortfeld's beta, 0.012 per cm
_NUCLEAR_LOCAL_SHARE = 0.6  # Bortfeld's gamma
_STEP_MM = 0.1


@dataclass(frozen=True, slots=True)
class PencilBeam:
    """One proton energy in water; arrays over `depth_mm`, which rises in equal steps from 0."""

    energy_mev: float
    range_mm: float  # CSDA
    depth_mm: Floats
    dose_gy_mm2: Floats  # dose per proton, integrated over the plane at that depth
    scatter_mm: Floats  # one sigma of the lateral displacement by multiple scattering

    @property
    def end_mm(self) -> float:
        """Depth beyond which there is no dose."""
        return float(self.depth_mm[-1])


def _dense_table() -> tuple[Floats, Floats]:
    """Energies and ranges (mm) by cubic Hermite interpolation of PSTAR in log-log scale."""
    x, y = np.log(_PSTAR[:, 0]), np.log(_PSTAR[:, 1] * 10.0)
    slope = np.gradient(y, x)
    at = np.linspace(x[0], x[-1], 4000)
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    h = x[i + 1] - x[i]
    t = (at - x[i]) / h
    value = (
        (1 + 2 * t) * (1 - t) ** 2 * y[i]
        + t * (1 - t) ** 2 * h * slope[i]
        + t**2 * (3 - 2 * t) * y[i + 1]
        + t**2 * (t - 1) * h * slope[i + 1]
    )
    return np.concatenate([[0.0], np.exp(at)]), np.concatenate([[0.0], np.exp(value)])


_ENERGIES, _RANGES = _dense_table()


def range_mm(energy_mev: float) -> float:
    """CSDA range in water of a proton of 1 … 300 MeV."""
    return float(np.interp(energy_mev, _ENERGIES, _RANGES))


def energy_mev(residual_mm: Floats) -> Floats:
    """Energy of a proton with this much range left; 0 where there is none."""
    return np.interp(residual_mm, _RANGES, _ENERGIES)


def straggling_mm(energy: float, spread_percent: float) -> float:
    """One sigma of the range: straggling in water, and the beam's own energy spread."""
    reach = range_mm(energy)
    in_water = 10.0 * 0.012 * (reach / 10.0) ** 0.935
    per_mev = (range_mm(energy * 1.005) - range_mm(energy * 0.995)) / (0.01 * energy)
    return float(np.hypot(in_water, per_mev * energy * spread_percent / 100.0))


@lru_cache(maxsize=256)
def pencil_beam(energy: float, spread_percent: float) -> PencilBeam:
    """The pencil beam of protons of `energy` MeV with a spread of `spread_percent` (one sigma)."""
    reach, sigma = range_mm(energy), straggling_mm(energy, spread_percent)
    margin = 5.0 * sigma + 2 * _STEP_MM
    before = int(np.ceil(margin / _STEP_MM))  # bins in front of the surface, for the convolution
    bins = before + int(np.ceil((reach + margin) / _STEP_MM))
    edges = (np.arange(bins + 1) - before) * _STEP_MM
    left = np.clip(reach - edges, 0.0, None)
    energies = energy_mev(left)
    fluence = (1.0 + _NUCLEAR_LOSS_PER_MM * left) / (1.0 + _NUCLEAR_LOSS_PER_MM * reach)
    middle = 0.5 * (energies[1:] + energies[:-1])
    stopping = 0.5 * (fluence[1:] + fluence[:-1]) * -np.diff(energies)
    nuclear = _NUCLEAR_LOCAL_SHARE * -np.diff(fluence) * middle
    deposited = np.convolve(stopping + nuclear, _gaussian(sigma), mode="same") / _STEP_MM  # MeV/mm
    depth = (edges[before:-1]) + 0.5 * _STEP_MM
    dose = deposited[before:] * MEV_TO_J / WATER_KG_PER_MM3
    # The first sample stands for the surface: depths then start at exactly 0.
    depth, dose = np.concatenate([[0.0], depth]), np.concatenate([dose[:1], dose])
    even = np.arange(0.0, depth[-1], _STEP_MM)
    return PencilBeam(energy, reach, even, np.interp(even, depth, dose), _scatter(even, reach))


def _gaussian(sigma_mm: float) -> Floats:
    half = int(np.ceil(5.0 * sigma_mm / _STEP_MM))
    offsets = np.arange(-half, half + 1) * _STEP_MM
    kernel = np.exp(-0.5 * (offsets / sigma_mm) ** 2)
    return np.asarray(kernel / kernel.sum(), dtype=np.float64)


def _scatter(depth: Floats, reach: float) -> Floats:
    """Lateral sigma (mm) by multiple scattering; beyond 99 % of the range it stays as it is there."""
    energies = np.clip(energy_mev(reach - depth), 1e-3, None)
    momentum_speed = energies * (energies + 2 * _PROTON_MEV) / (energies + _PROTON_MEV)
    power = np.where(depth < 0.99 * reach, momentum_speed**-2.0, 0.0) * _STEP_MM
    moments = [np.cumsum(power * depth**order) for order in range(3)]
    integral = np.clip(depth**2 * moments[0] - 2 * depth * moments[1] + moments[2], 0.0, None)
    thickness = np.clip(depth / _RADIATION_LENGTH_MM, 1e-6, None)
    highland = 14.1 * np.clip(1.0 + np.log10(thickness) / 9.0, 0.0, None)
    sigma = highland * np.sqrt(integral / _RADIATION_LENGTH_MM)
    last = int(np.searchsorted(depth, 0.99 * reach)) - 1
    sigma[last + 1 :] = sigma[last]
    return np.asarray(sigma, dtype=np.float64)
