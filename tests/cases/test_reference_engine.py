"""The reference engine: physics against tables, geometry against single spots."""

from dataclasses import replace

import numpy as np
import pytest

from fairlead.cases import water
from fairlead.cases.engines import DoseRequest, EngineUnknown, engine
from fairlead.cases.engines.reference import GridTooLarge, coarser
from fairlead.cases.geometry import to_gantry
from fairlead.cases.machine import Machine, Room
from fairlead.cases.model import Beam, CaseUnsupported, Floats, Grid, Plan, PlanLayer, Volume
from fairlead.cases.rules import Examined

# NIST PSTAR, liquid water, g/cm², at energies between the nodes that the module interpolates from nothing.
PSTAR = {70: 4.080, 100: 7.718, 150: 15.77, 200: 25.96, 225: 31.74}
WATER_GRID = Grid((60, 60, 60), (-118.0, -118.0, -118.0), (4.0, 4.0, 4.0))
FINE_GRID = Grid((61, 61, 61), (-120.0, -120.0, -120.0), (4.0, 4.0, 4.0))


def _water(grid: Grid) -> Volume:
    return Volume(grid, np.zeros(grid.shape, dtype=np.float32), "1.2")


def _plan(
    layer: PlanLayer, *, gantry: float = 0.0, couch: float = 0.0, position: str = "HFS", unit: str = "NP"
) -> Plan:
    beam = Beam(1, "one", "M", unit, gantry, couch, (0.0, 0.0, 0.0), (1e7, 1e7), (), (layer,))
    return Plan("1.1", "1.0", "1.2", "", position, 1, (beam,), (), "P")


def _spot(
    energy: float, x: float = 0.0, y: float = 0.0, amount: float = 1e9, fwhm: float = 12.0
) -> PlanLayer:
    return PlanLayer(1, energy, np.array([[x, y]]), np.array([amount]), (fwhm, fwhm))


def _dose(plan: Plan, ct: Volume, room: Room, machines: Machine, grid: Grid | None = None) -> Floats:
    request = DoseRequest(plan, ct, room, machines.ct, grid or ct.grid)
    return engine("reference").dose(request).total.astype(np.float64)


@pytest.mark.parametrize(("energy", "range_cm"), PSTAR.items())
def test_range_in_water_is_that_of_pstar(energy: float, range_cm: float) -> None:
    assert water.range_mm(energy) == pytest.approx(10 * range_cm, rel=1e-4)


@pytest.mark.parametrize("energy", [72.0, 110.0, 163.5, 228.0])
def test_the_distal_80_percent_depth_is_the_csda_range_within_half_a_millimetre(energy: float) -> None:
    beam = water.pencil_beam(energy, 0.0)
    peak = int(beam.dose_gy_mm2.argmax())
    falling = beam.dose_gy_mm2[peak:] / beam.dose_gy_mm2[peak]
    depth_80 = float(np.interp(-0.8, -falling, beam.depth_mm[peak:]))
    assert depth_80 == pytest.approx(beam.range_mm, abs=0.5)
    # The peak itself lies in front of it by about one sigma of the straggling.
    ahead = beam.range_mm - beam.depth_mm[peak]
    assert 0.2 * water.straggling_mm(energy, 0.0) < ahead < 1.5 * water.straggling_mm(energy, 0.0)


@pytest.mark.parametrize("energy", [70.0, 150.0, 230.0])
def test_deposited_energy_is_the_protons_energy_less_what_neutrals_carry_away(energy: float) -> None:
    beam = water.pencil_beam(energy, 0.8)
    step = beam.depth_mm[1]
    deposited = float(beam.dose_gy_mm2.sum()) * step * water.WATER_KG_PER_MM3 / water.MEV_TO_J
    lost = 1.0 - deposited / energy
    # Nuclear interactions: about 1 % of the protons per cm, 40 % of their energy leaves.
    assert 0.005 < lost < 0.12


@pytest.mark.parametrize("energy", [100.0, 150.0, 200.0])
def test_scattering_at_the_end_of_range_is_two_percent_of_it(energy: float) -> None:
    beam = water.pencil_beam(energy, 0.0)
    # Gottschalk: the multiple scattering sigma at the end of range in water is 2.1 to 2.4 % of the range.
    assert 0.020 < beam.scatter_mm.max() / beam.range_mm < 0.024


def test_wider_energy_spread_lowers_and_widens_the_peak() -> None:
    sharp, wide = water.pencil_beam(150.0, 0.0), water.pencil_beam(150.0, 1.0)
    assert wide.dose_gy_mm2.max() < 0.9 * sharp.dose_gy_mm2.max()
    assert wide.dose_gy_mm2[10] == pytest.approx(sharp.dose_gy_mm2[10], rel=1e-3)


def test_all_dose_of_a_spot_ends_up_on_the_grid(room: Room, machines: Machine) -> None:
    layer = _spot(110.0, 7.0, -11.0)
    dose = _dose(_plan(layer), _water(WATER_GRID), room, machines)
    joules = float(dose.sum()) * 4.0**3 * water.WATER_KG_PER_MM3
    beam = water.pencil_beam(110.0, room.beam.energy_spread_percent)
    expected = 1e9 * float(beam.dose_gy_mm2.sum()) * beam.depth_mm[1] * water.WATER_KG_PER_MM3
    assert joules == pytest.approx(expected, rel=0.01)


