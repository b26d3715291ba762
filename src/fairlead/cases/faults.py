"""Faults that a synthetic case can be given, by name.

A *delivery* fault leaves every record in order: only the dose and the spots tell. A *record* fault breaks a
rule of docs/reference/case-rules.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom

from fairlead.cases import generate, logs, phantom
from fairlead.cases.folders import READY_MARKER
from fairlead.cases.generate import Distort, Spots, Written
from fairlead.cases.machine import Machine
from fairlead.cases.model import Beam, PlanLayer
from fairlead.kernel.errors import InvalidInput

Damage = Callable[[Written], None]


class FaultUnknown(InvalidInput):
    """There is no fault of this name."""

    code, status, retryable = "cases.fault_unknown", 422, False


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a synthetic case is wrong."""

    name: str
    kind: Literal["none", "delivery", "record"]
    what: str
    rule: str = ""  # of a record fault: the rule that must be broken
    distort: Distort = generate.as_planned
    damage: Damage | None = None


def generate_case(folder: Path, machine: Machine, *, fault: str = "none", seed: int = 1) -> Written:
    """Write a synthetic case with the fault `fault`. Raises FaultUnknown and FolderNotEmpty."""
    chosen = find(fault)
    written = generate.write_case(folder, machine, seed=seed, distort=chosen.distort)
    if chosen.damage:
        chosen.damage(written)
    return written


def find(name: str) -> Fault:
    """The fault called `name`. Raises FaultUnknown."""
    for fault in FAULTS:
        if fault.name == name:
            return fault
    raise FaultUnknown(
        f"There is no fault {name!r}.",
        remedy=f"Use one of: {', '.join(fault.name for fault in FAULTS)}.",
        known=[fault.name for fault in FAULTS],
    )


def _last_beam(written: Written) -> Path:
    return written.deliveries[max(written.deliveries)]


def _log(written: Written, layer: int) -> Path:
    return next(_last_beam(written).glob(f"*_{layer}.ptn"))


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise ValueError(f"{path.name} does not hold what was to be replaced")
    path.write_text(text.replace(old, new), encoding="utf-8")


def _shift(beam: Beam, layer: PlanLayer, spots: Spots) -> Spots:  # noqa: ARG001
    return (
        replace(spots, positions_mm=spots.positions_mm + np.array([4.0, 0.0])) if beam.number == 3 else spots
    )


def _too_much(beam: Beam, layer: PlanLayer, spots: Spots) -> Spots:  # noqa: ARG001
    return replace(spots, meterset=spots.meterset * 1.08)


def _half_gone(beam: Beam, layer: PlanLayer, spots: Spots) -> Spots:
    if beam.number != 3 or layer.number > 3:
        return spots
    return replace(spots, meterset=np.where(spots.positions_mm[:, 0] > 0, 0.0, spots.meterset))


def _blown_up(beam: Beam, layer: PlanLayer, spots: Spots) -> Spots:  # noqa: ARG001
    return replace(spots, fwhm_mm=spots.fwhm_mm * 1.3)


def _stopped(beam: Beam, layer: PlanLayer, spots: Spots) -> Spots | None:
    return None if beam.number == 3 and layer.number > 6 else spots


def _drop_layer(beam: Beam, layer: PlanLayer, spots: Spots) -> Spots | None:
    return None if beam.number == 3 and layer.number == 4 else spots


def _swap(written: Written) -> None:
    one, other = _log(written, 2), _log(written, 8)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _truncate(written: Written) -> None:
    log = _log(written, 5)
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2 // 16 * 16 + 7])


def _empty(written: Written) -> None:
    _log(written, 5).write_bytes(b"")


def _corrupt(written: Written) -> None:
    log = _log(written, 5)
    content = bytearray(log.read_bytes())
    middle = len(content) // 32 * 16
    # A bit flipped in the address lines: x at 370 mm, with beam on.
    content[middle : middle + 2] = (50_100).to_bytes(2, "big")
    content[middle + 14 : middle + 16] = (0xC001).to_bytes(2, "big")
    log.write_bytes(bytes(content))


