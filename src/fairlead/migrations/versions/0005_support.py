"""Customers, their tickets and agents, and what was made for them."""

import sqlalchemy as sa
from alembic import op

from fairlead.kernel.db import UtcDateTime

revision = "0005_support"
down_revision = "0004_cases"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of `support`."""
    op.create_table(
        "support_customers",
        sa.Column("project_id", sa.String(64), primary_key=True),
        sa.Column("account", sa.String(12), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("role_name", sa.String(64)),
        sa.Column("external_id", sa.String(1224)),
        sa.Column("regions", sa.JSON, nullable=False),
        sa.Column("language", sa.String(2), nullable=False),
        sa.Column("timezone", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("created_by", sa.String(200), nullable=False),
    )
    op.create_table(
        "support_bindings",
        sa.Column("project_id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("zendesk_id", sa.String(64), primary_key=True),
        sa.Column("account", sa.String(12), primary_key=True),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("created_by", sa.String(200), nullable=False),
    )
    op.create_table(
        "support_agents",
        sa.Column("installation", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("created_by", sa.String(200), nullable=False),
    )
    op.create_table(
        "support_used_tokens",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("expires_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_support_used_tokens_expires_at", "support_used_tokens", ["expires_at"])
    op.create_table(
        "support_jobs",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("installation", sa.String(64)),
        sa.Column("ticket", sa.String(64)),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    op.create_index(
        "ix_support_jobs_ticket", "support_jobs", ["project_id", "installation", "ticket", "created_at"]
    )
    op.create_index(
        "ix_support_jobs_account", "support_jobs", ["project_id", "account", "kind", "created_at"]
    )
    op.create_table(
        "support_records",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("installation", sa.String(64)),
        sa.Column("ticket", sa.String(64)),
        sa.Column("engine", sa.String(32)),
        sa.Column("month", sa.String(7)),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("prefix", sa.String(200), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("deleted_at", UtcDateTime),
    )
    op.create_index(
        "ix_support_records_account", "support_records", ["project_id", "account", "kind", "created_at"]
    )
    op.create_index("ix_support_records_created_at", "support_records", ["created_at"])
    op.create_table(
        "support_suppressions",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("account", sa.String(12)),
        sa.Column("check_id", sa.String(200), nullable=False),
        sa.Column("resource", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("expires", sa.Date, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_support_suppressions_project", "support_suppressions", ["project_id"])
