"""Logs against the plan, keyed by beam and layer: what was delivered to every planned spot.

A log is cut into dwells (beam off, or a jump of the position, begins a new one). Where there are as many
dwells as planned spots they belong together in order; otherwise a dwell belongs to the nearest spot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fairlead.cases import logs
from fairlead.cases.folders import shown_name
from fairlead.cases.machine import Room
from fairlead.cases.model import (
    Beam,
    Delivery,
    Floats,
    LayerDeviation,
    LayerLog,
    LayerRecord,
    Plan,
    PlanLayer,
    SpotDeviation,
)

# Dose is calculated from samples gathered in cells of this size, at their MU-weighted centres.
CELL_MM = 0.5
_JUMP_MM = 1.5  # from one row to the next; jitter stays below, spots lie farther apart


def layer_logs(folder: Path, delivery: Delivery, room: Room) -> tuple[LayerLog, ...]:
    """All logs of `delivery`, in order of the layers. Raises CaseFault."""
    found = []
    for record in sorted(delivery.layers, key=lambda record: record.layer):
        file = log_place(delivery, record)
        rows = logs.read(folder / record.log_name, file=file)
        found.append(logs.interpret(rows, record, beam=delivery.beam_number, room=room, file=file))
    return tuple(found)


def log_place(delivery: Delivery, record: LayerRecord) -> str:
    """The log's path in messages, the patient's identifiers replaced."""
    return f"{delivery.folder}/{shown_name(record.log_name, hidden=(delivery.patient_id, *delivery.aliases))}"


def dwells(log: LayerLog, row_period_ms: float) -> npt.NDArray[np.intp]:
    """Number of the dwell (n,) that each sample belongs to."""
    gap = np.diff(log.time_ms) > 1.5 * row_period_ms
    jump = np.hypot(*np.diff(log.positions_mm, axis=0).T) > _JUMP_MM
    return np.concatenate([[0], np.cumsum(gap | jump)]).astype(np.intp)


def deviations(layer: PlanLayer, log: LayerLog, *, room: Room) -> LayerDeviation:
    """Delivered minus planned for every spot of `layer`."""
    dwell = dwells(log, room.row_period_ms)
    mu = np.bincount(dwell, log.meterset).astype(np.float64)
    rows = np.bincount(dwell)
    # A dwell without dose (a stop before the first count) is no spot.
    weights = np.where(mu[dwell] > 0, log.meterset, 0.0)
    safe = np.where(mu > 0, mu, 1.0)
    place = np.stack(
        [np.bincount(dwell, weights * log.positions_mm[:, axis]) / safe for axis in (0, 1)], axis=1
    )
    size = np.bincount(dwell, log.fwhm_mm.mean(axis=1)) / rows
    real = mu > 0
    spot = _assign(place[real], layer.positions_mm)
    planned = layer.fwhm_mm or (room.beam.fwhm(layer.energy_mev),) * 2
    spots = _per_spot(layer, spot, mu[real], place[real], size[real] / float(np.mean(planned)))
    return LayerDeviation(
        log.beam_number, layer.number, layer.energy_mev, float(layer.meterset.sum()), float(mu.sum()), spots
    )


def _assign(place: Floats, planned: Floats) -> npt.NDArray[np.intp]:
    """Index of the planned spot for every dwell."""
    if len(place) == len(planned):
        return np.arange(len(place), dtype=np.intp)
    result = np.empty(len(place), dtype=np.intp)
    for first in range(0, len(place), 2000):  # bounds the distance matrix
        part = place[first : first + 2000]
        squares = ((part[:, None, :] - planned[None, :, :]) ** 2).sum(axis=2)
        result[first : first + 2000] = squares.argmin(axis=1)
    return result


def _per_spot(
    layer: PlanLayer, spot: npt.NDArray[np.intp], mu: Floats, place: Floats, relative_size: Floats
) -> tuple[SpotDeviation, ...]:
    count = len(layer.meterset)
    delivered = np.bincount(spot, mu, minlength=count)
    safe = np.where(delivered > 0, delivered, 1.0)
    mean = [
        np.bincount(spot, mu * value, minlength=count) / safe
        for value in (place[:, 0], place[:, 1], relative_size)
    ]
    return tuple(
        SpotDeviation(
            spot=index,
            planned_mu=float(layer.meterset[index]),
            delivered_mu=float(delivered[index]),
            dx_mm=float(mean[0][index] - layer.positions_mm[index, 0]) if delivered[index] > 0 else None,
            dy_mm=float(mean[1][index] - layer.positions_mm[index, 1]) if delivered[index] > 0 else None,
            dsize_percent=float(100.0 * (mean[2][index] - 1.0)) if delivered[index] > 0 else None,
        )
        for index in range(count)
    )


def delivered_plan(plan: Plan, delivered: Mapping[int, Sequence[LayerLog]]) -> Plan:
    """`plan` with its spots replaced by what the logs say, for the same engine to calculate.

    `delivered` maps beam numbers to logs; beams and layers without a log received nothing and are left out.
    """
    beams = []
    for beam in plan.beams:
        by_layer = {log.layer: log for log in delivered.get(beam.number, ())}
        layers = tuple(
            _as_layer(layer, by_layer[layer.number])
            for layer in beam.layers
            if layer.number in by_layer and by_layer[layer.number].meterset.sum() > 0
        )
        if layers:
            beams.append(replace(beam, unit="MU", layers=layers))
    return replace(plan, beams=tuple(beams))


def _as_layer(layer: PlanLayer, log: LayerLog) -> PlanLayer:
    cell = np.rint(log.positions_mm / CELL_MM).astype(np.int64)
    _, which = np.unique(cell, axis=0, return_inverse=True)
    which = which.reshape(-1)
    mu = np.bincount(which, log.meterset).astype(np.float64)
    kept = mu > 0
    safe = np.where(kept, mu, 1.0)
    centres = np.stack(
        [np.bincount(which, log.meterset * log.positions_mm[:, axis]) / safe for axis in (0, 1)], axis=1
    )
    return PlanLayer(layer.number, layer.energy_mev, centres[kept], mu[kept], layer.fwhm_mm)


def planned_mu(beam: Beam, room: Room) -> Beam:
    """`beam` with its spots in MU, whatever unit the plan uses."""
    if beam.unit == "MU":
        return beam
    layers = tuple(
        replace(layer, meterset=layer.meterset / room.beam.protons(layer.energy_mev)) for layer in beam.layers
    )
    return replace(beam, unit="MU", layers=layers)
