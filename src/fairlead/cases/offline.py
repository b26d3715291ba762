"""What the offline commands do: from files to files, with nothing running."""

import os
import re
import secrets
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fairlead.cases import engines, plans, pseudonyms, report, rtdose, verify, volumes
from fairlead.cases.engines import FREE, Control, DicomSources, DoseRequest
from fairlead.cases.engines.reference import coarser
from fairlead.cases.machine import Machine, MachineUnknown, Room
from fairlead.cases.model import Beam, CaseFault, LayerDeviation, LayerLog, Plan
from fairlead.cases.rules import examine
from fairlead.cases.verify import VerdictCriteria
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError


class OutputUnwritable(FairleadError):
    """A result cannot be written to the place named for it."""

    code, status, retryable = "cases.output_unwritable", 422, False


class KeyUnreadable(FairleadError):
    """The key file of the pseudonyms cannot be read."""

    code, status, retryable = "cases.key_unreadable", 422, False


def _unwritable(path: Path, error: OSError) -> OutputUnwritable:
    return OutputUnwritable(
        f"{path} cannot be written: {(error.strerror or 'unknown reason').lower()}.",
        remedy="Name a place that exists, is writable and has room.",
        path=str(path),
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write `path` so that it is either there as a whole or not at all. Raises OutputUnwritable."""
    try:
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(path, error) from None


def calculate(
    plan_file: Path, ct_folder: Path, out: Path, *, engine: str, machine: Machine,
    room: str | None = None, spacing_mm: float | None = None, beams_out: Path | None = None,
    options: Mapping[str, Any] | None = None, control: Control = FREE,
) -> dict[str, Any]:  # fmt: skip
    """Dose of one fraction of the plan as an RT Dose at `out`; what came of it.

    Raises CaseFault, DoseUnusable, EngineUnknown, MachineUnknown, OutputUnwritable, and what the engine does.
    """
    chosen = engines.engine(engine, options)
    plan, ct = plans.read(plan_file), volumes.read(ct_folder)
    grid = coarser(ct.grid, spacing_mm) if spacing_mm else ct.grid
    rtdose.check_fits(plan, ct, grid)
    started = time.perf_counter()
    where = machine.room(room) if room else room_of(plan, machine)
    _require_energies(plan, where, plan_file.name)
    sources = DicomSources(plan_file, ct_folder)
    result = chosen.dose(DoseRequest(plan, ct, where, machine.ct, grid, sources), control)
    seconds = time.perf_counter() - started
    write_whole(out, rtdose.encode(result.total, grid, plan, ct))
    if beams_out:
        try:
            beams_out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(beams_out, error) from None
        for number, values in result.beams.items():
            write_whole(
                beams_out / f"RD.beam-{number}.dcm", rtdose.encode(values, grid, plan, ct, beam=number)
            )
    return {
        "engine": chosen.label,
        "max_gy": float(result.total.max()),
        "beams": {str(number): float(values.max()) for number, values in result.beams.items()},
        "voxels": grid.voxels,
        "spacing_mm": list(grid.spacing_mm),
        "seconds": round(seconds, 3),
        "details": dict(result.details),
    }


def _require_energies(plan: Plan, room: Room, file: str) -> None:
    """Raises CaseFault for energies that the room has not: protons per MU would be a guess."""
    low, high = room.limits.energy_mev
    for beam in plan.beams:
        for layer in beam.layers:
            if not low <= layer.energy_mev <= high:
                raise CaseFault(
                    f"{layer.energy_mev:g} MeV is outside of room {room.name}'s {low:g} to {high:g} MeV",
                    rule="plan.energy",
                    file=file,
                    field=f"BeamNumber {beam.number}, layer {layer.number}, NominalBeamEnergy",
                    remedy="Choose the room of the plan with --room, or its machine file with --machine.",
                )


def room_of(plan: Plan, machine: Machine) -> Room:
    """The one room that all beams of `plan` name. Raises MachineUnknown."""
    names = {beam.machine for beam in plan.beams}
    if len(names) != 1:
        raise MachineUnknown(
            f"The treatment beams of the plan name {len(names)} machines, one was expected.",
            remedy="Choose the room with --room.",
        )
    return machine.room_for(names.pop())


def interpret_case(
    case: Path, machine: Machine, out: Path | None, *, now: datetime | None = None
) -> dict[str, Any]:
    """Fractions and deviations of the case; with `out`, its samples as CSV per layer as well."""
    examined = examine(case, machine)
    violations = report.violations(examined.violations)
    if not examined.valid:
        return {"valid": False, "violations": violations, "fractions": [], "layers": []}
    fractions, layers = verify.interpreted(examined, now=now)
    if out:
        write_layers(out, layers)
    return {
        "valid": True,
        "violations": [],
        "fractions": [report.fraction_summary(fraction) for fraction in fractions],
        "layers": [_layer(deviation) for _, _, deviation in layers],
    }


def _layer(found: LayerDeviation) -> dict[str, Any]:
    return {
        "beam": found.beam_number,
        "layer": found.layer,
        "energy_mev": found.energy_mev,
        "planned_mu": round(found.planned_mu, 6),
        "delivered_mu": round(found.delivered_mu, 6),
        "mu_percent": round(found.mu_percent, 4),
        "max_position_mm": round(found.max_position_mm, 4),
        "max_size_percent": round(found.max_size_percent, 3),
        "undelivered_spots": found.undelivered_spots,
        "spots": [
            {
                "spot": spot.spot,
                "planned_mu": round(spot.planned_mu, 7),
                "delivered_mu": round(spot.delivered_mu, 7),
                "dx_mm": None if spot.dx_mm is None else round(spot.dx_mm, 4),
                "dy_mm": None if spot.dy_mm is None else round(spot.dy_mm, 4),
                "dsize_percent": None if spot.dsize_percent is None else round(spot.dsize_percent, 3),
            }
            for spot in found.spots
        ],
    }


def write_layers(out: Path, layers: tuple[tuple[Beam, LayerLog, LayerDeviation], ...]) -> None:
    """One CSV per layer below `out`: time_ms, x_mm, y_mm, count. Raises OutputUnwritable."""
    for beam, log, _ in layers:
        # A beam's name comes from outside: only letters, digits, - and _ become part of a path.
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", beam.name).strip("_")[:40]
        folder = out / f"{beam.number:02d}_{name}".rstrip("_")
        # Numbers of Python's own are written several times as fast as those of an array.
        columns = (log.time_ms, *log.positions_mm.T, log.counts)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        lines = [f"{t:.4f},{x:.4f},{y:.4f},{count}\n" for t, x, y, count in rows]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from None
        write_whole(folder / f"{log.layer:02d}_{log.energy_mev:.2f}MeV.csv", "".join(lines).encode())


def report_case(
    case: Path, out: Path, machine: Machine, criteria: VerdictCriteria, *, engine: str,
    ct: Path | None = None, options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The verdict on the case, its report in the folder `out`; the content of result.json."""
    verdict = verify.verify(case, machine, engines.engine(engine, options), criteria, ct_folder=ct)
    try:
        return report.write(verdict, criteria, out, made_at=utc_now())
    except OSError as error:
        raise _unwritable(out, error) from None


def pseudonymise_case(case: Path, out: Path, machine: Machine, key_file: Path | None) -> dict[str, Any]:
    """A pseudonymised copy of the case in `out`. Raises NotPseudonymisable, KeyTooShort, FolderNotEmpty."""
    try:
        key = key_file.read_bytes() if key_file else secrets.token_bytes(32)
    except OSError as error:
        raise KeyUnreadable(
            f"The key file cannot be read: {(error.strerror or 'unknown reason').lower()}.",
            remedy="Correct --key-file.",
        ) from None
    try:
        made = pseudonyms.export(case, out, machine, pseudonyms.Pseudonyms(key))
    except OSError as error:
        raise _unwritable(out, error) from None
    return {"folder": str(out), "deliveries": len(made.deliveries), "valid": made.valid}
