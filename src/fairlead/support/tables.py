"""The tables of `support`; the functions that read and write them stand with what they are about."""

import sqlalchemy as sa

from fairlead.kernel.db import UtcDateTime, metadata

# Accounts that a project may look into. An ExternalId is no secret to AWS, and is shown to nobody but
# administrators all the same.
customers = sa.Table(
    "support_customers",
    metadata,
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
# Which accounts an organization of Zendesk has, and which one a ticket is about; nothing else chooses one.
bindings = sa.Table(
    "support_bindings",
    metadata,
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),  # "organization" | "ticket"
    sa.Column("zendesk_id", sa.String(64), primary_key=True),
    sa.Column("account", sa.String(12), primary_key=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
)
agents = sa.Table(
    "support_agents",
    metadata,
    sa.Column("installation", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
)
# Signatures that were used once: a signed URL opens one session.
used_tokens = sa.Table(
    "support_used_tokens",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Index("ix_support_used_tokens_expires_at", "expires_at"),
)
# Up to when what agents proved counts no more; without a row, tokens say it themselves.
session_ends = sa.Table(
    "support_session_ends",
    metadata,
    sa.Column("installation", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("ended_at", UtcDateTime, nullable=False),
    sa.Column("ended_by", sa.String(200), nullable=False),
)
# Runs of this capability by the ticket that they belong to; what happened in one is its run's events.
jobs = sa.Table(
    "support_jobs",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("account", sa.String(12), nullable=False),
    sa.Column("installation", sa.String(64)),
    sa.Column("ticket", sa.String(64)),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_support_jobs_ticket", "project_id", "installation", "ticket", "created_at"),
    sa.Index("ix_support_jobs_account", "project_id", "account", "kind", "created_at"),
)
# Screenings and reports that were made; their contents are in the object store under `prefix`.
records = sa.Table(
    "support_records",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # the run's
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # "screening" | "monthly_report"
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
    sa.Index("ix_support_records_account", "project_id", "account", "kind", "created_at"),
    sa.Index("ix_support_records_created_at", "created_at"),
)
# Findings that somebody accepted, with a reason and a last day.
suppressions = sa.Table(
    "support_suppressions",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("account", sa.String(12)),
    sa.Column("check_id", sa.String(200), nullable=False),
    sa.Column("resource", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("author", sa.String(200), nullable=False),
    sa.Column("expires", sa.Date, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_support_suppressions_project", "project_id"),
)
