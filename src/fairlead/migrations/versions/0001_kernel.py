"""Runs, their events, and the audit record."""

import sqlalchemy as sa
from alembic import op

from fairlead.kernel.db import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "runs",
        sa.Column("id", sa.String(64), nullable=False),
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
        sa.Column("result", sa.JSON),
        sa.Column("error", sa.JSON),
        sa.Column("idempotency_key", sa.String(200)),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("pruned_at", UtcDateTime),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("idempotency_key", name="uq_runs_idempotency_key"),
    )
    op.create_index("ix_runs_project_id_created_at_id", "runs", ["project_id", "created_at", "id"])
    op.create_index("ix_runs_created_at_id", "runs", ["created_at", "id"])
    op.create_index("ix_runs_status_finished_at", "runs", ["status", "finished_at"])
    op.create_table(
        "run_events",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("key", sa.String(300)),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_run_events"),
        sa.UniqueConstraint("run_id", "key", name="uq_run_events_run_id_key"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_run_events_run_id_runs", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("previous_sha256", sa.String(64)),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_project_id_seq", "audit", ["project_id", "seq"])
    op.create_index("ix_audit_subject_seq", "audit", ["subject", "seq"])
