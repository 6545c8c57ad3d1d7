"""Add the reason why the broker returned or rejected a report."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "rejected_reports"
down_revision = "late_processes"


def upgrade() -> None:
    """Add the column."""
    long_text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
    op.add_column("report", sa.Column("rejected_reason", long_text))
