"""RT Ion Plans: read into a Plan, or a CaseFault that names the element."""

import math
from pathlib import Path

import numpy as np

from fairlead.cases import dicom
from fairlead.cases.dicom import Record
from fairlead.cases.model import Beam, Floats, Plan, PlanLayer

# Sum of spot weights against FinalCumulativeMetersetWeight: both are rounded by the planning system.
METERSET_TOLERANCE = 1e-3
MAX_SPOTS_PER_LAYER = 200_000
_MODIFIERS = (
    ("NumberOfWedges", "wedge"),
    ("NumberOfCompensators", "compensator"),
    ("NumberOfBoli", "bolus"),
    ("NumberOfBlocks", "block"),
    ("NumberOfRangeShifters", "range shifter"),
    ("NumberOfLateralSpreadingDevices", "lateral spreading device"),
    ("NumberOfRangeModulators", "range modulator"),
)


def is_plan(path: Path, *, file: str) -> bool:
    """Whether the file says that it is an RT Ion Plan. Raises CaseFault where it cannot be read at all."""
    record = dicom.read(path, file=file, kind="plan")
    return record.text("Modality", "") == "RTPLAN" or record.text("SOPClassUID", "") == dicom.SOP_ION_PLAN


def read(path: Path, *, file: str | None = None) -> Plan:
    """The plan in `path`. Raises CaseFault; CaseUnsupported where spots are encoded privately."""
    record = dicom.read(path, file=file or path.name, kind="plan")
    if record.text("Modality") != "RTPLAN" or record.text("SOPClassUID") != dicom.SOP_ION_PLAN:
        raise record.fault("SOPClassUID", "this is not an RT Ion Plan", rule="not_an_ion_plan")
    groups = record.items("FractionGroupSequence")
    if len(groups) != 1:
        raise record.unsupported(
            "FractionGroupSequence", f"one fraction group is supported, {len(groups)} were found"
        )
    metersets = _metersets(groups[0])
    setups: list[int] = []
    beams: list[Beam] = []
    for item in record.items("IonBeamSequence"):
        number = item.integer("BeamNumber")
        if number in {*setups, *(beam.number for beam in beams)}:
            raise item.fault("BeamNumber", f"beam number {number} occurs twice", rule="duplicate_beam")
        if _is_setup(item):
            setups.append(number)
        else:
            beams.append(_beam(item, number, metersets))
    if not beams:
        raise record.fault("IonBeamSequence", "the plan has no treatment beam", rule="no_treatment_beam")
    return Plan(
        uid=record.text("SOPInstanceUID"),
        study_uid=record.text("StudyInstanceUID"),
        frame_uid=record.text("FrameOfReferenceUID", ""),
        label=record.text("RTPlanLabel", ""),
        patient_position=_patient_position(record),
        fractions=groups[0].integer("NumberOfFractionsPlanned", 1, low=0, high=1000),
        beams=tuple(beams),
        setup_beams=tuple(setups),
        patient_id=record.text("PatientID"),
    )


def _metersets(group: Record) -> dict[int, float]:
    found = {}
    for reference in group.items("ReferencedBeamSequence"):
        number = reference.integer("ReferencedBeamNumber")
        # Setup beams are referenced without a meterset.
        found[number] = (
            reference.number("BeamMeterset", math.nan) if reference.has("BeamMeterset") else math.nan
        )
    return found


def _is_setup(item: Record) -> bool:
    return (
        item.text("BeamDescription", "") == "Site Setup"
        or item.text("BeamName", "").upper() == "SETUP"
        or item.text("TreatmentDeliveryType", "TREATMENT") == "SETUP"
    )


def _patient_position(record: Record) -> str:
    positions = {item.text("PatientPosition", "") for item in record.items("PatientSetupSequence")}
    if len(positions) != 1 or "" in positions:
        raise record.fault(
            "PatientSetupSequence", "one patient position was expected", rule="patient_position"
        )
    return positions.pop()


def _beam(item: Record, number: int, metersets: dict[int, float]) -> Beam:
    _require_modulated_protons(item)
    points = item.items("IonControlPointSequence")
    if len(points) != item.integer("NumberOfControlPoints"):
        raise item.fault(
            "NumberOfControlPoints",
            f"{item.integer('NumberOfControlPoints')} are announced, {len(points)} are there",
            rule="control_points",
        )
    first = points[0]
    sad = item.numbers("VirtualSourceAxisDistances", 2)
    if min(sad) <= 0:
        raise item.fault("VirtualSourceAxisDistances", "a distance must be above 0")
    isocentre = first.numbers("IsocenterPosition", 3)
    return Beam(
        number=number,
        name=item.text("BeamName", ""),
        machine=item.text("TreatmentMachineName"),
        unit=_unit(item),
        gantry_deg=first.number("GantryAngle"),
        couch_deg=first.number("PatientSupportAngle", 0.0),
        isocentre_mm=(isocentre[0], isocentre[1], isocentre[2]),
        sad_mm=(sad[0], sad[1]),
        modifiers=tuple(name for keyword, name in _MODIFIERS if item.integer(keyword, 0)),
        layers=_layers(item, points, _scale(item, number, metersets)),
    )


