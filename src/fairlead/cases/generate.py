"""Synthetic cases on disk: plan, CT, delivery logs, and one fault by name where that is wanted.

The folder is a complete case: `validate`, `interpret` and `report` take it as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fairlead.cases import logs, phantom
from fairlead.cases.folders import READY_MARKER
from fairlead.cases.logs import Column, RawScale, Rows
from fairlead.cases.machine import Machine, Room
from fairlead.cases.model import Beam, Floats, Plan, PlanLayer
from fairlead.cases.phantom import Identity
from fairlead.kernel.errors import Conflict

RANGE_CODE = 2
DEFAULT_MACHINE = "FAIRLEAD-G1"
_FIRST_DELIVERY = datetime(2026, 1, 12, 9, 30)  # noqa: DTZ001 - the room's own clock has no zone
_COUNTS_PER_ROW = 5000
_SPOT_JITTER_MM, _ROW_JITTER_MM, _SIZE_JITTER = 0.12, 0.05, 0.01


class FolderNotEmpty(Conflict):
    """A case is only written into a new or empty folder."""

    code, status, retryable = "cases.folder_not_empty", 409, False


@dataclass(frozen=True, slots=True)
class Spots:
    """What the machine really does for one layer."""

    positions_mm: Floats  # (n, 2)
    meterset: Floats  # (n,)
    fwhm_mm: Floats  # (n, 2)


Distort = Callable[[Beam, PlanLayer, Spots], Spots | None]  # None: the layer is not delivered at all


def as_planned(beam: Beam, layer: PlanLayer, spots: Spots) -> Spots:  # noqa: ARG001
    """A delivery without a fault."""
    return spots


@dataclass(frozen=True, slots=True)
class Written:
    """A synthetic case on disk."""

    folder: Path
    plan: Plan
    plan_file: Path
    identity: Identity
    deliveries: dict[int, Path]  # beam number → delivery folder


def log_name(room: Room, identity: Identity, field: int, layer: int) -> str:
    """Name of the log of one layer."""
    return f"{room.name}_{identity.patient_id}_1_{field}_{layer}.ptn"


def write_case(
    folder: Path,
    machine: Machine,
    *,
    seed: int = 1,
    distort: Distort = as_planned,
    treatment_machine: str = DEFAULT_MACHINE,
) -> Written:
    """Write a synthetic case into `folder`, the ready marker last. Raises FolderNotEmpty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderNotEmpty(
            "The folder for the synthetic case exists and is not empty.",
            remedy="Name a folder that does not exist yet.",
        )
    room = machine.room_for(treatment_machine)
    identity = Identity.of(seed, treatment_machine)
    plan = phantom.plan(identity, room)
    ct = phantom.ct_volume(identity)
    (folder / "CT").mkdir(parents=True)
    for index, dataset in enumerate(phantom.ct_slices(ct, identity), start=1):
        (folder / "CT" / f"CT.{index:04d}.dcm").write_bytes(phantom.encoded(dataset))
    plan_file = folder / f"RP.{plan.uid}.dcm"
    plan_file.write_bytes(phantom.encoded(phantom.plan_dataset(plan, identity)))
    written = {}
    for number, beam in enumerate(plan.beams, start=1):
        at = _FIRST_DELIVERY + timedelta(minutes=7 * (number - 1))
        generator = np.random.default_rng([seed, beam.number])
        written[beam.number] = _deliver(folder, beam, number, at, room, identity, generator, distort)
    (folder / READY_MARKER).touch()
    return Written(folder, plan, plan_file, identity, written)


def _deliver(
    folder: Path, beam: Beam, field: int, at: datetime, room: Room, identity: Identity,
    generator: np.random.Generator, distort: Distort,
) -> Path:  # fmt: skip
    stamp = at.strftime("%Y%m%d%H%M%S") + "00"
    place = folder / stamp
    place.mkdir()
    rows: list[str] = []
    for layer in beam.layers:
        fwhm = np.tile(np.array(layer.fwhm_mm or (10.0, 10.0)), (len(layer.meterset), 1))
        spots = distort(beam, layer, Spots(layer.positions_mm, layer.meterset, fwhm))
        if spots is None:
            continue
        name = log_name(room, identity, field, layer.number)
        (place / name).write_bytes(logs.encode(layer_rows(spots, layer.number, room, generator)))
        rows.append(
            f"{len(rows) + 1},{layer.number},{layer.energy_mev:.2f},{identity.patient_id},{field},"
            f"{RANGE_CODE},{RANGE_CODE},{RANGE_CODE},{RANGE_CODE},{name},{name[:-4]}.mgn"
        )
    header = (
        "RESULT_ID,LAYER_NO,LAYER_ENERGY,PATIENT_ID,FLD_NO,DOSE1_RANGE,DOSE2_RANGE,"
        "PLAN_DOSE1_RANGE,PLAN_DOSE2_RANGE,SCAN_OUT_FL_NM,PLAN_SCAN_OUT_FL_NM"
    )
    (place / "PlanRange.txt").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    stop = int(rows[-1].split(",")[1]) if rows else 1
    write_plan_info(place, beam.number, field, stop, stamp, identity)
    return place


