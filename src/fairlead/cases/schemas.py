"""The shapes at the door: how cases, beams and hosts are shown, and what requests may hold."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fairlead.cases.gpus import HostState, Lease
from fairlead.cases.store import BeamRecord, CaseRecord, FractionRecord, HostRecord
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


def host_out(about: CaseHostSettings, known: HostRecord | None, leases: Sequence[Lease]) -> dict[str, Any]:
    """One host: whether it takes work, its GPUs as last seen, and which job holds which place."""
    held = {slot: lease.holder for lease in leases if lease.host == about.name for slot in lease.slots}
    if about.gpus and about.executor != "slurm":
        names = [str(gpu["uuid"]) for gpu in known.gpus] if known else []
    else:
        names = [f"cpu-{number}" for number in range(about.slots)]
    state = known.state if known else HostState.ACTIVE
    return {
        "name": about.name,
        "executor": about.executor,
        "state": state.value,
        "drained": state is HostState.DRAINING and not held,
        "gpus": known.gpus if known else [],
        "slots": [{"slot": name, "job": held.get(name)} for name in names],
    }