def _unit(item: Record) -> str:
    unit = item.text("PrimaryDosimeterUnit")
    if unit not in {"MU", "NP"}:
        raise item.unsupported("PrimaryDosimeterUnit", "units other than MU and NP are not supported")
    return unit


def _require_modulated_protons(item: Record) -> None:
    if item.text("RadiationType") != "PROTON":
        raise item.unsupported("RadiationType", "only protons are supported")
    mode = item.text("ScanMode", "")
    if mode not in {"MODULATED", "MODULATED_SPEC"}:
        if item.has_private() or any(point.has_private() for point in item.items("IonControlPointSequence")):
            raise _private(item)
        raise item.unsupported("ScanMode", "only modulated scanning is supported", rule="scan_mode")


def _private(item: Record) -> Exception:
    return item.unsupported(
        "ScanSpotPositionMap",
        "unsupported private spot encoding: the spots are in private elements, not in the standard ones",
        rule="private_spots",
    )


def _scale(item: Record, number: int, metersets: dict[int, float]) -> float:
    """Meterset per unit of spot weight."""
    if number not in metersets:
        raise item.fault(
            "BeamNumber", "no ReferencedBeamSequence item refers to this beam", rule="meterset_missing"
        )
    meterset, final = metersets[number], item.number("FinalCumulativeMetersetWeight")
    if not meterset > 0:
        raise item.fault("BeamMeterset", "a treatment beam needs a meterset above 0", rule="meterset_missing")
    if not final > 0:
        raise item.fault("FinalCumulativeMetersetWeight", "it must be above 0", rule="meterset_mismatch")
    return meterset / final


def _layers(item: Record, points: list[Record], scale: float) -> tuple[PlanLayer, ...]:
    layers: list[PlanLayer] = []
    energy: float | None = None
    total = 0.0
    for index, point in enumerate(points):
        _require_static(point, index)
        if point.has("NominalBeamEnergy"):
            energy = point.number("NominalBeamEnergy")
        if energy is None or not 0 < energy <= 1000:
            raise point.fault(
                "NominalBeamEnergy", "an energy above 0 and up to 1000 MeV was expected", rule="energy"
            )
        positions, weights = _spots(point)
        total += float(weights.sum())
        kept = weights > 0
        if kept.any():
            size = point.numbers("ScanningSpotSize", 2, default=(0.0, 0.0))
            fwhm = (size[0], size[1]) if min(size) > 0 else None
            layers.append(PlanLayer(len(layers) + 1, energy, positions[kept], weights[kept] * scale, fwhm))
    final = item.number("FinalCumulativeMetersetWeight")
    if not layers:
        raise item.fault("IonControlPointSequence", "the beam has no spot with a weight", rule="no_spots")
    if abs(total - final) > METERSET_TOLERANCE * final:
        raise item.fault(
            "ScanSpotMetersetWeights",
            f"the spot weights sum to {total:.6g}, FinalCumulativeMetersetWeight is {final:.6g}",
            rule="meterset_mismatch",
        )
    return tuple(layers)


def _require_static(point: Record, index: int) -> None:
    """Angles may be set at the first control point only; tilted tables are refused."""
    for keyword in ("TableTopPitchAngle", "TableTopRollAngle", "GantryPitchAngle"):
        if point.number(keyword, 0.0) != 0.0:
            raise point.unsupported(
                keyword, "angles other than 0 are not supported", rule="geometry_unsupported"
            )
    if index and any(point.has(keyword) for keyword in ("GantryAngle", "PatientSupportAngle")):
        raise point.unsupported(
            "GantryAngle", "beams that move during delivery are not supported", rule="geometry_unsupported"
        )


def _spots(point: Record) -> tuple[Floats, Floats]:
    """Positions (n, 2) and weights (n,) of one control point."""
    if not point.has("NumberOfScanSpotPositions") or not point.has("ScanSpotPositionMap"):
        if point.has_private():
            raise _private(point)
        raise point.fault(
            "ScanSpotPositionMap", "the control point has no spot positions", rule="field_missing"
        )
    count = point.integer("NumberOfScanSpotPositions", low=1, high=MAX_SPOTS_PER_LAYER)
    positions = np.array(point.numbers("ScanSpotPositionMap", 2 * count), dtype=np.float64).reshape(-1, 2)
    weights = np.array(point.numbers("ScanSpotMetersetWeights", count), dtype=np.float64)
    if (weights < 0).any():
        raise point.fault("ScanSpotMetersetWeights", "a weight is below 0")
    return positions, weights
