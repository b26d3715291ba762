"""Cases, fractions, beams and sightings in SQL: functions on a connection that the caller's transaction owns.

A case, its fractions and its beams change together: `move` is the only way, and it appends the event of the
same change to the run. `cases.folder` is the only column that may hold a patient's identifier (senders name
folders so); it never leaves the process.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from fairlead.cases import gpus
from fairlead.cases.gpus import HostState
from fairlead.kernel.db import UtcDateTime, metadata
from fairlead.kernel.errors import Conflict, NotFound

cases = sa.Table(
    "cases",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("identity", sa.String(64), nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("content", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("step", sa.String(16), nullable=False),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("run_id", sa.String(64)),
    sa.Column("host", sa.String(64)),
    sa.Column("verdict", sa.String(8)),
    sa.Column("pass_rate", sa.Float),
    sa.Column("violations", sa.JSON),
    sa.Column("result", sa.JSON(none_as_null=True)),
    sa.Column("problem", sa.JSON(none_as_null=True)),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("cleaned_at", UtcDateTime),
    sa.UniqueConstraint("project_id", "number", name="uq_cases_number"),
    sa.UniqueConstraint("project_id", "identity", name="uq_cases_identity"),
    sa.Index("ix_cases_status", "status", "finished_at"),
)
fractions = sa.Table(
    "case_fractions",
    metadata,
    sa.Column("case_id", sa.String(32), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("opened_at", UtcDateTime, nullable=False),
    sa.Column("deliveries", sa.JSON, nullable=False),
    sa.Column("missing", sa.JSON, nullable=False),
)
beams = sa.Table(
    "case_beams",
    metadata,
    sa.Column("case_id", sa.String(32), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("beam", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("host", sa.String(64)),
    sa.Column("gpus", sa.JSON, nullable=False),
    sa.Column("job", sa.String(100)),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("exit_code", sa.Integer),
    sa.Column("problem", sa.JSON(none_as_null=True)),
    sa.Column("queued_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Index("ix_case_beams_host", "host", "status"),
)
# What intake has seen, by the digest of a folder's place: a restart finds nothing twice.
sightings = sa.Table(
    "case_sightings",
    metadata,
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("source", sa.String(64), primary_key=True),
    sa.Column("seen", sa.String(64), nullable=False),
    sa.Column("content", sa.String(64), nullable=False),
    sa.Column("case_id", sa.String(32), nullable=False),
    sa.Column("duplicate", sa.Boolean, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
)
hosts = sa.Table(
    "case_hosts",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("changed_at", UtcDateTime, nullable=False),
    sa.Column("gpus", sa.JSON, nullable=False),
    sa.Column("looked_at", UtcDateTime),
    sa.Column("tried_at", UtcDateTime),
    sa.Column("problem", sa.JSON(none_as_null=True)),
)
scans = sa.Table(
    "case_scans",
    metadata,
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("tried_at", UtcDateTime, nullable=False),
    sa.Column("scanned_at", UtcDateTime),
    sa.Column("unstable", sa.Integer, nullable=False),
    sa.Column("problem", sa.JSON(none_as_null=True)),
)


class CaseStatus(StrEnum):
    """Where a case stands. The last three are final until somebody retries or deliveries arrive."""

    PENDING = "pending"
    WAITING = "waiting"  # for deliveries of a fraction that has begun
    RUNNING = "running"
    COMPLETED = "completed"  # with a verdict, which may be "fail"
    FAILED = "failed"  # no verdict could be reached
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing goes on."""
        return self in (CaseStatus.COMPLETED, CaseStatus.FAILED, CaseStatus.CANCELLED)


class BeamStatus(StrEnum):
    """Where the dose job of one beam stands. Only `running` holds a place on a host."""

    PENDING = "pending"
    RUNNING = "running"
    COLLECTING = "collecting"  # the job has ended well; its result is on the way
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CaseUnknown(NotFound):
    """There is no such case in this project."""

    code = "cases.unknown"


