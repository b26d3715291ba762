"""RT Dose written and read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fairlead.cases import rtdose
from fairlead.cases.model import CaseFault, Grid, Plan, Volume
from fairlead.cases.rtdose import DoseUnusable

QUICK = settings(deadline=None, max_examples=80)
GRID = Grid((3, 4, 5), (-10.5, 0.333333333333, 7.0), (1.1, 2.2, 3.3))


@given(peak=st.floats(0.0, 1e9, allow_subnormal=False))
@QUICK
def test_scaling_is_a_decimal_string_of_16_characters_that_holds_the_peak(peak: float) -> None:
    text = rtdose.scaling_of(peak)
    assert len(text) <= 16
    assert float(text) > 0
    assert peak / float(text) <= rtdose.MAX_MULTIPLE
    assert float(text) <= max(peak / rtdose.MAX_MULTIPLE, rtdose.SMALLEST_SCALING) * (1 + 1e-9)


@given(values=npst.arrays(np.float64, (2, 3, 4), elements=st.floats(0.0, 1e5)))
@QUICK
def test_stored_multiples_are_within_half_a_quantum(values: np.ndarray) -> None:
    scaling = rtdose.scaling_of(float(values.max()))
    back = rtdose.quantise(values, scaling).astype(np.float64) * float(scaling)
    assert np.abs(back - values).max() <= 0.5001 * float(scaling)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e-6])
def test_broken_doses_are_not_written(value: float, plan: Plan, ct: Volume) -> None:
    values = np.zeros(ct.grid.shape)
    values[1, 2, 3] = value
    with pytest.raises(DoseUnusable):
        rtdose.encode(values, ct.grid, plan, ct)


def test_a_dose_reads_back_within_one_quantum_with_its_geometry_and_references(
    plan: Plan, ct: Volume, tmp_path: Path
) -> None:
    values = np.random.default_rng(3).uniform(0.0, 63.7, ct.grid.shape)
    (tmp_path / "d.dcm").write_bytes(rtdose.encode(values, ct.grid, plan, ct))
    back = rtdose.read(tmp_path / "d.dcm")
    assert np.abs(back.values - values).max() <= 63.7 / rtdose.MAX_MULTIPLE + np.spacing(np.float32(63.7))
    assert (back.grid, back.frame_uid, back.plan_uid) == (ct.grid, ct.frame_uid, plan.uid)
    dataset = pydicom.dcmread(tmp_path / "d.dcm")
    assert (dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType) == ("GY", "PHYSICAL", "FRACTION")
    assert dataset.StudyInstanceUID == plan.study_uid
    stored = np.frombuffer(dataset.PixelData, "<u4").reshape(ct.grid.shape)
    exact = stored.astype(np.float64) * float(dataset.DoseGridScaling)
    assert np.abs(exact - values).max() <= float(dataset.DoseGridScaling)


def test_the_dose_of_a_beam_names_the_beam(plan: Plan, ct: Volume, tmp_path: Path) -> None:
    (tmp_path / "d.dcm").write_bytes(rtdose.encode(np.ones(ct.grid.shape), ct.grid, plan, ct, beam=3))
    dataset = pydicom.dcmread(tmp_path / "d.dcm")
    assert dataset.DoseSummationType == "BEAM"
    group = dataset.ReferencedRTPlanSequence[0].ReferencedFractionGroupSequence[0]
    assert group.ReferencedBeamSequence[0].ReferencedBeamNumber == 3


def test_the_same_dose_gives_the_same_bytes(plan: Plan, ct: Volume) -> None:
    values = np.ones(ct.grid.shape)
    assert rtdose.encode(values, ct.grid, plan, ct) == rtdose.encode(values, ct.grid, plan, ct)
    assert rtdose.encode(values * 2, ct.grid, plan, ct) != rtdose.encode(values, ct.grid, plan, ct)


def test_a_dose_of_zero_everywhere_can_be_written(plan: Plan, ct: Volume, tmp_path: Path) -> None:
    (tmp_path / "d.dcm").write_bytes(rtdose.encode(np.zeros(ct.grid.shape), ct.grid, plan, ct))
    assert rtdose.read(tmp_path / "d.dcm").values.max() == 0.0


def test_frames_that_run_towards_the_feet_are_turned(plan: Plan, ct: Volume, tmp_path: Path) -> None:
    values = np.random.default_rng(3).uniform(0.0, 2.0, ct.grid.shape).astype(np.float32)
    path = tmp_path / "d.dcm"
    path.write_bytes(rtdose.encode(values, ct.grid, plan, ct))
    dataset = pydicom.dcmread(path)
    dataset.ImagePositionPatient[2] = ct.grid.upper_mm(2)
    dataset.GridFrameOffsetVector = [-value for value in dataset.GridFrameOffsetVector]
    stored = np.frombuffer(dataset.PixelData, "<u4").reshape(ct.grid.shape)
    dataset.PixelData = stored[::-1].tobytes()
    dataset.save_as(path)
    back = rtdose.read(path)
    assert back.grid == ct.grid
    assert np.allclose(back.values, values, atol=1e-6)


@pytest.mark.parametrize("origin", [(-500.0, 0.0, 0.0), (0.0, 0.0, 400.0)], ids=["left", "above"])
def test_a_dose_grid_beyond_the_ct_is_refused(
    origin: tuple[float, float, float], plan: Plan, ct: Volume
) -> None:
    grid = replace(ct.grid, origin_mm=origin)
    with pytest.raises(DoseUnusable, match="beyond the CT"):
        rtdose.encode(np.ones(grid.shape), grid, plan, ct)


def test_a_ct_with_another_frame_of_reference_is_refused(plan: Plan, ct: Volume) -> None:
    with pytest.raises(DoseUnusable, match="frames of reference"):
        rtdose.encode(np.ones(ct.grid.shape), ct.grid, plan, replace(ct, frame_uid="9.9"))


CHANGES = {
    "relative": ("DoseUnits", "RELATIVE", "dose.unsupported"),
    "no-scaling": ("DoseGridScaling", None, "dose.field_missing"),
    "zero-scaling": ("DoseGridScaling", "0", "dose.field_invalid"),
    "huge-scaling": ("DoseGridScaling", "1e300", "dose.field_invalid"),
    "uneven-frames": ("GridFrameOffsetVector", [0.0, 3.0, *range(7, 142, 3), 500.0], "dose.unsupported"),
    "short-frames": ("GridFrameOffsetVector", [0.0, 3.0], "dose.field_invalid"),
    "short-pixels": ("PixelData", b"\0" * 100, "dose.field_invalid"),
    "tilted": ("ImageOrientationPatient", [0.9, 0.1, 0, 0, 1, 0], "dose.unsupported"),
    "a-plan": ("Modality", "RTPLAN", "dose.not_a_dose"),
}


@pytest.mark.parametrize(("keyword", "value", "rule"), CHANGES.values(), ids=CHANGES.keys())
def test_a_dose_file_that_is_wrong_is_refused(
    keyword: str, value: object, rule: str, plan: Plan, ct: Volume, tmp_path: Path
) -> None:
    path = tmp_path / "d.dcm"
    path.write_bytes(rtdose.encode(np.ones(ct.grid.shape), ct.grid, plan, ct))
    dataset = pydicom.dcmread(path)
    if value is None:
        del dataset[keyword]
    else:
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    with pytest.raises(CaseFault) as caught:
        rtdose.read(path)
    assert caught.value.rule == rule


def test_decimal_strings_keep_what_fits_in_16_characters(plan: Plan, ct: Volume, tmp_path: Path) -> None:
    grid = Grid((2, 2, 2), (-1 / 3, 2 / 3, -1e-7), (1 / 3, 2 / 3, 1 / 7))
    (tmp_path / "d.dcm").write_bytes(rtdose.encode(np.ones(grid.shape), grid, plan, ct))
    back = rtdose.read(tmp_path / "d.dcm").grid
    assert np.allclose(back.origin_mm, grid.origin_mm, atol=1e-9)
    assert np.allclose(back.spacing_mm, grid.spacing_mm, atol=1e-9)
