"""What was made for customers: records of screenings and reports, accepted findings, and how long they stay.

A record's files are in the object store below its `prefix`. They go first and the record is marked after, so
that a crash between the two is repaired by the next round.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from fairlead.kernel import audit, telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError, InvalidInput, NotFound
from fairlead.kernel.objects import ObjectStore
from fairlead.support.model import Suppression
from fairlead.support.tables import records, suppressions

SCREENING, MONTHLY = "screening", "monthly_report"
FINDINGS = "screening.json"  # what the next screening is compared with; never handed out as a file
FILES: Mapping[str, str] = {  # that a link may open
    "report.html": "text/html; charset=utf-8",
    "report.json": "application/json",
    "report.csv": "text/csv; charset=utf-8",
}
CANDIDATES = 50  # earlier screenings that are considered
LONGEST_DAYS = 366  # of a suppression: an acceptance that never ends is an oversight
TEND_S = 900.0
BATCH = 100


class RecordUnknown(NotFound):
    """There is no such screening or report, or you may not see it."""

    code = "support.record_unknown"


class RecordDeleted(FairleadError):
    """The screening or report was deleted: it had been kept for as long as the settings say."""

    code, status, retryable = "support.record_deleted", 410, False


class SuppressionUnknown(NotFound):
    """There is no such accepted finding, or you may not see it."""

    code = "support.suppression_unknown"


class SuppressionInvalid(InvalidInput):
    """An accepted finding needs a reason and a last day not too far ahead."""

    code = "support.suppression_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One screening or report that was made. `id` is that of the run that made it."""

    id: str
    project_id: str
    kind: str  # SCREENING | MONTHLY
    account: str
    installation: str | None
    ticket: str | None
    engine: str | None
    month: str | None  # "2026-10"
    complete: bool
    summary: Mapping[str, Any]
    prefix: str
    created_at: datetime
    deleted_at: datetime | None = None

    def key(self, file: str) -> str:
        """Where one of its files is in the object store."""
        return f"{self.prefix}/{file}"


def prefix_of(project_id: str, account: str, run_id: str) -> str:
    """Where the files of a run's record are."""
    return f"support/{project_id}/{account}/{run_id}"


def kept_until(created_at: datetime, retention_days: int) -> datetime:
    """When a record made at `created_at` is deleted."""
    return created_at + timedelta(days=retention_days)


# ── records ───────────────────────────────────────────────────────────────────────────────────────


def insert(conn: sa.Connection, record: Record) -> Record:
    """Keep `record`; the one that is there already is given back instead."""
    known = conn.execute(sa.select(records).where(records.c.id == record.id)).one_or_none()
    if known is not None:
        return _record(known)
    values = {name: getattr(record, name) for name in Record.__dataclass_fields__}
    conn.execute(sa.insert(records).values(**{**values, "summary": dict(record.summary)}))
    return record


def exists(conn: sa.Connection, record_id: str) -> bool:
    """Whether there is such a record."""
    return conn.execute(sa.select(records.c.id).where(records.c.id == record_id)).scalar() is not None


def by_id(conn: sa.Connection, record_id: str, *, project_id: str | None = None) -> Record:
    """The record, of `project_id` where one is given. Raises RecordUnknown."""
    query = sa.select(records).where(records.c.id == record_id)
    if project_id is not None:
        query = query.where(records.c.project_id == project_id)
    row = conn.execute(query).one_or_none()
    if row is None:
        raise RecordUnknown(remedy="List the project's screenings and reports.")
    return _record(row)


def present(record: Record) -> Record:
    """`record`, whose files are still there. Raises RecordDeleted."""
    if record.deleted_at is not None:
        raise RecordDeleted(remedy="Ask for a new one.")
    return record


