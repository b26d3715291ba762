"""Every rule of the case folder, broken one at a time; and hostile folders."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from fairlead.cases import faults, rules
from fairlead.cases.folders import CaseNotFound
from fairlead.cases.generate import Written
from fairlead.cases.machine import Machine
from fairlead.cases.rules import Examined

Broken = Callable[[], list[tuple[str, str, str]]]
RECORD_FAULTS = [fault for fault in faults.FAULTS if fault.kind == "record"]
DELIVERY_FAULTS = [fault for fault in faults.FAULTS if fault.kind != "record"]
SECOND = "2026011209370000"


def test_a_clean_case_breaks_no_rule(examined: Examined) -> None:
    assert examined.violations == ()
    assert examined.plan is not None
    assert examined.room is not None
    assert examined.room.name == "G1"
    assert [delivery.beam_number for delivery in examined.deliveries] == [2, 3]


@pytest.mark.parametrize("fault", RECORD_FAULTS, ids=lambda fault: fault.name)
def test_a_record_fault_breaks_the_rule_that_it_names(
    fault: faults.Fault, clean: Written, case: Path, machines: Machine, tmp_path: Path
) -> None:
    if fault.damage:  # what `generate` does, with a copy of the clean case instead of a new one
        places = {number: case / place.name for number, place in clean.deliveries.items()}
        fault.damage(replace(clean, folder=case, plan_file=case / clean.plan_file.name, deliveries=places))
    else:
        case = faults.generate_case(tmp_path / "new", machines, fault=fault.name).folder
    found = rules.examine(case, machines).violations
    assert fault.rule in {violation.rule for violation in found}
    assert all(violation.file for violation in found)
    # The synthetic patient is called SYN000001 and its logs are named after it.
    assert not any("SYN" in text for v in found for text in (v.file, v.field, v.message))


@pytest.mark.parametrize("fault", DELIVERY_FAULTS, ids=lambda fault: fault.name)
def test_a_delivery_fault_leaves_the_records_in_order(
    fault: faults.Fault, machines: Machine, tmp_path: Path
) -> None:
    faults.generate_case(tmp_path / "case", machines, fault=fault.name)
    assert rules.examine(tmp_path / "case", machines).valid


def _set(element: str, value: object) -> Callable[[pydicom.Dataset], None]:
    def change(plan: pydicom.Dataset) -> None:
        *path, keyword = element.split(".")
        item = plan
        for part in path:
            name, _, index = part.partition("/")
            item = item[name].value[int(index or 0)]
        if value is None:
            del item[keyword]
        else:
            setattr(item, keyword, value)

    return change


BEAM, POINT = "IonBeamSequence/1", "IonBeamSequence/1.IonControlPointSequence/0"
PLAN_CHANGES = {
    "modality": (_set("Modality", "CT"), "plan.not_an_ion_plan"),
    "photon-class": (_set("SOPClassUID", "1.2.840.10008.5.1.4.1.1.481.5"), "plan.not_an_ion_plan"),
    "no-patient": (_set("PatientID", None), "plan.field_missing"),
    "empty-patient": (_set("PatientID", ""), "plan.field_missing"),
    "no-beams": (_set("IonBeamSequence", []), "plan.field_missing"),
    "no-isocentre": (_set(f"{POINT}.IsocenterPosition", None), "plan.field_missing"),
    "short-isocentre": (_set(f"{POINT}.IsocenterPosition", [0, 0]), "plan.field_invalid"),
    "no-energy": (_set(f"{POINT}.NominalBeamEnergy", None), "plan.energy"),
    "energy-999": (_set(f"{POINT}.NominalBeamEnergy", "999"), "plan.energy"),
    "spot-count": (_set(f"{POINT}.NumberOfScanSpotPositions", 3), "plan.field_invalid"),
    "negative-weight": (_set(f"{POINT}.ScanSpotMetersetWeights", [-1.0] * 121), "plan.field_invalid"),
    "nan-weight": (_set(f"{POINT}.ScanSpotMetersetWeights", [float("nan")] * 121), "plan.field_invalid"),
    "far-spot": (_set(f"{POINT}.ScanSpotPositionMap", [400.0] * 242), "plan.spot_out_of_field"),
    "pitch": (_set(f"{POINT}.TableTopPitchAngle", 3.0), "plan.geometry_unsupported"),
    "moving": (
        _set("IonBeamSequence/1.IonControlPointSequence/4.GantryAngle", 10.0),
        "plan.geometry_unsupported",
    ),
    "moving-isocentre": (
        _set("IonBeamSequence/1.IonControlPointSequence/4.IsocenterPosition", [0, 0, 30]),
        "plan.geometry_unsupported",
    ),
    "eccentric": (_set(f"{POINT}.TableTopEccentricAngle", 20.0), "plan.geometry_unsupported"),
    "out-of-order": (
        _set("IonBeamSequence/1.IonControlPointSequence/4.ControlPointIndex", 2),
        "plan.control_points",
    ),
    "falling-weights": (
        _set("IonBeamSequence/1.IonControlPointSequence/4.CumulativeMetersetWeight", 0),
        "plan.meterset_mismatch",
    ),
    "referenced-twice": (
        _set("FractionGroupSequence/0.ReferencedBeamSequence/2.ReferencedBeamNumber", 2),
        "plan.duplicate_beam",
    ),
    "kev": (_set(f"{POINT}.NominalBeamEnergyUnit", "KEV"), "plan.unsupported"),
    "carbon": (_set(f"{BEAM}.RadiationType", "ION"), "plan.unsupported"),
    "uniform": (_set(f"{BEAM}.ScanMode", "UNIFORM"), "plan.scan_mode"),
    "beam-twice": (_set(f"{BEAM}.BeamNumber", 3), "plan.duplicate_beam"),
    "unreferenced-beam": (_set(f"{BEAM}.BeamNumber", 9), "plan.meterset_missing"),
    "control-points": (_set(f"{BEAM}.NumberOfControlPoints", 4), "plan.control_points"),
    "sad-zero": (_set(f"{BEAM}.VirtualSourceAxisDistances", [0.0, 2000.0]), "plan.field_invalid"),
    "position": (_set("PatientSetupSequence/0.PatientPosition", None), "plan.patient_position"),
    "frame": (_set("FrameOfReferenceUID", "1.2.3"), "ct.frame_mismatch"),
    "study": (_set("StudyInstanceUID", "1.2.3"), "planinfo.study_mismatch"),
    "patient": (_set("PatientID", "SOMEONE"), "planinfo.patient_mismatch"),
    "isocentre-outside": (_set(f"{POINT}.IsocenterPosition", [500, 0, 0]), "ct.isocentre_outside"),
}


@pytest.mark.parametrize(("change", "rule"), PLAN_CHANGES.values(), ids=PLAN_CHANGES.keys())
def test_a_contradiction_in_the_plan_is_named(
    change: Callable[[pydicom.Dataset], None], rule: str, case: Path, rules_broken_by: Broken
) -> None:
    path = next(case.glob("RP.*.dcm"))
    plan = pydicom.dcmread(path)
    change(plan)
    plan.save_as(path)
    assert rule in {found[0] for found in rules_broken_by()}


TEXT_CHANGES = {
    "no-comma": ("PlanInfo.txt", "TCSC_PLAN_NUMBER,1", "TCSC_PLAN_NUMBER 1", "planinfo.value_invalid"),
    "no-beam": ("PlanInfo.txt", "DICOM_BEAM_NUMBER,3\n", "", "planinfo.value_missing"),
    "beam-text": ("PlanInfo.txt", "DICOM_BEAM_NUMBER,3", "DICOM_BEAM_NUMBER,three", "planinfo.value_invalid"),
    "setup-beam": ("PlanInfo.txt", "DICOM_BEAM_NUMBER,3", "DICOM_BEAM_NUMBER,1", "planinfo.beam_unknown"),
    "stop-zero": ("PlanInfo.txt", "STOP_LAYER_NUMBER,13", "STOP_LAYER_NUMBER,0", "planinfo.value_invalid"),
    "stop-short": ("PlanInfo.txt", "STOP_LAYER_NUMBER,13", "STOP_LAYER_NUMBER,12", "planrange.rows"),
    "twice": (
        "PlanInfo.txt",
        "TCSC_FIELD_NUMBER,2",
        "TCSC_FIELD_NUMBER,2\nTCSC_FIELD_NUMBER,3",
        "planinfo.contradiction",
    ),
    "start-after-stop": (
        "PlanInfo.txt",
        "START_LAYER_NUMBER,1",
        "START_LAYER_NUMBER,14",
        "planinfo.contradiction",
    ),
    "start-later": ("PlanInfo.txt", "START_LAYER_NUMBER,1", "START_LAYER_NUMBER,4", "planrange.rows"),
    "another-field": (
        "PlanInfo.txt",
        "TCSC_FIELD_NUMBER,2",
        "TCSC_FIELD_NUMBER,1",
        "planrange.field_mismatch",
    ),
    "another-patient": ("PlanRange.txt", ",SYN000001,", ",SYN000002,", "planrange.patient_mismatch"),
    "column-twice": ("PlanRange.txt", "RESULT_ID", "LAYER_NO", "planrange.contradiction"),
    "newline-in-name": ("PlanRange.txt", "G1_SYN000001_1_2_5.ptn", '"G1\n5.ptn"', "planrange.unsafe_name"),
    "time": (
        "PlanInfo.txt",
        f"TCSC_IRRAD_DATETIME,{SECOND}",
        "TCSC_IRRAD_DATETIME,yesterday",
        "planinfo.value_invalid",
    ),
    "header": ("PlanRange.txt", "LAYER_ENERGY", "ENERGY", "planrange.column_missing"),
    "range-code": ("PlanRange.txt", ",2,2,2,2,2,", ",2,9,9,2,2,", "planrange.monitor_range"),
    "same-layer": ("PlanRange.txt", "\n2,2,", "\n2,1,", "planrange.duplicate_layer"),
    "energy-text": ("PlanRange.txt", "\n1,1,121.50", "\n1,1,fast", "planrange.value_invalid"),
    "short-row": ("PlanRange.txt", "\n1,1,121.50,", "\n1,1,", "planrange.rows"),
}


@pytest.mark.parametrize(("name", "old", "new", "rule"), TEXT_CHANGES.values(), ids=TEXT_CHANGES.keys())
def test_a_contradiction_in_the_records_is_named(
    name: str, old: str, new: str, rule: str, case: Path, rules_broken_by: Broken
) -> None:
    path = case / SECOND / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    found = rules_broken_by()
    assert rule in {one[0] for one in found}
    assert all(one[1].startswith(SECOND) for one in found)


def test_a_delivery_that_was_taken_up_at_a_later_layer_is_in_order(case: Path, machines: Machine) -> None:
    place = case / SECOND
    info = (place / "PlanInfo.txt").read_text()
    (place / "PlanInfo.txt").write_text(info.replace("START_LAYER_NUMBER,1", "START_LAYER_NUMBER,3"))
    rows = (place / "PlanRange.txt").read_text().splitlines(keepends=True)
    (place / "PlanRange.txt").write_text("".join([rows[0], *rows[3:]]))
    for layer in (1, 2):
        next(place.glob(f"*_{layer}.ptn")).unlink()
    examined = rules.examine(case, machines)
    assert examined.violations == ()
    assert [delivery.start_layer for delivery in examined.deliveries] == [1, 3]


def _zero(case: Path) -> None:
    next(case.glob("RP.*")).write_bytes(b"")


def _huge(case: Path) -> None:
    with next(case.glob("RP.*")).open("r+b") as stream:
        stream.truncate(20 * 1024**3)  # sparse: takes no room


def _fifo(case: Path) -> None:
    os.mkfifo(case / SECOND / "pipe.ptn")


def _link_loop(case: Path) -> None:
    (case / "loop").symlink_to(case)


def _marker_is_folder(case: Path) -> None:
    (case / "_CASE_READY").unlink()
    (case / "_CASE_READY").mkdir()


def _info_is_folder(case: Path) -> None:
    (case / SECOND / "PlanInfo.txt").unlink()
    (case / SECOND / "PlanInfo.txt").mkdir()


def _two_plans(case: Path) -> None:
    path = next(case.glob("RP.*"))
    (case / "RP.again.dcm").write_bytes(path.read_bytes())


def _bytes_in_text(case: Path) -> None:
    (case / SECOND / "PlanInfo.txt").write_bytes(b"\xff\xfe\0A")


def _non_utf8_name(case: Path) -> None:
    os.close(os.open(os.fsencode(case / SECOND) + b"/\xff\xfe.ptn", os.O_CREAT | os.O_WRONLY))


def _deflated(case: Path) -> None:
    path = next(case.glob("RP.*"))
    plan = pydicom.dcmread(path)
    plan.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    plan.save_as(path)


def _another_table(case: Path) -> None:
    text = (case / SECOND / "PlanRange.txt").read_text()
    (case / SECOND / "PlanRange.csv").write_text(text.replace("118.84", "118.94"))


def _short_name(case: Path) -> None:
    (case / SECOND).rename(case / SECOND[:14])


def _too_deep(case: Path) -> None:
    (case / "G1").mkdir()
    (case / SECOND).rename(case / "G1" / SECOND)


def _stray_log(case: Path) -> None:
    (case / SECOND / "stray.ptn").write_bytes(b"\0" * 16)


HOSTILE = {
    "zero-length": (_zero, "plan.empty"),
    "huge": (_huge, "plan.too_large"),
    "fifo": (_fifo, "folder.special_file"),
    "link-loop": (_link_loop, "folder.symlink"),
    "marker-is-folder": (_marker_is_folder, "folder.ready_missing"),
    "info-is-folder": (_info_is_folder, "planinfo.missing"),
    "two-plans": (_two_plans, "plan.ambiguous"),
    "bytes-in-text": (_bytes_in_text, "planinfo.unreadable"),
    "non-utf8-name": (_non_utf8_name, "folder.hostile_name"),
    "deflated-bomb": (_deflated, "plan.unsupported"),
    "two-tables": (_another_table, "planrange.contradiction"),
    "delivery-with-a-short-name": (_short_name, "folder.delivery_name"),
    "delivery-too-deep": (_too_deep, "folder.delivery_name"),
    "stray-log": (_stray_log, "log.extra"),
}


@pytest.mark.parametrize(("damage", "rule"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_folder_gives_a_violation(
    damage: Callable[[Path], None], rule: str, case: Path, machines: Machine
) -> None:
    damage(case)
    found = rules.examine(case, machines).violations
    assert rule in {violation.rule for violation in found}
    json.dumps([violation.file for violation in found]).encode()  # printable, whatever the name was


def test_private_spots_are_called_unsupported_and_not_empty(machines: Machine, tmp_path: Path) -> None:
    faults.generate_case(tmp_path / "case", machines, fault="private-spots")
    (found,) = rules.examine(tmp_path / "case", machines).violations
    assert "unsupported private spot encoding" in found.message
    assert found.field.endswith("ScanSpotPositionMap")


def test_the_ready_marker_may_lie_in_the_patients_folder_whose_name_stays_hidden(
    clean_case: Path, machines: Machine, tmp_path: Path
) -> None:
    patient = tmp_path / "DOE-JOHN"
    patient.mkdir()
    study = patient / "study"
    subprocess.run(["cp", "-r", str(clean_case), str(study)], check=True)
    (study / "_CASE_READY").rename(patient / "_CASE_READY")
    assert rules.examine(study, machines).valid
    (study / SECOND / "DOE-JOHN_5.ptn").write_bytes(b"\0" * 16)
    (found,) = rules.examine(study, machines).violations
    assert found.file == f"{SECOND}/[patient]_5.ptn"


def test_a_folder_that_is_not_there_is_an_error_and_not_a_violation(
    machines: Machine, tmp_path: Path
) -> None:
    with pytest.raises(CaseNotFound):
        rules.examine(tmp_path / "nowhere", machines)


def test_help_of_the_command_loads_neither_numpy_nor_pydicom() -> None:
    program = (
        "import sys; import fairlead.cli.cases; "
        "print(sorted(name for name in ('numpy', 'pydicom', 'PIL') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_rule_is_in_the_reference() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "reference" / "case-rules.md").read_text(encoding="utf-8")
    pattern = re.compile(r'"((?:folder|plan|ct|planinfo|planrange|log)\.[a-z_]+)"')
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (root / "src/fairlead/cases").rglob("*.py")
    )
    rules_named = set(pattern.findall(sources))
    assert len(rules_named) > 40
    assert sorted(rule for rule in rules_named if f"`{rule}`" not in text) == []
