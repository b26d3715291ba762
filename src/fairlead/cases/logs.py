"""PTN logs: what the scanning system recorded for one layer, sixteen bytes per row.

A row is eight unsigned 16-bit numbers, big endian: x and y position, x and y size, dose 1, dose 2, layer
number (low 8 bits), status. Status: bit 15 the plan wants beam, bit 14 beam is on, bits 6 … 0 number of the
rescan. There is no header. What raw numbers mean is a matter of the machine file.
"""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fairlead.cases.folders import MAX_LOG_BYTES, read_bytes
from fairlead.cases.machine import Room
from fairlead.cases.model import CaseFault, Floats, LayerLog, LayerRecord

ROW_BYTES = 16
BEAM_ON = 0xC000  # wanted and there
MAX_LAYER = 255  # eight bits

Rows = npt.NDArray[np.uint16]


class Column(IntEnum):
    """The columns of a row."""

    X, Y, X_SIZE, Y_SIZE, DOSE1, DOSE2, LAYER, STATUS = range(8)


def decode(content: bytes, *, file: str) -> Rows:
    """Rows (n, 8) of a log. Raises CaseFault where it is empty or ends within a row."""
    if not content:
        raise CaseFault("the file is empty", rule="log.empty", file=file)
    if len(content) % ROW_BYTES:
        raise CaseFault(
            f"{len(content)} bytes are no whole number of {ROW_BYTES}-byte rows: the file is truncated",
            rule="log.truncated",
            file=file,
            field=f"row {len(content) // ROW_BYTES}",
        )
    return np.frombuffer(content, dtype=">u2").reshape(-1, 8).astype(np.uint16)


def encode(rows: Rows) -> bytes:
    """The file content for `rows` (n, 8)."""
    return rows.astype(">u2").tobytes()


def read(path: Path, *, file: str) -> Rows:
    """Rows of the log in `path`. Raises CaseFault."""
    return decode(read_bytes(path, file=file, limit=MAX_LOG_BYTES, kind="log"), file=file)


def treatment_rows(rows: Rows, room: Room) -> npt.NDArray[np.bool_]:
    """Which rows are treatment: beam on, position a position, and not the alignment before the layer."""
    on = (rows[:, Column.STATUS] & BEAM_ON) == BEAM_ON
    on &= rows[:, Column.X] <= room.filters.x_raw_max
    if room.filters.alignment_y_mm is not None and on.any():
        y = (rows[:, Column.Y] - room.position.y_offset_raw) * room.position.y_gain_mm
        aligning = np.abs(y - room.filters.alignment_y_mm) <= room.filters.alignment_tolerance_mm
        # Only the rows before the first one elsewhere: later ones would be a fault, not an alignment.
        first = int(np.argmax(on & ~aligning)) if (on & ~aligning).any() else len(on)
        on[:first] &= ~aligning[:first]
    return np.asarray(on, dtype=np.bool_)


def check(rows: Rows, *, layer: int, room: Room, file: str) -> None:
    """Raises CaseFault for rows of another layer, without treatment, or outside of the field."""
    treatment = treatment_rows(rows, room)
    if not treatment.any():
        raise CaseFault("no row has the beam on", rule="log.no_beam", file=file, field="status")
    wrong = np.flatnonzero(treatment & ((rows[:, Column.LAYER] & 0xFF) != (layer & 0xFF)))
    if wrong.size:
        found = int(rows[wrong[0], Column.LAYER]) & 0xFF
        raise CaseFault(
            f"{wrong.size} rows belong to layer {found}, not to layer {layer}",
            rule="log.layer_mismatch",
            file=file,
            field=f"row {wrong[0]}, layer",
        )
    place = np.abs(_positions(rows, room))
    outside = np.flatnonzero(treatment & (place > np.array(room.limits.half_field_mm)).any(axis=1))
    if outside.size:
        raise CaseFault(
            f"{outside.size} rows with beam lie outside of the field of the room: the record is corrupt",
            rule="log.position_out_of_field",
            file=file,
            field=f"row {outside[0]}, position",
        )


def interpret(rows: Rows, record: LayerRecord, *, beam: int, room: Room, file: str) -> LayerLog:
    """The treatment rows in millimetres and MU. Raises CaseFault."""
    layer, first = record.layer, room.monitor.channel == "dose1"
    range_code = record.range_codes[0 if first else 1]
    if range_code not in room.monitor.range_factors:
        raise CaseFault(
            f"the machine file knows no monitor range {range_code}",
            rule="planrange.monitor_range",
            file=file,
            field=f"layer {layer}",
        )
    check(rows, layer=layer, room=room, file=file)
    treatment = treatment_rows(rows, room)
    kept = rows[treatment]
    counts = kept[:, Column.DOSE1 if first else Column.DOSE2].astype(np.int64)
    per_count = (
        room.monitor.range_factors[range_code] * room.monitor.mu_per_count / room.monitor.dividing_factor
    )
    sizes = kept[:, [Column.X_SIZE, Column.Y_SIZE]] * [
        room.position.x_size_gain_mm,
        room.position.y_size_gain_mm,
    ]
    return LayerLog(
        beam_number=beam,
        layer=layer,
        energy_mev=record.energy_mev,
        time_ms=np.flatnonzero(treatment).astype(np.float64) * room.row_period_ms,
        positions_mm=_positions(kept, room),
        fwhm_mm=sizes if room.position.size_is == "fwhm" else sizes * 2.354820045,
        meterset=counts.astype(np.float64) * per_count,
        counts=counts,
    )


def _positions(rows: Rows, room: Room) -> Floats:
    raw = rows[:, [Column.X, Column.Y]].astype(np.float64)
    at = room.position
    return np.asarray(
        (raw - [at.x_offset_raw, at.y_offset_raw]) * [at.x_gain_mm, at.y_gain_mm], dtype=np.float64
    )


@dataclass(frozen=True, slots=True)
class RawScale:
    """The inverse of `interpret`, for writing logs."""

    room: Room
    range_code: int

    @property
    def mu_per_count(self) -> float:
        """MU that one count stands for."""
        monitor = self.room.monitor
        return monitor.range_factors[self.range_code] * monitor.mu_per_count / monitor.dividing_factor

    def positions(self, millimetres: Floats) -> Floats:
        """Raw numbers (n, 2) of positions (n, 2)."""
        at = self.room.position
        return np.asarray(
            np.rint(millimetres / [at.x_gain_mm, at.y_gain_mm] + [at.x_offset_raw, at.y_offset_raw])
        )

    def sizes(self, fwhm_mm: Floats) -> Floats:
        """Raw numbers (n, 2) of spot sizes (n, 2)."""
        at = self.room.position
        sizes = fwhm_mm if at.size_is == "fwhm" else fwhm_mm / 2.354820045
        return np.asarray(np.rint(sizes / [at.x_size_gain_mm, at.y_size_gain_mm]))