class CaseMoved(Conflict):
    """The case is in a state that does not allow this."""

    code = "cases.status"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRecord:
    """One case. `round` counts how often it was begun: 1, then one more for every retry or re-opening."""

    id: str
    project_id: str
    number: int
    identity: str
    folder: str = field(repr=False)
    content: str
    status: CaseStatus
    step: str
    progress: float
    round: int
    priority: int
    run_id: str | None
    host: str | None
    verdict: str | None
    pass_rate: float | None
    violations: list[dict[str, str]] | None
    result: dict[str, Any] | None
    problem: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    cleaned_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FractionRecord:
    """One fraction as it was last grouped. `opened_at` is our clock's, not the treatment room's."""

    case_id: str
    number: int
    state: str
    opened_at: datetime
    deliveries: list[dict[str, Any]]
    missing: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamRecord:
    """The dose job of one beam in one round. `job` is its name on the host, stable across crashes."""

    case_id: str
    round: int
    beam: int
    status: BeamStatus
    attempt: int
    host: str | None
    gpus: list[str]
    job: str | None
    progress: float
    exit_code: int | None
    problem: dict[str, Any] | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


def digest_of(*parts: str) -> str:
    """SHA-256 of `parts`, which cannot run into one another."""
    return hashlib.sha256(b"\0".join(part.encode("utf-8", "surrogateescape") for part in parts)).hexdigest()


def _case(row: sa.Row[Any]) -> CaseRecord:
    return CaseRecord(**{**row._mapping, "status": CaseStatus(row.status)})


def _beam(row: sa.Row[Any]) -> BeamRecord:
    return BeamRecord(**{**row._mapping, "status": BeamStatus(row.status)})


# --- cases ---------------------------------------------------------------------------------------


def insert_case(
    conn: sa.Connection, *, project_id: str, identity: str, folder: str, content: str, now: datetime
) -> CaseRecord:
    """A new case with the project's next number, pending, in round 1."""
    highest = conn.execute(
        sa.select(sa.func.max(cases.c.number)).where(cases.c.project_id == project_id)
    ).scalar()
    case_id = f"c{digest_of(project_id, identity)[:16]}"
    conn.execute(
        sa.insert(cases).values(
            id=case_id,
            project_id=project_id,
            number=(highest or 0) + 1,
            identity=identity,
            folder=folder,
            content=content,
            status=CaseStatus.PENDING,
            step="intake",
            progress=0.0,
            round=1,
            priority=0,
            created_at=now,
            updated_at=now,
        )
    )
    return by_id(conn, case_id)


def by_id(conn: sa.Connection, case_id: str, *, lock: bool = False) -> CaseRecord:
    """The case; with `lock` nobody else moves it before this transaction ends. Raises CaseUnknown."""
    query = sa.select(cases).where(cases.c.id == case_id)
    row = conn.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise CaseUnknown(f"There is no case {case_id!r}.")
    return _case(row)


def by_number(conn: sa.Connection, project_id: str, number: int, *, lock: bool = False) -> CaseRecord:
    """The project's case of this number. Raises CaseUnknown."""
    query = sa.select(cases).where(cases.c.project_id == project_id, cases.c.number == number)
    row = conn.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise CaseUnknown(f"Project {project_id} has no case {number}.", remedy="List the cases.")
    return _case(row)


def by_identity(conn: sa.Connection, project_id: str, identity: str) -> CaseRecord | None:
    """The project's case with this identity."""
    row = conn.execute(
        sa.select(cases)
        .where(cases.c.project_id == project_id, cases.c.identity == identity)
        .with_for_update()
    ).one_or_none()
    return _case(row) if row is not None else None


def list_cases(
    conn: sa.Connection, project_id: str, *, status: CaseStatus | None, before: int | None, limit: int
) -> list[CaseRecord]:
    """Cases with numbers below `before`, newest first."""
    query = sa.select(cases).where(cases.c.project_id == project_id).order_by(cases.c.number.desc())
    if status is not None:
        query = query.where(cases.c.status == status)
    if before is not None:
        query = query.where(cases.c.number < before)
    return [_case(row) for row in conn.execute(query.limit(limit))]


