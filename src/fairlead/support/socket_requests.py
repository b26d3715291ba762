"""What an agent can ask for through a socket, each in one transaction with its audit entry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError, Forbidden, NotFound
from fairlead.kernel.runs import RunFinished, Runs
from fairlead.kernel.runs import store as run_store
from fairlead.support import accounts, history, jobs
from fairlead.support.messages import Ask, Cancel, Inserted, ReportWanted, Screen
from fairlead.support.model import Agent, Customer, JobKind
from fairlead.support.monthly.month import Month

INSERTED = "support.inserted"
JOBS_AT_ONCE = 20  # of one agent, however many tickets are open: workers are for all
RETRY_S = 10


class EventUnknown(NotFound):
    """There is no such event."""

    code = "support.event_unknown"


class TicketForeign(Forbidden):
    """This connection belongs to another ticket."""

    code = "support.ticket_foreign"


class TooManyJobs(FairleadError):
    """More jobs at once than one agent may have."""

    code, status, retryable = "support.too_many_jobs", 429, True


class SocketInternal(FairleadError):
    """Something went wrong inside Fairlead; the server's log has the details."""

    code, status, retryable = "support.internal", 500, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, at which ticket; `organization` as Zendesk's API gave it, None where it was not asked."""

    agent: Agent
    ticket: str
    organization: str | None = None

    def customer(self, connection: sa.Connection) -> Customer:
        """The customer that the ticket is about. Raises AccountNotBound, AccountAmbiguous."""
        return accounts.resolve(
            connection, self.agent.project_id, ticket=self.ticket, organization=self.organization
        )

    def shown(self, connection: sa.Connection) -> frozenset[str]:
        """Accounts of which the ticket may show what was found earlier."""
        return accounts.shown(
            connection, self.agent.project_id, ticket=self.ticket, organization=self.organization
        )


def check_ticket(caller: Caller, ticket: str) -> None:
    """Raises TicketForeign where a request is about another ticket than the connection."""
    if ticket != caller.ticket:
        raise TicketForeign(remedy="Reload the ticket.")


def submit(database: Database, runs: Runs, caller: Caller, request: Ask | Screen | ReportWanted) -> str:
    """The job of a request; the same one however often it is sent.

    Raises what `Caller.customer` raises, ProjectClosed, MonthNotBegun, TooManyJobs.
    """
    with database.transaction() as connection:
        accounts.require_open(connection, caller.agent.project_id)
        customer = caller.customer(connection)
        kind, details = _wanted(request, customer)
        run = jobs.submit(
            connection,
            runs,
            kind,
            customer,
            actor=caller.agent.actor,
            language=request.language,
            installation=caller.agent.installation,
            ticket=caller.ticket,
            request_id=request.id,
            # Known to the app: it shall not show twice what it asked itself.
            details={**details, "request": request.id},
        )
        # Looked at after the fact: a request that is sent again is no job more.
        if jobs.unfinished(connection, caller.agent.actor) > JOBS_AT_ONCE:
            raise TooManyJobs(
                f"{JOBS_AT_ONCE} of your jobs have not ended yet.",
                remedy="Wait for one of them, or stop one.",
                retry_after_s=RETRY_S,
            )
    return run.id


def _wanted(request: Ask | Screen | ReportWanted, customer: Customer) -> tuple[JobKind, Mapping[str, Any]]:
    match request:
        case Ask():
            return JobKind.ASK, {"text": request.text}
        case Screen():
            return JobKind.SCREEN, {}
        case ReportWanted():
            month = Month.parse(request.month)
            month.span(utc_now(), customer.timezone)  # one that has not begun is refused here
            return JobKind.REPORT, {"month": str(month)}


def cancel(database: Database, runs: Runs, caller: Caller, request: Cancel) -> str:
    """Ask a job of the ticket to stop; one that has ended stays as it is. Raises JobNotFound."""
    with database.transaction() as connection:
        history.job_of(connection, caller.agent, caller.ticket, request.job)
        before = run_store.get(connection, request.job)
        try:
            runs.request_cancel(connection, request.job, caller.agent.actor)
        except RunFinished:
            return request.job
        if not before.cancel_requested:
            audit.append(
                connection,
                actor=caller.agent.actor,
                action="run.cancel_requested",
                subject=f"run:{request.job}",
                project_id=caller.agent.project_id,
                data={"ticket": caller.ticket, "installation": caller.agent.installation},
            )
    return request.job


def note_insertion(database: Database, caller: Caller, request: Inserted) -> str | None:
    """Record, once for each request, that something went into the ticket. Raises JobNotFound."""
    subject = f"insertion:{caller.agent.installation}:{request.id}"
    with database.transaction() as connection:
        job = request.job and history.job_of(connection, caller.agent, caller.ticket, request.job)
        if audit.entries(connection, subject=subject, action=INSERTED, limit=1):
            return request.job
        data = {"ticket": caller.ticket, "installation": caller.agent.installation, "as": request.into}
        if job:
            data |= {"job": job.run_id, "account": job.account}
        audit.append(
            connection,
            actor=caller.agent.actor,
            action=INSERTED,
            subject=subject,
            project_id=caller.agent.project_id,
            data=data,
        )
    return request.job