def page(
    conn: sa.Connection,
    project_id: str,
    *,
    kind: str | None = None,
    account: str | None = None,
    ticket: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> tuple[Record, ...]:
    """At most `limit` records, newest first; the next page begins `before` the last one's id."""
    query = sa.select(records).where(records.c.project_id == project_id)
    for column, value in ((records.c.kind, kind), (records.c.account, account), (records.c.ticket, ticket)):
        if value is not None:
            query = query.where(column == value)
    if before is not None:
        last = by_id(conn, before, project_id=project_id)
        older = sa.and_(records.c.created_at == last.created_at, records.c.id < last.id)
        query = query.where(sa.or_(records.c.created_at < last.created_at, older))
    rows = conn.execute(query.order_by(records.c.created_at.desc(), records.c.id.desc()).limit(limit))
    return tuple(_record(row) for row in rows)


def previous(
    conn: sa.Connection,
    project_id: str,
    account: str,
    engine: str,
    *,
    regions: Sequence[str] = (),
    services: Sequence[str] = (),
    besides: str = "",
) -> Record | None:
    """The newest complete screening of the account by the same engine that read at least as much.

    Where none read as much, the newest: what it did not look at is then new.
    """
    query = (
        sa.select(records)
        .where(
            records.c.project_id == project_id,
            records.c.account == account,
            records.c.kind == SCREENING,
            records.c.engine == engine,
            records.c.complete.is_(True),
            records.c.deleted_at.is_(None),
            records.c.id != besides,
        )
        .order_by(records.c.created_at.desc(), records.c.id.desc())
        .limit(CANDIDATES)
    )
    found = [_record(row) for row in conn.execute(query)]
    return next((one for one in found if _read_as_much(one, regions, services)), next(iter(found), None))


def of_month(conn: sa.Connection, project_id: str, account: str, month: str) -> Record | None:
    """The newest complete report of the account's `month` ("2026-10")."""
    query = (
        sa.select(records)
        .where(
            records.c.project_id == project_id,
            records.c.account == account,
            records.c.kind == MONTHLY,
            records.c.month == month,
            records.c.complete.is_(True),
            records.c.deleted_at.is_(None),
        )
        .order_by(records.c.created_at.desc(), records.c.id.desc())
        .limit(1)
    )
    row = conn.execute(query).one_or_none()
    return _record(row) if row else None


def _read_as_much(record: Record, regions: Sequence[str], services: Sequence[str]) -> bool:
    return set(regions) <= set(record.summary.get("regions", ())) and set(services) <= set(
        record.summary.get("services", ())
    )


def _record(row: sa.Row[Any]) -> Record:
    return Record(**row._mapping)


# ── accepted findings ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A suppression as it is kept."""

    id: str
    project_id: str
    suppression: Suppression
    created_at: datetime


def accept(conn: sa.Connection, project_id: str, suppression: Suppression, *, today: date) -> Accepted:
    """Accept findings from now until and on `suppression.expires`, audited. Raises SuppressionInvalid."""
    if not suppression.reason.strip():
        raise SuppressionInvalid("There is no reason.", remedy="Say why the finding is accepted.")
    if not today <= suppression.expires <= today + timedelta(days=LONGEST_DAYS):
        raise SuppressionInvalid(
            f"The last day {suppression.expires} is in the past or more than {LONGEST_DAYS} days ahead.",
            remedy=f"Give a day from {today} to {today + timedelta(days=LONGEST_DAYS)}.",
        )
    kept = Accepted(
        id=str(uuid.uuid4()), project_id=project_id, suppression=suppression, created_at=utc_now()
    )
    conn.execute(
        sa.insert(suppressions).values(
            id=kept.id,
            project_id=project_id,
            account=suppression.account,
            check_id=suppression.check,
            resource=suppression.resource,
            reason=suppression.reason.strip(),
            author=suppression.author,
            expires=suppression.expires,
            created_at=kept.created_at,
        )
    )
    _note(conn, kept, suppression.author, "support.suppression_added")
    return kept


def accepted(conn: sa.Connection, project_id: str, account: str | None = None) -> tuple[Accepted, ...]:
    """The project's suppressions, also lapsed ones, oldest first; with `account` those that may cover it."""
    query = sa.select(suppressions).where(suppressions.c.project_id == project_id)
    if account is not None:
        query = query.where(sa.or_(suppressions.c.account.is_(None), suppressions.c.account == account))
    rows = conn.execute(query.order_by(suppressions.c.created_at, suppressions.c.id))
    return tuple(_accepted(row) for row in rows)


def withdraw(
    conn: sa.Connection, project_id: str, suppression_id: str, *, actor: str, account: str | None = None
) -> None:
    """Let the findings come back, audited; with `account` only those of it. Raises SuppressionUnknown."""
    query = sa.select(suppressions).where(
        suppressions.c.project_id == project_id, suppressions.c.id == suppression_id
    )
    if account is not None:
        query = query.where(suppressions.c.account == account)
    row = conn.execute(query).one_or_none()
    if row is None:
        raise SuppressionUnknown(remedy="List them.")
    conn.execute(sa.delete(suppressions).where(suppressions.c.id == suppression_id))
    _note(conn, _accepted(row), actor, "support.suppression_removed")


def _note(conn: sa.Connection, kept: Accepted, actor: str, action: str) -> None:
    about = kept.suppression
    audit.append(
        conn,
        actor=actor,
        action=action,
        subject=f"suppression:{kept.id}",
        project_id=kept.project_id,
        data={"account": about.account, "check": about.check, "expires": about.expires.isoformat()},
    )


def _accepted(row: sa.Row[Any]) -> Accepted:
    return Accepted(
        id=row.id,
        project_id=row.project_id,
        created_at=row.created_at,
        suppression=Suppression(
            check=row.check_id,
            reason=row.reason,
            author=row.author,
            expires=row.expires,
            account=row.account,
            resource=row.resource,
        ),
    )


# ── retention ─────────────────────────────────────────────────────────────────────────────────────


async def remove_files(objects: ObjectStore, prefix: str) -> None:
    """Delete everything below `prefix`; repeating it does no harm."""
    for info in await objects.list(prefix):
        await objects.delete(info.key)


async def retain(database: Database, objects: ObjectStore, retention_days: int, now: datetime) -> int:
    """Delete what was kept for `retention_days`; how many records it were."""

    def due() -> list[Record]:
        query = (
            sa.select(records)
            .where(
                records.c.created_at < now - timedelta(days=retention_days), records.c.deleted_at.is_(None)
            )
            .order_by(records.c.created_at)
            .limit(BATCH)
        )
        with database.reading() as conn:
            return [_record(row) for row in conn.execute(query)]

    deleted = 0
    while batch := await asyncio.to_thread(due):
        for record in batch:
            await remove_files(objects, record.prefix)
            await asyncio.to_thread(_mark_deleted, database, record, now)
            deleted += 1
    return deleted


def _mark_deleted(database: Database, record: Record, now: datetime) -> None:
    with database.transaction() as conn:
        changed = conn.execute(
            sa.update(records)
            .where(records.c.id == record.id, records.c.deleted_at.is_(None))
            .values(deleted_at=now)
        )
        if changed.rowcount:  # of several workers one says so
            audit.append(
                conn,
                actor="fairlead",
                action="support.record_deleted",
                subject=f"run:{record.id}",
                project_id=record.project_id,
                data={"account": record.account, "kind": record.kind},
            )


async def tend(database: Database, objects: ObjectStore, retention_days: int) -> None:
    """For ever: delete what was kept long enough."""
    while True:
        try:
            if number := await retain(database, objects, retention_days, utc_now()):
                telemetry.log.info("support.records_deleted", number=number)
        except (FairleadError, OSError, sa.exc.SQLAlchemyError) as error:
            telemetry.log.warning("support.tending_failed", error=type(error).__name__)
        await asyncio.sleep(TEND_S)