def test_mu_become_protons_by_the_rooms_table(room: Room, machines: Machine) -> None:
    ct = _water(WATER_GRID)
    in_protons = _dose(_plan(_spot(100.0, amount=9e7)), ct, room, machines)
    in_mu = _dose(_plan(_spot(100.0, amount=1.0), unit="MU"), ct, room, machines)
    assert room.beam.protons(100.0) == 9e7
    assert np.allclose(in_mu, in_protons, rtol=1e-6)


def test_twice_the_mu_is_twice_the_dose_and_two_spots_add_up(room: Room, machines: Machine) -> None:
    ct = _water(WATER_GRID)
    one, other = _spot(100.0, -10.0, 5.0, 2e8), _spot(100.0, 14.0, -8.0, 1e8)
    both = replace(
        one,
        positions_mm=np.concatenate([one.positions_mm, other.positions_mm]),
        meterset=np.concatenate([one.meterset, other.meterset]),
    )
    apart = _dose(_plan(one), ct, room, machines) + _dose(_plan(other), ct, room, machines)
    assert np.abs(_dose(_plan(both), ct, room, machines) - apart).max() < 0.01 * apart.max()
    twice = _dose(_plan(replace(both, meterset=2 * both.meterset)), ct, room, machines)
    assert np.allclose(twice, 2 * _dose(_plan(both), ct, room, machines), rtol=1e-5)


