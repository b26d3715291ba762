"""Readers take any bytes: what they cannot use is a CaseFault (or MachineFileInvalid), never a traceback."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fairlead.cases import deliveries, logs, machine, phantom, plans, rtdose, volumes
from fairlead.cases.machine import Machine, MachineFileInvalid, MachineUnknown, Room
from fairlead.cases.model import CaseFault, LayerRecord
from fairlead.cases.rules import Examined
from fairlead.kernel.errors import FairleadError

SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
QUICK = settings(deadline=None, max_examples=40, suppress_health_check=SLOW)


def _ct(path: Path) -> object:
    return volumes.read(path.parent)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "plan": ("x.dcm", plans.read),
    "dose": ("x.dcm", rtdose.read),
    "ct": ("x.dcm", _ct),
    "planinfo": ("PlanInfo.txt", lambda path: deliveries.read_plan_info(path, file="f")),
    "planrange": ("PlanRange.txt", lambda path: deliveries.read_plan_range(path, file="f")),
    "log": ("x.ptn", lambda path: logs.read(path, file="f")),
    "machine": ("x.toml", machine.load),
}


@pytest.mark.parametrize(("name", "reader"), READERS.values(), ids=READERS.keys())
@given(content=st.binary(max_size=400))
@QUICK
def test_random_bytes_never_raise_anything_but_our_errors(
    name: str, reader: Callable[[Path], object], content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    # Anything else that is raised fails the test.
    with contextlib.suppress(FairleadError):
        reader(tmp_path / name)


@pytest.fixture(scope="module")
def dicom_files(examined: Examined) -> dict[str, bytes]:
    """A real file of each kind, to be damaged."""
    assert examined.plan_file is not None
    assert examined.folder.ct is not None
    assert examined.plan is not None
    assert examined.ct is not None
    dose = np.ones(examined.ct.grid.shape, dtype=np.float32)
    return {
        "plan": examined.plan_file.read_bytes(),
        "ct": min(examined.folder.ct.iterdir()).read_bytes(),
        "dose": rtdose.encode(dose, examined.ct.grid, examined.plan, examined.ct),
    }


@pytest.mark.parametrize("kind", ["plan", "ct", "dose"])
@given(data=st.data())
@QUICK
def test_a_damaged_dicom_file_never_raises_anything_but_our_errors(
    kind: str, data: st.DataObject, dicom_files: dict[str, bytes], tmp_path: Path
) -> None:
    content = bytearray(dicom_files[kind])
    # Most of a file is pixels or spots: damage the part in front, where lengths and types are.
    for at in data.draw(st.lists(st.integers(132, min(3000, len(content) - 1)), min_size=1, max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(132, len(content))))
    (tmp_path / "x.dcm").write_bytes(bytes(content[:end]))
    with contextlib.suppress(FairleadError):
        READERS[kind][1](tmp_path / "x.dcm")


@given(rows=npst.arrays(np.uint16, st.tuples(st.integers(1, 40), st.just(8))))
@QUICK
def test_a_log_decodes_to_the_rows_that_were_encoded(rows: logs.Rows) -> None:
    content = logs.encode(rows)
    assert len(content) == 16 * len(rows)
    assert (logs.decode(content, file="f") == rows).all()


@given(rows=npst.arrays(np.uint16, st.tuples(st.integers(1, 20), st.just(8))), cut=st.integers(1, 15))
@QUICK
def test_a_log_that_ends_within_a_row_is_truncated(rows: logs.Rows, cut: int) -> None:
    with pytest.raises(CaseFault) as caught:
        logs.decode(logs.encode(rows)[:-cut] or b"\0", file="f")
    assert caught.value.rule == "log.truncated"


@given(rows=npst.arrays(np.uint16, st.tuples(st.integers(1, 30), st.just(8))))
@QUICK
def test_any_rows_are_interpreted_or_refused(rows: logs.Rows, room: Room) -> None:
    record = LayerRecord(3, 100.0, (2, 2), "a.ptn")
    with contextlib.suppress(CaseFault):
        log = logs.interpret(rows, record, beam=1, room=room, file="f")
        assert np.isfinite(log.positions_mm).all()
        assert (np.abs(log.positions_mm) <= room.limits.half_field_mm).all()
        assert (log.meterset >= 0).all()


ROW = [16384, 16384, 12000, 12000, 100, 101, 3, 0xC001]


def _rows(*changes: dict[int, int]) -> logs.Rows:
    rows = np.array([ROW] * len(changes), dtype=np.uint16)
    for row, change in zip(rows, changes, strict=True):
        for column, value in change.items():
            row[column] = value
    return rows


ALIGNING = {1: 65433}
STATUS = {
    "on": ({}, True),
    "off": ({7: 0x0001}, False),
    "planned-only": ({7: 0x8001}, False),
    "actual-only": ({7: 0x4001}, False),
    "rescan-99": ({7: 0xC063}, True),
    "default-register": ({0: 65224, 1: 85}, False),
    "at-the-limit": ({0: 60000}, True),
}


@pytest.mark.parametrize(("change", "treats"), STATUS.values(), ids=STATUS.keys())
def test_only_rows_with_beam_at_a_position_are_treatment(
    change: dict[int, int], treats: bool, room: Room
) -> None:
    assert logs.treatment_rows(_rows(change), room).tolist() == [treats]


def test_alignment_rows_are_left_out_only_before_the_first_spot(room: Room) -> None:
    kept = logs.treatment_rows(_rows(ALIGNING, ALIGNING, {}, ALIGNING), room)
    assert kept.tolist() == [False, False, True, True]


def test_counts_become_mu_by_the_range_factor_of_the_layer(room: Room) -> None:
    rows = _rows({}, {4: 300})
    mu = [
        logs.interpret(
            rows, LayerRecord(3, 100.0, (code, code), "a"), beam=1, room=room, file="f"
        ).meterset.sum()
        for code in (2, 3)
    ]
    assert mu[0] == pytest.approx(400 * room.monitor.mu_per_count)
    assert mu[1] / mu[0] == pytest.approx(2.9787)


def test_positions_are_millimetres_from_the_offset(room: Room) -> None:
    log = logs.interpret(
        _rows({0: 16384 + 1000, 1: 16384 - 500}),
        LayerRecord(3, 100.0, (2, 2), "a"),
        beam=1,
        room=room,
        file="f",
    )
    assert log.positions_mm.tolist() == [[pytest.approx(10.959), pytest.approx(-5.8206)]]


def test_plan_and_ct_read_back_as_they_were_written(examined: Examined, room: Room) -> None:
    identity = phantom.Identity.of(1, "FAIRLEAD-G1")
    written = phantom.plan(identity, room)
    assert examined.plan is not None
    assert examined.ct is not None
    assert (examined.plan.uid, examined.plan.patient_id, examined.plan.setup_beams) == (
        written.uid,
        "SYN000001",
        (1,),
    )
    for read, made in zip(examined.plan.beams, written.beams, strict=True):
        assert (read.number, read.gantry_deg, read.isocentre_mm) == (
            made.number,
            made.gantry_deg,
            made.isocentre_mm,
        )
        for layer, planned in zip(read.layers, made.layers, strict=True):
            assert layer.energy_mev == planned.energy_mev
            assert np.allclose(layer.positions_mm, planned.positions_mm)
            assert np.allclose(layer.meterset, planned.meterset, rtol=1e-6)
    assert examined.ct.grid == phantom.CT_GRID
    assert (examined.ct.values == phantom.hounsfield()).all()


def test_the_same_seed_gives_the_same_files_and_another_seed_others(
    clean_case: Path, machines: Machine, tmp_path: Path
) -> None:
    from fairlead.cases import faults

    def content(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    faults.generate_case(tmp_path / "again", machines, seed=1)
    faults.generate_case(tmp_path / "other", machines, seed=2)
    first = content(clean_case)
    assert content(tmp_path / "again") == first
    assert content(tmp_path / "other").keys() != first.keys()


MACHINE_CHANGES = {
    "unknown-key": ("row_period_ms", "row_period_us", "row_period_us"),
    "zero-gain": ("x_gain_mm = 0.010959", "x_gain_mm = 0.0", "gain"),
    "falling-table": ("[70.0, 7.0e7], [100.0", "[170.0, 7.0e7], [100.0", "protons_per_mu"),
    "nan": ("mu_per_count = 2.0e-6", "mu_per_count = nan", "mu_per_count"),
    "pattern": ('"FAIRLEAD-G1"', '"FAIRLEAD-(G1"', "treatment_machine_pattern"),
    "same-name": ('name = "G2"', 'name = "G1"', "same name"),
    "schema": ("schema_version = 1", "schema_version = 2", "schema_version"),
    "not-toml": ("schema_version = 1", "schema_version =", "TOML"),
}


@pytest.mark.parametrize(("old", "new", "named"), MACHINE_CHANGES.values(), ids=MACHINE_CHANGES.keys())
def test_a_machine_file_that_is_wrong_is_refused_by_key(
    old: str, new: str, named: str, tmp_path: Path
) -> None:
    text = machine.DEMO_MACHINES.read_text()
    assert old in text
    (tmp_path / "m.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(MachineFileInvalid, match=named):
        machine.load(tmp_path / "m.toml")


@pytest.mark.parametrize("name", ["FAIRLEAD-G3", "fairlead-g1", "XFAIRLEAD-G1", "", "G1"])
def test_a_treatment_machine_that_no_room_serves_has_no_default(name: str, machines: Machine) -> None:
    with pytest.raises(MachineUnknown):
        machines.room_for(name)


def test_big_numbers_of_pixels_are_refused_before_memory_is_taken(
    dicom_files: dict[str, bytes], tmp_path: Path
) -> None:
    import pydicom

    dose = pydicom.dcmread(io.BytesIO(dicom_files["dose"]))
    dose.Rows = dose.Columns = 8000
    dose.save_as(tmp_path / "x.dcm")
    with pytest.raises(CaseFault, match="PixelData"):
        rtdose.read(tmp_path / "x.dcm")
