"""Sessions of agents that were ended before their time."""

import sqlalchemy as sa
from alembic import op

from fairlead.kernel.db import UtcDateTime

revision = "0007_support_session_ends"
down_revision = "0006_case_health"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the moments up to which agents' sessions count no more."""
    op.create_table(
        "support_session_ends",
        sa.Column("installation", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("ended_at", UtcDateTime, nullable=False),
        sa.Column("ended_by", sa.String(200), nullable=False),
    )