def _copy_log(written: Written) -> None:
    rows = logs.decode(_log(written, 5).read_bytes(), file="log")
    rows[:, logs.Column.LAYER] = 6
    _log(written, 6).write_bytes(logs.encode(rows))


def _wrong_beam(written: Written) -> None:
    _edit(
        _last_beam(written) / "PlanInfo.txt",
        f"DICOM_BEAM_NUMBER,{max(written.deliveries)}",
        "DICOM_BEAM_NUMBER,7",
    )


def _wrong_stop_layer(written: Written) -> None:
    layers = len(written.plan.beams[-1].layers)
    _edit(
        _last_beam(written) / "PlanInfo.txt", f"STOP_LAYER_NUMBER,{layers}", f"STOP_LAYER_NUMBER,{layers + 1}"
    )


def _wrong_patient(written: Written) -> None:
    _edit(
        _last_beam(written) / "PlanInfo.txt",
        f"DICOM_PATIENT_ID,{written.identity.patient_id}",
        "DICOM_PATIENT_ID,SYN999999",
    )


def _wrong_energy(written: Written) -> None:
    energy = written.plan.beams[-1].layers[4].energy_mev
    _edit(_last_beam(written) / "PlanRange.txt", f",5,{energy:.2f},", f",5,{energy + 3:.2f},")


def _edit_plan(change: Callable[[pydicom.Dataset], None]) -> Damage:
    def damage(written: Written) -> None:
        dataset = pydicom.dcmread(written.plan_file)
        change(dataset)
        written.plan_file.write_bytes(phantom.encoded(dataset))

    return damage


def _private_spots(dataset: pydicom.Dataset) -> None:
    for beam in dataset.IonBeamSequence[1:]:
        beam.ScanMode = "LINE"
        for point in beam.IonControlPointSequence:
            content = np.array(point.ScanSpotPositionMap, dtype="<f4").tobytes()
            block = point.private_block(0x300B, "FAIRLEAD LINE SCAN 1.0", create=True)
            block.add_new(0x94, "OB", content)
            for keyword in ("NumberOfScanSpotPositions", "ScanSpotPositionMap", "ScanSpotMetersetWeights"):
                delattr(point, keyword)


def _unknown_machine(dataset: pydicom.Dataset) -> None:
    for beam in dataset.IonBeamSequence:
        beam.TreatmentMachineName = "OTHER-7"


def _two_machines(dataset: pydicom.Dataset) -> None:
    dataset.IonBeamSequence[-1].TreatmentMachineName = "FAIRLEAD-G2"


def _wrong_meterset(dataset: pydicom.Dataset) -> None:
    point = dataset.IonBeamSequence[-1].IonControlPointSequence[0]
    point.ScanSpotMetersetWeights = [weight * 1.5 for weight in point.ScanSpotMetersetWeights]


def _unmark(written: Written) -> None:
    (written.folder / READY_MARKER).unlink()


def _ct_gap(written: Written) -> None:
    sorted((written.folder / "CT").iterdir())[20].unlink()


def _hostile_name(written: Written) -> None:
    (_last_beam(written) / "x; rm -rf ~\n.ptn").write_bytes(b"\0" * 16)


def _link_out(written: Written) -> None:
    log = _log(written, 5)
    log.unlink()
    log.symlink_to("/etc/hostname")


def _traversal(written: Written) -> None:
    name = _log(written, 5).name
    _edit(_last_beam(written) / "PlanRange.txt", f"{name},", "../../../outside.ptn,")


def _no_second_beam(written: Written) -> None:
    place = _last_beam(written)
    for path in place.iterdir():
        path.unlink()
    place.rmdir()


def _again(written: Written) -> None:
    """The first beam once more, twenty minutes later, with its own noise."""
    place = written.deliveries[min(written.deliveries)]
    later = place.with_name("2026011209500000")
    later.mkdir()
    for path in place.iterdir():
        content = path.read_bytes()
        if path.suffix == ".ptn":
            rows = logs.decode(content, file="log")
            rows[:, logs.Column.DOSE2] += np.uint16(1)
            content = logs.encode(rows)
        elif path.name == "PlanInfo.txt":
            content = content.replace(place.name.encode(), later.name.encode())
        (later / path.name).write_bytes(content)