def overview(
    conn: sa.Connection, project_id: str, statuses: Collection[CaseStatus], *, limit: int
) -> list[CaseRecord]:
    """Cases in one of `statuses` without what they found, which may be long.

    Those that have ended come newest first, others as they get their places: by priority, then by age.
    """
    long = (cases.c.violations, cases.c.result)
    columns = [sa.null().label(c.name) if c in long else c for c in cases.c]
    query = sa.select(*columns).where(cases.c.project_id == project_id, cases.c.status.in_(statuses))
    if all(status.final for status in statuses):
        query = query.order_by(cases.c.finished_at.desc(), cases.c.number.desc())
    else:
        query = query.order_by(cases.c.priority.desc(), cases.c.created_at, cases.c.number)
    return [_case(row) for row in conn.execute(query.limit(limit))]


def counts(conn: sa.Connection, project_id: str | None = None) -> dict[CaseStatus, int]:
    """How many cases there are of every status, in one project or in all."""
    query = sa.select(cases.c.status, sa.func.count()).group_by(cases.c.status)
    if project_id is not None:
        query = query.where(cases.c.project_id == project_id)
    found = {row[0]: row[1] for row in conn.execute(query)}
    return {status: found.get(status.value, 0) for status in CaseStatus}


def oldest_pending(conn: sa.Connection) -> datetime | None:
    """Since when the oldest case waits that nobody has begun."""
    query = sa.select(cases.c.created_at).where(cases.c.status == CaseStatus.PENDING)
    return conn.execute(query.order_by(cases.c.created_at).limit(1)).scalar_one_or_none()


def unfinished(conn: sa.Connection) -> list[CaseRecord]:
    """Cases that go on, oldest first."""
    final = [status for status in CaseStatus if status.final]
    query = sa.select(cases).where(cases.c.status.not_in(final)).order_by(cases.c.created_at)
    return [_case(row) for row in conn.execute(query)]


def finished_before(conn: sa.Connection, moment: datetime, limit: int = 100) -> list[CaseRecord]:
    """Cases that ended before `moment` and whose work folders were not removed yet."""
    query = sa.select(cases).where(cases.c.finished_at < moment, cases.c.cleaned_at.is_(None))
    return [_case(row) for row in conn.execute(query.order_by(cases.c.finished_at).limit(limit))]


def update_case(conn: sa.Connection, case_id: str, now: datetime, **values: Any) -> None:
    """Set columns of a case. Progress is raised or left alone, unless a new round begins."""
    if "progress" in values and "round" not in values:
        given = float(values["progress"])
        values["progress"] = sa.case((cases.c.progress > given, cases.c.progress), else_=given)
    conn.execute(sa.update(cases).where(cases.c.id == case_id).values(**values, updated_at=now))


def reopen(conn: sa.Connection, case: CaseRecord, now: datetime, **values: Any) -> CaseRecord:
    """Begin the next round of a case that has ended: everything of the last verdict is forgotten."""
    update_case(
        conn,
        case.id,
        now,
        status=CaseStatus.PENDING,
        step="intake",
        progress=0.0,
        round=case.round + 1,
        verdict=None,
        pass_rate=None,
        violations=None,
        result=None,
        problem=None,
        finished_at=None,
        cleaned_at=None,
        run_id=None,
        **values,
    )
    return by_id(conn, case.id)


# --- fractions and beams -------------------------------------------------------------------------


def fractions_of(conn: sa.Connection, case_id: str) -> list[FractionRecord]:
    """Fractions of the case in order."""
    query = sa.select(fractions).where(fractions.c.case_id == case_id).order_by(fractions.c.number)
    return [FractionRecord(**row._mapping) for row in conn.execute(query)]


