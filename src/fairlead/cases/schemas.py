"""The shapes at the door: how cases, beams and hosts are shown, and what requests may hold."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fairlead.cases.gpus import HostState, Lease
from fairlead.cases.places import names
from fairlead.cases.store import BeamRecord, CaseRecord, FractionRecord, HostRecord, ScanRecord
from fairlead.kernel.clock import iso
from fairlead.kernel.settings import CaseHostSettings


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PriorityIn(_Body):
    """Which case gets the next place on a host."""

    priority: int = Field(
        ge=-100, le=100, description="Higher goes first; waiting raises it by 1 in 10 minutes"
    )


class HostStateIn(_Body):
    """Whether a host gets new jobs; those that run there go on."""

    state: HostState


def case_out(case: CaseRecord) -> dict[str, Any]:
    """One case, without anything of its folder's name, which senders make of the patient's."""
    return {
        "number": case.number,
        "id": case.id,
        "project": case.project_id,
        "status": case.status.value,
        "step": case.step,
        "progress": round(case.progress, 3),
        "round": case.round,
        "priority": case.priority,
        "run_id": case.run_id,
        "host": case.host,
        "verdict": case.verdict,
        "pass_rate": case.pass_rate,
        "created_at": iso(case.created_at),
        "updated_at": iso(case.updated_at),
        "finished_at": iso(case.finished_at) if case.finished_at else None,
        "problem": case.problem,
    }


def case_details(
    case: CaseRecord, fractions: Sequence[FractionRecord], beams: Sequence[BeamRecord]
) -> dict[str, Any]:
    """One case with its fractions, beams, violations and result."""
    return {
        **case_out(case),
        "violations": case.violations or [],
        "result": case.result,
        "fractions": [
            {
                "number": one.number,
                "state": one.state,
                "opened_at": iso(one.opened_at),
                "deliveries": one.deliveries,
                "missing_beams": one.missing,
            }
            for one in fractions
        ],
        "beams": [_beam_out(beam) for beam in beams],
    }


def _beam_out(beam: BeamRecord) -> dict[str, Any]:
    return {
        "beam": beam.beam,
        "status": beam.status.value,
        "attempt": beam.attempt,
        "host": beam.host,
        "slots": beam.gpus,
        "job": beam.job,
        "progress": round(beam.progress, 3),
        "exit_code": beam.exit_code,
        "problem": beam.problem,
        "started_at": iso(beam.started_at) if beam.started_at else None,
        "finished_at": iso(beam.finished_at) if beam.finished_at else None,
    }


def host_out(
    about: CaseHostSettings,
    known: HostRecord | None,
    leases: Sequence[Lease],
    numbers: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """One host: whether it works and takes work, its GPUs as last seen, and which job holds which place.

    `numbers` (case id → number) names the cases of those jobs that the reader may know.
    """
    held = {slot: lease.holder for lease in leases if lease.host == about.name for slot in lease.slots}
    there = names(about, known)
    state = known.state if known else HostState.ACTIVE
    return {
        "name": about.name,
        "executor": about.executor,
        "state": state.value,
        "drained": state is HostState.DRAINING and not held,
        "looked_at": _moment(known.looked_at) if known else None,
        "problem": _brief(known.problem) if known else None,
        "gpus": known.gpus if known else [],
        "slots": [
            {"slot": slot, "job": held.get(slot), "case": _case_of(held.get(slot), numbers)}
            # A lease on a place that the host no longer shows is still a lease.
            for slot in [*there, *(slot for slot in held if slot not in there)]
        ],
    }


def _case_of(job: str | None, numbers: Mapping[str, int] | None) -> int | None:
    return (numbers or {}).get(job.split("-", 1)[0]) if job else None


def _brief(problem: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {key: problem.get(key) for key in ("code", "detail", "remedy")} if problem else None


def _moment(moment: datetime | None) -> str | None:
    return iso(moment) if moment is not None else None


def step_out(number: int, beam: BeamRecord) -> dict[str, Any]:
    """One beam at work, for an overview."""
    return {
        "case": number,
        "beam": beam.beam,
        "status": beam.status.value,
        "host": beam.host,
        "slots": beam.gpus,
        "attempt": beam.attempt,
        "progress": round(beam.progress, 3),
        "started_at": _moment(beam.started_at),
    }


def scan_out(scan: ScanRecord | None) -> dict[str, Any] | None:
    """How the project's folder was last scanned; null where it never was."""
    if scan is None:
        return None
    return {
        "tried_at": iso(scan.tried_at),
        "scanned_at": _moment(scan.scanned_at),
        "unstable": scan.unstable,
        "problem": _brief(scan.problem),
    }
