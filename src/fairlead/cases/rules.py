"""What a case has to fulfil before anything is calculated from it: docs/reference/case-rules.md.

Every rule that is broken is found and named with file and field; nothing is guessed and nothing is repaired.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fairlead.cases import deliveries, folders, logs, plans, volumes
from fairlead.cases.folders import CaseFolder, shown, shown_name
from fairlead.cases.interpret import log_place
from fairlead.cases.machine import Machine, MachineUnknown, Room
from fairlead.cases.model import (
    Beam,
    CaseFault,
    Delivery,
    LayerRecord,
    Plan,
    Violation,
    Volume,
    delivery_label,
)


@dataclass(frozen=True, slots=True)
class Examined:
    """A case folder and what could be read of it."""

    folder: CaseFolder
    plan: Plan | None
    plan_file: Path | None
    room: Room | None
    ct: Volume | None
    deliveries: tuple[Delivery, ...]
    violations: tuple[Violation, ...]
    # The same with files named by what they are: a sender's names may identify the patient.
    anonymous: tuple[Violation, ...]

    @property
    def valid(self) -> bool:
        """Whether no rule is broken."""
        return not self.violations


def examine(case: Path, machine: Machine) -> Examined:
    """Everything about the case folder `case`. Raises CaseNotFound where there is none, and nothing else."""
    folder = folders.look(case)
    found: list[Violation] = list(folder.violations)
    if not folder.ready:
        found.append(
            Violation(
                "folder.ready_missing",
                folders.READY_MARKER,
                "",
                "the sender has not marked the case as complete",
            )
        )
    plan_file, plan = _plan(folder, found)
    room = _room(plan, plan_file, folder, machine, found) if plan and plan_file else None
    ct = _ct(folder, plan, found)
    read = _deliveries(folder, found)
    if not folder.deliveries:
        found.append(
            Violation(
                "folder.no_delivery", ".", "", "the folder holds no delivery (a folder named by 16 digits)"
            )
        )
    found += _misnamed_deliveries(folder)
    if plan:
        for delivery in read:
            found += _against_plan(delivery, plan, room)
    found += _log_violations(folder, read, room)
    hidden = _identifiers(folder, plan, ct, read)
    shown_ones, anonymous = tuple(_redacted(found, hidden)), tuple(_anonymous(found, folder, read))
    return Examined(folder, plan, plan_file, room, ct, read, shown_ones, anonymous)


def _collect(found: list[Violation], fault: CaseFault) -> None:
    found.append(Violation.of(fault))


def _identifiers(
    folder: CaseFolder, plan: Plan | None, ct: Volume | None, read: tuple[Delivery, ...]
) -> tuple[str, ...]:
    known = [plan.patient_id if plan else "", ct.patient_id if ct else ""]
    for delivery in read:
        known += [delivery.patient_id, *delivery.aliases]
    if (folder.root.parent / folders.READY_MARKER).is_file():
        known.append(folder.root.parent.name)  # the sender's layout: <patient>/<study>
    return tuple({name for name in known if name})


def _redacted(found: list[Violation], hidden: tuple[str, ...]) -> Iterator[Violation]:
    for violation in dict.fromkeys(found):
        yield replace(violation, file=shown_name(violation.file, hidden=hidden))


def _anonymous(found: list[Violation], folder: CaseFolder, read: tuple[Delivery, ...]) -> Iterator[Violation]:
    if not found:
        return
    places = folders.anonymous_places(folder.root)
    for delivery in read:
        for record in delivery.layers:
            places[log_place(delivery, record)] = f"{delivery.label}/layer {record.layer}.ptn"
    for violation in dict.fromkeys(found):
        file = shown_name(violation.file)
        yield replace(violation, file=places.get(file) or _of_delivery(file) or "a file of the case")


def _of_delivery(file: str) -> str | None:
    """The name of a file of ours that is missing from its delivery."""
    folder, _, name = file.partition("/")
    if name in (deliveries.PLAN_INFO, *deliveries.PLAN_RANGES):
        return f"{delivery_label(folder)}/{name}"
    return folder if folder == folders.READY_MARKER else None


def _plan(folder: CaseFolder, found: list[Violation]) -> tuple[Path | None, Plan | None]:
    candidates = []
    for path in folder.dicom:
        file = shown(path, folder.root)
        try:
            if plans.is_plan(path, file=file):
                candidates.append(path)
        except CaseFault as fault:
            _collect(found, fault)
    if len(candidates) != 1:
        if not candidates:
            words = "no readable RT Ion Plan was found in the folder or one level below"
            found.append(Violation("plan.missing", ".", "Modality", words))
        words = f"{len(candidates)} RT Ion Plans were found, one was expected"
        found += [
            Violation("plan.ambiguous", shown(path, folder.root), "Modality", words) for path in candidates
        ]
        return None, None
    try:
        return candidates[0], plans.read(candidates[0], file=shown(candidates[0], folder.root))
    except CaseFault as fault:
        _collect(found, fault)
        return candidates[0], None


def _room(
    plan: Plan, path: Path, folder: CaseFolder, machine: Machine, found: list[Violation]
) -> Room | None:
    file = shown(path, folder.root)
    names = {beam.machine for beam in plan.beams}
    if len(names) != 1:
        found.append(
            Violation(
                "plan.machines_differ",
                file,
                "IonBeamSequence.TreatmentMachineName",
                f"the treatment beams name {len(names)} machines, one was expected",
            )
        )
        return None
    try:
        room = machine.room_for(names.pop())
    except MachineUnknown as error:
        found.append(
            Violation("plan.machine_unknown", file, "IonBeamSequence.TreatmentMachineName", error.message)
        )
        return None
    for beam in plan.beams:
        found += _beyond_room(beam, room, file)
    return room


def _beyond_room(beam: Beam, room: Room, file: str) -> Iterator[Violation]:
    low, high = room.limits.energy_mev
    for layer in beam.layers:
        place = f"BeamNumber {beam.number}, layer {layer.number}, "
        if not low <= layer.energy_mev <= high:
            words = f"{layer.energy_mev:g} MeV is outside of the room's {low:g} to {high:g} MeV"
            yield Violation("plan.energy", file, place + "NominalBeamEnergy", words)
        if (np.abs(layer.positions_mm) > np.array(room.limits.half_field_mm)).any():
            yield Violation(
                "plan.spot_out_of_field",
                file,
                place + "ScanSpotPositionMap",
                "a spot is outside of the field",
            )


def _ct(folder: CaseFolder, plan: Plan | None, found: list[Violation]) -> Volume | None:
    if folder.ct is None:
        return None
    try:
        ct = volumes.read(folder.ct, root=folder.root)
    except CaseFault as fault:
        _collect(found, fault)
        return None
    name = shown(folder.ct, folder.root)
    if plan is None:
        return ct
    if ct.patient_id != plan.patient_id:
        found.append(
            Violation(
                "ct.patient_mismatch", name, "PatientID", "the CT belongs to another patient than the plan"
            )
        )
    if plan.frame_uid and plan.frame_uid != ct.frame_uid:
        found.append(
            Violation("ct.frame_mismatch", name, "FrameOfReferenceUID", "it differs from the plan's")
        )
    for beam in plan.beams:
        ends = [(ct.grid.origin_mm[axis], ct.grid.upper_mm(axis)) for axis in range(3)]
        if not all(low <= at <= high for at, (low, high) in zip(beam.isocentre_mm, ends, strict=True)):
            words = f"the isocentre of beam {beam.number} lies outside of the CT"
            found.append(Violation("ct.isocentre_outside", name, "ImagePositionPatient", words))
    return ct


def _deliveries(folder: CaseFolder, found: list[Violation]) -> tuple[Delivery, ...]:
    read = []
    for path in folder.deliveries:
        try:
            read.append(deliveries.read_delivery(path, name=path.name))
        except CaseFault as fault:
            _collect(found, fault)
    return tuple(read)


def _misnamed_deliveries(folder: CaseFolder) -> Iterator[Violation]:
    """Records where nobody would look for them: a delivery must not be left out without a word."""
    for place in folder.others:
        if (place / deliveries.PLAN_INFO).exists():
            words = "it holds a delivery, but is not named by 16 digits, or lies too deep"
            yield Violation("folder.delivery_name", shown(place, folder.root), "name", words)


def _against_plan(delivery: Delivery, plan: Plan, room: Room | None) -> Iterator[Violation]:
    info, table = f"{delivery.folder}/{deliveries.PLAN_INFO}", f"{delivery.folder}/{delivery.table}"
    if delivery.patient_id != plan.patient_id:
        yield Violation(
            "planinfo.patient_mismatch", info, "DICOM_PATIENT_ID", "it differs from the plan's PatientID"
        )
    if delivery.study_uid and delivery.study_uid != plan.study_uid:
        yield Violation(
            "planinfo.study_mismatch",
            info,
            "DICOM_STUDY_INS_UID",
            "it differs from the plan's StudyInstanceUID",
        )
    beam = plan.beam(delivery.beam_number)
    if beam is None:
        setup = delivery.beam_number in plan.setup_beams
        words = "is a setup beam of the plan" if setup else "is no beam of the plan"
        yield Violation("planinfo.beam_unknown", info, "DICOM_BEAM_NUMBER", f"{delivery.beam_number} {words}")
        return
    if delivery.stop_layer > len(beam.layers):
        words = f"{delivery.stop_layer} is more than the {len(beam.layers)} layers of beam {beam.number}"
        yield Violation("planinfo.stop_layer", info, "STOP_LAYER_NUMBER", words)
    yield from _layers_against_plan(delivery, beam, table, room)


def _layers_against_plan(
    delivery: Delivery, beam: Beam, table: str, room: Room | None
) -> Iterator[Violation]:
    recorded = {record.layer for record in delivery.layers}
    expected = set(range(delivery.start_layer, delivery.stop_layer + 1))
    for layer in sorted(expected - recorded):
        words = f"layer {layer} of {delivery.stop_layer} delivered ones is missing"
        yield Violation("planrange.rows", table, "LAYER_NO", words)
    for layer in sorted(recorded - expected):
        yield Violation(
            "planrange.rows",
            table,
            "LAYER_NO",
            f"layer {layer} does not lie within START_LAYER_NUMBER {delivery.start_layer}"
            f" and STOP_LAYER_NUMBER {delivery.stop_layer}",
        )
    planned = {layer.number: layer.energy_mev for layer in beam.layers}
    for record in delivery.layers:
        energy = planned.get(record.layer)
        if room and energy and abs(record.energy_mev - energy) > room.limits.layer_energy_tolerance_mev:
            words = f"{record.energy_mev:g} MeV, the plan has {energy:g} MeV"
            yield Violation("planrange.energy", table, f"layer {record.layer}, LAYER_ENERGY", words)


def _log_violations(folder: CaseFolder, read: tuple[Delivery, ...], room: Room | None) -> Iterator[Violation]:
    seen: dict[bytes, str] = {}
    for delivery in read:
        path = folder.root / delivery.folder
        named = {record.log_name for record in delivery.layers}
        for stray in sorted(
            p.name for p in path.iterdir() if p.suffix.lower() == ".ptn" and p.name not in named
        ):
            words = "the log is named by no row of PlanRange"
            yield Violation("log.extra", f"{delivery.folder}/{stray}", "SCAN_OUT_FL_NM", words)
        for record in delivery.layers:
            yield from _log(path, delivery, record, room, seen)


def _log(
    path: Path, delivery: Delivery, record: LayerRecord, room: Room | None, seen: dict[bytes, str]
) -> Iterator[Violation]:
    file = log_place(delivery, record)
    if not (path / record.log_name).exists():
        yield Violation("log.missing", file, "", f"the log of layer {record.layer} is missing")
        return
    try:
        rows = logs.read(path / record.log_name, file=file)
        if room:
            logs.interpret(rows, record, beam=delivery.beam_number, room=room, file=file)
    except CaseFault as fault:
        yield Violation.of(fault)
        return
    # Noise makes every real log unique: two alike are one, copied.
    digest = hashlib.sha256(rows[:, : logs.Column.LAYER].tobytes()).digest()
    if digest in seen:
        yield Violation("log.duplicate", file, "", f"the log has the same content as that of {seen[digest]}")
    seen.setdefault(digest, f"beam {delivery.beam_number}, layer {record.layer} in {delivery.label}")