def write_fractions(conn: sa.Connection, case_id: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Replace the case's fractions by `found`: state, opened_at, deliveries, missing."""
    conn.execute(sa.delete(fractions).where(fractions.c.case_id == case_id))
    for number, one in enumerate(found, start=1):
        conn.execute(sa.insert(fractions).values(case_id=case_id, number=number, **one))


def beams_of(conn: sa.Connection, case_id: str, round_: int) -> list[BeamRecord]:
    """Beams of one round in order."""
    query = sa.select(beams).where(beams.c.case_id == case_id, beams.c.round == round_)
    return [_beam(row) for row in conn.execute(query.order_by(beams.c.beam))]


def beam_of(conn: sa.Connection, case_id: str, round_: int, beam: int) -> BeamRecord:
    """One beam. Raises CaseUnknown."""
    for found in beams_of(conn, case_id, round_):
        if found.beam == beam:
            return found
    raise CaseUnknown(f"Case {case_id} has no beam {beam} in round {round_}.")


def plan_beams(conn: sa.Connection, case_id: str, round_: int, numbers: Sequence[int], now: datetime) -> None:
    """Add the beams of a round that are not there yet, pending."""
    known = {found.beam for found in beams_of(conn, case_id, round_)}
    for number in numbers:
        if number not in known:
            conn.execute(
                sa.insert(beams).values(
                    case_id=case_id,
                    round=round_,
                    beam=number,
                    status=BeamStatus.PENDING,
                    attempt=0,
                    gpus=[],
                    progress=0.0,
                    queued_at=now,
                )
            )


def update_beam(conn: sa.Connection, case_id: str, round_: int, beam: int, **values: Any) -> None:
    """Set columns of one beam; progress is raised or left alone, unless a new attempt begins."""
    if "progress" in values and "attempt" not in values:
        given = float(values["progress"])
        values["progress"] = sa.case((beams.c.progress > given, beams.c.progress), else_=given)
    conn.execute(
        sa.update(beams)
        .where(beams.c.case_id == case_id, beams.c.round == round_, beams.c.beam == beam)
        .values(**values)
    )


def job_name(case_id: str, round_: int, beam: int, attempt: int) -> str:
    """Name of an attempt's job, and holder of its lease: stable, unique and without any identifier."""
    return f"{case_id}-r{round_}-b{beam}-a{attempt}"


def leave_place(conn: sa.Connection, beam: BeamRecord) -> None:
    """Give up the beam's lease, or its place in the queue."""
    for attempt in (beam.attempt, beam.attempt + 1):
        gpus.release(conn, job_name(beam.case_id, beam.round, beam.beam, attempt))


def end_beams(conn: sa.Connection, case_id: str, round_: int, status: BeamStatus, now: datetime) -> None:
    """End every beam of the round that has not ended; their places are free with the same commit."""
    for found in beams_of(conn, case_id, round_):
        leave_place(conn, found)
        if found.status in (BeamStatus.PENDING, BeamStatus.RUNNING, BeamStatus.COLLECTING):
            update_beam(conn, case_id, round_, found.beam, status=status, gpus=[], finished_at=now)


# --- hosts and their GPUs ------------------------------------------------------------------------


def running_beams(conn: sa.Connection, host: str | None = None) -> list[BeamRecord]:
    """Beams whose jobs run on `host`, or on any."""
    query = sa.select(beams).where(beams.c.status == BeamStatus.RUNNING)
    if host is not None:
        query = query.where(beams.c.host == host)
    return [_beam(row) for row in conn.execute(query)]


def beams_at_work(conn: sa.Connection, project_id: str) -> list[tuple[int, BeamRecord]]:
    """Beams of the project that run or are collected, each with the number of its case; oldest first."""
    query = (
        sa.select(beams, cases.c.number.label("case_number"))
        .join(cases, sa.and_(cases.c.id == beams.c.case_id, cases.c.round == beams.c.round))
        .where(cases.c.project_id == project_id)
        .where(beams.c.status.in_([BeamStatus.RUNNING, BeamStatus.COLLECTING]))
        .order_by(beams.c.started_at, cases.c.number, beams.c.beam)
    )
    return [
        (
            row.case_number,
            BeamRecord(**{c.name: row._mapping[c] for c in beams.c} | {"status": BeamStatus(row.status)}),
        )
        for row in conn.execute(query)
    ]


def numbers_of(conn: sa.Connection, project_id: str) -> dict[str, int]:
    """Number of every case of the project whose run goes on, by its id."""
    final = [status for status in CaseStatus if status.final]
    query = sa.select(cases.c.id, cases.c.number).where(
        cases.c.project_id == project_id, cases.c.status.not_in(final)
    )
    return {row.id: row.number for row in conn.execute(query)}


def cases_by_host(conn: sa.Connection) -> dict[str, int]:
    """How many cases are at work on each host."""
    query = (
        sa.select(cases.c.host, sa.func.count())
        .where(cases.c.status == CaseStatus.RUNNING, cases.c.host.is_not(None))
        .group_by(cases.c.host)
    )
    return {row[0]: row[1] for row in conn.execute(query)}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """What is remembered of a host: whether it takes work, and what it was like when last looked at.

    `looked_at` is the last time it answered, `tried_at` the last time it was asked, `problem` why it did not.
    """

    name: str
    state: HostState
    changed_at: datetime
    gpus: list[dict[str, Any]]
    looked_at: datetime | None
    tried_at: datetime | None
    problem: dict[str, Any] | None


def host(conn: sa.Connection, name: str) -> HostRecord | None:
    """The host's record; None where nobody paused it or looked at it yet."""
    row = conn.execute(sa.select(hosts).where(hosts.c.name == name)).one_or_none()
    return HostRecord(**{**row._mapping, "state": HostState(row.state)}) if row is not None else None


def update_host(conn: sa.Connection, name: str, now: datetime, **values: Any) -> None:
    """Set columns of a host's record; one that is new is active."""
    if conn.execute(sa.update(hosts).where(hosts.c.name == name).values(**values)).rowcount == 0:
        given = {"state": HostState.ACTIVE, "changed_at": now, "gpus": [], **values}
        conn.execute(sa.insert(hosts).values(name=name, **given))


# --- scans and sightings -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRecord:
    """The last scan of a project's folder: `scanned_at` the last that worked, `problem` why one did not."""

    project_id: str
    tried_at: datetime
    scanned_at: datetime | None
    unstable: int  # ready cases that still change
    problem: dict[str, Any] | None


def scan(conn: sa.Connection, project_id: str) -> ScanRecord | None:
    """The last scan of the project's folder; None where nobody ever scanned it."""
    row = conn.execute(sa.select(scans).where(scans.c.project_id == project_id)).one_or_none()
    return ScanRecord(**row._mapping) if row is not None else None


def update_scan(conn: sa.Connection, project_id: str, **values: Any) -> None:
    """Set columns of a project's scan."""
    if conn.execute(sa.update(scans).where(scans.c.project_id == project_id).values(**values)).rowcount == 0:
        conn.execute(sa.insert(scans).values(project_id=project_id, **values))


def sighting(conn: sa.Connection, project_id: str, source: str) -> sa.Row[Any] | None:
    """What intake knows about the folder whose place has the digest `source`."""
    return conn.execute(
        sa.select(sightings).where(sightings.c.project_id == project_id, sightings.c.source == source)
    ).one_or_none()


def remember(conn: sa.Connection, project_id: str, source: str, **values: Any) -> None:
    """Insert or overwrite the sighting of this place."""
    where = (sightings.c.project_id == project_id, sightings.c.source == source)
    if conn.execute(sa.update(sightings).where(*where).values(**values)).rowcount == 0:
        conn.execute(sa.insert(sightings).values(project_id=project_id, source=source, **values))


def sightings_of(conn: sa.Connection, project_id: str) -> dict[str, str]:
    """The last seen digest by place."""
    query = sa.select(sightings.c.source, sightings.c.seen).where(sightings.c.project_id == project_id)
    return {row.source: row.seen for row in conn.execute(query)}
