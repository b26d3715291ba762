"""A case without its patient: identifiers replaced, UIDs and times mapped consistently, free text dropped.

Everything is made from one key: the same key gives the same pseudonyms, so that two cases of one patient
still belong together; nobody without the key can go back or link. Only what is on a list is kept.
Pixels stay as they are: the CT of a head still shows a face.
"""

import csv
import hashlib
import hmac
import io
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from fairlead.cases import deliveries
from fairlead.cases.dicom import guarded, read
from fairlead.cases.folders import READY_MARKER, shown
from fairlead.cases.generate import FolderNotEmpty
from fairlead.cases.machine import Machine
from fairlead.cases.model import Delivery
from fairlead.cases.rules import Examined, examine
from fairlead.kernel.errors import FairleadError, InvalidInput

_DICOM_ROOT = "1.2.840.10008."  # standard UIDs name classes, not things
_KEPT_TEXT = {
    "TreatmentMachineName",
    "ScanSpotTuneID",
    "SnoutID",
    "RangeShifterID",
    "RescaleType",
    "DoseGridScaling",
}
_SETUP_WORDS = {"SETUP", "Site Setup"}
# Code strings are from short public lists, except that senders write what they like into them.
_KEPT_VR = {"CS", "DS", "IS", "FL", "FD", "SL", "SS", "UL", "US", "AT", "OW", "OB", "SQ"}
_DROPPED = {"PatientSex", "PatientAge", "PatientSize", "PatientWeight", "PregnancyStatus", "SmokingStatus"}
_TIME = "%Y%m%d%H%M%S%f"


class KeyTooShort(InvalidInput):
    """The key of the pseudonyms is too short to protect them."""

    code, status, retryable = "cases.key_too_short", 422, False


class NotPseudonymisable(FairleadError):
    """A case with violations is not exported: what cannot be read cannot be cleared of identifiers."""

    code, status, retryable = "cases.not_pseudonymisable", 409, False


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """What replaces what, under one key of 16 bytes or more."""

    key: bytes

    def __post_init__(self) -> None:
        """Raises KeyTooShort."""
        if len(self.key) < 16:
            raise KeyTooShort("The key has less than 16 bytes.", remedy="Use 32 random bytes.")

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.new(self.key, f"{kind}\0{value}".encode(), hashlib.sha256).digest()

    def patient(self, identifier: str) -> str:
        """The pseudonym of a patient."""
        return f"P{self._digest('patient', identifier).hex()[:12].upper()}"

    def uid(self, uid: str) -> str:
        """The UID that replaces `uid`."""
        if not uid or uid.startswith(_DICOM_ROOT):
            return uid
        return f"2.25.{int.from_bytes(self._digest('uid', uid)[:15], 'big')}"

    def moment(self, moment: datetime, patient: str) -> datetime:
        """`moment` shifted into the past by up to ten years: the same shift for all of one patient."""
        days = 1 + int.from_bytes(self._digest("shift", patient)[:4], "big") % 3650
        return moment - timedelta(days=days)


