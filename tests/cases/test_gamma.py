"""The gamma kernel: against known answers, against a search without shortcuts, and against pymedphys."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.cases.gamma import Criteria, GammaInput, compare, criteria
from fairlead.cases.model import Dose, Grid, Volume
from fairlead.kernel import toolenv
from fairlead.kernel.errors import FairleadError
from tests.sandbox_service import toolenvs

QUICK = settings(deadline=None, max_examples=15)
SMALL = Grid((9, 10, 11), (0.0, 0.0, 0.0), (2.0, 2.0, 2.0))


def _volume(values: npt.ArrayLike, grid: Grid = SMALL) -> Volume:
    return Volume(grid, np.asarray(values, dtype=np.float32), "1.2")


def _bump(grid: Grid, *, dx: float = 0.0, scale: float = 1.0, width: float = 8.0) -> Dose:
    z, y, x = np.meshgrid(*(grid.axis_mm(axis) for axis in (2, 1, 0)), indexing="ij")
    centre = [(grid.origin_mm[axis] + grid.upper_mm(axis)) / 2 for axis in range(3)]
    squared = (x - centre[0] - dx) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    radius = np.sqrt(squared) / width
    return np.asarray(scale * 2.0 / (1.0 + np.exp(6.0 * (radius - 1.0))), dtype=np.float32)


@given(seed=st.integers(0, 2**32 - 1), cutoff=st.sampled_from([0.0, 10.0, 50.0]))
@QUICK
def test_a_dose_compared_with_itself_passes_everywhere_with_gamma_zero(seed: int, cutoff: float) -> None:
    dose = _volume(np.random.default_rng(seed).uniform(0.0, 3.0, SMALL.shape))
    result = compare(dose, dose, Criteria(cutoff_percent=cutoff))
    assert result.pass_rate == 100.0
    assert result.largest == 0.0
    assert result.points == int((dose.values >= cutoff / 100 * dose.values.max()).sum())


@given(seed=st.integers(0, 2**32 - 1))
@QUICK
def test_scaling_both_doses_changes_nothing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one = _volume(_bump(SMALL) + generator.uniform(0.0, 0.1, SMALL.shape))
    other = _volume(_bump(SMALL, dx=1.5) + generator.uniform(0.0, 0.1, SMALL.shape))
    first = compare(one, other)
    scaled = compare(replace(one, values=one.values * 4), replace(other, values=other.values * 4))
    assert np.allclose(first.values, scaled.values, atol=1e-3, equal_nan=True)


@given(seed=st.integers(0, 2**32 - 1))
@QUICK
def test_mirroring_both_doses_mirrors_gamma(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = (_volume(_bump(SMALL, dx=dx) + generator.uniform(0, 0.1, SMALL.shape)) for dx in (0.0, 2.0))
    first = compare(one, other).values
    left, right = (replace(dose, values=dose.values[:, :, ::-1].copy()) for dose in (one, other))
    mirrored = compare(left, right).values
    assert np.allclose(first, mirrored[:, :, ::-1], atol=1e-4, equal_nan=True)


@given(seed=st.integers(0, 2**32 - 1))
@QUICK
def test_looser_criteria_never_raise_gamma(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = (_volume(_bump(SMALL, dx=dx) + generator.uniform(0, 0.1, SMALL.shape)) for dx in (0.0, 2.5))
    tight, loose = (compare(one, other, Criteria(dose_percent=dose)).values for dose in (2.0, 4.0))
    assert (np.nan_to_num(loose) <= np.nan_to_num(tight) + 1e-4).all()


@pytest.mark.parametrize("max_gamma", [1.0, 1.3, 3.0])
def test_the_pass_rate_does_not_depend_on_how_far_is_searched(max_gamma: float) -> None:
    one, other = _volume(_bump(SMALL)), _volume(_bump(SMALL, dx=4.5, scale=1.02))
    usual, found = compare(one, other), compare(one, other, Criteria(max_gamma=max_gamma))
    assert 0 < usual.passed < usual.points
    assert found.passed == usual.passed


FLAT = {
    "+1.5%": (1.015, 0.5),
    "+3%": (1.03, 1.0),
    "-3%": (0.97, 1.0),
    "+4.5%": (1.045, 1.5),
    "+9%": (1.09, 2.0),
}


@pytest.mark.parametrize(("factor", "gamma"), FLAT.values(), ids=FLAT.keys())
def test_in_a_flat_dose_gamma_is_the_dose_difference_in_units_of_the_criterion(
    factor: float, gamma: float
) -> None:
    flat = np.full(SMALL.shape, 2.0)
    result = compare(_volume(flat), _volume(flat * factor))
    assert np.allclose(result.values, gamma, atol=1e-4)
    assert result.pass_rate == (100.0 if gamma <= 1.0 else 0.0)


@pytest.mark.parametrize("shift", [0.9, 1.5, 3.0, 4.2])
def test_in_a_steep_step_gamma_is_the_shift_in_units_of_the_distance(shift: float) -> None:
    grid = Grid((3, 3, 200), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
    x = grid.axis_mm(0)
    step = np.broadcast_to(1.0 / (1.0 + np.exp(-(x - 50.0) / 0.6)), grid.shape)
    moved = np.broadcast_to(1.0 / (1.0 + np.exp(-(x - 50.0 - shift) / 0.6)), grid.shape)
    result = compare(_volume(step, grid), _volume(moved, grid))
    # At half height the dose difference is too large for any shortcut through the dose axis.
    assert float(result.values[1, 1, 100]) == pytest.approx(shift / 3.0, abs=0.06)


def test_local_normalisation_judges_low_doses_by_themselves() -> None:
    reference = np.full(SMALL.shape, 0.5)
    reference[0, 0, 0] = 5.0
    evaluated = reference * 1.05
    whole = compare(_volume(reference), _volume(evaluated), Criteria(cutoff_percent=0))
    local = compare(_volume(reference), _volume(evaluated), criteria(
        dose_percent=3, distance_mm=3, cutoff_percent=0, normalisation="local"))  # fmt: skip
    assert whole.pass_rate > 99.0
    assert local.pass_rate < 2.0


def _without_shortcuts(reference: Volume, evaluated: Volume, c: Criteria) -> npt.NDArray[np.float64]:
    """Gamma by trying every displacement of the same lattice at every point, with its own interpolation."""
    spacing = np.array(evaluated.grid.spacing_mm)
    count = int(c.max_gamma * 10)
    lattice = np.stack(np.meshgrid(*[np.arange(-count, count + 1)] * 3, indexing="ij")).reshape(3, -1).T
    lattice = lattice[(lattice**2).sum(axis=1) <= count**2] * c.distance_mm / 10
    result = np.full(reference.values.shape, np.nan)
    peak = float(reference.values.max())
    dose = evaluated.values.astype(np.float64)
    shape = np.array(dose.shape)[::-1]
    for index in np.argwhere(reference.values >= c.cutoff_percent / 100 * peak):
        at = np.array([reference.grid.axis_mm(axis)[index[2 - axis]] for axis in range(3)])
        place = (at + lattice - np.array(evaluated.grid.origin_mm)) / spacing
        ok = ((place >= 0) & (place <= shape - 1)).all(axis=1)
        low = np.minimum(np.floor(place[ok]).astype(int), shape - 2)
        t = place[ok] - low
        value = np.zeros(len(low))
        for bits in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(np.array(bits), t, 1 - t), axis=1)
            x, y, z = (low + np.array(bits)).T
            value += weight * dose[z, y, x]
        squared = ((value - reference.values[tuple(index)]) / (c.dose_percent / 100 * peak)) ** 2
        squared += (lattice[ok] ** 2).sum(axis=1) / c.distance_mm**2
        result[tuple(index)] = min(np.sqrt(squared.min(initial=np.inf)), c.max_gamma)
    return result


PAIRS = {
    "same-grid": (SMALL, 2.0, 1.02),
    "fails": (SMALL, 5.0, 1.06),
    "shifted-grid": (Grid((9, 10, 11), (0.7, -0.3, 0.1), (2.0, 2.0, 2.0)), 1.0, 1.0),
    "finer-grid": (Grid((14, 15, 16), (-1.0, 0.2, 0.4), (1.4, 1.3, 1.2)), 1.5, 1.03),
    "smaller-grid": (Grid((5, 6, 6), (4.0, 4.0, 4.0), (2.0, 2.0, 2.0)), 1.0, 1.0),
}


@pytest.mark.parametrize(("grid", "dx", "scale"), PAIRS.values(), ids=PAIRS.keys())
def test_early_ending_finds_what_a_search_without_shortcuts_finds(
    grid: Grid, dx: float, scale: float
) -> None:
    reference = _volume(_bump(SMALL))
    z, y, x = np.meshgrid(*(grid.axis_mm(axis) for axis in (2, 1, 0)), indexing="ij")
    radius = np.sqrt((x - 10.0 - dx) ** 2 + (y - 9.0) ** 2 + (z - 8.0) ** 2) / 8.0
    evaluated = _volume(scale * 2.0 / (1.0 + np.exp(6.0 * (radius - 1.0))), grid)
    c = Criteria(cutoff_percent=75.0, max_gamma=1.5)
    found, expected = compare(reference, evaluated, c).values, _without_shortcuts(reference, evaluated, c)
    assert np.isnan(found).tolist() == np.isnan(expected).tolist()
    assert float(np.nanmax(np.abs(found - expected))) < 1e-3


PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, pymedphys
data = np.load(sys.argv[1])
axes = (data["z"], data["y"], data["x"])
for name in ("noise", "more", "moved"):
    gamma = pymedphys.gamma(axes, data["reference"], axes, data[name], 3, 3, lower_percent_dose_cutoff=10,
                            interp_fraction=10, max_gamma=2, quiet=True)
    known = gamma[~np.isnan(gamma)]
    print(json.dumps([name, len(known), float((known <= 1).mean() * 100), float(known.mean())]))
"""


