"""Runs and their events in SQL: functions on a connection that the caller's transaction owns."""

import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from fairlead.kernel.clock import iso, utc_now
from fairlead.kernel.db import UtcDateTime, metadata
from fairlead.kernel.runs import model
from fairlead.kernel.runs.errors import RunConflict, RunFinished, RunNotFound
from fairlead.kernel.runs.model import FINAL, Event, Outcome, Run, RunStatus

PAGE = 500
_RUNS_AT_ONCE = 100  # in one statement of `events_of`

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(100), nullable=False),
    sa.Column("project_id", sa.String(64)),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("cancel_requested_at", UtcDateTime),
    sa.Column("partition", sa.String(64)),
    sa.Column("waiting_for", sa.String(200)),
    sa.Column("result", sa.JSON(none_as_null=True)),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("idempotency_key", sa.String(200), unique=True),
    sa.Column("last_seq", sa.Integer, nullable=False),
    sa.Column("pruned_at", UtcDateTime),
    sa.Index(None, "project_id", "created_at", "id"),
    sa.Index(None, "created_at", "id"),
    sa.Index(None, "status", "finished_at"),
)

run_events = sa.Table(
    "run_events",
    metadata,
    sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("type", sa.String(100), nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("key", sa.String(300)),
    # A step that is executed again after a crash appends nothing twice.
    sa.UniqueConstraint("run_id", "key"),
)

_RUN_COLUMNS = [runs.c[name] for name in Run.__dataclass_fields__]
_EVENT_COLUMNS = [run_events.c[name] for name in Event.__dataclass_fields__]


def new_run_id(now: datetime) -> str:
    """An id that sorts by time: 12 hex digits of milliseconds, 20 of chance."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def plain(value: Any) -> Any:
    """`value` as JSON would give it back. Raises TypeError or ValueError where JSON cannot hold it."""
    return json.loads(json.dumps(value, allow_nan=False))


def insert(connection: sa.Connection, run: Run, idempotency_key: str | None) -> tuple[Run, bool]:
    """Add `run`, or find the one that was submitted before with the same id or key; whether it is new.

    Raises RunConflict where the earlier one asked for something else.
    """
    values = {name: getattr(run, name) for name in Run.__dataclass_fields__}
    statement = _insert(connection).values(**values, idempotency_key=idempotency_key, last_seq=0)
    # Not the row count: one driver of the two does not tell it for such a statement.
    if connection.execute(statement.on_conflict_do_nothing().returning(runs.c.id)).scalar() is not None:
        append(connection, run.id, model.QUEUED, {"kind": run.kind, "actor": run.actor})
        return run, True
    same = runs.c.id == run.id
    if idempotency_key is not None:
        same = sa.or_(same, runs.c.idempotency_key == idempotency_key)
    earlier = _run(connection.execute(sa.select(*_RUN_COLUMNS).where(same)).mappings().first())
    if (earlier.kind, earlier.project_id, earlier.params) != (run.kind, run.project_id, run.params):
        raise RunConflict(remedy="Use a new key for a new request.", run_id=earlier.id)
    return earlier, False


def get(connection: sa.Connection, run_id: str, *, lock: bool = False) -> Run:
    """The run; with `lock` nobody else changes it before this transaction ends. Raises RunNotFound."""
    statement = sa.select(*_RUN_COLUMNS).where(runs.c.id == run_id)
    row = connection.execute(statement.with_for_update() if lock else statement).mappings().first()
    if row is None:
        raise RunNotFound(f"There is no run {run_id!r}.")
    return _run(row)


def page(
    connection: sa.Connection,
    *,
    project_id: str | None,
    status: RunStatus | None,
    kind: str | None,
    before: str | None,
    limit: int,
) -> tuple[Run, ...]:
    """Runs, newest first, older than the run `before`."""
    statement = sa.select(*_RUN_COLUMNS).order_by(runs.c.created_at.desc(), runs.c.id.desc())
    for column, value in ((runs.c.project_id, project_id), (runs.c.status, status), (runs.c.kind, kind)):
        if value is not None:
            statement = statement.where(column == value)
    if before is not None:
        last = get(connection, before)
        older = sa.or_(
            runs.c.created_at < last.created_at,
            sa.and_(runs.c.created_at == last.created_at, runs.c.id < last.id),
        )
        statement = statement.where(older)
    rows = connection.execute(statement.limit(max(1, min(limit, PAGE)))).mappings()
    return tuple(_run(row) for row in rows)


def append(
    connection: sa.Connection, run_id: str, type_: str, data: Mapping[str, Any], key: str | None = None
) -> Event:
    """Add an event; the one that already has `key` is given back instead. Raises RunNotFound.

    The number is taken under the run's row lock, so numbers become visible in order, without gaps.
    """
    locked = sa.select(runs.c.last_seq).where(runs.c.id == run_id).with_for_update()
    last = connection.execute(locked).scalar()
    if last is None:
        raise RunNotFound(f"There is no run {run_id!r}.")
    if key is not None:
        known = sa.select(*_EVENT_COLUMNS).where(run_events.c.run_id == run_id, run_events.c.key == key)
        if row := connection.execute(known).mappings().first():
            return Event(**row)
    event = Event(run_id=run_id, seq=last + 1, at=utc_now(), type=type_, data=plain(dict(data)))
    values = {name: getattr(event, name) for name in Event.__dataclass_fields__}
    connection.execute(sa.insert(run_events).values(**values, key=key))
    connection.execute(sa.update(runs).where(runs.c.id == run_id).values(last_seq=event.seq))
    return event


def events(connection: sa.Connection, run_id: str, after: int, limit: int) -> tuple[Event, ...]:
    """Events with numbers above `after`, in order."""
    statement = (
        sa.select(*_EVENT_COLUMNS)
        .where(run_events.c.run_id == run_id, run_events.c.seq > after)
        .order_by(run_events.c.seq)
        .limit(max(1, min(limit, PAGE)))
    )
    return tuple(Event(**row) for row in connection.execute(statement).mappings())


@dataclass(frozen=True, slots=True)
class Head:
    """How far a run has come: its last event's number, and whether that was its very last."""

    last_seq: int
    final: bool


def heads(connection: sa.Connection, run_ids: Collection[str]) -> dict[str, Head]:
    """Of each of these runs that there is and still has its events; few queries however many runs."""
    found: dict[str, Head] = {}
    for some in _batched(sorted(run_ids), PAGE):
        statement = sa.select(runs.c.id, runs.c.last_seq, runs.c.status).where(
            runs.c.id.in_(some), runs.c.pruned_at.is_(None)
        )
        for run_id, last_seq, status in connection.execute(statement):
            found[run_id] = Head(last_seq, RunStatus(status).final)
    return found


def events_of(connection: sa.Connection, after: Mapping[str, int], limit: int) -> tuple[Event, ...]:
    """At most `limit` events of several runs, each above the run's number in `after`; by run, in order."""
    found: list[Event] = []
    for some in _batched(sorted(after), _RUNS_AT_ONCE):
        wanted = (sa.and_(run_events.c.run_id == run_id, run_events.c.seq > after[run_id]) for run_id in some)
        statement = (
            sa.select(*_EVENT_COLUMNS)
            .where(sa.or_(*wanted))
            .order_by(run_events.c.run_id, run_events.c.seq)
            .limit(limit - len(found))
        )
        found += [Event(**row) for row in connection.execute(statement).mappings()]
        if len(found) >= limit:
            break
    return tuple(found)


def begin(connection: sa.Connection, run_id: str) -> Run:
    """The run, now running, unless it has ended; the same when begun again after a crash."""
    run = get(connection, run_id, lock=True)
    if run.status.final:
        return run
    changes: dict[str, Any] = {"status": RunStatus.RUNNING, "waiting_for": None}
    if run.started_at is None:
        changes["started_at"] = utc_now()
    connection.execute(sa.update(runs).where(runs.c.id == run_id).values(**changes))
    append(connection, run_id, model.STARTED, {}, key=model.STARTED)
    return get(connection, run_id)


def wait(connection: sa.Connection, run_id: str, topic: str, deadline: datetime, key: str) -> Run:
    """Record that the run waits; gives it as it was before.

    Both this and `request_cancel` hold the row's lock: either we see the request here, or the
    request sees that we wait.
    """
    run = get(connection, run_id, lock=True)
    connection.execute(
        sa.update(runs)
        .where(runs.c.id == run_id, runs.c.status.not_in(FINAL))
        .values(status=RunStatus.WAITING, waiting_for=topic)
    )
    append(connection, run_id, model.WAITING, {"topic": topic, "deadline": iso(deadline)}, key=key)
    return run


def resume(connection: sa.Connection, run_id: str, topic: str, key: str, *, expired: bool) -> None:
    """Record that the wait is over."""
    connection.execute(
        sa.update(runs)
        .where(runs.c.id == run_id, runs.c.status.not_in(FINAL))
        .values(status=RunStatus.RUNNING, waiting_for=None)
    )
    append(connection, run_id, model.RESUMED, {"topic": topic, "expired": expired}, key=key)


def request_cancel(connection: sa.Connection, run_id: str, actor: str) -> Run:
    """Note that the run shall stop; one that nobody has begun stops here. Raises RunFinished, RunNotFound."""
    run = get(connection, run_id, lock=True)
    if run.status.final:
        raise RunFinished(f"Run {run_id} has already ended: {run.status}.")
    if not run.cancel_requested:
        connection.execute(sa.update(runs).where(runs.c.id == run_id).values(cancel_requested_at=utc_now()))
        append(connection, run_id, model.CANCEL_REQUESTED, {"actor": actor}, key=model.CANCEL_REQUESTED)
    if run.status is RunStatus.QUEUED:
        finish(connection, run_id, Outcome(status=RunStatus.CANCELLED))
    return get(connection, run_id)


def cancel_requested(connection: sa.Connection, run_id: str) -> bool:
    """Whether somebody asked for the run to stop."""
    statement = sa.select(runs.c.cancel_requested_at).where(runs.c.id == run_id)
    return connection.execute(statement).scalar() is not None


def cancel_requested_of(connection: sa.Connection, run_ids: Collection[str]) -> set[str]:
    """Those of the runs that somebody asked to stop."""
    statement = sa.select(runs.c.id).where(runs.c.cancel_requested_at.is_not(None), runs.c.id.in_(run_ids))
    return set(connection.execute(statement).scalars())


_FINAL_EVENT = {
    RunStatus.SUCCEEDED: model.SUCCEEDED,
    RunStatus.FAILED: model.FAILED,
    RunStatus.CANCELLED: model.CANCELLED,
}


def finish(connection: sa.Connection, run_id: str, outcome: Outcome) -> bool:
    """Record the end, once; whether it was this call that did."""
    run = get(connection, run_id, lock=True)
    if run.status.final:
        return False
    connection.execute(
        sa.update(runs)
        .where(runs.c.id == run_id)
        .values(
            status=outcome.status,
            finished_at=utc_now(),
            waiting_for=None,
            result=outcome.result,
            error=outcome.error,
        )
    )
    data = {"result": outcome.result} if outcome.status is RunStatus.SUCCEEDED else {}
    if outcome.status is RunStatus.FAILED:
        data = {"problem": outcome.error}
    append(connection, run_id, _FINAL_EVENT[outcome.status], data, key="run.finished")
    return True


def finished_before(connection: sa.Connection, moment: datetime, limit: int) -> tuple[str, ...]:
    """Ids of runs that ended before `moment` and still have events and checkpoints."""
    statement = (
        sa.select(runs.c.id)
        .where(runs.c.status.in_(FINAL), runs.c.finished_at < moment, runs.c.pruned_at.is_(None))
        .order_by(runs.c.finished_at)
        .limit(limit)
    )
    return tuple(connection.execute(statement).scalars())


def prune(connection: sa.Connection, run_ids: Sequence[str]) -> None:
    """Drop the events of these runs; the runs themselves stay, others refer to them."""
    connection.execute(sa.delete(run_events).where(run_events.c.run_id.in_(run_ids)))
    connection.execute(sa.update(runs).where(runs.c.id.in_(run_ids)).values(pruned_at=utc_now()))


def _batched(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """`items` in order, at most `size` at a time."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _insert(connection: sa.Connection) -> Any:
    # ON CONFLICT is the same in both dialects, but not in SQLAlchemy's common part.
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(runs)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(runs)


def _run(row: Any) -> Run:
    return Run(**{**row, "status": RunStatus(row["status"])})