def export(case: Path, out: Path, machine: Machine, pseudonyms: Pseudonyms) -> Examined:
    """Write a pseudonymised copy of the valid case `case` into the new folder `out`; what that looks like.

    Raises NotPseudonymisable for a case with violations, FolderNotEmpty.
    """
    source = examine(case, machine)
    if not source.valid or source.plan_file is None or source.plan is None:
        raise NotPseudonymisable(
            f"The case breaks {len(source.violations)} rules and is not exported.",
            remedy="See them with: fairlead cases validate.",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FolderNotEmpty(
            "The folder for the export exists and is not empty.", remedy="Name a new folder."
        )
    out.mkdir(parents=True, exist_ok=True)
    export_dicom(source, out / f"RP.{pseudonyms.uid(source.plan.uid)}.dcm", out / "CT", pseudonyms)
    for delivery in source.deliveries:
        _delivery(source.folder.root / delivery.folder, delivery, out, pseudonyms)
    (out / READY_MARKER).touch()
    return examine(out, machine)


def export_dicom(source: Examined, plan_file: Path, ct_folder: Path, pseudonyms: Pseudonyms) -> None:
    """Write plan and CT of a valid case without its patient; the same key gives the same files."""
    if source.plan_file is None:
        raise NotPseudonymisable("The case has no plan.", remedy="Have it sent.")
    plan_file.parent.mkdir(parents=True, exist_ok=True)
    plan_file.write_bytes(_dicom(source.plan_file, source.folder.root, pseudonyms, kind="plan"))
    if source.folder.ct is None:
        return
    ct_folder.mkdir(parents=True, exist_ok=True)
    slices = sorted(path for path in source.folder.ct.iterdir() if path.suffix.lower() == ".dcm")
    for index, path in enumerate(slices, start=1):  # numbered: their own names may be the patient's
        content = _dicom(path, source.folder.root, pseudonyms, kind="ct")
        (ct_folder / f"CT.{index:04d}.dcm").write_bytes(content)


def _dicom(path: Path, root: Path, pseudonyms: Pseudonyms, *, kind: str) -> bytes:
    record = read(path, file=shown(path, root), kind=kind)
    dataset = record.dataset
    with guarded(record.fault("", "the file cannot be cleared of identifiers")):
        dataset.remove_private_tags()
        _clear(dataset, pseudonyms)
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = "Fairlead: identifiers replaced, free text and dates dropped"
        meta = dataset.file_meta
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        for keyword in ("SourceApplicationEntityTitle", "PrivateInformation", "PrivateInformationCreatorUID"):
            if keyword in meta:
                delattr(meta, keyword)
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    # The 128 bytes in front are free for anything.
    return b"\0" * 128 + buffer.getvalue()[128:]


def _clear(dataset: Dataset, pseudonyms: Pseudonyms) -> None:
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                _clear(item, pseudonyms)
        else:
            _clear_element(dataset, element, pseudonyms)


def _clear_element(dataset: Dataset, element: DataElement, pseudonyms: Pseudonyms) -> None:
    if element.keyword == "PatientID":
        element.value = pseudonyms.patient(str(element.value))
    elif element.VR == "UI":
        values = element.value if element.VM > 1 else [element.value]
        mapped = [pseudonyms.uid(str(value)) for value in values if value]
        element.value = mapped[0] if len(mapped) == 1 else mapped
    elif element.VR == "PN" or element.VR in {"DA", "TM", "DT"}:
        element.value = ""
    elif element.keyword == "RTPlanLabel":
        element.value = "PLAN"
    elif element.keyword in {"BeamName", "BeamDescription"}:
        element.value = element.value if element.value in _SETUP_WORDS else "BEAM"
    elif element.keyword in _DROPPED or not (element.VR in _KEPT_VR or element.keyword in _KEPT_TEXT):
        del dataset[element.tag]


def _delivery(folder: Path, delivery: Delivery, out: Path, pseudonyms: Pseudonyms) -> None:
    patient = pseudonyms.patient(delivery.patient_id)
    at = pseudonyms.moment(delivery.delivered_at, delivery.patient_id).strftime(_TIME)[:16]
    place = out / at
    place.mkdir()
    source = deliveries.read_plan_info(folder / deliveries.PLAN_INFO, file=deliveries.PLAN_INFO)
    kept = (
        "DICOM_BEAM_NUMBER",
        "TCSC_PLAN_NUMBER",
        "TCSC_FIELD_NUMBER",
        "START_LAYER_NUMBER",
        "STOP_LAYER_NUMBER",
    )
    values = {
        "DICOM_PATIENT_ID": patient,
        "TCSC_PATIENT_ID": patient,
        "TCSC_IRRAD_DATETIME": at,
        **({"DICOM_STUDY_INS_UID": pseudonyms.uid(delivery.study_uid)} if delivery.study_uid else {}),
        **{key: source[key] for key in kept if source.get(key, "").isdigit()},
    }
    (place / deliveries.PLAN_INFO).write_text(
        "".join(f"{k},{v}\n" for k, v in values.items()), encoding="utf-8"
    )
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(
        ("LAYER_NO", "LAYER_ENERGY", "PATIENT_ID", "DOSE1_RANGE", "DOSE2_RANGE", "SCAN_OUT_FL_NM")
    )
    for record in delivery.layers:
        name = f"{patient}_{delivery.field_number}_{record.layer}.ptn"
        writer.writerow((record.layer, record.energy_mev, patient, *record.range_codes, name))
        (place / name).write_bytes((folder / record.log_name).read_bytes())
    (place / "PlanRange.txt").write_text(table.getvalue(), encoding="utf-8")
