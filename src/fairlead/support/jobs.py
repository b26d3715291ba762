"""Jobs: durable runs that somebody asked for about a customer's account, by the ticket they belong to."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.runs import Run, Runs, RunStatus
from fairlead.kernel.runs import store as run_store
from fairlead.support.model import Customer, JobKind, Language
from fairlead.support.tables import jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row: which run belongs to which ticket."""

    run_id: str
    project_id: str
    kind: JobKind
    account: str
    installation: str | None
    ticket: str | None
    actor: str
    created_at: datetime


def submit(
    connection: sa.Connection,
    runs: Runs,
    kind: JobKind,
    customer: Customer,
    *,
    actor: str,
    language: Language,
    installation: str | None = None,
    ticket: str | None = None,
    request_id: str | None = None,
    details: Mapping[str, Any],
) -> Run:
    """Queue a job about `customer`, audited, when the caller's transaction commits.

    `details` are the operation's own parameters: `text` of a question; `engine`, `regions` and `services` of
    a screening; `month` of a report. The same `request_id` (within installation and ticket) gives the first
    run back; raises RunConflict where that one asked for something else.
    """
    params = {
        "account": customer.account,
        "language": language.value,
        "installation": installation,
        "ticket": ticket,
        **details,
    }
    key = f"{installation}\n{ticket}\n{request_id}" if request_id is not None else None
    run = runs.submit(
        connection,
        kind.operation,
        params,
        project_id=customer.project_id,
        actor=actor,
        title=f"{kind.value} {customer.account}",
        idempotency_key=key,
    )
    if find(connection, run.id) is None:
        connection.execute(
            sa.insert(jobs).values(
                run_id=run.id,
                project_id=customer.project_id,
                kind=kind.value,
                account=customer.account,
                installation=installation,
                ticket=ticket,
                actor=actor,
                created_at=utc_now(),
            )
        )
        audit.append(
            connection,
            actor=actor,
            action=kind.operation,
            subject=f"run:{run.id}",
            project_id=customer.project_id,
            data={"account": customer.account, "ticket": ticket, "installation": installation},
        )
    return run


def unfinished(connection: sa.Connection, actor: str) -> int:
    """How many runs that somebody asked for have not ended."""
    at_work = [status.value for status in RunStatus if not status.final]
    query = sa.select(sa.func.count()).where(
        run_store.runs.c.status.in_(at_work), run_store.runs.c.actor == actor
    )
    return int(connection.execute(query).scalar_one())


def find(connection: sa.Connection, run_id: str) -> Job | None:
    """The job of a run, or None where the run is no job of ours."""
    row = connection.execute(sa.select(jobs).where(jobs.c.run_id == run_id)).one_or_none()
    return _job(row) if row else None


def find_all(connection: sa.Connection, run_ids: Collection[str]) -> tuple[Job, ...]:
    """The jobs of these runs (a thousand at most), in no order; runs that are no jobs are left out."""
    if not run_ids:
        return ()
    query = sa.select(jobs).where(jobs.c.run_id.in_(list(run_ids)))
    return tuple(_job(row) for row in connection.execute(query))


def submitted_since(connection: sa.Connection, moment: datetime) -> tuple[Job, ...]:
    """Jobs submitted at `moment` or later by any process, by the time that their ids carry."""
    floor = f"{int(moment.timestamp() * 1000):012x}"
    query = sa.select(jobs).where(jobs.c.run_id >= floor).order_by(jobs.c.run_id)
    return tuple(_job(row) for row in connection.execute(query))


def of_ticket(
    connection: sa.Connection, project_id: str, installation: str, ticket: str, *, limit: int = 20
) -> tuple[Job, ...]:
    """The newest `limit` jobs of a ticket, oldest first."""
    query = (
        sa.select(jobs)
        .where(jobs.c.project_id == project_id, jobs.c.installation == installation, jobs.c.ticket == ticket)
        .order_by(jobs.c.created_at.desc(), jobs.c.run_id.desc())
        .limit(limit)
    )
    return tuple(_job(row) for row in reversed(connection.execute(query).all()))


def of_other_accounts(
    connection: sa.Connection, project_id: str, installation: str, ticket: str, accounts: Collection[str]
) -> frozenset[str]:
    """Runs of a ticket's jobs that are about none of `accounts`."""
    query = sa.select(jobs.c.run_id).where(
        jobs.c.project_id == project_id,
        jobs.c.installation == installation,
        jobs.c.ticket == ticket,
        jobs.c.account.not_in(list(accounts)),
    )
    return frozenset(connection.execute(query).scalars())


def _job(row: sa.Row[Any]) -> Job:
    return Job(**{**row._mapping, "kind": JobKind(row.kind)})