def write_plan_info(place: Path, beam: int, field: int, stop: int, stamp: str, identity: Identity) -> None:
    """Write the PlanInfo file of one delivery."""
    values = {
        "DICOM_PATIENT_ID": identity.patient_id,
        "DICOM_STUDY_INS_UID": identity.study_uid,
        "DICOM_BEAM_NUMBER": beam,
        "TCSC_IRRAD_DATETIME": stamp,
        "TCSC_PATIENT_ID": identity.patient_id,
        "TCSC_PLAN_NUMBER": 1,
        "TCSC_FIELD_NUMBER": field,
        "START_LAYER_NUMBER": 1,
        "STOP_LAYER_NUMBER": stop,
    }
    text = "".join(f"{key},{value}\n" for key, value in values.items())
    (place / "PlanInfo.txt").write_text(text, encoding="utf-8")


def layer_rows(spots: Spots, layer: int, room: Room, generator: np.random.Generator) -> Rows:
    """The log of one layer: junk rows first as real logs have them, then spot after spot."""
    scale = RawScale(room, RANGE_CODE)
    counts = np.rint(spots.meterset / scale.mu_per_count).astype(np.int64)
    delivered = np.flatnonzero(counts > 0)
    parts = [_junk(layer, room)]
    for spot in delivered:
        parts.append(_spot_rows(spots, int(spot), int(counts[spot]), layer, scale, generator))
        parts.append(_row_block(3, layer, status=0x8001, position=parts[-1][-1, :2]))
    parts.append(_row_block(10, layer, status=0x0001, position=(65224, 85)))
    return np.concatenate(parts)


def _row_block(count: int, layer: int, *, status: int, position: npt.ArrayLike) -> Rows:
    rows = np.zeros((count, 8), dtype=np.uint16)
    rows[:, [Column.X, Column.Y]] = np.asarray(position)
    rows[:, Column.LAYER], rows[:, Column.STATUS] = layer, status
    return rows


def _junk(layer: int, room: Room) -> Rows:
    """Registers at their defaults, the first rows with beam before a position is known, magnet alignment."""
    blocks = [
        _row_block(20, layer, status=0x0001, position=(65224, 85)),
        _row_block(2, layer, status=0xC001, position=(65224, 85)),
    ]
    if room.filters.alignment_y_mm is not None:
        at = RawScale(room, RANGE_CODE).positions(np.array([[0.0, room.filters.alignment_y_mm]]))
        blocks.append(_row_block(4, layer, status=0xC001, position=np.clip(at, 0, 65535)))
    return np.concatenate(blocks)


def _spot_rows(
    spots: Spots, spot: int, counts: int, layer: int, scale: RawScale, generator: np.random.Generator
) -> Rows:
    length = int(np.clip(-(-counts // _COUNTS_PER_ROW), 6, 4000))
    centre = spots.positions_mm[spot] + generator.normal(0.0, _SPOT_JITTER_MM, 2)
    rows = _row_block(length, layer, status=0xC001, position=(0, 0))
    places = scale.positions(centre + generator.normal(0.0, _ROW_JITTER_MM, (length, 2)))
    rows[:, [Column.X, Column.Y]] = np.clip(places, 0, 65535)
    sizes = spots.fwhm_mm[spot] * (1.0 + generator.normal(0.0, _SIZE_JITTER, (length, 2)))
    rows[:, [Column.X_SIZE, Column.Y_SIZE]] = np.clip(scale.sizes(sizes), 0, 65535)
    # Whole counts per row that add up to the spot's exactly.
    share = np.diff(np.rint(np.linspace(0, counts, length + 1)))
    rows[:, Column.DOSE1] = np.minimum(share, 65535)
    rows[:, Column.DOSE2] = np.minimum(np.rint(share * 1.01), 65535)
    return rows
