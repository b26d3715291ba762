"""Plans, approvals and the journal of applies in SQL: functions on an explicit connection."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fairlead.changes.model import NEXT, JournalEntry, NodeStatus, PlanRecord, PlanStatus, RiskLevel
from fairlead.kernel.db import UtcDateTime, metadata
from fairlead.kernel.errors import Conflict, NotFound

plans = sa.Table(
    "plans",
    metadata,
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("status", sa.String(24), nullable=False),
    sa.Column("author_id", sa.String(64), nullable=False),
    sa.Column("author", sa.String(128), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("destroy", sa.Boolean, nullable=False),
    sa.Column("template_key", sa.String(256)),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("deadline_at", UtcDateTime, nullable=False),
    sa.Column("run_id", sa.String(64)),
    sa.Column("digest", sa.String(80)),
    sa.Column("base_version", sa.Integer),
    sa.Column("risk", sa.String(8)),
    sa.Column("document", sa.JSON),
    sa.Column("decided_by", sa.String(128)),
    sa.Column("decided_at", UtcDateTime),
    sa.Column("comment", sa.Text),
    sa.Column("apply_run_id", sa.String(64)),
    sa.Column("state_version", sa.Integer),
    sa.Column("problem", sa.JSON),
    # The database itself refuses two applies of one project at once.
    sa.Index(
        "uq_plans_applying",
        "project_id",
        unique=True,
        sqlite_where=sa.text("status = 'applying'"),
        postgresql_where=sa.text("status = 'applying'"),
    ),
)

# What a person (or a rule) said about a digest. It outlives the plan it was said of, until it is
# used up by an apply or its deadline passes: an identical re-plan keeps it, any other loses it.
approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("approved_by_id", sa.String(64)),
    sa.Column("approved_by", sa.String(128), nullable=False),
    sa.Column("comment", sa.Text),
    sa.Column("approved_at", UtcDateTime, nullable=False),
    sa.Column("deadline_at", UtcDateTime, nullable=False),
    sa.Column("used_by_run", sa.String(64)),
    sa.Index("ix_approvals_digest", "project_id", "digest"),
)

journal = sa.Table(
    "apply_journal",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("node", sa.String(300), primary_key=True),
    sa.Column("client_token", sa.String(128), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("request_token", sa.String(128)),
    sa.Column("identifier", sa.Text),
    sa.Column("error", sa.JSON),
    sa.Column("at", UtcDateTime, nullable=False),
)


class PlanUnknown(NotFound):
    """There is no such plan in this project."""

    code = "changes.plan_unknown"


class PlanMoved(Conflict):
    """The plan's status does not allow this."""

    code = "changes.plan_status"


class ApplyInProgress(Conflict):
    """Another apply of this project is at work."""

    code = "changes.apply_in_progress"


def insert_plan(
    conn: sa.Connection,
    *,
    project_id: str,
    author_id: str,
    author: str,
    description: str,
    destroy: bool,
    template_key: str | None,
    parameters: str,
    now: datetime,
    deadline_at: datetime,
) -> PlanRecord:
    """A new plan with the project's next number, in status `planning`."""
    highest = conn.execute(
        sa.select(sa.func.max(plans.c.number)).where(plans.c.project_id == project_id)
    ).scalar()
    record = PlanRecord(
        project_id=project_id,
        number=(highest or 0) + 1,
        status=PlanStatus.PLANNING,
        author_id=author_id,
        author=author,
        description=description,
        destroy=destroy,
        template_key=template_key,
        parameters=parameters,
        created_at=now,
        deadline_at=deadline_at,
    )
    values = {column.name: getattr(record, column.name) for column in plans.columns}
    conn.execute(sa.insert(plans).values(**values))
    return record


def get_plan(conn: sa.Connection, project_id: str, number: int) -> PlanRecord:
    """The plan. Raises PlanUnknown."""
    row = conn.execute(
        sa.select(plans).where(plans.c.project_id == project_id, plans.c.number == number)
    ).one_or_none()
    if row is None:
        raise PlanUnknown(
            f"Project {project_id} has no plan {number}.",
            remedy=f"See `fairlead changes list --project {project_id}`.",
        )
    return _record(row)


