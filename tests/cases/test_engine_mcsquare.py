"""MCsquare, the real one: physics beside the reference engine, and every way in which it fails in silence."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fairlead.cases import machine, water
from fairlead.cases.engines import Control, DoseEngine, DoseRequest, engine, grids, mcsquare
from fairlead.cases.engines.port import DoseRejected, EngineFailed, EngineNotConfigured
from fairlead.cases.geometry import to_gantry
from fairlead.cases.model import Floats, Grid, Plan, Volume
from tests.cases.engine_subjects import (
    beam,
    layer,
    mcsquare_program,
    real_mcsquare,
    script,
    small_plan,
    water_box,
)

# What a Monte Carlo with few protons and a table may differ by: half a voxel of 2 mm.
RANGE_TOLERANCE_MM = 1.0
Values = npt.NDArray[np.floating]
FINE = Grid((30, 70, 30), (-29.0, -69.0, -29.0), (2.0, 2.0, 2.0))


def _request(plan: Plan, ct: Volume) -> DoseRequest:
    machines = machine.load()
    return DoseRequest(plan, ct, machines.room("G1"), machines.ct, ct.grid)


def _spot_plan(energy: float, x: float, y: float, **changes: Any) -> Plan:
    one = replace(beam(1, 0.0, layer(energy, [(x, y)])), **changes)
    return replace(small_plan(), beams=(one,), setup_beams=())


def _centre(dose: Values, grid: Grid) -> Floats:
    weights = dose.astype(np.float64)
    sums = [
        weights.sum(axis=tuple(other for other in range(3) if other != 2 - axis)) * grid.axis_mm(axis)
        for axis in range(3)
    ]
    return np.array([float(values.sum()) / float(weights.sum()) for values in sums])


def _distal_mm(dose: Values, grid: Grid, level: float) -> float:
    """Where the depth dose behind its peak falls to `level`; the beam runs along y."""
    curve = dose.astype(np.float64).sum(axis=(0, 2))
    peak = int(curve.argmax())
    return float(np.interp(-level, -curve[peak:] / curve[peak], grid.axis_mm(1)[peak:]))


def test_range_and_dose_in_water_agree_with_the_reference_engine() -> None:
    ct = water_box(FINE)
    request = _request(
        replace(
            small_plan(),
            beams=(replace(beam(1, 0.0, layer(110.0, [(0.0, 0.0)])), isocentre_mm=(0.0, 0.0, 0.0)),),
        ),
        ct,
    )
    ours = engine("reference").dose(request).total
    theirs = real_mcsquare(protons=20_000).dose(request).total
    for level in (0.8, 0.5):
        assert _distal_mm(theirs, FINE, level) == pytest.approx(
            _distal_mm(ours, FINE, level), abs=RANGE_TOLERANCE_MM
        )
    # The surface is at -68 mm; 80 % behind the peak is the range that PSTAR names.
    assert _distal_mm(theirs, FINE, 0.8) + 68.0 == pytest.approx(water.range_mm(110.0), abs=1.5)
    # All of the energy, in gray: protons per MU, spot size and units are right.
    assert theirs.sum() == pytest.approx(ours.sum(), rel=0.04)
    middle = [
        float((values.sum(axis=(0, 1)) > values.sum(axis=(0, 1)).max() / 2).sum())
        for values in (ours, theirs)
    ]
    assert middle[0] == pytest.approx(middle[1], abs=1.0)  # FWHM in voxels


GEOMETRY = {
    "front": ("HFS", 0.0, 0.0),
    "left": ("HFS", 90.0, 0.0),
    "oblique": ("HFS", 230.0, 25.0),
    "feet-first": ("FFS", 40.0, 10.0),
    "prone": ("HFP", 300.0, 350.0),
    "feet-first-prone": ("FFP", 75.0, 20.0),
}


@pytest.mark.parametrize(("position", "gantry", "couch"), GEOMETRY.values(), ids=GEOMETRY.keys())
def test_an_eccentric_spot_lies_where_the_reference_engine_puts_it(
    position: str, gantry: float, couch: float
) -> None:
    grid = Grid((30, 34, 32), (-87.0, -99.0, -84.0), (6.0, 6.0, 6.0))  # not symmetric about the isocentre
    plan = _spot_plan(
        85.0, 20.0, -14.0, gantry_deg=gantry, couch_deg=couch, isocentre_mm=(4.0, -7.0, 9.0)
    )  # fmt: skip
    request = _request(replace(plan, patient_position=position), water_box(grid))
    ours = _centre(engine("reference").dose(request).total, grid)
    theirs = _centre(real_mcsquare(protons=2_000).dose(request).total, grid)
    assert np.abs(ours - theirs).max() < 3.5  # voxels of 6 mm, a spot 20 mm off the axis


@pytest.mark.parametrize("position", ["HFS", "FFS", "HFP", "FFP"])
@pytest.mark.parametrize(("gantry", "couch"), [(0.0, 0.0), (33.0, 21.0), (280.0, 300.0)])
def test_other_positions_become_angles_of_a_supine_patient(
    position: str, gantry: float, couch: float
) -> None:
    one = replace(beam(1, gantry, layer(90.0, [(0.0, 0.0)])), couch_deg=couch)
    turned = mcsquare.head_first_supine(one, position)
    same = replace(one, gantry_deg=turned[0], couch_deg=turned[1])
    assert np.allclose(to_gantry(one, position), to_gantry(same, "HFS"), atol=1e-12)
    assert all(0 <= angle < 360 for angle in turned)


def test_tissue_slows_protons_down_as_the_machine_file_says(tmp_path: Path) -> None:
    ct = water_box(FINE)
    values = ct.values.copy()
    values[:, 5:15, :] = np.where(ct.values[:, 5:15, :] > -900, 1000.0, ct.values[:, 5:15, :])
    bone = Volume(FINE, values, ct.frame_uid)
    plan = _spot_plan(110.0, 0.0, 0.0, isocentre_mm=(0.0, 0.0, 0.0))
    chosen = real_mcsquare(protons=10_000)
    depths = [_distal_mm(chosen.dose(_request(plan, one)).total, FINE, 0.5) for one in (ct, bone)]
    rsp = float(machine.load().ct.rsp(np.array([1000.0]))[0])
    assert depths[0] - depths[1] == pytest.approx(20.0 * (rsp - 1.0), abs=1.5)


def test_another_seed_is_another_noise_around_the_same_dose() -> None:
    request = _request(_spot_plan(90.0, 0.0, 0.0), water_box())
    one, other = (real_mcsquare(protons=4_000, seed=seed).dose(request) for seed in (1, 2))
    assert not np.array_equal(one.total, other.total)
    assert one.total.sum() == pytest.approx(other.total.sum(), rel=0.02)
    facts = one.details["beams"]["1"]
    assert facts["protons_simulated"] >= 4_000
    assert 0 < facts["uncertainty_percent"] < 100


def test_two_layers_of_one_energy_keep_their_own_spot_sizes() -> None:
    small, large = (replace(layer(90.0, [(0.0, 0.0)]), fwhm_mm=(size, size)) for size in (6.0, 24.0))
    both = replace(beam(1, 0.0, small, replace(large, number=2)))
    text = mcsquare._beam_model(both, _request(replace(small_plan(), beams=(both,)), water_box()))
    rows = [line.split() for line in text.splitlines() if re.match(r"\d+\.\d{4} ", line)]
    assert [row[0] for row in rows] == ["89.0000", "90.0000", "90.0010", "91.0010"]
    assert [float(row[5]) * mcsquare.FWHM_PER_SIGMA for row in rows[1:3]] == pytest.approx(
        [6.0, 24.0], rel=1e-4
    )


def test_several_threads_are_not_claimed_to_repeat() -> None:
    assert real_mcsquare().deterministic
    assert not real_mcsquare(threads=2).deterministic


def test_the_prepared_program_has_no_carriage_returns_and_may_be_executed() -> None:
    folder = mcsquare_program()
    assert (folder / "MCsquare_linux").stat().st_mode & 0o111
    tables = [*(folder / "Materials").rglob("*.dat"), folder / "materials.txt"]
    assert len(tables) > 100
    assert all(b"\r" not in path.read_bytes() for path in tables)


@pytest.mark.parametrize("options", [{}, {"program_dir": "/nonexistent"}], ids=["nothing", "wrong-folder"])
def test_without_a_program_it_says_what_to_set(options: dict[str, str]) -> None:
    with pytest.raises(EngineNotConfigured) as caught:
        engine("mcsquare", options).dose(_request(small_plan(), water_box()))
    assert "program_dir" in f"{caught.value.message} {caught.value.remedy}"


# The real program where something goes wrong before it; what it once left, where something does afterwards.
WRAPPED = """
import os, re, shutil, subprocess, sys
real, recorded, fault = {real!r}, {recorded!r}, {fault!r}
if fault == "ct-cut-short": os.truncate("CT.raw", os.path.getsize("CT.raw") // 2)
if fault == "carriage-returns":
    text = open("BDL.txt").read(); open("BDL.txt", "w", newline="").write(text.replace("\\n", "\\r\\n"))
if fault == "no-protons-in":
    text = open("Plan.txt").read()
    open("Plan.txt", "w").write(re.sub("(IsocenterPosition\\n).*", "\\\\1 900.0 900.0 900.0", text))
if fault == "not-run": sys.exit(0)
if fault in ("ct-cut-short", "carriage-returns", "no-protons-in"):
    os.execv(real, [real, *sys.argv[1:]])
shutil.copytree(recorded + "/Outputs", "Outputs", dirs_exist_ok=True)
log = open(recorded + "/mcsquare.log").read()
dose = "Outputs/Dose.raw"
if fault == "dose-cut-short": os.truncate(dose, os.path.getsize(dose) // 2)
if fault == "no-dose": os.unlink(dose)
if fault == "zero": open(dose, "r+b").write(bytes(os.path.getsize(dose)))
if fault == "not-finite": open(dose, "r+b").write(b"\\0\\0\\xc0\\x7f")
if fault == "negative": open(dose, "r+b").write(b"\\0\\0\\xc0\\xbf")
if fault == "other-grid":
    text = open("Outputs/Dose.mhd").read()
    open("Outputs/Dose.mhd", "w").write(re.sub("DimSize = ([0-9]+)", "DimSize = 9", text))
if fault == "stopped-early": log = log.split("Nbr primaries")[0]
if fault == "too-few": log = re.sub("simulated: [0-9]+", "simulated: 12", log)
if fault == "outside": log = re.sub("(simulated: [0-9]+)", "\\\\1 (900 generated outside the geometry)", log)
if fault == "nan-uncertainty": log = re.sub("uncertainty: [0-9.]+", "uncertainty: -nan", log)
if fault == "error-in-log": log += "Error: something is not valid"
sys.stdout.write(log)
if fault == "exit-code": sys.exit(1)
"""
SILENT = [
    "ct-cut-short", "carriage-returns", "no-protons-in", "not-run", "dose-cut-short", "no-dose", "zero",
    "not-finite", "negative", "other-grid", "stopped-early", "too-few", "outside", "nan-uncertainty",
    "error-in-log",
]  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one good run."""
    scratch = tmp_path_factory.mktemp("recorded")
    real_mcsquare(protons=1_000).dose(_one_spot(), Control(scratch=scratch))
    return scratch / "mcsquare-1"


def _one_spot() -> DoseRequest:
    return _request(_spot_plan(90.0, 0.0, 0.0), water_box())


def _wrapped(folder: Path, fault: str, recorded: Path) -> DoseEngine:
    """The engine with a prepared program whose binary is wrapped."""
    real = mcsquare_program()
    folder.mkdir()
    (folder / "Materials").symlink_to(real / "Materials")
    (folder / "materials.txt").symlink_to(real / "materials.txt")
    body = WRAPPED
    for name, value in (("real", real / "MCsquare_linux"), ("recorded", recorded), ("fault", fault)):
        body = body.replace(f"{{{name}!r}}", repr(str(value)))
    script(folder / "MCsquare_linux", body)
    return engine("mcsquare", {"program_dir": str(folder), "protons": 1_000, "max_uncertainty_percent": 100})


@pytest.mark.parametrize("fault", SILENT)
def test_a_failure_with_exit_code_0_is_noticed(fault: str, recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(DoseRejected):
        _wrapped(tmp_path / "p", fault, recorded).dose(_one_spot())


def test_the_same_without_a_fault_is_accepted(recorded: Path, tmp_path: Path) -> None:
    assert _wrapped(tmp_path / "p", "", recorded).dose(_one_spot()).total.max() > 0


def test_an_exit_code_is_an_error_with_the_last_words_and_no_paths(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineFailed) as caught:
        _wrapped(tmp_path / "p", "exit-code", recorded).dose(_one_spot())
    assert caught.value.details["last_lines"]
    assert str(tmp_path) not in str(caught.value.details)


def test_too_much_noise_is_rejected() -> None:
    request = _request(_spot_plan(90.0, 0.0, 0.0), water_box())
    with pytest.raises(DoseRejected, match="uncertainty"):
        real_mcsquare(protons=1_000, max_uncertainty_percent=0.5).dose(request)


def test_each_run_has_a_folder_of_its_own_that_is_kept_where_it_is_wanted(tmp_path: Path) -> None:
    for _ in range(2):
        real_mcsquare(protons=1_000).dose(_one_spot(), Control(scratch=tmp_path))
    assert len(list(tmp_path.glob("mcsquare-*/mcsquare.log"))) == 2


def test_averaging_keeps_the_total_and_the_place() -> None:
    source = Grid((7, 8, 9), (1.0, 2.0, 3.0), (2.0, 3.0, 1.5))
    target = Grid((5, 4, 7), (0.5, 1.0, 1.0), (3.0, 7.0, 4.0))
    values = np.random.default_rng(4).random(source.shape)
    found = grids.averaged(values, source, target)
    volumes = [float(np.prod(grid.spacing_mm)) for grid in (source, target)]
    assert found.shape == target.shape
    assert found.sum() * volumes[1] == pytest.approx(values.sum() * volumes[0])  # the target holds the source
    assert np.allclose(_centre(found, target), _centre(values, source), atol=1.0)
    assert np.array_equal(grids.averaged(values, source, source), values)


@pytest.mark.skipif(sys.platform != "linux", reason="MCsquare's static program is for Linux")
def test_the_wheel_is_locked_by_hash_and_nothing_else_is_installed() -> None:
    from fairlead.kernel import toolenv

    text = (toolenv.locks_dir() / "mcsquare.txt").read_text()
    assert re.findall(r"^(\S+)==", text, re.MULTILINE) == ["opentps-core"]
    assert "--hash=sha256:" in text