FAULTS: tuple[Fault, ...] = (
    Fault("none", "none", "nothing: a delivery as planned"),
    Fault("position-shift", "delivery", "one beam lies 4 mm to the side", distort=_shift),
    Fault("mu-error", "delivery", "every spot receives 8 % too much", distort=_too_much),
    Fault("spots-missing", "delivery", "half the spots of three layers receive nothing", distort=_half_gone),
    Fault("spot-size", "delivery", "every spot is 30 % larger than planned", distort=_blown_up),
    Fault("early-stop", "delivery", "one beam stops after its sixth layer", distort=_stopped),
    Fault("missing-beam", "delivery", "one beam was not delivered", damage=_no_second_beam),
    Fault("repeated-beam", "delivery", "one beam was delivered twice in a fraction", damage=_again),
    Fault("missing-layer", "record", "one layer is in no record", "planrange.rows", distort=_drop_layer),
    Fault(
        "missing-log",
        "record",
        "the log of one layer is gone",
        "log.missing",
        damage=lambda w: _log(w, 5).unlink(),
    ),
    Fault(
        "swapped-logs", "record", "the logs of two layers are exchanged", "log.layer_mismatch", damage=_swap
    ),
    Fault("truncated-log", "record", "a log ends within a row", "log.truncated", damage=_truncate),
    Fault("empty-log", "record", "a log has no content", "log.empty", damage=_empty),
    Fault(
        "corrupt-record",
        "record",
        "one row holds an impossible position",
        "log.position_out_of_field",
        damage=_corrupt,
    ),
    Fault(
        "duplicated-log",
        "record",
        "one layer's log is a copy of another's",
        "log.duplicate",
        damage=_copy_log,
    ),
    Fault(
        "wrong-patient",
        "record",
        "a delivery names another patient",
        "planinfo.patient_mismatch",
        damage=_wrong_patient,
    ),
    Fault(
        "wrong-beam",
        "record",
        "a delivery names a beam that the plan has not",
        "planinfo.beam_unknown",
        damage=_wrong_beam,
    ),
    Fault(
        "wrong-stop-layer",
        "record",
        "a delivery names more layers than the plan has",
        "planinfo.stop_layer",
        damage=_wrong_stop_layer,
    ),
    Fault(
        "wrong-energy",
        "record",
        "a layer was recorded with another energy",
        "planrange.energy",
        damage=_wrong_energy,
    ),
    Fault("no-ready-marker", "record", "the ready marker is missing", "folder.ready_missing", damage=_unmark),
    Fault("no-plan", "record", "there is no plan", "plan.missing", damage=lambda w: w.plan_file.unlink()),
    Fault(
        "private-spots",
        "record",
        "spots are in private elements",
        "plan.private_spots",
        damage=_edit_plan(_private_spots),
    ),
    Fault(
        "unknown-machine",
        "record",
        "the plan is for an unknown machine",
        "plan.machine_unknown",
        damage=_edit_plan(_unknown_machine),
    ),
    Fault(
        "two-machines",
        "record",
        "the beams are for two machines",
        "plan.machines_differ",
        damage=_edit_plan(_two_machines),
    ),
    Fault(
        "wrong-meterset",
        "record",
        "spot weights contradict the beam's",
        "plan.meterset_mismatch",
        damage=_edit_plan(_wrong_meterset),
    ),
    Fault("ct-gap", "record", "a CT slice is missing", "ct.missing_slice", damage=_ct_gap),
    Fault(
        "hostile-name",
        "record",
        "a file name holds a shell command",
        "folder.hostile_name",
        damage=_hostile_name,
    ),
    Fault("outside-link", "record", "a log is a link out of the folder", "folder.symlink", damage=_link_out),
    Fault(
        "path-traversal",
        "record",
        "PlanRange names a file outside",
        "planrange.unsafe_name",
        damage=_traversal,
    ),
)
