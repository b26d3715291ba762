"""Who did what, when: entries are only ever appended, each bound to the one before by SHA-256.

Changing, removing or inserting an entry breaks the chain at that place, and `verify` names it. What a
chain alone cannot show is that its newest entries were cut off: keep `newest` somewhere else for that.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fairlead.kernel.clock import iso, utc_now
from fairlead.kernel.db import UtcDateTime, metadata
from fairlead.kernel.errors import InvalidInput
from fairlead.kernel.telemetry import is_secret_name

PAGE_MAX = 1000
_LOCK = 0x61_7564_6974  # "audit": PostgreSQL advisory lock that one appender holds until it commits

table = sa.Table(
    "audit",
    metadata,
    sa.Column(
        "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
    ),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("project_id", sa.Text, nullable=True),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("previous_sha256", sa.String(64), nullable=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Index("ix_audit_project_id_seq", "project_id", "seq"),
    sa.Index("ix_audit_subject_seq", "subject", "seq"),
)


class AuditDataRefused(InvalidInput):
    """The audit record does not take this data."""

    code = "audit.data_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that was done. `subject` names what it was done to: "plan:0190…", "project:web"."""

    seq: int  # 1, 2, 3 … without gaps
    at: datetime
    actor: str
    action: str  # dotted: "plan.approved"
    subject: str
    project_id: str | None
    data: Mapping[str, Any]
    previous_sha256: str | None  # None for the first
    sha256: str


def append(
    connection: sa.Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    project_id: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> Entry:
    """Add an entry inside the caller's transaction: it is there exactly if what it tells of is.

    On PostgreSQL other appenders wait until this transaction ends, so call it last. `data` holds JSON
    values and no secrets. Raises AuditDataRefused.
    """
    recorded = _checked(data or {}, (actor, action, subject, project_id or ""))
    if connection.dialect.name != "sqlite":  # SQLite's BEGIN IMMEDIATE is such a lock already
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    last = newest(connection)
    now = utc_now()
    seq, at = (last.seq + 1 if last else 1), now.replace(microsecond=now.microsecond // 1000 * 1000)
    previous = last.sha256 if last else None
    values: dict[str, Any] = {
        "seq": seq,
        "at": at,
        "actor": actor,
        "action": action,
        "subject": subject,
        "project_id": project_id,
        "data": recorded,
        "previous_sha256": previous,
    }
    entry = Entry(**values, sha256=_digest(values))
    connection.execute(sa.insert(table).values(**values, sha256=entry.sha256))
    return entry


def newest(connection: sa.Connection) -> Entry | None:
    """The entry that the next one will be bound to."""
    row = connection.execute(sa.select(table).order_by(table.c.seq.desc()).limit(1)).one_or_none()
    return _entry(row) if row else None


def entries(
    connection: sa.Connection,
    *,
    project_id: str | None = None,
    subject: str | None = None,
    action: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """Up to `limit` (at most 1,000) entries, newest first; `before` is the last `seq` of the page before."""
    wanted = {"project_id": project_id, "subject": subject, "action": action}
    query = sa.select(table).order_by(table.c.seq.desc()).limit(min(max(limit, 1), PAGE_MAX))
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    if before is not None:
        query = query.where(table.c.seq < before)
    return [_entry(row) for row in connection.execute(query)]


def verify(connection: sa.Connection) -> int | None:
    """The `seq` of the first entry that is not as it was written or is missing; None where all are.

    Reads in batches: memory does not grow with the record.
    """
    previous = None
    rows = connection.execute(sa.select(table).order_by(table.c.seq).execution_options(yield_per=PAGE_MAX))
    for seq, row in enumerate(rows, start=1):
        values = {name: value for name, value in row._mapping.items() if name != "sha256"}
        if row.seq != seq or row.previous_sha256 != previous or row.sha256 != _digest(values):
            rows.close()
            return seq
        previous = row.sha256
    return None


def _entry(row: sa.Row[Any]) -> Entry:
    return Entry(**row._mapping)


def _digest(values: Mapping[str, Any]) -> str:
    content = json.dumps({**values, "at": iso(values["at"])}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _checked(data: Mapping[str, Any], texts: tuple[str, ...]) -> dict[str, Any]:
    """`data` as it will be read back. Raises AuditDataRefused."""
    if names := sorted(set(_secret_names(data))):
        raise AuditDataRefused(
            f"Secrets do not belong into the audit record: {', '.join(names)}.",
            remedy="Record the name or the id of the secret instead.",
            names=names,
        )
    if any("\0" in text for text in texts):
        raise AuditDataRefused("A NUL character cannot be recorded.")
    try:
        encoded = json.dumps([data, texts], allow_nan=False, ensure_ascii=False)
        encoded.encode()  # a lone surrogate is no text
        recorded: dict[str, Any] = json.loads(encoded)[0]
    except (TypeError, ValueError) as error:
        raise AuditDataRefused(f"This cannot be recorded as JSON: {error}.") from error
    return recorded


def _secret_names(value: object) -> list[str]:
    if isinstance(value, Mapping):
        own = [str(key) for key in value if is_secret_name(str(key))]
        return own + [name for item in value.values() for name in _secret_names(item)]
    if isinstance(value, list | tuple):
        return [name for item in value for name in _secret_names(item)]
    return []