def list_plans(
    conn: sa.Connection,
    project_id: str,
    *,
    status: PlanStatus | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[PlanRecord]:
    """Newest first, without their documents (those can be large)."""
    columns = [column for column in plans.columns if column.name != "document"]
    query = sa.select(*columns, sa.null().label("document")).where(plans.c.project_id == project_id)
    if status is not None:
        query = query.where(plans.c.status == status)
    if before is not None:
        query = query.where(plans.c.number < before)
    rows: Iterable[Any] = conn.execute(query.order_by(plans.c.number.desc()).limit(limit)).all()
    return [_record(row) for row in rows]


def move_plan(conn: sa.Connection, plan: PlanRecord, to: PlanStatus, **values: Any) -> None:
    """Change the status, and whatever else changes with it, if the plan still stands where `plan` says.

    Raises PlanMoved when the move is not in the table or somebody else was quicker.
    """
    if to not in NEXT.get(plan.status, frozenset()):
        raise PlanMoved(
            f"Plan {plan.number} is {plan.status.value}; it cannot become {to.value}.",
            remedy="Plan again.",
            status=plan.status.value,
        )
    try:
        changed = conn.execute(
            sa.update(plans)
            .where(
                plans.c.project_id == plan.project_id,
                plans.c.number == plan.number,
                plans.c.status == plan.status.value,
            )
            .values(status=to.value, **values)
        )
    except sa.exc.IntegrityError as error:
        # The index uq_plans_applying: another apply of this project was quicker.
        raise ApplyInProgress(
            "Another plan of this project has just begun to be applied.", remedy="Wait for it."
        ) from error
    if changed.rowcount != 1:
        raise PlanMoved(f"Plan {plan.number} has just changed its status.", remedy="Look at it again.")


def set_run(conn: sa.Connection, plan: PlanRecord, run_id: str) -> None:
    """Remember the run that makes the plan."""
    conn.execute(
        sa.update(plans)
        .where(plans.c.project_id == plan.project_id, plans.c.number == plan.number)
        .values(run_id=run_id)
    )


def applying(conn: sa.Connection, project_id: str) -> PlanRecord | None:
    """The plan of this project that is being applied, if any."""
    row = conn.execute(
        sa.select(plans).where(plans.c.project_id == project_id, plans.c.status == PlanStatus.APPLYING.value)
    ).first()
    return _record(row) if row is not None else None


def add_approval(
    conn: sa.Connection, plan: PlanRecord, *, by_id: str | None, by: str, comment: str | None, now: datetime
) -> None:
    """Approve the plan's digest until the plan's deadline. `by_id` is None for a rule."""
    conn.execute(
        sa.insert(approvals).values(
            project_id=plan.project_id,
            digest=plan.digest,
            number=plan.number,
            approved_by_id=by_id,
            approved_by=by,
            comment=comment,
            approved_at=now,
            deadline_at=plan.deadline_at,
        )
    )


def standing_approval(
    conn: sa.Connection, project_id: str, digest: str, *, now: datetime
) -> sa.Row[Any] | None:
    """The newest approval of this digest that was not used, revoked or outlived."""
    return conn.execute(
        sa.select(approvals)
        .where(
            approvals.c.project_id == project_id,
            approvals.c.digest == digest,
            approvals.c.used_by_run.is_(None),
            approvals.c.deadline_at > now,
        )
        .order_by(approvals.c.id.desc())
    ).first()


def use_approvals(conn: sa.Connection, project_id: str, digest: str, run_id: str) -> None:
    """An apply (or a rejection) uses up every approval of the digest."""
    conn.execute(
        sa.update(approvals)
        .where(
            approvals.c.project_id == project_id,
            approvals.c.digest == digest,
            approvals.c.used_by_run.is_(None),
        )
        .values(used_by_run=run_id)
    )


def approvals_of(conn: sa.Connection, project_id: str, digest: str) -> list[sa.Row[Any]]:
    """Who approved this digest, oldest first."""
    query = sa.select(approvals).where(approvals.c.project_id == project_id, approvals.c.digest == digest)
    return list(conn.execute(query.order_by(approvals.c.id)))


def journal_entry(conn: sa.Connection, run_id: str, node: str) -> JournalEntry | None:
    """What was written down about this call, if anything."""
    row = conn.execute(
        sa.select(journal).where(journal.c.run_id == run_id, journal.c.node == node)
    ).one_or_none()
    return _entry(row) if row is not None else None


def journal_entries(conn: sa.Connection, run_id: str) -> list[JournalEntry]:
    """Every call of this apply."""
    return [
        _entry(row)
        for row in conn.execute(sa.select(journal).where(journal.c.run_id == run_id).order_by(journal.c.node))
    ]


def write_journal(conn: sa.Connection, entry: JournalEntry, *, now: datetime) -> None:
    """Insert or overwrite the entry of this call."""
    values = {
        "client_token": entry.client_token,
        "status": entry.status.value,
        "request_token": entry.request_token,
        "identifier": entry.identifier,
        "error": entry.error,
        "at": now,
    }
    where = (journal.c.run_id == entry.run_id, journal.c.node == entry.node)
    if conn.execute(sa.update(journal).where(*where).values(**values)).rowcount == 0:
        conn.execute(sa.insert(journal).values(run_id=entry.run_id, node=entry.node, **values))


def _record(row: sa.Row[Any]) -> PlanRecord:
    values = dict(row._mapping)
    values["status"] = PlanStatus(values["status"])
    values["risk"] = RiskLevel(values["risk"]) if values["risk"] else None
    return PlanRecord(**values)


def _entry(row: sa.Row[Any]) -> JournalEntry:
    values = dict(row._mapping)
    del values["at"]
    values["status"] = NodeStatus(values["status"])
    return JournalEntry(**values)
