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
# How many there are, the sequence that describes them, and what they are called.
_MODIFIERS = (
    ("NumberOfWedges", "IonWedgeSequence", "wedge"),
    ("NumberOfCompensators", "IonRangeCompensatorSequence", "compensator"),
    ("NumberOfBoli", "ReferencedBolusSequence", "bolus"),
    ("NumberOfBlocks", "IonBlockSequence", "block"),
    ("NumberOfRangeShifters", "RangeShifterSequence", "range shifter"),
    ("NumberOfLateralSpreadingDevices", "LateralSpreadingDeviceSequence", "lateral spreading device"),
    ("NumberOfRangeModulators", "RangeModulatorSequence", "range modulator"),
)
_TILTS = ("TableTopPitchAngle", "TableTopRollAngle", "TableTopEccentricAngle", "GantryPitchAngle")
# How many numbers an element has that is set at the first control point, and may be repeated at later ones.
_STILL = {"GantryAngle": 1, "PatientSupportAngle": 1, "IsocenterPosition": 3}
_STILL_TOLERANCE = 0.01  # degrees, mm


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
    found: dict[int, float] = {}
    for reference in group.items("ReferencedBeamSequence"):
        number = reference.integer("ReferencedBeamNumber")
        if number in found:
            raise reference.fault(
                "ReferencedBeamNumber", f"beam number {number} occurs twice", rule="duplicate_beam"
            )
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
        modifiers=_modifiers(item, points),
        layers=_layers(item, points, _scale(item, number, metersets)),
    )


def _modifiers(item: Record, points: list[Record]) -> tuple[str, ...]:
    """What lies in the beam's way; what is described counts, whatever its number says."""
    found = [
        name
        for number, sequence, name in _MODIFIERS
        if item.integer(number, 0) or item.items(sequence, required=False)
    ]
    # Mounted, but out of the way wherever a control point speaks of it: as good as not there.
    settings = {
        setting.text("RangeShifterSetting", "")
        for point in points
        for setting in point.items("RangeShifterSettingsSequence", required=False)
    }
    if settings == {"OUT"}:
        found = [name for name in found if name != "range shifter"]
    elif settings and "range shifter" not in found:
        found.append("range shifter")
    return tuple(found)


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
    final = item.number("FinalCumulativeMetersetWeight")
    _require_order(points, final)
    for point in points:
        _require_static(point, points[0])
        if point.has("NominalBeamEnergy"):
            energy = point.number("NominalBeamEnergy")
        if energy is None or not 0 < energy <= 1000:
            raise point.fault(
                "NominalBeamEnergy", "an energy above 0 and up to 1000 MeV was expected", rule="energy"
            )
        if point.text("NominalBeamEnergyUnit", "MEV") != "MEV":
            raise point.unsupported("NominalBeamEnergyUnit", "energies not in MeV are not supported")
        positions, weights = _spots(point)
        total += float(weights.sum())
        kept = weights > 0
        if kept.any():
            size = point.numbers("ScanningSpotSize", 2, default=(0.0, 0.0))
            fwhm = (size[0], size[1]) if min(size) > 0 else None
            layers.append(PlanLayer(len(layers) + 1, energy, positions[kept], weights[kept] * scale, fwhm))
    if not layers:
        raise item.fault("IonControlPointSequence", "the beam has no spot with a weight", rule="no_spots")
    if abs(total - final) > METERSET_TOLERANCE * final:
        raise item.fault(
            "ScanSpotMetersetWeights",
            f"the spot weights sum to {total:.6g}, FinalCumulativeMetersetWeight is {final:.6g}",
            rule="meterset_mismatch",
        )
    return tuple(layers)


def _require_order(points: list[Record], final: float) -> None:
    """Control points are numbered upwards, and their cumulative weights rise up to the final one."""
    index, done = -1, 0.0
    for point in points:
        number = point.integer("ControlPointIndex", index + 1)
        if number <= index:
            raise point.fault(
                "ControlPointIndex", f"{number} comes after {index}: out of order", rule="control_points"
            )
        weight = point.number("CumulativeMetersetWeight", done)
        if not done - METERSET_TOLERANCE * final <= weight <= (1 + METERSET_TOLERANCE) * final:
            raise point.fault(
                "CumulativeMetersetWeight",
                f"{weight:.6g} does not lie between {done:.6g}, the one before, and the final {final:.6g}",
                rule="meterset_mismatch",
            )
        index, done = number, weight


def _require_static(point: Record, first: Record) -> None:
    """Nothing may move after the first control point; tilted and eccentric tables are refused."""
    for keyword in _TILTS:
        if point.number(keyword, 0.0) != 0.0:
            raise point.unsupported(
                keyword, "angles other than 0 are not supported", rule="geometry_unsupported"
            )
    for keyword, count in _STILL.items():
        if point.has(keyword):
            start = first.numbers(keyword, count, default=(0.0,) * count)
            moved = np.subtract(point.numbers(keyword, count), start)
            if "Angle" in keyword:
                moved = (moved + 180.0) % 360.0 - 180.0
            if np.abs(moved).max() > _STILL_TOLERANCE:
                raise point.unsupported(
                    keyword, "beams that move during delivery are not supported", rule="geometry_unsupported"
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
