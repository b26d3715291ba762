"""DICOM files as other systems write them: taken where they are in order, refused where they contradict."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from fairlead.cases import engines, offline, plans, rtdose, volumes
from fairlead.cases.engines import DoseRequest
from fairlead.cases.machine import Machine
from fairlead.cases.model import CaseFault, CaseUnsupported, Grid, Plan, Volume
from fairlead.cases.rules import Examined

Change = Callable[[pydicom.Dataset], object]
SLICES = 4  # of the CT: enough for a series
GRID = Grid((4, 5, 6), (-30.0, -20.0, -10.0), (3.0, 4.0, 5.0))


@pytest.fixture(scope="module")
def slices(examined: Examined) -> list[bytes]:
    """The first slices of the CT."""
    assert examined.folder.ct is not None
    return [path.read_bytes() for path in sorted(examined.folder.ct.iterdir())[:SLICES]]


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """A dose on GRID that is nowhere symmetric."""
    return np.random.default_rng(5).uniform(0.0, 2.0, GRID.shape).astype(np.float32)


def _changed(content: bytes, change: Change) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(content))
    change(dataset)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def _pixels(dataset: pydicom.Dataset) -> np.ndarray:
    return np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns).astype(np.int64)


# Slices


def _implicit(dataset: pydicom.Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def _unsigned_12_bits(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = (_pixels(dataset) + 1024).astype("<u2").tobytes()
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.RescaleIntercept = -1024


def _signed_12_bits(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = (_pixels(dataset) & 0xFFF).astype("<u2").tobytes()
    dataset.BitsStored, dataset.HighBit = 12, 11


def _half_slope(dataset: pydicom.Dataset) -> None:
    own = int(dataset.InstanceNumber)  # every slice its own intercept
    dataset.PixelData = (2 * (_pixels(dataset) + own)).astype("<i2").tobytes()
    dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", -own


def _turned(x: int, y: int) -> Change:
    def change(dataset: pydicom.Dataset) -> None:
        dataset.PixelData = _pixels(dataset)[::y, ::x].astype("<i2").tobytes()
        dataset.ImageOrientationPatient = [x, 0, 0, 0, y, 0]
        corner, spacing = dataset.ImagePositionPatient, dataset.PixelSpacing
        if x < 0:
            corner[0] += float(spacing[1]) * (dataset.Columns - 1)
        if y < 0:
            corner[1] += float(spacing[0]) * (dataset.Rows - 1)
        dataset.ImagePositionPatient = corner

    return change


def _put(keyword: str, value: object) -> Change:
    def change(dataset: pydicom.Dataset) -> None:
        setattr(dataset, keyword, value)

    return change


TAKEN = {
    "implicit": _implicit,
    "unsigned-12-bits": _unsigned_12_bits,
    "signed-12-bits": _signed_12_bits,
    "slope-and-intercept": _half_slope,
    "prone": _turned(-1, -1),
    "feet-first": _turned(-1, 1),
    "upside-down": _turned(1, -1),
    "nearly-straight": _put("ImageOrientationPatient", [1, 0, 0, 0, 0.99999, 0.00001]),
    "no-rescale-type": lambda dataset: dataset.__delattr__("RescaleType"),
}


@pytest.mark.parametrize("change", TAKEN.values(), ids=TAKEN.keys())
def test_a_ct_gives_the_same_voxels_however_it_is_written(
    change: Change, slices: list[bytes], ct: Volume, tmp_path: Path
) -> None:
    for number, content in enumerate(slices):
        (tmp_path / f"{number}.dcm").write_bytes(_changed(content, change))
    read = volumes.read(tmp_path)
    assert read.grid.shape == (SLICES, *ct.grid.shape[1:])
    assert read.grid.origin_mm == ct.grid.origin_mm
    assert read.grid.spacing_mm == ct.grid.spacing_mm
    assert np.array_equal(read.values, ct.values[:SLICES])


def _too_many_bits(dataset: pydicom.Dataset) -> None:
    pixels = _pixels(dataset)
    pixels[3, 3] = 20_000
    dataset.PixelData = pixels.astype("<i2").tobytes()
    dataset.BitsStored, dataset.HighBit = 12, 11


REFUSED = {
    "rle": (lambda dataset: dataset.compress(RLELossless), "ct.unsupported"),
    "tilted": (_put("ImageOrientationPatient", [1, 0, 0, 0, 0.9961947, 0.0871557]), "ct.unsupported"),
    "sagittal": (_put("ImageOrientationPatient", [0, 1, 0, 0, 0, -1]), "ct.unsupported"),
    "electron-density": (_put("RescaleType", "ED"), "ct.unsupported"),
    "slope-0": (_put("RescaleSlope", 0), "ct.field_invalid"),
    "8-bits": (_put("BitsAllocated", 8), "ct.unsupported"),
    "high-bit": (_put("HighBit", 11), "ct.unsupported"),
    "too-many-bits": (_too_many_bits, "ct.field_invalid"),
    "another-series": (_put("SeriesInstanceUID", "1.2.3"), "ct.mixed_series"),
    "another-place": (_put("ImagePositionPatient", [-94.5, -94.4, -64.5]), "ct.mixed_series"),
    "uneven": (_put("ImagePositionPatient", [-94.5, -94.5, -63.5]), "ct.missing_slice"),
    "a-plan": (_put("Modality", "RTPLAN"), "ct.not_ct"),
}


@pytest.mark.parametrize(("change", "rule"), REFUSED.values(), ids=REFUSED.keys())
def test_a_slice_that_cannot_be_trusted_is_named(
    change: Change, rule: str, slices: list[bytes], tmp_path: Path
) -> None:
    for number, content in enumerate(slices):
        (tmp_path / f"{number}.dcm").write_bytes(_changed(content, change) if number == 2 else content)
    with pytest.raises(CaseFault) as caught:
        volumes.read(tmp_path)
    assert caught.value.rule == rule
    assert caught.value.file in {"2.dcm", "3.dcm"}


def test_big_endian_numbers_are_refused_and_not_misread(slices: list[bytes], tmp_path: Path) -> None:
    # Only the header has to say so: nothing behind it is looked at.
    named = slices[0].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0", 1)
    assert named != slices[0]
    (tmp_path / "0.dcm").write_bytes(named)
    with pytest.raises(CaseUnsupported) as caught:
        volumes.read(tmp_path)
    assert caught.value.field == "TransferSyntaxUID"


# Doses


def _sixteen_bits(dataset: pydicom.Dataset) -> None:
    doses = np.frombuffer(dataset.PixelData, "<u4") * float(dataset.DoseGridScaling)
    scaling = float(doses.max()) / 65535
    dataset.PixelData = np.rint(doses / scaling).astype("<u2").tobytes()
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.DoseGridScaling = 15, f"{scaling:.10e}"


def _absolute_offsets(dataset: pydicom.Dataset) -> None:
    first = float(dataset.ImagePositionPatient[2])
    dataset.GridFrameOffsetVector = [first + float(offset) for offset in dataset.GridFrameOffsetVector]


def _turned_dose(x: int, y: int) -> Change:
    def change(dataset: pydicom.Dataset) -> None:
        # Offsets run along the normal of rows and columns: towards the feet where one of them is turned.
        z = x * y
        stored = np.frombuffer(dataset.PixelData, "<u4").reshape(GRID.shape)
        dataset.PixelData = stored[::z, ::y, ::x].tobytes()
        dataset.ImageOrientationPatient = [x, 0, 0, 0, y, 0]
        dataset.ImagePositionPatient = [
            GRID.origin_mm[axis] if sign > 0 else GRID.upper_mm(axis) for axis, sign in enumerate((x, y, z))
        ]

    return change


DOSES_TAKEN = {
    "implicit": _implicit,
    "16-bits": _sixteen_bits,
    "absolute-offsets": _absolute_offsets,
    "prone": _turned_dose(-1, -1),
    "feet-first": _turned_dose(-1, 1),
}


@pytest.mark.parametrize("change", DOSES_TAKEN.values(), ids=DOSES_TAKEN.keys())
def test_a_dose_is_the_same_however_it_is_written(
    change: Change, values: np.ndarray, plan: Plan, ct: Volume, tmp_path: Path
) -> None:
    (tmp_path / "d.dcm").write_bytes(_changed(rtdose.encode(values, GRID, plan, ct), change))
    read = rtdose.read(tmp_path / "d.dcm")
    assert read.grid == GRID
    assert np.allclose(read.values, values, atol=2e-5)  # half a step of 16 bits


def test_frames_of_a_dose_that_begin_elsewhere_than_its_position_are_refused(
    values: np.ndarray, plan: Plan, ct: Volume, tmp_path: Path
) -> None:
    change = _put("GridFrameOffsetVector", [17.0, 22.0, 27.0, 32.0])
    (tmp_path / "d.dcm").write_bytes(_changed(rtdose.encode(values, GRID, plan, ct), change))
    with pytest.raises(CaseFault, match="begins neither with 0") as caught:
        rtdose.read(tmp_path / "d.dcm")
    assert caught.value.field == "GridFrameOffsetVector"


# Plans


def _every_point(keyword: str, value: object) -> Change:
    def change(dataset: pydicom.Dataset) -> None:
        for beam in dataset.IonBeamSequence[1:]:
            for point in beam.IonControlPointSequence:
                first = getattr(beam.IonControlPointSequence[0], keyword)
                setattr(point, keyword, first if value is None else value)

    return change


def _range_shifter(*settings: str) -> Change:
    def change(dataset: pydicom.Dataset) -> None:
        for beam in dataset.IonBeamSequence[1:]:
            beam.NumberOfRangeShifters, snout = 1, pydicom.Dataset()
            snout.SnoutID = "S1"
            beam.SnoutSequence = [snout]
            for point, setting in zip(beam.IonControlPointSequence, settings, strict=False):
                item = pydicom.Dataset()
                item.ReferencedRangeShifterNumber, item.RangeShifterSetting = 1, setting
                point.RangeShifterSettingsSequence, point.SnoutPosition = [item], 300.0

    return change


def _described(sequence: str) -> Change:
    """A modifier that is described although its number says 0."""

    def change(dataset: pydicom.Dataset) -> None:
        for beam in dataset.IonBeamSequence[1:]:
            setattr(beam, sequence, [pydicom.Dataset()])

    return change


def _setting_only(dataset: pydicom.Dataset) -> None:
    _range_shifter("IN")(dataset)
    for beam in dataset.IonBeamSequence[1:]:
        beam.NumberOfRangeShifters = 0


PLANS_TAKEN: dict[str, tuple[Change, tuple[str, ...]]] = {
    "angles-repeated": (_every_point("GantryAngle", None), ()),
    "couch-repeated": (_every_point("PatientSupportAngle", None), ()),
    "isocentre-repeated": (_every_point("IsocenterPosition", None), ()),
    "range-shifter-out": (_range_shifter("OUT"), ()),
    "range-shifter-in": (_range_shifter("IN"), ("range shifter",)),
    "range-shifter-moved": (_range_shifter("OUT", "IN"), ("range shifter",)),
    "range-shifter-unsaid": (_range_shifter(), ("range shifter",)),
    "range-shifter-uncounted": (_setting_only, ("range shifter",)),
    "block-uncounted": (_described("IonBlockSequence"), ("block",)),
    "compensator-uncounted": (_described("IonRangeCompensatorSequence"), ("compensator",)),
}


@pytest.mark.parametrize(("change", "modifiers"), PLANS_TAKEN.values(), ids=PLANS_TAKEN.keys())
def test_a_plan_is_the_same_however_it_is_written(
    change: Change, modifiers: tuple[str, ...], examined: Examined, plan: Plan, tmp_path: Path
) -> None:
    assert examined.plan_file is not None
    (tmp_path / "p.dcm").write_bytes(_changed(examined.plan_file.read_bytes(), change))
    read = plans.read(tmp_path / "p.dcm")
    assert [beam.modifiers for beam in read.beams] == [modifiers] * len(plan.beams)
    for beam, known in zip(read.beams, plan.beams, strict=True):
        assert (beam.gantry_deg, beam.couch_deg, beam.isocentre_mm) == (
            known.gantry_deg,
            known.couch_deg,
            known.isocentre_mm,
        )
        assert [layer.energy_mev for layer in beam.layers] == [layer.energy_mev for layer in known.layers]


def test_an_energy_that_the_room_has_not_is_refused_and_not_extrapolated(
    examined: Examined, machines: Machine, tmp_path: Path
) -> None:
    assert examined.plan_file is not None
    assert examined.folder.ct is not None
    slow = _changed(examined.plan_file.read_bytes(), _every_point("NominalBeamEnergy", "20.0"))
    (tmp_path / "p.dcm").write_bytes(slow)
    with pytest.raises(CaseFault, match="70 to 230 MeV") as caught:
        offline.calculate(
            tmp_path / "p.dcm",
            examined.folder.ct,
            tmp_path / "d.dcm",
            engine="reference",
            machine=machines,
            room="G1",
        )
    assert caught.value.rule == "plan.energy"
    assert not (tmp_path / "d.dcm").exists()


# The dose of a patient who lies another way


def _box(position: str) -> tuple[Volume, int]:
    """A box of water, and the sign of y from which a beam at gantry 0° comes in `position`."""
    grid = Grid((20, 40, 20), (-38.0, -78.0, -38.0), (4.0, 4.0, 4.0))
    return Volume(grid, np.zeros(grid.shape, dtype=np.float32), "1.2"), -1 if position.endswith("S") else 1


@pytest.mark.parametrize("position", ["HFS", "HFP", "FFS", "FFP"])
def test_a_beam_from_above_enters_a_prone_patient_at_the_back(
    position: str, plan: Plan, machines: Machine
) -> None:
    ct, side = _box(position)
    beam = replace(plan.beams[0], gantry_deg=0.0)
    turned = replace(plan, beams=(beam,), patient_position=position)
    room = machines.room("G1")
    dose = engines.engine("reference").dose(DoseRequest(turned, ct, room, machines.ct, ct.grid)).total
    along = dose.sum(axis=(0, 2))
    # The box is 160 mm deep, the longest range 109 mm.
    far = along[-8:] if side < 0 else along[:8]
    near = along[:8] if side < 0 else along[-8:]
    assert float(far.max()) < 0.01 * float(along.max())
    assert float(near.min()) > 0.2 * float(along.max())
