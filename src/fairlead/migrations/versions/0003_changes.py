"""Plans, approvals and the journal of applies."""

import sqlalchemy as sa
from alembic import op

from fairlead.kernel.db import UtcDateTime

revision = "0003_changes"
down_revision = "0002_projects"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of `changes`."""
    op.create_table(
        "plans",
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
    )
    # The database itself refuses two applies of one project at once.
    op.create_index(
        "uq_plans_applying",
        "plans",
        ["project_id"],
        unique=True,
        sqlite_where=sa.text("status = 'applying'"),
        postgresql_where=sa.text("status = 'applying'"),
    )
    op.create_table(
        "approvals",
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
    )
    op.create_index("ix_approvals_digest", "approvals", ["project_id", "digest"])
    op.create_table(
        "apply_journal",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("node", sa.String(300), primary_key=True),
        sa.Column("client_token", sa.String(128), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("request_token", sa.String(128)),
        sa.Column("identifier", sa.Text),
        sa.Column("error", sa.JSON),
        sa.Column("at", UtcDateTime, nullable=False),
    )
