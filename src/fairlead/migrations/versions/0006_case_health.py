"""Whether hosts that calculate and folders that are watched for cases answer."""

import sqlalchemy as sa
from alembic import op

from fairlead.kernel.db import UtcDateTime

revision = "0006_case_health"
down_revision = "0005_support"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what the last look at a host and the last scan of a folder found."""
    op.add_column("case_hosts", sa.Column("tried_at", UtcDateTime))
    op.add_column("case_hosts", sa.Column("problem", sa.JSON(none_as_null=True)))
    op.create_table(
        "case_scans",
        sa.Column("project_id", sa.String(64), primary_key=True),
        sa.Column("tried_at", UtcDateTime, nullable=False),
        sa.Column("scanned_at", UtcDateTime),
        sa.Column("unstable", sa.Integer, nullable=False),
        sa.Column("problem", sa.JSON(none_as_null=True)),
    )
