"""What jobs are given, and what all kinds of them do alike: enter the account, look up, stop in time."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import sqlalchemy as sa

from fairlead.kernel import audit
from fairlead.kernel.clock import iso, utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.objects import ObjectStore
from fairlead.kernel.runs import RunCancelled, RunContext
from fairlead.kernel.settings import SupportSettings
from fairlead.support import accounts, links, records
from fairlead.support.model import Customer, Language
from fairlead.support.records import Record
from fairlead.support.telling import telling

if TYPE_CHECKING:
    from fairlead.support.access import Accesses, AccountAccess
    from fairlead.support.answers.pool import Toolsets
    from fairlead.support.screenings.port import ScreeningEngine

T = TypeVar("T")
_loading = threading.Lock()
LOOK_S = 0.5  # how often a job at work looks whether it was asked to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportParts:
    """What jobs need. What stands behind a callable is opened by the first job that asks for it."""

    database: Database
    objects: ObjectStore
    settings: SupportSettings
    accesses: Callable[[], Awaitable["Accesses"]]
    toolsets: Callable[[], Awaitable["Toolsets"]]
    engine: Callable[[str, "AccountAccess"], Awaitable["ScreeningEngine"]]  # by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run, as its steps see it."""

    parts: SupportParts
    ctx: RunContext
    account: str
    language: Language
    installation: str | None
    ticket: str | None
    details: Mapping[str, Any]  # the operation's own parameters

    @classmethod
    def of(cls, parts: SupportParts, ctx: RunContext, params: Mapping[str, Any]) -> Self:
        """The job that a run's parameters describe; see `jobs.submit`."""
        return cls(
            parts=parts,
            ctx=ctx,
            account=str(params["account"]),
            language=Language(params["language"]),
            installation=params.get("installation"),
            ticket=params.get("ticket"),
            details=params,
        )

    @property
    def project_id(self) -> str:
        """Whose customer the account is."""
        return str(self.ctx.project_id)

    @property
    def prefix(self) -> str:
        """Where the run's files are in the object store."""
        return records.prefix_of(self.project_id, self.account, self.ctx.run_id)

    async def reading(self, act: Callable[[sa.Connection], T]) -> T:
        """`act` in a reading transaction."""
        return await self.ctx.shift.in_transaction(act, reading=True)

    async def customer(self) -> Customer:
        """The customer as of now: one that was taken off the list meanwhile is refused."""
        return await self.reading(lambda conn: accounts.customer(conn, self.project_id, self.account))

    async def open_account(self, customer: Customer) -> "AccountAccess":
        """The customer's account, entered for whoever asked, audited. Raises what `Accesses.open` raises."""
        accesses = await self.parts.accesses()
        return await accesses.open(customer, actor=self.ctx.actor, ticket=self.ticket)

    async def note(self, action: str, **more: Any) -> None:
        """Audit `action` of this job."""
        data = {"account": self.account, "ticket": self.ticket, "installation": self.installation, **more}

        def act(conn: sa.Connection) -> None:
            audit.append(
                conn,
                actor=self.ctx.actor,
                action=action,
                subject=f"run:{self.ctx.run_id}",
                project_id=self.project_id,
                data=data,
            )

        await self.ctx.shift.in_transaction(act)

    async def until_cancelled(self) -> None:
        """Return once somebody has asked the job to stop."""
        while not await self.ctx.cancelled():  # noqa: ASYNC110 - others set no event of ours
            await asyncio.sleep(LOOK_S)

    async def in_time(self, work: Coroutine[Any, Any, T], deadline_s: float, late: FairleadError) -> T:
        """What `work` gives. Raises RunCancelled where somebody stops the job, `late` after `deadline_s`."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self.until_cancelled())
        try:
            await asyncio.wait({task, stop}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if stop.done():
                stop.result()
                raise RunCancelled
            raise late
        finally:
            await _put_down(task, stop)


def loaded(load: Callable[[], T]) -> T:
    """What `load`, which imports libraries, gives; one thread at a time.

    Libraries whose parts import each other would be found half made by the second of two threads.
    """
    with _loading:
        return load()


async def kept(job: Job, made: Mapping[str, Any]) -> None:
    """Keep the record of what was `made` and tell of it, both or neither, once.

    `made`: `kind`, `complete`, `summary`, `event`, and `engine` or `month`.
    """
    async with telling(job.ctx, job.language, done=True):
        pass
    record = Record(
        id=job.ctx.run_id,
        project_id=job.project_id,
        kind=str(made["kind"]),
        account=job.account,
        installation=job.installation,
        ticket=job.ticket,
        engine=made.get("engine"),
        month=made.get("month"),
        complete=bool(made["complete"]),
        summary=made["summary"],
        prefix=job.prefix,
        created_at=utc_now(),
    )

    def both(conn: sa.Connection) -> None:
        created_at = records.insert(conn, record).created_at
        data = {
            "kind": record.kind,
            "record": record.id,
            "url": links.path_of(record.id, "report.html"),
            "expires_at": iso(records.kept_until(created_at, job.parts.settings.retention_days)),
            "complete": record.complete,
            **made["event"],
        }
        job.ctx.runs.append_event(conn, record.id, "support.report", data, "report")

    await job.ctx.shift.in_transaction(both)


async def _put_down(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
