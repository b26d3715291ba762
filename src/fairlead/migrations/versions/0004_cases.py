"""Cases, their fractions and beams, and what intake has seen."""

import sqlalchemy as sa
from alembic import op

from fairlead.kernel.db import UtcDateTime

revision = "0004_cases"
down_revision = "0003_changes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of `cases`."""
    op.create_table(
        "cases",
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
    )
    op.create_index("ix_cases_status", "cases", ["status", "finished_at"])
    op.create_table(
        "case_fractions",
        sa.Column("case_id", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("opened_at", UtcDateTime, nullable=False),
        sa.Column("deliveries", sa.JSON, nullable=False),
        sa.Column("missing", sa.JSON, nullable=False),
    )
    op.create_table(
        "case_beams",
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
    )
    op.create_index("ix_case_beams_host", "case_beams", ["host", "status"])
    op.create_table(
        "case_sightings",
        sa.Column("project_id", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("seen", sa.String(64), nullable=False),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("case_id", sa.String(32), nullable=False),
        sa.Column("duplicate", sa.Boolean, nullable=False),
        sa.Column("seen_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "case_hosts",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("gpus", sa.JSON, nullable=False),
        sa.Column("looked_at", UtcDateTime),
    )
    op.create_table(
        "cases_gpu_leases",
        sa.Column("host", sa.String(120), primary_key=True),
        sa.Column("slot", sa.String(120), primary_key=True),
        sa.Column("holder", sa.String(120), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_cases_gpu_leases_holder", "cases_gpu_leases", ["holder"])
    op.create_index("ix_cases_gpu_leases_expires_at", "cases_gpu_leases", ["expires_at"])
    op.create_table(
        "cases_gpu_queue",
        sa.Column("holder", sa.String(120), primary_key=True),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("gpus", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("hosts", sa.JSON, nullable=False),
        sa.Column("since", UtcDateTime, nullable=False),
        sa.Column("seen_at", UtcDateTime, nullable=False),
    )