# Gantry and couch angle → where the peak of a spot at (0, 0) and at (x=20, y=0), (x=0, y=20) lies, as
# patient directions: the beam runs from the source through the isocentre; x and y are the gantry's axes.
GEOMETRY = {
    "front": ("HFS", 0, 0, (0, 1, 0), (1, 0, 0), (0, 0, 1)),
    "from-the-left": ("HFS", 90, 0, (-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "from-behind": ("HFS", 180, 0, (0, -1, 0), (-1, 0, 0), (0, 0, 1)),
    "from-the-right": ("HFS", 270, 0, (1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "couch-90": ("HFS", 90, 90, (0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "prone": ("HFP", 0, 0, (0, -1, 0), (-1, 0, 0), (0, 0, 1)),
    "feet-first": ("FFS", 0, 0, (0, 1, 0), (-1, 0, 0), (0, 0, -1)),
    "feet-first-prone": ("FFP", 0, 0, (0, -1, 0), (1, 0, 0), (0, 0, -1)),
}


@pytest.mark.parametrize(
    ("position", "gantry", "couch", "beam", "x", "y"), GEOMETRY.values(), ids=GEOMETRY.keys()
)
def test_gantry_axes_point_where_iec_61217_says(
    position: str,
    gantry: float,
    couch: float,
    beam: tuple[float, ...],
    x: tuple[float, ...],
    y: tuple[float, ...],
) -> None:
    matrix = to_gantry(_plan(_spot(100), gantry=gantry, couch=couch).beams[0], position)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    assert np.allclose(matrix.T @ [0, 0, -1], beam, atol=1e-12)
    assert np.allclose(matrix.T @ [1, 0, 0], x, atol=1e-12)
    assert np.allclose(matrix.T @ [0, 1, 0], y, atol=1e-12)


@pytest.mark.parametrize("gantry", [0, 90, 180, 270, 45])
def test_a_single_spot_stops_at_its_range_behind_the_surface_it_enters(
    gantry: float, room: Room, machines: Machine
) -> None:
    ct = _water(FINE_GRID)  # surface at 122 mm on all sides
    dose = _dose(_plan(_spot(110.0, 20.0, -12.0), gantry=gantry), ct, room, machines)
    depth = dose.reshape(-1).argmax()
    z, y, x = np.unravel_index(depth, dose.shape)
    matrix = to_gantry(_plan(_spot(110.0), gantry=gantry).beams[0], "HFS")
    peak = matrix @ [FINE_GRID.axis_mm(0)[x], FINE_GRID.axis_mm(1)[y], FINE_GRID.axis_mm(2)[z]]
    entry = 122.0 if gantry % 90 == 0 else 122.0 * np.sqrt(2.0) - 20.0
    assert peak[0] == pytest.approx(20.0, abs=4.0)
    assert peak[1] == pytest.approx(-12.0, abs=4.0)
    assert entry - peak[2] == pytest.approx(water.range_mm(110.0), abs=5.0)


def test_bone_pulls_the_range_forward_by_its_stopping_power(room: Room, machines: Machine) -> None:
    plain = _water(FINE_GRID)
    values = plain.values.copy()
    values[:, 5:10, :] = 1000.0  # five voxels of 4 mm, RSP 1.62, from the front
    depth = {}
    for name, ct in (("water", plain), ("bone", replace(plain, values=values))):
        column = _dose(_plan(_spot(110.0)), ct, room, machines)[30, :, 30]
        peak = int(column.argmax())
        depth[name] = float(np.interp(-0.5, -column[peak:] / column[peak], FINE_GRID.axis_mm(1)[peak:]))
    assert depth["water"] - depth["bone"] == pytest.approx(20.0 * 0.62, abs=1.0)


def test_fields_diverge_from_the_virtual_source(room: Room, machines: Machine) -> None:
    plan = _plan(_spot(150.0, 40.0, 0.0))
    near = replace(plan, beams=(replace(plan.beams[0], sad_mm=(1000.0, 1000.0)),))
    dose = _dose(near, _water(FINE_GRID), room, machines)
    for row, y in ((5, -100.0), (30, 0.0)):
        profile = dose[30, row]
        centre = float((profile * FINE_GRID.axis_mm(0)).sum() / profile.sum())
        # At y the ray is (1000 + y) from the source instead of 1000.
        assert centre == pytest.approx(40.0 * (1000.0 + y) / 1000.0, abs=0.4)


def test_a_coarser_grid_covers_the_same_box_and_holds_the_same_energy(room: Room, machines: Machine) -> None:
    ct = _water(WATER_GRID)
    grid = coarser(ct.grid, 6.0)
    assert grid.shape == (40, 40, 40)
    assert grid.origin_mm[0] - 3.0 == pytest.approx(ct.grid.origin_mm[0] - 2.0)
    plan = _plan(_spot(110.0))
    fine, coarse = (
        _dose(plan, ct, room, machines, where).sum() * where.spacing_mm[0] ** 3 for where in (ct.grid, grid)
    )
    assert coarse == pytest.approx(fine, rel=0.03)


def test_the_synthetic_plan_fills_its_target_evenly(examined: Examined, machines: Machine) -> None:
    assert examined.plan is not None
    assert examined.ct is not None
    assert examined.room is not None
    empty = replace(examined.ct, values=np.where(examined.ct.values > -900, 0.0, -1000.0).astype(np.float32))
    dose = _dose(examined.plan, empty, examined.room, machines)
    middle = [np.abs(examined.ct.grid.axis_mm(axis)) < 15.0 for axis in (2, 1, 0)]
    target = dose[np.ix_(*middle)]
    assert target.mean() == pytest.approx(2.0, rel=0.02)
    assert target.max() - target.min() < 0.06 * target.mean()


REFUSED = {
    "block": ({"modifiers": ("block",)}, "modifier"),
    "range-shifter": ({"modifiers": ("range shifter",)}, "modifier"),
    "energy": ({"layers": (_spot(400.0),)}, "300 MeV"),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_engine_does_not_model_is_refused(
    change: dict[str, object], words: str, room: Room, machines: Machine
) -> None:
    plan = _plan(_spot(100.0))
    plan = replace(plan, beams=(replace(plan.beams[0], **change),))  # type: ignore[arg-type]
    with pytest.raises(CaseUnsupported, match=words):
        _dose(plan, _water(WATER_GRID), room, machines)


def test_decubitus_positions_are_refused(room: Room, machines: Machine) -> None:
    with pytest.raises(CaseUnsupported, match="HFS"):
        _dose(_plan(_spot(100.0), position="HFDL"), _water(WATER_GRID), room, machines)


def test_a_grid_beyond_the_limit_is_refused_before_memory_is_taken(room: Room, machines: Machine) -> None:
    vast = Grid((4000, 4000, 4000), (0.0, 0.0, 0.0), (0.1, 0.1, 0.1))
    with pytest.raises(GridTooLarge):
        _dose(_plan(_spot(100.0)), _water(WATER_GRID), room, machines, vast)


def test_an_engine_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(EngineUnknown) as caught:
        engine("moqui2")
    assert "reference" in (caught.value.remedy or "")


FULL = Grid((41, 41, 41), (-80.0, -80.0, -80.0), (4.0, 4.0, 4.0))  # water up to its edges, at ±82 mm


@pytest.mark.parametrize(
    ("gantry", "couch", "axis", "step"),
    [(0, 0, 1, 1), (90, 0, 0, -1), (180, 0, 1, -1), (270, 0, 0, 1), (90, 90, 2, 1), (270, 90, 2, -1)],
)
def test_water_up_to_the_edge_of_the_scan_stops_a_beam_from_every_side_alike(
    gantry: float, couch: float, axis: int, step: int, room: Room, machines: Machine
) -> None:
    plan = _plan(_spot(130.0, x=12.0), gantry=gantry, couch=couch)
    dose = _dose(plan, _water(FULL), room, machines)
    along = dose.sum(axis=tuple(other for other in range(3) if other != 2 - axis))[::step]
    peak = int(along.argmax())
    depth = 2.0 + 4.0 * np.arange(41)  # of the voxels' centres: the outermost one is in the way as a whole
    fall = float(np.interp(-0.8, -along[peak:] / along[peak], depth[peak:]))
    assert fall == pytest.approx(water.range_mm(130.0), abs=1.0)
    straight = _dose(_plan(_spot(130.0, x=12.0)), _water(FULL), room, machines)
    assert float(dose.max()) == pytest.approx(float(straight.max()), rel=1e-5)