@pytest.fixture(scope="module")
def pymedphys_python() -> Path:
    """The interpreter of pymedphys' own environment."""
    try:
        return toolenv.ensure("pymedphys", root=toolenvs())
    except FairleadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"pymedphys cannot be installed here: {error.message}")


def test_gamma_agrees_with_pymedphys(pymedphys_python: Path, tmp_path: Path) -> None:
    grid = Grid((30, 32, 34), (0.0, 0.0, 0.0), (2.5, 2.0, 2.0))
    reference = _bump(grid, width=16.0)
    noise = np.random.default_rng(5).normal(1.0, 0.015, grid.shape)
    evaluated: dict[str, Dose] = {
        "noise": (reference * noise).astype(np.float32),
        "more": _bump(grid, width=16.0, scale=1.05),
        "moved": _bump(grid, width=16.0, dx=3.0),
    }
    axes = {name: grid.axis_mm(axis) for axis, name in enumerate("xyz")}
    wide = {name: values.astype(np.float64) for name, values in evaluated.items()}
    np.savez(tmp_path / "doses.npz", reference=reference.astype(np.float64), **wide, **axes)  # type: ignore[arg-type]
    done = subprocess.run(
        [pymedphys_python, "-c", PROGRAM, tmp_path / "doses.npz"],
        env=toolenv.clean_environment(),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == list(evaluated)
    for name, points, pass_rate, mean in lines:
        ours = compare(_volume(reference, grid), _volume(evaluated[name], grid))
        assert ours.points == points
        # They sample spheres, we a lattice: the smallest of slightly different candidates is found. Where
        # many points lie near 1 the pass rate tells more of the sampling than of the doses.
        assert ours.mean == pytest.approx(mean, abs=0.02)
        assert ours.pass_rate == pytest.approx(pass_rate, abs=2.0)


REFUSED = {
    "zero-dose-criterion": {"dose_percent": 0.0},
    "negative-distance": {"distance_mm": -1.0},
    "nan": {"dose_percent": float("nan")},
    "cutoff-100": {"cutoff_percent": 100.0},
    "short-search": {"max_gamma": 0.5},
    "normalisation": {"normalisation": "total"},
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_criteria_that_mean_nothing_are_refused(change: dict[str, object]) -> None:
    usual: dict[str, object] = {
        "dose_percent": 3.0, "distance_mm": 3.0, "cutoff_percent": 10.0, "normalisation": "global",
    }  # fmt: skip
    with pytest.raises(GammaInput):
        criteria(**{**usual, **change})  # type: ignore[arg-type]


def test_a_reference_of_zero_and_doses_of_other_frames_are_refused() -> None:
    zero, dose = _volume(np.zeros(SMALL.shape)), _volume(_bump(SMALL))
    with pytest.raises(GammaInput, match="zero everywhere"):
        compare(zero, dose)
    with pytest.raises(GammaInput, match="frames of reference"):
        compare(dose, replace(dose, frame_uid="3.4"))


def test_where_the_evaluated_dose_does_not_reach_gamma_is_the_largest() -> None:
    far = Grid(SMALL.shape, (500.0, 0.0, 0.0), (2.0, 2.0, 2.0))
    result = compare(_volume(_bump(SMALL)), _volume(_bump(far), far))
    assert result.passed == 0
    assert np.nanmin(result.values) == 2.0
