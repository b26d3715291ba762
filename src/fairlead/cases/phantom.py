"""The synthetic case: a water box with inserts, and a two-beam plan that fills a cube with an even dose.

Everything is computed; no patient was ever involved. The same seed gives the same case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from fairlead.cases import dicom, water
from fairlead.cases.machine import Room
from fairlead.cases.model import Beam, Dose, Floats, Grid, Plan, PlanLayer, Volume
from fairlead.cases.rtdose import uid_of

CT_GRID = Grid((48, 64, 64), (-94.5, -94.5, -70.5), (3.0, 3.0, 3.0))
HALF_BOX_MM = (84.0, 84.0, 66.0)
# Cylinders along z: x, y, radius in mm, HU.
INSERTS = ((-18.0, -48.0, 11.0, 900), (18.0, -48.0, 13.0, -700), (-50.0, 16.0, 8.0, 300))
TARGET_MM = 50.0  # side of the cube around the isocentre
SPOT_STEP_MM = 5.0
LAYER_STEP_MM = TARGET_MM / 12
DOSE_PER_BEAM_GY = 1.0
GANTRY_DEG = {2: 0.0, 3: 270.0}  # beam 1 is the setup beam
SAD_MM = (2400.0, 2000.0)
FRACTIONS = 30


@dataclass(frozen=True, slots=True)
class Identity:
    """The names that tie the files of one synthetic case together."""

    patient_id: str
    study_uid: str
    frame_uid: str
    plan_uid: str
    machine: str

    @classmethod
    def of(cls, seed: int, machine: str) -> "Identity":
        """Names made from the seed."""
        study, frame, plan = (
            uid_of("synthetic case", str(seed), part) for part in ("study", "frame", "plan")
        )
        return cls(f"SYN{seed % 10**6:06d}", study, frame, plan, machine)


def hounsfield() -> Dose:
    """HU of the phantom on CT_GRID: water, cylinders of bone, lung and cartilage, air around."""
    z, y, x = np.meshgrid(*(CT_GRID.axis_mm(axis) for axis in (2, 1, 0)), indexing="ij")
    hu = np.full(CT_GRID.shape, -1000.0, dtype=np.float32)
    box = (np.abs(x) <= HALF_BOX_MM[0]) & (np.abs(y) <= HALF_BOX_MM[1]) & (np.abs(z) <= HALF_BOX_MM[2])
    hu[box] = 0.0
    for cx, cy, radius, value in INSERTS:
        hu[box & ((x - cx) ** 2 + (y - cy) ** 2 <= radius**2)] = value
    return hu


def ct_volume(identity: Identity) -> Volume:
    """The phantom as a volume, without the way through files."""
    return Volume(
        CT_GRID, hounsfield(), identity.frame_uid, identity.study_uid, patient_id=identity.patient_id
    )


def plan(identity: Identity, room: Room) -> Plan:
    """Two fields of equal dose on the target cube, with a setup beam in front."""
    layers = _layers(room)
    beams = tuple(
        Beam(
            number,
            f"Field {number - 1}",
            identity.machine,
            "MU",
            angle,
            0.0,
            (0.0, 0.0, 0.0),
            SAD_MM,
            (),
            layers,
        )
        for number, angle in GANTRY_DEG.items()
    )
    return Plan(
        identity.plan_uid, identity.study_uid, identity.frame_uid, "SYNTHETIC", "HFS", FRACTIONS, beams, (1,),
        patient_id=identity.patient_id,
    )  # fmt: skip


def _layers(room: Room) -> tuple[PlanLayer, ...]:
    depths = np.arange(HALF_BOX_MM[0] + TARGET_MM / 2, HALF_BOX_MM[0] - TARGET_MM / 2 - 0.1, -LAYER_STEP_MM)
    energies = [_energy_for(float(depth)) for depth in depths]
    protons = _even_dose(energies, room, depths) * SPOT_STEP_MM**2
    spots = _serpentine()
    layers = []
    for number, (energy, per_spot) in enumerate(zip(energies, protons, strict=True), start=1):
        meterset = np.full(len(spots), per_spot / room.beam.protons(energy))
        fwhm = room.beam.fwhm(energy)
        layers.append(PlanLayer(number, energy, spots.copy(), meterset, (fwhm, fwhm)))
    return tuple(layers)


def _energy_for(depth_mm: float) -> float:
    """Energy with this range, to a hundredth of a MeV as plans give it."""
    return round(float(water.energy_mev(np.array([depth_mm]))[0]), 2)


def _even_dose(energies: Sequence[float], room: Room, depths: Floats) -> Floats:
    """Protons per mm² and layer for an even dose over the depths.

    Multiplicative (Richardson-Lucy) updates: never negative, and the same on every machine.
    """
    at = np.linspace(depths.min() - 2.0, depths.max() - 1.0, 100)
    curves = np.stack(
        [
            np.interp(at, beam.depth_mm, beam.dose_gy_mm2, right=0.0)
            for beam in (water.pencil_beam(energy, room.beam.energy_spread_percent) for energy in energies)
        ]
    )
    weights = np.full(len(energies), DOSE_PER_BEAM_GY / curves.sum(axis=0).max())
    for _ in range(400):
        weights *= (curves @ (DOSE_PER_BEAM_GY / (weights @ curves))) / curves.sum(axis=1)
    return np.asarray(weights, dtype=np.float64)


def _serpentine() -> Floats:
    steps = np.arange(-TARGET_MM / 2, TARGET_MM / 2 + 0.1, SPOT_STEP_MM)
    rows = [[(x, y) for x in (steps if index % 2 == 0 else steps[::-1])] for index, y in enumerate(steps)]
    return np.array([spot for row in rows for spot in row])


def _file(sop_class: str, uid: str, identity: Identity, modality: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID(uid)
    dataset.Modality, dataset.Manufacturer = modality, "Fairlead synthetic case"
    dataset.PatientID, dataset.PatientName = identity.patient_id, "Synthetic^Phantom"
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (
        identity.study_uid,
        uid_of(identity.study_uid, modality),
    )
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = identity.frame_uid, ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = (
        "20260105",
        "080000",
        "1",
        "",
    )
    dataset.ReferringPhysicianName = ""
    return dataset


def encoded(dataset: Dataset) -> bytes:
    """The bytes of a DICOM file."""
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def ct_slices(ct: Volume, identity: Identity) -> list[Dataset]:
    """One data set per slice, from the feet to the head."""
    slices = []
    for index, z in enumerate(ct.grid.axis_mm(2)):
        dataset = _file(dicom.SOP_CT, uid_of(identity.study_uid, "CT", str(index)), identity, "CT")
        dataset.InstanceNumber, dataset.SeriesNumber, dataset.ImageType = (
            index + 1,
            1,
            ["DERIVED", "SECONDARY", "AXIAL"],
        )
        dataset.ImagePositionPatient = [ct.grid.origin_mm[0], ct.grid.origin_mm[1], float(z)]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = (
            [ct.grid.spacing_mm[1], ct.grid.spacing_mm[0]],
            ct.grid.spacing_mm[2],
        )
        dataset.Rows, dataset.Columns = ct.grid.shape[1], ct.grid.shape[2]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "HU"
        dataset.PatientPosition = "HFS"
        dataset.KVP = dataset.AcquisitionNumber = None
        dataset.PixelData = np.rint(ct.values[index]).astype("<i2").tobytes()
        slices.append(dataset)
    return slices


def plan_dataset(plan: Plan, identity: Identity) -> Dataset:
    """`plan` as an RT Ion Plan."""
    dataset = _file(dicom.SOP_ION_PLAN, plan.uid, identity, "RTPLAN")
    dataset.RTPlanLabel, dataset.RTPlanDate, dataset.RTPlanTime = plan.label, "20260105", "090000"
    dataset.RTPlanGeometry = "PATIENT"
    dataset.OperatorsName = ""
    dataset.SeriesNumber = 2
    group = Dataset()
    group.FractionGroupNumber, group.NumberOfFractionsPlanned = 1, plan.fractions
    group.NumberOfBeams, group.NumberOfBrachyApplicationSetups = len(plan.beams) + len(plan.setup_beams), 0
    group.ReferencedBeamSequence = [
        *(_referenced(number, None) for number in plan.setup_beams),
        *(_referenced(beam.number, beam.meterset) for beam in plan.beams),
    ]
    dataset.FractionGroupSequence = [group]
    setup = Dataset()
    setup.PatientSetupNumber, setup.PatientPosition = 1, plan.patient_position
    dataset.PatientSetupSequence = [setup]
    dataset.IonBeamSequence = [
        *(_setup_beam(number, identity) for number in plan.setup_beams),
        *(_beam(beam) for beam in plan.beams),
    ]
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _referenced(number: int, meterset: float | None) -> Dataset:
    item = Dataset()
    item.ReferencedBeamNumber = number
    if meterset is not None:
        item.BeamMeterset = f"{meterset:.10g}"
    return item


def _beam_head(number: int, name: str, machine: str) -> Dataset:
    item = Dataset()
    item.BeamNumber, item.BeamName, item.TreatmentMachineName = number, name, machine
    item.BeamType, item.RadiationType, item.PrimaryDosimeterUnit = "STATIC", "PROTON", "MU"
    item.ScanMode, item.VirtualSourceAxisDistances = "MODULATED", list(SAD_MM)
    item.NumberOfWedges = item.NumberOfCompensators = item.NumberOfBoli = item.NumberOfBlocks = 0
    item.NumberOfRangeShifters = item.NumberOfLateralSpreadingDevices = item.NumberOfRangeModulators = 0
    item.PatientSupportType, item.ReferencedPatientSetupNumber = "TABLE", 1
    return item


def _setup_beam(number: int, identity: Identity) -> Dataset:
    item = _beam_head(number, "SETUP", identity.machine)
    item.BeamDescription, item.TreatmentDeliveryType = "Site Setup", "SETUP"
    item.FinalCumulativeMetersetWeight, item.NumberOfControlPoints = 0, 0
    item.IonControlPointSequence = []
    return item


def _beam(beam: Beam) -> Dataset:
    item = _beam_head(beam.number, beam.name, beam.machine)
    item.BeamDescription, item.TreatmentDeliveryType = "Synthetic field", "TREATMENT"
    # The first of each pair of control points carries the spots, the second closes the layer.
    points: list[Dataset] = []
    done = 0.0
    for layer in beam.layers:
        points.append(_point(beam, layer, len(points), done, layer.meterset))
        done += float(layer.meterset.astype(np.float32).sum())
        points.append(_point(beam, layer, len(points), done, np.zeros_like(layer.meterset)))
    item.FinalCumulativeMetersetWeight = f"{done:.10g}"
    item.NumberOfControlPoints, item.IonControlPointSequence = len(points), points
    return item


def _point(beam: Beam, layer: PlanLayer, index: int, done: float, weights: Floats) -> Dataset:
    point = Dataset()
    point.ControlPointIndex, point.CumulativeMetersetWeight = index, f"{done:.10g}"
    point.NominalBeamEnergy = f"{layer.energy_mev:.2f}"
    if index == 0:
        point.GantryAngle, point.GantryRotationDirection = beam.gantry_deg, "NONE"
        point.BeamLimitingDeviceAngle, point.BeamLimitingDeviceRotationDirection = 0, "NONE"
        point.PatientSupportAngle, point.PatientSupportRotationDirection = beam.couch_deg, "NONE"
        point.TableTopPitchAngle, point.TableTopRollAngle = 0.0, 0.0
        point.IsocenterPosition = list(beam.isocentre_mm)
    point.ScanSpotTuneID, point.NumberOfScanSpotPositions = "1", len(weights)
    point.ScanSpotPositionMap = layer.positions_mm.astype(np.float32).ravel().tolist()
    point.ScanSpotMetersetWeights = weights.astype(np.float32).tolist()
    if layer.fwhm_mm:
        point.ScanningSpotSize = list(layer.fwhm_mm)
    point.NumberOfPaintings = 1
    return point
